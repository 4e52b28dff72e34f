//! Draws whole groups at random: which groups of every class are tested (or validated), and which fold each is in.
//!
//! A class that shares no group with another one is drawn separately. Its groups are distributed at random over bins
//! whose sizes are as even as the groups allow, and one bin is drawn. Consecutive seeds draw the bins in turn and then
//! redistribute the groups, so that every group is drawn equally often whatever its size, and two seeds differ even if
//! there is little to draw from. Guarantees for the drawn part:
//!
//! - A group with more than [`Share::most`] of a class is never drawn; it stays on the other side.
//! - Several groups drawn together have at most twice the wanted share; a single group may have more, up to
//!   [`Share::most`]. There is no lower bound: a small capture is drawn as often as a large one.
//!
//! - Of a class with enough groups, at least [`Share::keep`] are not drawn.
//!
//! Classes that share groups are drawn together: the groups are visited in random order, and each is drawn if one of
//! its classes has none yet or all have room for it; the search backtracks if that leaves a class on one side only.
//! Here the upper bound applies to everything drawn of a class. If no choice satisfies it, it is dropped, together with
//! `keep`; a class on one side only is an error. How often a group is drawn then depends on the other groups of its
//! classes.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use rand::RngExt;
use rand::seq::SliceRandom;

use etcbench_storage::seed;

/// Number of orders of shared groups to try, and maximum number of search steps in each.
const ORDERS: u64 = 8;
const STEPS: usize = 200_000;

/// Flows that stay together.
pub(super) struct Group<'a> {
    pub name: Cow<'a, str>,
    pub rows: Vec<usize>,
    /// Number of flows by class.
    pub counts: Vec<usize>,
}

/// How much of each class to draw, as fractions of its flows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// The wanted fraction, at most a half.
    pub wanted: f64,
    /// The maximum fraction, at least a half.
    pub most: f64,
    /// Number of groups of a class that must not be drawn; one less than the class has if it has no more than this.
    pub keep: usize,
    /// Whether a class may be skipped if shared groups leave no choice.
    pub optional: bool,
}

/// Classes that are connected by shared groups, and the indices of their groups.
pub(super) struct Component {
    pub classes: Vec<usize>,
    pub groups: Vec<usize>,
}

/// Returns the connected components of classes that have groups, ordered by their first class.
pub(super) fn components(groups: &[&Group<'_>], classes: usize) -> Vec<Component> {
    // The lowest class that each class is connected to.
    let mut lowest: Vec<usize> = (0..classes).collect();
    let classes_of = |group: &Group<'_>| -> Vec<usize> {
        group.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(class, _)| class).collect()
    };
    for group in groups {
        let lowest_of_group: Vec<usize> = classes_of(group).into_iter().map(|class| lowest[class]).collect();
        if let Some(&least) = lowest_of_group.iter().min() {
            lowest.iter_mut().filter(|class| lowest_of_group.contains(class)).for_each(|class| *class = least);
        }
    }
    let mut found: BTreeMap<usize, Component> = BTreeMap::new();
    for (index, group) in groups.iter().enumerate() {
        if let Some(&class) = classes_of(group).first() {
            let new = || Component { classes: Vec::new(), groups: Vec::new() };
            found.entry(lowest[class]).or_insert_with(new).groups.push(index);
        }
    }
    for (class, lowest) in lowest.into_iter().enumerate() {
        if let Some(component) = found.get_mut(&lowest) {
            component.classes.push(class);
        }
    }
    found.into_values().collect()
}

