//! Splits that keep groups whole: no capture (or host) is in two parts, so that a model cannot score by
//! recognising the session that a flow comes from.
//!
//! A class with two groups has one in train and one in test. Its validation flows are carved out of its
//! training flows at random: they do share groups with train, which makes early stopping optimistic for
//! that class, but the test part shares no group with anything. [`super::SplitSummary`] shows it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rand::seq::SliceRandom;

use super::assignment::{Assignment, Goal, Group, groups_of_classes};
use super::{Flows, Fractions, GroupBy, Part, Split, SplitError, SplitMethod};
use crate::dataset::FlowProvenance;
use crate::seed;

const TRAIN: usize = Part::Train as usize;
const VALIDATION: usize = Part::Validation as usize;
const TEST: usize = Part::Test as usize;

pub(super) fn grouped(
    flows: &Flows<'_>,
    fractions: Fractions,
    by: GroupBy,
    provenance: &[FlowProvenance],
    seed: u64,
) -> Result<Split, SplitError> {
    flows.require(2, SplitMethod::Grouped)?;
    let groups = collect_groups(flows, by, provenance, seed);
    let groups: Vec<&Group<'_>> = groups.iter().collect();
    let class_groups = groups_of_classes(&groups, flows.classes.len());
    require_groups(flows, by, &groups, &class_groups, 2)?;

    // With two groups there is none for validation: its share is carved out of train later.
    let target = |class: usize, part: usize| {
        let pair = class_groups[class] == 2;
        flows.classes[class].len() as f64
            * match part {
                TRAIN if pair => fractions.train + fractions.validation,
                VALIDATION if pair => 0.0,
                TRAIN => fractions.train,
                VALIDATION => fractions.validation,
                _ => fractions.test,
            }
    };
    let goal = Goal {
        targets: (0..3).map(|part| (0..flows.classes.len()).map(|class| target(class, part)).collect()).collect(),
        required: class_groups
            .iter()
            .map(|&groups| if groups >= 3 { vec![TRAIN, VALIDATION, TEST] } else { vec![TRAIN, TEST] })
            .collect(),
        preference: vec![TRAIN, TEST, VALIDATION],
    };
    let assignment = Assignment::new(&groups, &goal);
    for class in 0..flows.classes.len() {
        for part in [Part::Train, Part::Test] {
            if assignment.count(part as usize, class) == 0 {
                return Err(no_assignment(flows, by, &groups, class, part.name().to_owned()));
            }
        }
    }
    let mut parts = vec![Part::Train; flows.rows];
    for (group, part) in groups.iter().zip(assignment.parts()) {
        for &row in &group.rows {
            parts[row] = Part::ALL[part];
        }
    }
    carve_validation(flows, fractions, seed, &mut parts);
    validated(Split::from_parts(&parts))
}

/// Folds of whole groups with the class proportions of all flows, as far as groups allow; in each split one
/// fold is the test set, and of the other groups some are the validation set.
pub(super) fn grouped_folds(
    flows: &Flows<'_>,
    folds: usize,
    fractions: Fractions,
    by: GroupBy,
    provenance: &[FlowProvenance],
    seed: u64,
) -> Result<Vec<Split>, SplitError> {
    let groups = collect_groups(flows, by, provenance, seed);
    let groups: Vec<&Group<'_>> = groups.iter().collect();
    let classes = flows.classes.len();
    require_groups(flows, by, &groups, &groups_of_classes(&groups, classes), folds)?;
    let goal = Goal {
        targets: vec![flows.classes.iter().map(|rows| rows.len() as f64 / folds as f64).collect(); folds],
        required: vec![(0..folds).collect(); classes],
        preference: (0..folds).collect(),
    };
    let assignment = Assignment::new(&groups, &goal);
    for class in 0..classes {
        if let Some(fold) = (0..folds).find(|&fold| assignment.count(fold, class) == 0) {
            return Err(no_assignment(flows, by, &groups, class, format!("fold {fold}")));
        }
    }
    let fold_of = assignment.parts();
    let mut splits = Vec::with_capacity(folds);
    for fold in 0..folds {
        let mut parts = vec![Part::Train; flows.rows];
        for (group, _) in groups.iter().zip(&fold_of).filter(|(_, own)| **own == fold) {
            for &row in &group.rows {
                parts[row] = Part::Test;
            }
        }
        let rest: Vec<&Group<'_>> =
            groups.iter().zip(&fold_of).filter(|(_, own)| **own != fold).map(|(group, _)| *group).collect();
        assign_validation(&rest, classes, fractions, &mut parts);
        carve_validation(flows, fractions, seed::derive(seed, &format!("fold {fold}")), &mut parts);
        splits.push(validated(Split::from_parts(&parts))?);
    }
    Ok(splits)
}

