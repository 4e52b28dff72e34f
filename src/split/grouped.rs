//! Splits that keep groups whole: no capture (or host) is in two parts, so that a model cannot score by
//! recognising the session that a flow comes from.
//!
//! Groups are assigned from the largest to the smallest, each to the part where it leaves the class
//! proportions closest to the fractions asked for; then single groups move as long as that improves.
//! A class with two groups has one in train and one in test. Its validation flows are carved out of its
//! training flows at random: they do share groups with train, which makes early stopping optimistic for
//! that class, but the test part shares no group with anything. [`super::SplitSummary`] shows it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rand::seq::SliceRandom;

use super::{Flows, Fractions, GroupBy, Part, Split, SplitError, SplitMethod};
use crate::dataset::FlowProvenance;
use crate::seed;

/// Improvement ends here even if groups could still move; each pass looks at every group once.
const IMPROVEMENT_PASSES: usize = 100;

/// Parts from the one that is given a group first when two are equally good.
const PREFERENCE: [Part; 3] = [Part::Train, Part::Test, Part::Validation];

/// The flows that stay together.
struct Group<'a> {
    name: Cow<'a, str>,
    rows: Vec<usize>,
    /// Flows by class.
    counts: Vec<usize>,
}

pub(super) fn grouped(
    flows: &Flows<'_>,
    fractions: Fractions,
    by: GroupBy,
    provenance: &[FlowProvenance],
    seed: u64,
) -> Result<Split, SplitError> {
    flows.require(2, SplitMethod::Grouped)?;
    let mut groups = collect_groups(flows, by, provenance);
    for class in 0..flows.classes.len() {
        let mut own = groups.iter().filter(|group| group.counts[class] > 0);
        if let (Some(only), None) = (own.next(), own.next()) {
            return Err(SplitError::OneGroup {
                class: flows.class_names[class].clone(),
                flows: flows.classes[class].len(),
                by: by.name(),
                group: only.name.to_string(),
            });
        }
    }
    let mut generator = seed::generator(seed, "split");
    groups.shuffle(&mut generator);
    // Stable, so that the shuffle decides between groups of one size.
    groups.sort_by_key(|group| std::cmp::Reverse(group.rows.len()));

    let mut assignment = Assignment::new(flows, fractions, &groups);
    assignment.assign_from_the_largest();
    assignment.improve();
    assignment.check(flows, by)?;

    let mut parts = vec![Part::Train; flows.rows];
    for (group, part) in groups.iter().zip(&assignment.parts) {
        for &row in &group.rows {
            parts[row] = part.expect("every group was assigned");
        }
    }
    carve_validation(flows, fractions, seed, &mut parts);
    let split = Split::from_parts(&parts);
    if split.validation.is_empty() {
        return Err(SplitError::Options {
            key: "method",
            problem: "\"grouped\" leaves no flow to validate on: every class has one training flow; add captures"
                .to_owned(),
        });
    }
    Ok(split)
}

/// The groups by name, so that the order of the input changes nothing.
fn collect_groups<'a>(flows: &Flows<'_>, by: GroupBy, provenance: &'a [FlowProvenance]) -> Vec<Group<'a>> {
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
    groups.into_values().collect()
}

/// Which part each group has, with the sums that tell how good that is.
struct Assignment<'a> {
    groups: &'a [Group<'a>],
    /// The part of each group, none yet at first.
    parts: Vec<Option<Part>>,
    /// Flows in each part, by class.
    counts: [Vec<usize>; 3],
    /// Flows wanted in each part, by class.
    targets: [Vec<f64>; 3],
    /// Groups of each class.
    class_groups: Vec<usize>,
    /// Flows of each class.
    class_sizes: Vec<f64>,
}

