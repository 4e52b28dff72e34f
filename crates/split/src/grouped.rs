//! Splits that keep groups whole: no capture (or host, or connection) is in two parts, so that a model cannot score by
//! recognising the session of a flow. The test groups are drawn at random for every seed ([`super::draw`] has the rules
//! and bounds), then the validation groups from the rest.
//!
//! A class with two groups has one in train and one in test. Its validation flows are drawn at random from its training
//! flows. They do share groups with train, which makes early stopping optimistic for that class, but the test part
//! shares no group with anything. [`super::SplitSummary`] reports this.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rand::seq::SliceRandom;

use super::assignment::{Assignment, Goal, groups_of_classes};
use super::draw::{Group, Share, components, deal, draw};
use super::{FewGroups, Flows, Fractions, GroupBy, Part, Split, SplitError, SplitMethod};
use etcbench_capture::Transport;
use etcbench_dataset::FlowProvenance;
use etcbench_storage::seed;

/// Maximum fraction of a class to test on: a capture with more of it is always used for training. If the test fraction
/// is more than a half, the other side is drawn, and the bound applies to that.
const MAXIMUM_TEST_SHARE: f64 = 0.75;
/// Maximum fraction of a class's remaining flows to validate on, so that training has the larger part.
const MAXIMUM_VALIDATION_SHARE: f64 = 0.5;
/// Number of orders in which to assign groups of several classes to folds, until every fold has every class.
const FOLD_ORDERS: u64 = 8;

pub(super) fn grouped(
    flows: &Flows<'_>,
    fractions: Fractions,
    by: GroupBy,
    provenance: &[FlowProvenance],
    seed: u64,
) -> Result<Split, SplitError> {
    flows.require(2, SplitMethod::Grouped)?;
    let groups = collect_groups(flows, by, provenance);
    let groups: Vec<&Group<'_>> = groups.iter().collect();
    let class_groups = groups_of_classes(&groups, flows.classes.len());
    require_groups(flows, by, &groups, &class_groups, 2)?;
    let test_is_drawn = fractions.test <= 0.5;
    let wanted = fractions.test.min(1.0 - fractions.test);
    // Of the groups that stay, at least one is for training and one for validation.
    let share = Share { wanted, most: MAXIMUM_TEST_SHARE, keep: 2, optional: false };
    let drawn = draw(&groups, flows.class_names, share, "split, test", seed)
        .map_err(|class| no_assignment(flows, by, &groups, class, "both train and test".to_owned()))?;
    let tested: Vec<bool> = drawn.into_iter().map(|drawn| drawn == test_is_drawn).collect();
    divided(flows, &groups, &tested, fractions, seed)
}

/// The number of folds, and the treatment of classes with fewer groups.
#[derive(Clone, Copy)]
pub(super) struct Folds {
    pub count: usize,
    pub few: FewGroups,
}

impl Folds {
    /// Returns the number of groups a class needs.
    pub(super) fn needed(self) -> usize {
        match self.few {
            FewGroups::Error => self.count,
            FewGroups::Spread => 2,
        }
    }
}

/// Splits into folds of whole groups with the class proportions of all flows, as far as the groups allow; in each split
/// one fold is the test set, and some of the other groups are the validation set.
pub(super) fn grouped_folds(
    flows: &Flows<'_>,
    of: Folds,
    fractions: Fractions,
    by: GroupBy,
    provenance: &[FlowProvenance],
    seed: u64,
) -> Result<Vec<Split>, SplitError> {
    let groups = collect_groups(flows, by, provenance);
    let groups: Vec<&Group<'_>> = groups.iter().collect();
    let (classes, folds) = (flows.classes.len(), of.count);
    let class_groups = groups_of_classes(&groups, classes);
    require_groups(flows, by, &groups, &class_groups, of.needed())?;
    let most = class_groups.iter().copied().max().unwrap_or_default();
    if most < folds {
        return Err(SplitError::TooManyFolds { by: by.name(), groups: most, folds });
    }
    let mut fold_of = vec![0; groups.len()];
    for component in components(&groups, classes) {
        let dealt = match component.classes.as_slice() {
            &[class] => {
                let sizes: Vec<usize> = component.groups.iter().map(|&group| groups[group].counts[class]).collect();
                let purpose = format!("split, folds {}", flows.class_names[class]);
                let dealt = deal(&sizes, folds.min(sizes.len()), &purpose, seed);
                let fold_of_bin = drawn_folds(folds, sizes.len(), &purpose, seed);
                dealt.into_iter().map(|bin| fold_of_bin[bin]).collect()
            }
            shared => {
                let members: Vec<&Group<'_>> = component.groups.iter().map(|&group| groups[group]).collect();
                shared_folds(flows, by, &members, shared, folds, seed)?
            }
        };
        for (&group, fold) in component.groups.iter().zip(dealt) {
            fold_of[group] = fold;
        }
    }
    (0..folds)
        .map(|fold| {
            let tested: Vec<bool> = fold_of.iter().map(|&assigned| assigned == fold).collect();
            divided(flows, &groups, &tested, fractions, seed::derive(seed, &format!("fold {fold}")))
        })
        .collect()
}

