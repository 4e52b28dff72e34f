//! Properties of all splits, on feature sets with random labels and captures.

mod refusals;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ndarray::Array2;
use proptest::prelude::*;

use super::*;
use etcbench_capture::Transport;
use etcbench_feature::TokenArray;
use etcbench_flow::FiveTuple;

/// Returns a feature set with one flow per given (class, capture) pair.
pub(super) fn features(flows: &[(u32, u32)], classes: usize) -> FeatureSet {
    let mut numbers: BTreeMap<u32, u32> = BTreeMap::new();
    let provenance = flows
        .iter()
        .enumerate()
        .map(|(row, &(class, capture))| {
            let number = numbers.entry(capture).or_default();
            *number += 1;
            FlowProvenance {
                capture: format!("folder/capture, {capture}.pcap"),
                number: *number - 1,
                five_tuple: FiveTuple {
                    source: SocketAddr::from(([10, 0, 0, 1], 40_000)),
                    destination: SocketAddr::from(([192, 0, 2, (class + 3 * (capture % 5)) as u8], 443)),
                    transport: Transport::Tcp,
                },
                // Times independent of the row order, some of them equal.
                start: (row as i64 * 7919) % 1000,
                end: 2000,
                packet: None,
            }
        })
        .collect();
    FeatureSet {
        tokens: TokenArray { packets: 0, bytes: 0, values: Vec::new() },
        statistics: Array2::zeros((flows.len(), 0)),
        statistic_names: Vec::new(),
        sequences: Array2::zeros((flows.len(), 0)),
        flowpics: Array2::zeros((flows.len(), 0)),
        labels: flows.iter().map(|&(class, _)| class).collect(),
        class_names: (0..classes).map(|class| format!("class{class}")).collect(),
        provenance,
    }
}

fn permuted(features: &FeatureSet, seed: u64) -> FeatureSet {
    use rand::seq::SliceRandom;
    let mut order: Vec<usize> = (0..features.len()).collect();
    order.shuffle(&mut etcbench_storage::seed::generator(seed, "permutation"));
    let mut other = features.clone();
    other.labels = order.iter().map(|&row| features.labels[row]).collect();
    other.provenance = order.iter().map(|&row| features.provenance[row].clone()).collect();
    other
}

fn ids(features: &FeatureSet, rows: &[usize]) -> BTreeSet<String> {
    rows.iter().map(|&row| features.provenance[row].flow_id()).collect()
}

pub(super) fn options(method: SplitMethod) -> SplitOptions {
    SplitOptions { method, ..SplitOptions::default() }
}

const METHODS: [SplitMethod; 4] =
    [SplitMethod::Stratified, SplitMethod::Grouped, SplitMethod::Temporal, SplitMethod::KFold];