/// Gives whole groups of `rest` to validation, from the classes that have two or more.
fn assign_validation(rest: &[&Group<'_>], classes: usize, fractions: Fractions, parts: &mut [Part]) {
    let share = fractions.validation / (fractions.train + fractions.validation);
    let class_groups = groups_of_classes(rest, classes);
    let size = |class: usize| rest.iter().map(|group| group.counts[class]).sum::<usize>() as f64;
    let share_of = |class: usize| if class_groups[class] >= 2 { share } else { 0.0 };
    let goal = Goal {
        targets: vec![
            (0..classes).map(|class| size(class) * (1.0 - share_of(class))).collect(),
            (0..classes).map(|class| size(class) * share_of(class)).collect(),
        ],
        required: class_groups.iter().map(|&groups| if groups >= 2 { vec![0, 1] } else { vec![0] }).collect(),
        preference: vec![0, 1],
    };
    let assignment = Assignment::new(rest, &goal);
    // Groups of several classes may leave a class no training flow; then validation gives up its groups.
    let starved: Vec<bool> =
        (0..classes).map(|class| class_groups[class] > 0 && assignment.count(0, class) == 0).collect();
    for (group, part) in rest.iter().zip(assignment.parts()) {
        let needed = group.counts.iter().zip(&starved).any(|(&count, &starved)| count > 0 && starved);
        if part == 1 && !needed {
            for &row in &group.rows {
                parts[row] = Part::Validation;
            }
        }
    }
}

/// The groups from the largest to the smallest, groups of one size in an order that the seed decides; the
/// order of the input changes nothing.
fn collect_groups<'a>(flows: &Flows<'_>, by: GroupBy, provenance: &'a [FlowProvenance], seed: u64) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<Cow<'a, str>, Group<'a>> = BTreeMap::new();
    for row in flows.classes.iter().flatten().copied() {
        let name = match by {
            GroupBy::Capture => Cow::Borrowed(provenance[row].capture.as_str()),
            GroupBy::Host => Cow::Owned(provenance[row].five_tuple.destination.ip().to_string()),
        };
        let group = groups.entry(name.clone()).or_insert_with(|| Group {
            name,
            rows: Vec::new(),
            counts: vec![0; flows.classes.len()],
        });
        group.rows.push(row);
        group.counts[flows.labels[row] as usize] += 1;
    }
    let mut groups: Vec<Group<'a>> = groups.into_values().collect();
    groups.shuffle(&mut seed::generator(seed, "split"));
    // Stable, so that the shuffle decides between groups of one size.
    groups.sort_by_key(|group| std::cmp::Reverse(group.rows.len()));
    groups
}

/// Errors for the first class that has fewer groups than `needed`.
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

fn validated(split: Split) -> Result<Split, SplitError> {
    if split.validation.is_empty() {
        return Err(SplitError::Options {
            key: "method",
            problem: "groups leave no flow to validate on: every class has one training flow; add captures".to_owned(),
        });
    }
    Ok(split)
}

/// Gives each class without validation flows some of its training flows, at random; a class with one
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