/// Returns the folds of a class with this many groups: all folds in order, or a random choice of as many as it has
/// groups.
fn drawn_folds(folds: usize, groups: usize, purpose: &str, seed: u64) -> Vec<usize> {
    let mut chosen: Vec<usize> = (0..folds).collect();
    if groups < folds {
        chosen.shuffle(&mut seed::generator(seed, &format!("{purpose}, which folds")));
        chosen.truncate(groups);
    }
    chosen
}

/// Assigns groups, some of which have several classes, to folds: from the largest to the smallest, groups of similar
/// size in random order, each to the fold where it brings the class proportions closest to even.
fn shared_folds(
    flows: &Flows<'_>,
    by: GroupBy,
    groups: &[&Group<'_>],
    own_classes: &[usize],
    folds: usize,
    seed: u64,
) -> Result<Vec<usize>, SplitError> {
    let classes = flows.classes.len();
    let class_groups = groups_of_classes(groups, classes);
    // A class with fewer groups than folds has to be in two of them, so that no fold has all of it.
    let whole = |class: usize| own_classes.contains(&class) && class_groups[class] >= folds;
    let required = (0..classes).map(|class| if whole(class) { (0..folds).collect() } else { vec![] });
    let mut goal = Goal {
        targets: vec![flows.classes.iter().map(|rows| rows.len() as f64 / folds as f64).collect(); folds],
        required: required.collect(),
        preference: (0..folds).collect(),
    };
    let mut missing = None;
    for order_number in 0..FOLD_ORDERS {
        let generator = &mut seed::generator(seed, &format!("split, folds of shared groups, order {order_number}"));
        let mut order: Vec<usize> = (0..groups.len()).collect();
        order.shuffle(generator);
        // Stable sort: the shuffle decides between sizes that differ by less than a factor of two.
        order.sort_by_key(|&group| std::cmp::Reverse(groups[group].rows.len().ilog2()));
        goal.preference.shuffle(generator);
        let ordered: Vec<&Group<'_>> = order.iter().map(|&group| groups[group]).collect();
        let assignment = Assignment::new(&ordered, &goal);
        let without = |&class: &usize| {
            let empty = (0..folds).filter(|&fold| assignment.count(fold, class) == 0).count();
            if whole(class) { empty > 0 } else { empty + 1 == folds }
        };
        missing = own_classes.iter().copied().find(without);
        if missing.is_none() {
            let mut fold_of = vec![0; groups.len()];
            order.iter().zip(assignment.parts()).for_each(|(&group, fold)| fold_of[group] = fold);
            return Ok(fold_of);
        }
    }
    let class = missing.unwrap_or(own_classes[0]);
    Err(no_assignment(flows, by, groups, class, format!("each of {folds} folds")))
}

/// Returns the split that tests the groups marked in `tested`, and validates on some of the others.
fn divided(
    flows: &Flows<'_>,
    groups: &[&Group<'_>],
    tested: &[bool],
    fractions: Fractions,
    seed: u64,
) -> Result<Split, SplitError> {
    let mut parts = vec![Part::Train; flows.rows];
    let mut give = |group: &Group<'_>, part: Part| group.rows.iter().for_each(|&row| parts[row] = part);
    let (test, rest): (Vec<_>, Vec<_>) = groups.iter().copied().zip(tested).partition(|(_, tested)| **tested);
    test.iter().for_each(|(group, _)| give(group, Part::Test));
    let rest: Vec<&Group<'_>> = rest.into_iter().map(|(group, _)| group).collect();
    let wanted = (fractions.validation / (fractions.train + fractions.validation)).min(0.5);
    let share = Share { wanted, most: MAXIMUM_VALIDATION_SHARE, keep: 1, optional: true };
    // If there is no choice, nothing is drawn, and each class gives up some of its training flows below.
    let validated = draw(&rest, flows.class_names, share, "split, validation", seed).unwrap_or_default();
    for (group, _) in rest.iter().zip(validated).filter(|(_, validated)| *validated) {
        give(group, Part::Validation);
    }
    carve_validation(flows, fractions, seed, &mut parts);
    let split = Split::from_parts(&parts);
    if split.validation.is_empty() {
        return Err(SplitError::Options {
            key: "method",
            problem: "groups leave no flow to validate on: every class has one training flow; add captures".to_owned(),
        });
    }
    Ok(split)
}

/// Returns the groups sorted by name, independent of the input order.
fn collect_groups<'a>(flows: &Flows<'_>, by: GroupBy, provenance: &'a [FlowProvenance]) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<Cow<'a, str>, Group<'a>> = BTreeMap::new();
    for row in flows.classes.iter().flatten().copied() {
        let name = group_of(&provenance[row], by);
        let group = groups.entry(name.clone()).or_insert_with(|| Group {
            name,
            rows: Vec::new(),
            counts: vec![0; flows.classes.len()],
        });
        group.rows.push(row);
        group.counts[flows.labels[row] as usize] += 1;
    }
    groups.into_values().collect()
}

/// Returns the name of a flow's group.
pub fn group_of(flow: &FlowProvenance, by: GroupBy) -> Cow<'_, str> {
    match by {
        GroupBy::Capture => Cow::Borrowed(flow.capture.as_str()),
        GroupBy::Host => Cow::Owned(flow.five_tuple.destination.ip().to_string()),
        GroupBy::Connection => Cow::Owned(connection(flow)),
    }
}