impl<'a> Assignment<'a> {
    fn new(flows: &Flows<'_>, fractions: Fractions, groups: &'a [Group<'a>]) -> Self {
        let classes = flows.classes.len();
        let class_groups: Vec<usize> =
            (0..classes).map(|class| groups.iter().filter(|group| group.counts[class] > 0).count()).collect();
        let class_sizes: Vec<f64> = flows.classes.iter().map(|rows| rows.len() as f64).collect();
        // With two groups there is none for validation: its share is carved out of train later.
        let target = |class: usize, part: Part| {
            class_sizes[class]
                * match part {
                    Part::Train if class_groups[class] == 2 => fractions.train + fractions.validation,
                    Part::Validation if class_groups[class] == 2 => 0.0,
                    Part::Train => fractions.train,
                    Part::Validation => fractions.validation,
                    Part::Test => fractions.test,
                }
        };
        let targets = Part::ALL.map(|part| (0..classes).map(|class| target(class, part)).collect());
        Self {
            groups,
            parts: vec![None; groups.len()],
            counts: [vec![0; classes], vec![0; classes], vec![0; classes]],
            targets,
            class_groups,
            class_sizes,
        }
    }

    fn assign_from_the_largest(&mut self) {
        let mut unassigned = self.class_groups.clone();
        for index in 0..self.groups.len() {
            let group = &self.groups[index];
            for (class, left) in unassigned.iter_mut().enumerate() {
                *left -= usize::from(group.counts[class] > 0);
            }
            let mut best: Option<(usize, f64, Part)> = None;
            for part in PREFERENCE {
                // How many parts could no longer get the group's classes.
                let lost: usize = (0..group.counts.len())
                    .filter(|&class| group.counts[class] > 0)
                    .map(|class| self.missing(class, part).saturating_sub(unassigned[class]))
                    .sum();
                let change = self.change(group, part, true);
                let better = best
                    .is_none_or(|(least, smallest, _)| lost < least || (lost == least && change < smallest - 1e-12));
                if better {
                    best = Some((lost, change, part));
                }
            }
            let (_, _, part) = best.expect("there are three parts");
            self.put(index, Some(part));
        }
    }

    /// Moves single groups while that lets more parts have their classes, or brings the proportions
    /// closer without losing any.
    fn improve(&mut self) {
        for _ in 0..IMPROVEMENT_PASSES {
            let mut moved = false;
            for index in 0..self.groups.len() {
                let current = self.parts[index].expect("every group was assigned");
                let group = &self.groups[index];
                let before = self.total_missing(group);
                let gain = self.change(group, current, false);
                self.put(index, None);
                let mut best: Option<(usize, f64, Part)> = None;
                for part in PREFERENCE.into_iter().filter(|&part| part != current) {
                    let change = gain + self.change(group, part, true);
                    self.put(index, Some(part));
                    let missing = self.total_missing(group);
                    self.put(index, None);
                    let improves = missing < before || (missing == before && change < -1e-9);
                    if improves && best.is_none_or(|(least, least_change, _)| (missing, change) < (least, least_change))
                    {
                        best = Some((missing, change, part));
                    }
                }
                moved |= best.is_some();
                self.put(index, Some(best.map_or(current, |(_, _, part)| part)));
            }
            if !moved {
                return;
            }
        }
    }

    /// Puts a group into a part, or takes it out.
    fn put(&mut self, index: usize, part: Option<Part>) {
        let group = &self.groups[index];
        if let Some(old) = self.parts[index] {
            for (count, own) in self.counts[old as usize].iter_mut().zip(&group.counts) {
                *count -= own;
            }
        }
        if let Some(new) = part {
            for (count, own) in self.counts[new as usize].iter_mut().zip(&group.counts) {
                *count += own;
            }
        }
        self.parts[index] = part;
    }

    /// By how much the squared relative distance from the targets grows when the group enters (or leaves)
    /// the part.
    fn change(&self, group: &Group<'_>, part: Part, enters: bool) -> f64 {
        let mut change = 0.0;
        for (class, &own) in group.counts.iter().enumerate().filter(|(_, own)| **own > 0) {
            let own = if enters { own as f64 } else { -(own as f64) };
            let distance = self.counts[part as usize][class] as f64 - self.targets[part as usize][class];
            change += (own * own + 2.0 * own * distance) / (self.class_sizes[class] * self.class_sizes[class]);
        }
        change
    }

    /// The parts that must have a class: validation only where there is a third group.
    fn required(&self, class: usize) -> &'static [Part] {
        if self.class_groups[class] >= 3 { &Part::ALL } else { &[Part::Train, Part::Test] }
    }

    /// Required parts without the class, if a group of it entered `part`.
    fn missing(&self, class: usize, part: Part) -> usize {
        self.required(class).iter().filter(|&&other| other != part && self.counts[other as usize][class] == 0).count()
    }

    /// Required parts without a class, over the classes of the group: the others do not change with it.
    fn total_missing(&self, group: &Group<'_>) -> usize {
        (0..group.counts.len())
            .filter(|&class| group.counts[class] > 0)
            .map(|class| self.required(class).iter().filter(|&&part| self.counts[part as usize][class] == 0).count())
            .sum()
    }

    /// Every class must be in train and in test.
    fn check(&self, flows: &Flows<'_>, by: GroupBy) -> Result<(), SplitError> {
        for class in 0..self.class_groups.len() {
            for part in [Part::Train, Part::Test] {
                if self.counts[part as usize][class] == 0 {
                    let mut names: Vec<&str> = self
                        .groups
                        .iter()
                        .filter(|group| group.counts[class] > 0)
                        .map(|group| group.name.as_ref())
                        .collect();
                    names.sort_unstable();
                    return Err(SplitError::NoAssignment {
                        class: flows.class_names[class].clone(),
                        part: part.name(),
                        by: by.name(),
                        groups: names.join(", "),
                    });
                }
            }
        }
        Ok(())
    }
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
