//! Properties of splits by group with groups of different sizes: bounds, equal chances, and dependence on the seed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::draw::{Group, Share, draw};
use super::tests::{class_of, features, options};
use super::*;

/// Sizes from a few flows to hundreds, small and large ones equally likely.
fn size() -> impl Strategy<Value = usize> {
    (0u32..9).prop_flat_map(|exponent| (1usize << exponent)..=(2 << exponent))
}

/// The sizes of the captures of two to four classes, with two to nine captures each.
fn class_sizes() -> impl Strategy<Value = Vec<Vec<usize>>> {
    prop::collection::vec(prop::collection::vec(size(), 2..10), 2..5)
}

fn features_of(classes: &[Vec<usize>]) -> FeatureSet {
    let flows = classes.iter().enumerate().flat_map(|(class, sizes)| {
        let captures: Vec<(u32, usize)> =
            sizes.iter().enumerate().map(|(capture, &size)| ((100 * class + capture) as u32, size)).collect();
        class_of(class as u32, &captures)
    });
    features(&flows.collect::<Vec<_>>(), classes.len())
}

fn grouped(features: &FeatureSet, seed: u64) -> Split {
    split(features, &options(SplitMethod::Grouped), seed).unwrap().remove(0)
}

/// Returns the flows of a class in one part, by capture.
fn captures_of<'a>(features: &'a FeatureSet, split: &Split, part: Part, class: usize) -> BTreeMap<&'a str, usize> {
    let mut captures = BTreeMap::new();
    for &row in split.part(part).iter().filter(|&&row| features.labels[row] as usize == class) {
        *captures.entry(features.provenance[row].capture.as_str()).or_default() += 1;
    }
    captures
}