/// Three classes with 5 to 60 flows each; captures are either separate for each class or all shared.
fn drawn_flows() -> impl Strategy<Value = Vec<(u32, u32)>> {
    (any::<bool>(), prop::collection::vec(prop::collection::vec(0u32..6, 5..60), 3)).prop_map(|(shared, classes)| {
        let mut flows = Vec::new();
        for (class, captures) in classes.into_iter().enumerate() {
            for (index, capture) in captures.into_iter().enumerate() {
                // The first flows ensure that each class has several captures.
                let capture = if index < 3 { index as u32 } else { capture };
                flows.push((class as u32, if shared { capture } else { 10 * class as u32 + capture }));
            }
        }
        flows
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_split_is_a_partition_that_depends_on_flows_and_seed_alone(flows in drawn_flows(), seed in any::<u64>()) {
        let features = features(&flows, 3);
        let other = permuted(&features, seed);
        for method in METHODS {
            let splits = split(&features, &options(method), seed).unwrap();
            prop_assert_eq!(Some(splits.len()), options(method).count());
            prop_assert_eq!(&splits, &split(&features, &options(method), seed).unwrap());
            let again = split(&other, &options(method), seed).unwrap();
            for (split, again) in splits.iter().zip(&again) {
                let mut all: Vec<usize> = Part::ALL.iter().flat_map(|&part| split.part(part).to_vec()).collect();
                all.sort_unstable();
                prop_assert_eq!(all, (0..features.len()).collect::<Vec<_>>());
                for part in Part::ALL {
                    prop_assert!(split.part(part).is_sorted());
                    prop_assert_eq!(ids(&features, split.part(part)), ids(&other, again.part(part)));
                    for class in 0..3 {
                        let found = split.part(part).iter().any(|&row| features.labels[row] == class);
                        prop_assert!(found, "{method:?}: class {class} is not in {part:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn proportions_are_within_bounds(flows in drawn_flows(), seed in any::<u64>()) {
        let features = features(&flows, 3);
        for method in [SplitMethod::Stratified, SplitMethod::Temporal] {
            let split = &split(&features, &options(method), seed).unwrap()[0];
            for (class, counts) in SplitSummary::new(&features, split).counts.iter().enumerate() {
                let size = features.labels.iter().filter(|&&label| label as usize == class).count() as f64;
                for (&count, share) in counts.iter().zip([0.8, 0.1, 0.1]) {
                    prop_assert!((count as f64 - share * size).abs() <= 2.0);
                }
            }
        }
        let folds = split(&features, &options(SplitMethod::KFold), seed).unwrap();
        let mut tested: Vec<usize> = folds.iter().flat_map(|fold| fold.test.clone()).collect();
        tested.sort_unstable();
        prop_assert_eq!(tested, (0..features.len()).collect::<Vec<_>>());
        for fold in &folds {
            for (class, counts) in SplitSummary::new(&features, fold).counts.iter().enumerate() {
                let size = features.labels.iter().filter(|&&label| label as usize == class).count() as f64;
                prop_assert!((counts[2] as f64 - size / 5.0).abs() < 1.0);
            }
        }
    }

    #[test]
    fn no_capture_and_no_host_crosses_from_train_to_test(flows in drawn_flows(), seed in any::<u64>()) {
        let features = features(&flows, 3);
        let by_capture = &split(&features, &options(SplitMethod::Grouped), seed).unwrap()[0];
        // Every class has at least three captures, so validation shares none either.
        for shared in SplitSummary::new(&features, by_capture).shared {
            prop_assert_eq!(shared.captures, Vec::<String>::new());
        }
        let by_host = SplitOptions { group: Some(GroupBy::Host), ..options(SplitMethod::Grouped) };
        match split(&features, &by_host, seed) {
            Ok(splits) => {
                let [_, train_test, validation_test] = SplitSummary::new(&features, &splits[0]).shared;
                prop_assert_eq!((train_test.hosts, validation_test.hosts), (0, 0));
            }
            Err(error) => prop_assert!(matches!(error, SplitError::NoAssignment { .. }), "{}", error),
        }
    }

    #[test]
    fn a_temporal_split_never_trains_on_the_future_of_a_class(flows in drawn_flows(), seed in any::<u64>()) {
        let features = features(&flows, 3);
        let split = &split(&features, &options(SplitMethod::Temporal), seed).unwrap()[0];
        for class in 0..3 {
            let times = |part: Part| {
                let rows = split.part(part).iter().filter(|&&row| features.labels[row] == class);
                rows.map(|&row| features.provenance[row].start).collect::<Vec<_>>()
            };
            prop_assert!(times(Part::Train).iter().max() <= times(Part::Validation).iter().min());
            prop_assert!(times(Part::Validation).iter().max() <= times(Part::Test).iter().min());
        }
    }

    #[test]
    fn folds_of_groups_keep_groups_whole_and_partition_the_flows(
        flows in drawn_flows(), folds in 2usize..4, repeats in 1usize..4, seed in any::<u64>(),
    ) {
        let features = features(&flows, 3);
        // Every class has at least three captures, so three folds are always possible if captures are not shared; if
        // classes share captures, no assignment may be found.
        let options = SplitOptions {
            group: Some(GroupBy::Capture), folds: Some(folds), repeats: Some(repeats), ..options(SplitMethod::KFold)
        };
        let splits = match split(&features, &options, seed) {
            Ok(splits) => splits,
            Err(error) => {
                prop_assert!(matches!(error, SplitError::NoAssignment { .. }), "{}", error);
                return Ok(());
            }
        };
        prop_assert_eq!(Some(splits.len()), options.count());
        let other = permuted(&features, seed);
        for (split, again) in splits.iter().zip(&super::split(&other, &options, seed).unwrap()) {
            for part in Part::ALL {
                prop_assert_eq!(ids(&features, split.part(part)), ids(&other, again.part(part)));
            }
            let summary = SplitSummary::new(&features, split);
            let [train_validation, train_test, validation_test] = &summary.shared;
            prop_assert!(train_test.captures.is_empty() && validation_test.captures.is_empty());
            if folds == 3 && train_validation.captures.is_empty() {
                prop_assert!(summary.counts.iter().all(|counts| counts[0] > 0 && counts[2] > 0));
            }
            let mut all: Vec<usize> = Part::ALL.iter().flat_map(|&part| split.part(part).to_vec()).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..features.len()).collect::<Vec<_>>());
        }
        for repeat in splits.chunks(folds) {
            let mut tested: Vec<usize> = repeat.iter().flat_map(|fold| fold.test.clone()).collect();
            tested.sort_unstable();
            prop_assert_eq!(tested, (0..features.len()).collect::<Vec<_>>());
        }
        let once = SplitOptions { repeats: None, ..options };
        prop_assert_eq!(&super::split(&features, &once, seed).unwrap(), &splits[..folds]);
    }

    #[test]
    fn splits_round_trip_through_their_files(flows in drawn_flows(), seed in any::<u64>()) {
        let features = features(&flows, 3);
        let other = permuted(&features, seed);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("split.csv");
        let one = &split(&features, &options(SplitMethod::Stratified), seed).unwrap()[0];
        write_split(&path, &features, one).unwrap();
        prop_assert_eq!(&read_split(&path, &features).unwrap(), one);
        prop_assert_eq!(ids(&other, &read_split(&path, &other).unwrap().test), ids(&features, &one.test));

        let repeated = SplitOptions { repeats: Some(2), ..options(SplitMethod::KFold) };
        let seeds = [seed, seed ^ 1];
        let splits = seeds.map(|seed| split(&features, &repeated, seed).unwrap());
        let numbered: Vec<(u64, usize, &Split)> = seeds
            .iter()
            .zip(&splits)
            .flat_map(|(&seed, splits)| splits.iter().enumerate().map(move |(fold, split)| (seed, fold, split)))
            .collect();
        write_splits(&path, &features, &numbered).unwrap();
        let from_file = SplitOptions { path: Some(path), ..options(SplitMethod::File) };
        for (seed, splits) in seeds.into_iter().zip(splits) {
            prop_assert_eq!(split(&features, &from_file, seed).unwrap(), splits);
        }
        let error = split(&features, &from_file, seed ^ 2).unwrap_err().to_string();
        prop_assert!(error.contains(&format!("there is no split for seed {}; ", seed ^ 2)), "{}", error);
    }
}

/// Returns `flows` flows of each capture, all of one class.
pub(super) fn class_of(class: u32, captures: &[(u32, usize)]) -> Vec<(u32, u32)> {
    captures.iter().flat_map(|&(capture, flows)| vec![(class, capture); flows]).collect()
}

#[test]
fn a_class_with_two_captures_validates_on_training_captures_and_the_summary_says_so() {
    // The first class has a capture that is too large to test on, the second has one that is too large to validate on.
    let mut flows = class_of(0, &[(0, 90), (1, 10)]);
    flows.extend(class_of(1, &[(10, 80), (11, 20), (12, 20)]));
    let features = features(&flows, 2);
    let seeds = 0..9;
    let split = seeds
        .map(|seed| split(&features, &options(SplitMethod::Grouped), seed).unwrap().remove(0))
        .find(|split| SplitSummary::new(&features, split).counts[1][2] == 20)
        .unwrap();
    let summary = SplitSummary::new(&features, &split);
    assert_eq!(summary.counts, [[80, 10, 10], [80, 20, 20]]);
    let [train_validation, train_test, validation_test] = summary.shared;
    assert_eq!(train_validation.captures, ["folder/capture, 0.pcap"]);
    assert_eq!(train_validation.capture_flows, 10);
    assert!(train_test.captures.is_empty() && validation_test.captures.is_empty());
}

#[test]
fn seeds_change_the_split() {
    let features = features(&class_of(0, &[(0, 50)]).into_iter().chain(class_of(1, &[(1, 50)])).collect::<Vec<_>>(), 2);
    for method in [SplitMethod::Stratified, SplitMethod::KFold] {
        assert_ne!(split(&features, &options(method), 1).unwrap(), split(&features, &options(method), 2).unwrap());
    }
}

#[test]
fn few_groups_are_spread_over_as_many_folds_and_each_is_tested_once() {
    let flows = [
        class_of(0, &[(0, 8), (1, 3)]),
        class_of(1, &[(2, 5), (3, 9), (4, 2)]),
        class_of(2, &[(5, 4), (6, 4), (7, 4), (8, 4), (9, 4), (10, 4)]),
    ]
    .concat();
    let features = features(&flows, 3);
    let options: SplitOptions =
        toml::from_str("method = \"k_fold\"\ngroup = \"capture\"\nfew_groups = \"spread\"\nrepeats = 3").unwrap();
    for seed in 0..20 {
        let splits = split(&features, &options, seed).unwrap();
        assert_eq!(splits.len(), 15);
        for repeat in splits.chunks(5) {
            let mut tested = vec![0; features.len()];
            for split in repeat {
                split.test.iter().for_each(|&row| tested[row] += 1);
                let captures = |rows: &[usize]| -> BTreeSet<String> {
                    rows.iter().map(|&row| features.provenance[row].capture.clone()).collect()
                };
                assert!(captures(&split.test).is_disjoint(&captures(&split.train)));
                assert!((0..3).all(|class| split.train.iter().any(|&row| features.labels[row] == class)));
            }
            assert!(tested.iter().all(|&times| times == 1), "every flow is tested once in a repeat");
            let folds_of = |class: u32| {
                repeat.iter().filter(|split| split.test.iter().any(|&row| features.labels[row] == class)).count()
            };
            assert_eq!([folds_of(0), folds_of(1), folds_of(2)], [2, 3, 5]);
        }
    }
    // With more folds than any class has groups, some folds would test nothing.
    let options = SplitOptions { folds: Some(7), ..options };
    let problem = split(&features, &options, 0).unwrap_err().to_string();
    assert!(problem.contains("no class has more than 6 captures") && problem.contains("folds = 6"), "{problem}");
}

#[test]
fn a_split_between_datasets_tests_on_those_named_alone() {
    let flows = [class_of(0, &[(0, 8), (1, 3)]), class_of(1, &[(2, 5), (3, 9)]), class_of(2, &[(4, 6)])].concat();
    let mut features = features(&flows, 3);
    for flow in &mut features.provenance {
        let dataset = if ["1", "3"].iter().any(|capture| flow.capture.ends_with(&format!(" {capture}.pcap"))) {
            "b"
        } else {
            "a"
        };
        flow.capture = format!("{dataset}/{}", flow.capture);
    }
    let options = |text: &str| toml::from_str::<SplitOptions>(&format!("method = \"dataset\"\n{text}")).unwrap();
    let to_b = options("test_datasets = [\"b\"]");
    let error = split(&features, &to_b, 0).unwrap_err().to_string();
    assert!(error.contains("class class2 has 6 flow(s) in the training datasets and 0 in b"), "{error}");
    let leaving = options("test_datasets = [\"b\"]\nsmall_classes = \"leave_out\"");
    let (left, small) = leave_out_small_classes(features.clone(), &leaving).unwrap();
    assert_eq!(small[0].lacks, "it has 6 flows to train on and 0 to test on, and needs 2 and 1");
    let parts = &split(&left, &leaving, 0).unwrap()[0];
    let from =
        |rows: &[usize], dataset: &str| rows.iter().all(|&row| left.provenance[row].capture.starts_with(dataset));
    assert!(from(&parts.test, "b/") && from(&parts.train, "a/") && from(&parts.validation, "a/"));
    assert_eq!([parts.train.len(), parts.validation.len(), parts.test.len()], [11, 2, 12]);
    let unknown = split(&features, &options("test_datasets = [\"c\"]"), 0).unwrap_err().to_string();
    assert!(unknown.contains("no flow is from `c`"), "{unknown}");
    let all = split(&features, &options("test_datasets = [\"b\", \"a\"]"), 0).unwrap_err().to_string();
    assert!(all.contains("none is left to train on"), "{all}");
}