/// Returns whether each group is drawn. Of every class with two or more groups, some are drawn and some not; the only
/// group of a class is not drawn. The error is the class for which no such choice exists.
pub(super) fn draw(
    groups: &[&Group<'_>],
    class_names: &[String],
    share: Share,
    purpose: &str,
    seed: u64,
) -> Result<Vec<bool>, usize> {
    let mut drawn = vec![false; groups.len()];
    for component in components(groups, class_names.len()) {
        match component.classes.as_slice() {
            &[class] => {
                let sizes: Vec<usize> = component.groups.iter().map(|&group| groups[group].counts[class]).collect();
                for place in draw_of_one_class(&sizes, share, &format!("{purpose} {}", class_names[class]), seed) {
                    drawn[component.groups[place]] = true;
                }
            }
            _ => {
                let members: Vec<&Group<'_>> = component.groups.iter().map(|&group| groups[group]).collect();
                let chosen = draw_shared(&members, &component.classes, share, purpose, seed)?;
                for (&group, chosen) in component.groups.iter().zip(chosen) {
                    drawn[group] = chosen;
                }
            }
        }
    }
    Ok(drawn)
}

/// Returns the indices of the drawn groups; empty for a single group.
fn draw_of_one_class(sizes: &[usize], share: Share, purpose: &str, seed: u64) -> Vec<usize> {
    let total = sizes.iter().sum::<usize>() as f64;
    // At most one group is larger than half the class, so of two groups at least one can be drawn.
    let eligible: Vec<usize> =
        (0..sizes.len()).filter(|&group| sizes.len() > 1 && sizes[group] as f64 <= share.most * total).collect();
    let eligible_sizes: Vec<usize> = eligible.iter().map(|&group| sizes[group]).collect();
    let flows = eligible_sizes.iter().sum::<usize>() as f64;
    if eligible_sizes.is_empty() {
        return Vec::new();
    }
    // One bin is drawn; every other bin contains a group that stays, in addition to the groups that are too large.
    let fewest = (share.keep + 1).saturating_sub(sizes.len() - eligible_sizes.len()).clamp(1, eligible_sizes.len());
    let bins = ((flows / (share.wanted * total)).round() as usize).clamp(fewest, eligible_sizes.len());
    let (round, turn) = (seed / bins as u64, (seed % bins as u64) as usize);
    let dealt = deal(&eligible_sizes, bins, purpose, round);
    eligible.into_iter().zip(dealt).filter(|(_, bin)| *bin == turn).map(|(group, _)| group).collect()
}

/// Distributes at least `bins` groups over bins, none of them empty: the largest first, each to a random bin among
/// those that stay within the mean, or else to the emptiest. So a bin of several groups has at most twice the mean.
pub(super) fn deal(sizes: &[usize], bins: usize, purpose: &str, seed: u64) -> Vec<usize> {
    let mut generator = seed::generator(seed, purpose);
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.shuffle(&mut generator);
    // Stable sort: the shuffle decides between groups of equal size.
    order.sort_by_key(|&group| Reverse(sizes[group]));
    let mean = sizes.iter().sum::<usize>() as f64 / bins as f64;
    let mut loads = vec![0; bins];
    let mut bin_of = vec![0; sizes.len()];
    for (place, group) in order.into_iter().enumerate() {
        let empty: Vec<usize> = (0..bins).filter(|&bin| loads[bin] == 0).collect();
        let among = if sizes.len() - place <= empty.len() {
            empty
        } else {
            let with_room = |bin: &usize| (loads[*bin] + sizes[group]) as f64 <= mean;
            let room: Vec<usize> = (0..bins).filter(with_room).collect();
            let least = loads.iter().min().copied().unwrap_or(0);
            if room.is_empty() { (0..bins).filter(|&bin| loads[bin] == least).collect() } else { room }
        };
        let bin = among[generator.random_range(0..among.len() as u64) as usize];
        loads[bin] += sizes[group];
        bin_of[group] = bin;
    }
    bin_of
}

/// Draws groups of classes that share some. `classes` are the classes of these groups.
fn draw_shared(
    groups: &[&Group<'_>],
    classes: &[usize],
    share: Share,
    purpose: &str,
    seed: u64,
) -> Result<Vec<bool>, usize> {
    let own_groups: Vec<usize> =
        classes.iter().map(|&class| groups.iter().filter(|group| group.counts[class] > 0).count()).collect();
    let counts: Vec<Vec<usize>> =
        groups.iter().map(|group| classes.iter().map(|&class| group.counts[class]).collect()).collect();
    let totals: Vec<usize> = (0..classes.len()).map(|class| counts.iter().map(|own| own[class]).sum()).collect();
    let several: Vec<bool> = own_groups.iter().map(|&groups| groups > 1).collect();
    let search = |most: f64, keep: usize, required: &[bool]| {
        let search = Search {
            counts: &counts,
            totals: &totals,
            wanted: &totals.iter().map(|&total| share.wanted * total as f64).collect::<Vec<_>>(),
            most: &totals.iter().map(|&total| (most * total as f64).floor() as usize).collect::<Vec<_>>(),
            most_groups: &own_groups.iter().map(|&own| own - keep.min(own - 1).max(1)).collect::<Vec<_>>(),
            required,
        };
        for order_number in 0..ORDERS {
            let mut order: Vec<usize> = (0..groups.len()).collect();
            order.shuffle(&mut seed::generator(seed, &format!("{purpose}, shared groups, order {order_number}")));
            match search.run(&order) {
                Found::Drawn(drawn) => return Some(drawn),
                Found::Impossible => return None,
                Found::TooLong => {}
            }
        }
        None
    };
    let nothing = vec![false; classes.len()];
    search(share.most, share.keep, &several)
        .or_else(|| search(1.0, 1, &several))
        .or_else(|| share.optional.then(|| search(share.most, share.keep, &nothing)).flatten())
        .ok_or_else(|| {
            let scarce = (0..classes.len()).min_by_key(|&class| own_groups[class]);
            scarce.map_or(0, |class| classes[class])
        })
}

/// A search for groups to draw, in a given order.
struct Search<'a> {
    /// Number of flows by group and class.
    counts: &'a [Vec<usize>],
    totals: &'a [usize],
    /// For each class, the wanted and the maximum number of flows, and the maximum number of groups.
    wanted: &'a [f64],
    most: &'a [usize],
    most_groups: &'a [usize],
    /// Classes of which something must be drawn.
    required: &'a [bool],
}

enum Found {
    Drawn(Vec<bool>),
    Impossible,
    TooLong,
}

/// What is drawn so far of each class, and its flows in undecided groups.
struct State {
    drawn: Vec<usize>,
    drawn_groups: Vec<usize>,
    left: Vec<usize>,
}

impl Search<'_> {
    /// Decides on one group after the other, the preferred option first; if a class could no longer get what it
    /// requires, the last decision with an untried alternative is reversed.
    fn run(&self, order: &[usize]) -> Found {
        let none = vec![0; self.totals.len()];
        let mut state = State { drawn: none.clone(), drawn_groups: none, left: self.totals.to_vec() };
        // For each decided group, whether it is drawn, and whether the alternative is still untried.
        let mut decisions: Vec<(bool, bool)> = Vec::with_capacity(order.len());
        let mut forced: Option<bool> = None;
        for _ in 0..STEPS.max(4 * order.len()) {
            let Some(&group) = order.get(decisions.len()) else {
                let mut chosen = vec![false; order.len()];
                order.iter().zip(&decisions).for_each(|(&group, &(taken, _))| chosen[group] = taken);
                return Found::Drawn(chosen);
            };
            let decision = match (self.may_take(group, &state), self.may_leave(group, &state)) {
                (true, true) => {
                    Some(forced.map_or_else(|| (self.prefers(group, &state), true), |taken| (taken, false)))
                }
                // A forced option was possible when its alternative was chosen, and still is.
                (false, false) => None,
                (take, _) => Some((take, false)),
            };
            forced = None;
            if let Some((taken, open)) = decision {
                for (class, count) in self.classes(group) {
                    state.left[class] -= count;
                    state.drawn[class] += if taken { count } else { 0 };
                    state.drawn_groups[class] += usize::from(taken);
                }
                decisions.push((taken, open));
                continue;
            }
            loop {
                let Some((taken, open)) = decisions.pop() else { return Found::Impossible };
                for (class, count) in self.classes(order[decisions.len()]) {
                    state.left[class] += count;
                    state.drawn[class] -= if taken { count } else { 0 };
                    state.drawn_groups[class] -= usize::from(taken);
                }
                if open {
                    forced = Some(!taken);
                    break;
                }
            }
        }
        Found::TooLong
    }

    fn classes(&self, group: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.counts[group].iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    fn may_take(&self, group: usize, state: &State) -> bool {
        self.classes(group).all(|(class, count)| {
            state.drawn[class] + count <= self.most[class] && state.drawn_groups[class] < self.most_groups[class]
        })
    }

    fn may_leave(&self, group: usize, state: &State) -> bool {
        let gets = |class: usize, count: usize| state.drawn[class] > 0 || state.left[class] > count;
        self.classes(group).all(|(class, count)| !self.required[class] || gets(class, count))
    }

    fn prefers(&self, group: usize, state: &State) -> bool {
        let lacks = |class: usize| self.required[class] && state.drawn[class] == 0;
        self.classes(group).any(|(class, _)| lacks(class))
            || self.classes(group).all(|(class, count)| (state.drawn[class] + count) as f64 <= self.wanted[class])
    }
}
