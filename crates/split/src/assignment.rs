//! Assigns whole groups, some of which have several classes, to folds: one after the other, each to the fold where it
//! brings the class proportions closest to the target; then single groups move as long as that helps.

use super::draw::Group;

/// Maximum number of improvement passes, even if groups could still move; each pass visits every group once.
const IMPROVEMENT_PASSES: usize = 100;

/// The target of an assignment. Parts are numbered from 0.
pub(super) struct Goal {
    /// Target number of flows, by part and class.
    pub targets: Vec<Vec<f64>>,
    /// For each class, the parts that should contain some of its flows.
    pub required: Vec<Vec<usize>>,
    /// The parts in order of preference, for ties.
    pub preference: Vec<usize>,
}

/// The part of each group, with the sums needed to rate the assignment.
pub(super) struct Assignment<'a> {
    groups: &'a [&'a Group<'a>],
    goal: &'a Goal,
    /// The part of each group; `None` until assigned.
    parts: Vec<Option<usize>>,
    /// Number of flows by part and class.
    counts: Vec<Vec<usize>>,
    /// Number of groups of each class.
    class_groups: Vec<usize>,
    /// Number of flows of each class.
    class_sizes: Vec<f64>,
}

impl<'a> Assignment<'a> {
    /// Assigns every group to a part; `groups` should be sorted from largest to smallest.
    pub(crate) fn new(groups: &'a [&'a Group<'a>], goal: &'a Goal) -> Self {
        let classes = goal.required.len();
        let mut assignment = Self {
            groups,
            goal,
            parts: vec![None; groups.len()],
            counts: vec![vec![0; classes]; goal.targets.len()],
            class_groups: groups_of_classes(groups, classes),
            class_sizes: (0..classes)
                .map(|class| groups.iter().map(|group| group.counts[class]).sum::<usize>() as f64)
                .collect(),
        };
        assignment.assign_from_the_largest();
        assignment.improve();
        assignment
    }

    /// Returns the part of each group.
    pub(crate) fn parts(&self) -> Vec<usize> {
        self.parts.iter().map(|part| part.expect("every group was assigned")).collect()
    }

    /// Returns the number of flows of a class in a part.
    pub(crate) fn count(&self, part: usize, class: usize) -> usize {
        self.counts[part][class]
    }

    fn assign_from_the_largest(&mut self) {
        let mut unassigned = self.class_groups.clone();
        for index in 0..self.groups.len() {
            let group = self.groups[index];
            for (class, left) in unassigned.iter_mut().enumerate() {
                *left -= usize::from(group.counts[class] > 0);
            }
            let mut best: Option<(usize, f64, usize)> = None;
            for &part in &self.goal.preference {
                // The number of parts that could no longer get the group's classes.
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
            let (_, _, part) = best.expect("there is at least one part");
            self.put(index, Some(part));
        }
    }

    /// Moves single groups while that lets more parts have their classes, or brings the proportions closer to the
    /// target without losing any.
    fn improve(&mut self) {
        for _ in 0..IMPROVEMENT_PASSES {
            let mut moved = false;
            for index in 0..self.groups.len() {
                let current = self.parts[index].expect("every group was assigned");
                let group = self.groups[index];
                let before = self.total_missing(group);
                let gain = self.change(group, current, false);
                self.put(index, None);
                let mut best: Option<(usize, f64, usize)> = None;
                for &part in self.goal.preference.iter().filter(|&&part| part != current) {
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

    /// Puts a group into a part, or removes it.
    fn put(&mut self, index: usize, part: Option<usize>) {
        let group = self.groups[index];
        if let Some(old) = self.parts[index] {
            for (count, own) in self.counts[old].iter_mut().zip(&group.counts) {
                *count -= own;
            }
        }
        if let Some(new) = part {
            for (count, own) in self.counts[new].iter_mut().zip(&group.counts) {
                *count += own;
            }
        }
        self.parts[index] = part;
    }

    /// Returns by how much the squared relative distance from the targets grows if the group enters (or leaves) the
    /// part.
    fn change(&self, group: &Group<'_>, part: usize, enters: bool) -> f64 {
        let mut change = 0.0;
        for (class, &count) in group.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = if enters { count as f64 } else { -(count as f64) };
            let distance = self.counts[part][class] as f64 - self.goal.targets[part][class];
            change += (count * count + 2.0 * count * distance) / (self.class_sizes[class] * self.class_sizes[class]);
        }
        change
    }

    /// Returns how many required parts would lack the class if a group of it entered `part`.
    fn missing(&self, class: usize, part: usize) -> usize {
        self.goal.required[class].iter().filter(|&&other| other != part && self.counts[other][class] == 0).count()
    }

    /// Returns how many required parts lack a class, summed over the group's classes; the others do not depend on the
    /// group.
    fn total_missing(&self, group: &Group<'_>) -> usize {
        (0..group.counts.len())
            .filter(|&class| group.counts[class] > 0)
            .map(|class| self.goal.required[class].iter().filter(|&&part| self.counts[part][class] == 0).count())
            .sum()
    }
}

/// Returns how many of the groups contain flows of each class.
pub(super) fn groups_of_classes(groups: &[&Group<'_>], classes: usize) -> Vec<usize> {
    (0..classes).map(|class| groups.iter().filter(|group| group.counts[class] > 0).count()).collect()
}