/// Returns the captures that contain at most three quarters of a class.
fn testable(features: &FeatureSet, class: usize) -> BTreeSet<&str> {
    let rows = (0..features.len()).collect();
    let all = Split { train: Vec::new(), validation: Vec::new(), test: rows };
    let captures = captures_of(features, &all, Part::Test, class);
    let total: usize = captures.values().sum();
    captures.into_iter().filter(|(_, size)| 4 * size <= 3 * total).map(|(name, _)| name).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn shares_of_uneven_captures_are_within_the_bounds(classes in class_sizes(), seed in any::<u64>()) {
        let features = features_of(&classes);
        let split = grouped(&features, seed);
        prop_assert_eq!(&split, &grouped(&features, seed));
        for (class, sizes) in classes.iter().enumerate() {
            let [train, validation, test] = Part::ALL.map(|part| captures_of(&features, &split, part, class));
            let flows = |captures: &BTreeMap<&str, usize>| captures.values().sum::<usize>() as f64;
            let total = sizes.iter().sum::<usize>() as f64;
            prop_assert!(!train.is_empty() && !test.is_empty(), "class {class}: {sizes:?}");
            prop_assert!(test.keys().all(|capture| !train.contains_key(capture) && !validation.contains_key(capture)));
            // The bounds stated in the module; 0.1 is the wanted share.
            prop_assert!(flows(&test) <= 0.75 * total, "class {class}: {test:?} of {sizes:?}");
            prop_assert!(test.len() == 1 || flows(&test) <= 2.5 * 0.1 * total + 1e-9, "class {class}: {test:?}, {sizes:?}");
            if sizes.len() > 2 {
                prop_assert!(!validation.is_empty());
                prop_assert!(validation.keys().all(|capture| !train.contains_key(capture)));
                prop_assert!(flows(&validation) <= 0.5 * (total - flows(&test)));
            }
        }
    }

    #[test]
    fn captures_of_a_class_are_tested_equally_often_whatever_their_size(classes in class_sizes(), seeds in 20u64..40) {
        let features = features_of(&classes);
        let splits: Vec<Split> = (0..seeds).map(|seed| grouped(&features, seed)).collect();
        for (class, sizes) in classes.iter().enumerate() {
            let testable = testable(&features, class);
            let mut tested: BTreeMap<&str, u64> = testable.iter().map(|&capture| (capture, 0)).collect();
            for (seed, split) in splits.iter().enumerate() {
                for capture in captures_of(&features, split, Part::Test, class).into_keys() {
                    prop_assert!(testable.contains(capture), "{capture} is too large");
                    *tested.get_mut(capture).unwrap() += 1;
                }
                // As many seeds as there are captures test each of them.
                prop_assert!(seed + 1 < testable.len() || tested.values().all(|&count| count > 0), "{tested:?}");
            }
            // Tolerance: the counts of two captures differ by at most one.
            let (least, most) = (tested.values().min().unwrap(), tested.values().max().unwrap());
            prop_assert!(most - least <= 1, "{tested:?} of {sizes:?}");
        }
        if (0..classes.len()).any(|class| testable(&features, class).len() > 1) {
            prop_assert_ne!(&splits[0].test, &splits[1].test);
        }
    }

    #[test]
    fn folds_of_uneven_captures_have_every_class_and_change_with_the_seed(
        classes in class_sizes(), folds in 2usize..5, seed in any::<u64>(),
    ) {
        let classes: Vec<Vec<usize>> =
            classes.into_iter().map(|sizes| sizes.iter().cycle().take(sizes.len() + folds).copied().collect()).collect();
        let features = features_of(&classes);
        let options =
            SplitOptions { group: Some(GroupBy::Capture), folds: Some(folds), ..options(SplitMethod::KFold) };
        let splits = split(&features, &options, seed).unwrap();
        for (class, sizes) in classes.iter().enumerate() {
            let even = sizes.iter().sum::<usize>() as f64 / folds as f64;
            for split in &splits {
                let test = captures_of(&features, split, Part::Test, class);
                let train = captures_of(&features, split, Part::Train, class);
                prop_assert!(!train.is_empty() && train.keys().all(|capture| !test.contains_key(capture)));
                prop_assert!(test.len() == 1 || test.values().sum::<usize>() as f64 <= 2.0 * even, "{test:?}");
            }
        }
        let together = |seed: u64| {
            let splits = split(&features, &options, seed).unwrap();
            splits.into_iter().map(|split| split.test).collect::<BTreeSet<_>>()
        };
        // A few captures can only be distributed in two ways, so a handful of seeds may agree; a hundred do not.
        prop_assert!((1..100).any(|other| together(seed.wrapping_add(other)) != together(seed)));
    }

    #[test]
    fn a_draw_succeeds_whenever_an_exhaustive_search_does(
        // Flows by group and class; most groups have one or two classes.
        counts in prop::collection::vec(prop::array::uniform3(prop_oneof![3 => Just(0usize), 2 => size()]), 1..9),
        seed in any::<u64>(),
    ) {
        let counts: Vec<_> = counts.into_iter().filter(|own| own.iter().any(|&count| count > 0)).collect();
        let groups: Vec<Group<'_>> = counts
            .iter()
            .map(|own| Group { name: Cow::Borrowed("group"), rows: Vec::new(), counts: own.to_vec() })
            .collect();
        let groups: Vec<&Group<'_>> = groups.iter().collect();
        let names: Vec<String> = (0..3).map(|class| format!("class{class}")).collect();
        let holds = |drawn: &[bool], most: f64, keep: usize| {
            (0..3).all(|class| {
                let own: Vec<(usize, bool)> =
                    counts.iter().zip(drawn).map(|(own, &drawn)| (own[class], drawn)).filter(|own| own.0 > 0).collect();
                let taken: Vec<usize> = own.iter().filter(|own| own.1).map(|own| own.0).collect();
                let total: usize = own.iter().map(|own| own.0).sum();
                match own.len() {
                    0 => true,
                    1 => taken.is_empty(),
                    count => {
                        !taken.is_empty()
                            && taken.len() + keep.min(count - 1) <= count
                            && taken.iter().sum::<usize>() as f64 <= most * total as f64
                    }
                }
            })
        };
        let possible = |most: f64, keep: usize| {
            (0u32..1 << counts.len()).any(|bits| {
                let drawn: Vec<bool> = (0..counts.len()).map(|group| bits >> group & 1 == 1).collect();
                holds(&drawn, most, keep)
            })
        };
        let share = Share { wanted: 0.1, most: 0.75, keep: 2, optional: false };
        let drawn = draw(&groups, &names, share, "test", seed);
        if possible(0.75, 2) {
            prop_assert!(drawn.as_ref().is_ok_and(|drawn| holds(drawn, 0.75, 2)), "{drawn:?}");
        } else if possible(1.0, 1) {
            prop_assert!(drawn.as_ref().is_ok_and(|drawn| holds(drawn, 1.0, 1)), "{drawn:?}");
        } else {
            prop_assert!(drawn.is_err(), "{drawn:?}");
        }
        // If classes may be skipped, one with nothing to draw does not keep others from being drawn.
        let optional = Share { most: 0.5, keep: 1, optional: true, ..share };
        let drawn = draw(&groups, &names, optional, "test", seed).unwrap();
        prop_assert!(!possible(0.5, 1) || holds(&drawn, 0.5, 1), "{drawn:?}");
    }
}