/// Returns the name of a flow's connection, the same for both directions.
fn connection(flow: &FlowProvenance) -> String {
    let (source, destination) = (flow.five_tuple.source, flow.five_tuple.destination);
    let (one, other) = (source.min(destination), source.max(destination));
    let transport = match flow.five_tuple.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    format!("{}: {one} {other} {transport}", flow.capture)
}

/// Returns an error for the first class that has fewer groups than `needed`.
fn require_groups(
    flows: &Flows<'_>,
    by: GroupBy,
    groups: &[&Group<'_>],
    class_groups: &[usize],
    needed: usize,
) -> Result<(), SplitError> {
    let Some(class) = class_groups.iter().position(|&own| own < needed && own > 0) else {
        return match flows.classes.iter().position(Vec::is_empty) {
            Some(_) => flows.require(needed, SplitMethod::KFold),
            None => Ok(()),
        };
    };
    let names: Vec<&str> = names_with(groups, class);
    Err(match (names.as_slice(), needed) {
        ([only], 2) => SplitError::OneGroup {
            class: flows.class_names[class].clone(),
            flows: flows.classes[class].len(),
            by: by.name(),
            group: (*only).to_owned(),
        },
        (names, _) => SplitError::TooFewGroups {
            class: flows.class_names[class].clone(),
            by: by.name(),
            groups: names.len(),
            folds: needed,
        },
    })
}

fn names_with<'a>(groups: &[&'a Group<'_>], class: usize) -> Vec<&'a str> {
    let mut names: Vec<&str> =
        groups.iter().filter(|group| group.counts[class] > 0).map(|group| group.name.as_ref()).collect();
    names.sort_unstable();
    names
}

fn no_assignment(flows: &Flows<'_>, by: GroupBy, groups: &[&Group<'_>], class: usize, part: String) -> SplitError {
    SplitError::NoAssignment {
        class: flows.class_names[class].clone(),
        part,
        by: by.name(),
        groups: names_with(groups, class).join(", "),
    }
}

/// Moves some training flows, drawn at random, to validation for each class without validation flows; a class with one
/// training flow keeps it.
fn carve_validation(flows: &Flows<'_>, fractions: Fractions, seed: u64, parts: &mut [Part]) {
    for (class, rows) in flows.classes.iter().enumerate() {
        if rows.iter().any(|&row| parts[row] == Part::Validation) {
            continue;
        }
        let mut training: Vec<usize> = rows.iter().copied().filter(|&row| parts[row] == Part::Train).collect();
        if training.len() < 2 {
            continue;
        }
        let share = fractions.validation / (fractions.train + fractions.validation);
        let carved = ((share * training.len() as f64).round() as usize).clamp(1, training.len() - 1);
        training.shuffle(&mut seed::generator(seed::derive(seed, "split"), &flows.class_names[class]));
        for &row in &training[..carved] {
            parts[row] = Part::Validation;
        }
    }
}