#[test]
fn captures_of_very_different_size_take_turns_and_one_too_large_always_trains() {
    let features = features_of(&[vec![5, 50, 2000], vec![10; 10]]);
    let mut tested = BTreeSet::new();
    for seed in 0..6 {
        let split = grouped(&features, seed);
        let summary = SplitSummary::new(&features, &split);
        let [train, validation, test] = summary.counts[0];
        assert_eq!((train, validation + test), (2000, 55), "seed {seed}");
        tested.insert((seed / 2, test));
        assert_eq!(summary.counts[1], [80, 10, 10], "seed {seed}");
    }
    assert_eq!(tested, BTreeSet::from([(0, 5), (0, 50), (1, 5), (1, 50), (2, 5), (2, 50)]));
    // Two captures also take turns, unless one is too large.
    let two = features_of(&[vec![30, 90], vec![5, 2000]]);
    let tests: BTreeSet<(usize, usize)> = (0..2)
        .map(|seed| SplitSummary::new(&two, &grouped(&two, seed)).counts)
        .map(|counts| (counts[0][2], counts[1][2]))
        .collect();
    assert_eq!(tests, BTreeSet::from([(30, 5), (90, 5)]));
}

#[test]
fn captures_that_classes_share_are_tested_about_equally_often() {
    let sizes = [8, 12, 20, 30, 45, 60, 90, 120];
    let flows: Vec<(u32, u32)> = [0, 1]
        .into_iter()
        .flat_map(|class| {
            // A capture with many flows of one class has few of the other.
            let captures = sizes.iter().enumerate();
            let count = |capture: usize, size: usize| if class == 0 { size } else { sizes[sizes.len() - 1 - capture] };
            class_of(class, &captures.map(|(index, &size)| (index as u32, count(index, size))).collect::<Vec<_>>())
        })
        .collect();
    let features = features(&flows, 2);
    let mut tested: BTreeMap<&str, usize> = BTreeMap::new();
    let mut different = BTreeSet::new();
    for seed in 0..400 {
        let split = grouped(&features, seed);
        captures_of(&features, &split, Part::Test, 0)
            .into_keys()
            .for_each(|name| *tested.entry(name).or_default() += 1);
        different.insert(split.test);
    }
    // Tolerance: a quarter more or less than the mean; independent draws would vary by 15 %.
    let mean = tested.values().sum::<usize>() as f64 / sizes.len() as f64;
    assert_eq!(tested.len(), sizes.len());
    assert!(tested.values().all(|&count| (count as f64 / mean - 1.0).abs() < 0.25), "{tested:?}");
    assert!(different.len() >= sizes.len());
}

#[test]
fn both_directions_of_a_connection_and_all_its_slices_stay_together() {
    let mut features = features(&[class_of(0, &[(0, 60)]), class_of(1, &[(0, 60)])].concat(), 2);
    for (row, flow) in features.provenance.iter_mut().enumerate() {
        // Ten connections per class with six flows each, with alternating directions.
        let client = std::net::SocketAddr::from(([10, 0, 0, 1], 1000 + (row / 60 * 10 + row % 10) as u16));
        (flow.five_tuple.source, flow.five_tuple.destination) = (client, "192.0.2.1:443".parse().unwrap());
        if row / 10 % 2 == 1 {
            std::mem::swap(&mut flow.five_tuple.source, &mut flow.five_tuple.destination);
        }
    }
    let options = SplitOptions { group: Some(GroupBy::Connection), ..options(SplitMethod::Grouped) };
    let divided = split(&features, &options, 0).unwrap().remove(0);
    let connections = |part: Part| -> BTreeSet<u16> {
        let ports = |row: &usize| {
            let flow = &features.provenance[*row].five_tuple;
            flow.source.port().max(flow.destination.port())
        };
        divided.part(part).iter().map(ports).collect()
    };
    let [train, validation, test] = Part::ALL.map(connections);
    assert_eq!((train.len(), validation.len(), test.len()), (16, 2, 2));
    assert!(train.is_disjoint(&test) && train.is_disjoint(&validation) && validation.is_disjoint(&test));
}
