//! Options, classes and files that cannot be split, and classes that are left out where declared.

use ndarray::Array2;

use super::{class_of, features, options};
use crate::*;
use etcbench_feature::TokenArray;

#[test]
fn classes_that_cannot_be_split_are_named() {
    let mut flows = class_of(0, &[(0, 20), (1, 5)]);
    flows.extend(class_of(1, &[(2, 2)]));
    let small = features(&flows, 2);
    let message = |features: &FeatureSet, method| split(features, &options(method), 0).unwrap_err().to_string();
    assert_eq!(
        message(&small, SplitMethod::Stratified),
        "class class1 has 2 flow(s) but split method stratified needs at least 3; add captures of it, or leave the \
         class out of the experiment"
    );
    assert!(message(&small, SplitMethod::KFold).contains("needs at least 5"));
    assert!(message(&small, SplitMethod::Grouped).contains("all its 2 flows in one capture (folder/capture, 2.pcap)"));
    assert!(message(&features(&flows, 3), SplitMethod::Temporal).contains("class class1 has 2 flow(s)"));
    assert!(
        message(&features(&class_of(0, &[(0, 9)]), 1), SplitMethod::Stratified).contains("the classes are `class0`")
    );
    let mut twice = features(&class_of(0, &[(0, 9)]), 2);
    twice.provenance[3].number = 4;
    assert!(message(&twice, SplitMethod::Stratified).contains("two flows have the id folder/capture, 0.pcap#4"));
}

#[test]
fn groups_that_exclude_one_another_are_an_error_and_not_a_leak() {
    // Two captures that both contain every class: one must be train, the other test, and so on for class 1, whose
    // second capture is the only other one.
    let flows =
        [class_of(0, &[(0, 5), (1, 5)]), class_of(1, &[(1, 5), (2, 5)]), class_of(2, &[(0, 5), (2, 5)])].concat();
    let error = split(&features(&flows, 3), &options(SplitMethod::Grouped), 0).unwrap_err();
    assert!(matches!(error, SplitError::NoAssignment { .. }), "{error}");
}

#[test]
fn options_that_do_not_go_together_are_errors() {
    let problem = |text: &str| match toml::from_str::<SplitOptions>(text) {
        Ok(options) => options.validate().unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(problem("train = 0.7").contains("the three must sum to 1"));
    assert!(problem("train = 0.9\ntest = 0.0").contains("[split] test: is 0"));
    assert!(problem("validation = nan").contains("[split] validation"));
    assert!(problem("method = \"grouped\"\nfolds = 3").contains("[split] folds: is not for method \"grouped\""));
    assert!(problem("group = \"capture\"").contains("[split] group: is not for method \"stratified\""));
    assert!(problem("method = \"temporal\"\nrepeats = 2").contains("[split] repeats: is not for method"));
    assert!(problem("method = \"k_fold\"\nrepeats = 0").contains("[split] repeats: is 0"));
    assert!(problem("method = \"file\"").contains("[split] path: is missing"));
    assert!(problem("method = \"file\"\npath = \"a\"\ntrain = 0.5").contains("[split] train: is not for"));
    assert!(problem("path = \"a\"").contains("[split] path: is not for method"));
    assert!(problem("method = \"k_fold\"\nfew_groups = \"spread\"").contains("[split] few_groups: is only for method"));
    assert!(problem("method = \"dataset\"").contains("[split] test_datasets: is missing"));
    assert!(problem("method = \"dataset\"\ntest_datasets = [\"a\"]\ntest = 0.2").contains("follows from the datasets"));
    assert!(problem("test_datasets = [\"a\"]").contains("[split] test_datasets: is not for method"));
    assert!(problem("minimum_class_flows = 0").contains("minimum_class_flows: is 0"));
    assert!(problem("method = \"k_fold\"\ntest = 0.1").contains("[split] test: follows from folds"));
    assert!(problem("method = \"k_fold\"\nfolds = 1").contains("[split] folds: is 1"));
    assert!(problem("seed = 1").contains("unknown field `seed`"));
    for method in ["method = \"published\"", "method = \"file\"\npath = \"a\""] {
        let leaving = format!("{method}\nsmall_classes = \"leave_out\"");
        assert!(problem(&leaving).contains("[split] small_classes: is \"leave_out\", which has no effect with method"));
        let with_minimum = format!("{leaving}\nminimum_class_flows = 5");
        toml::from_str::<SplitOptions>(&with_minimum).unwrap().validate().unwrap();
    }
    let parsed: SplitOptions =
        toml::from_str("method = \"grouped\"\ngroup = \"host\"\ntrain = 0.6\ntest = 0.3").unwrap();
    assert_eq!(parsed.fractions().unwrap(), Fractions { train: 0.6, validation: 0.1, test: 0.3 });
}

#[test]
fn classes_under_the_minimum_are_an_error_or_left_out_as_declared() {
    let flows = [class_of(0, &[(0, 20)]), class_of(1, &[(1, 4)]), class_of(2, &[(2, 9)])].concat();
    let mut features = features(&flows, 3);
    features.statistics = Array2::from_shape_fn((flows.len(), 1), |(row, _)| row as f32);
    features.tokens = TokenArray { packets: 1, bytes: 2, values: (0..2 * flows.len() as u16).collect() };
    let options = |text: &str| toml::from_str::<SplitOptions>(text).unwrap();
    let refusing = options("minimum_class_flows = 5");
    let (same, small) = leave_out_small_classes(features.clone(), &refusing).unwrap();
    assert_eq!((same.len(), small.len()), (33, 0));
    assert!(split(&features, &refusing, 0).unwrap_err().to_string().contains("class class1 has 4 flow(s), fewer than"));

    let leaving = options("minimum_class_flows = 5\nsmall_classes = \"leave_out\"");
    let (left, small) = leave_out_small_classes(features.clone(), &leaving).unwrap();
    let lacks = "it has 4 flows, and needs 5".to_owned();
    assert_eq!(small, [SmallClass { class: "class1".to_owned(), flows: 4, lacks }]);
    assert_eq!(left.class_names, ["class0", "class2"]);
    assert_eq!(left.labels, [vec![0; 20], vec![1; 9]].concat());
    // The rows are those of the remaining classes: 0 to 19, and 24 to 32.
    assert_eq!(left.statistics.column(0).to_vec()[19..22], [19.0, 24.0, 25.0]);
    assert_eq!(left.tokens.flow(20), [48, 49]);
    assert_eq!(left.provenance[20], features.provenance[24]);
    assert_eq!(split(&left, &leaving, 0).unwrap().len(), 1);
    let all = options("minimum_class_flows = 10\nsmall_classes = \"leave_out\"");
    assert!(leave_out_small_classes(features, &all).unwrap_err().to_string().contains("leaves 1 of 3 classes"));
}

#[test]
fn classes_that_the_method_cannot_divide_are_left_out_where_declared() {
    let flows =
        [class_of(0, &[(0, 6), (1, 6)]), class_of(1, &[(2, 9)]), class_of(2, &[(3, 5), (4, 5), (5, 5)])].concat();
    let features = features(&flows, 3);
    let left_out = |text: &str| {
        let options: SplitOptions = toml::from_str(&format!("small_classes = \"leave_out\"\n{text}")).unwrap();
        let (left, small) = leave_out_small_classes(features.clone(), &options).unwrap();
        assert!(!split(&left, &options, 0).unwrap().is_empty());
        small.into_iter().map(|small| format!("{}: {}", small.class, small.lacks)).collect::<Vec<_>>()
    };
    assert_eq!(left_out("method = \"grouped\""), ["class1: it is in 1 capture, and needs 2"]);
    assert_eq!(
        left_out("method = \"k_fold\"\nfolds = 3\ngroup = \"capture\"\nfew_groups = \"spread\""),
        ["class1: it is in 1 capture, and needs 2"]
    );
}

#[test]
fn fewer_groups_than_folds_are_an_error_that_says_how_many_folds_there_can_be() {
    let flows = [class_of(0, &[(0, 5), (1, 5), (2, 5)]), class_of(1, &[(3, 5), (4, 5)])].concat();
    let options = SplitOptions { group: Some(GroupBy::Capture), folds: Some(3), ..options(SplitMethod::KFold) };
    let error = split(&features(&flows, 2), &options, 0).unwrap_err().to_string();
    assert!(error.contains("class class1 has 2 capture(s), so it cannot be in each of 3 folds"), "{error}");
    let two = SplitOptions { folds: Some(2), ..options };
    assert_eq!(split(&features(&flows, 2), &two, 0).unwrap().len(), 2);
}

#[test]
fn split_files_of_other_data_are_refused_with_what_differs_counted() {
    let features = features(&[class_of(0, &[(0, 5)]), class_of(1, &[(1, 5)])].concat(), 2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("split.csv");
    write_split(&path, &features, &split(&features, &SplitOptions::default(), 0).unwrap()[0]).unwrap();
    let good = std::fs::read_to_string(&path).unwrap();
    let problem = |content: String| {
        std::fs::write(&path, content).unwrap();
        read_split(&path, &features).unwrap_err().to_string()
    };
    let lines: Vec<&str> = good.lines().collect();
    assert_eq!(lines[0], "flow_id,source,destination,transport,start,part");
    assert!(lines[1].starts_with("\"folder/capture, 0.pcap#0\",10.0.0.1:40000,192.0.2.0:443,tcp,0,"), "{}", lines[1]);
    assert!(
        problem(good.replacen("flow_id", "flowid", 1)).contains("unknown column `flowid`, did you mean `flow_id`?")
    );
    assert!(
        problem(good.replacen("transport", "fold", 1)).contains("line 2: fold \"tcp\" is not a non-negative integer")
    );
    assert!(problem("flow_id,start\n".to_owned()).contains("there is no column `part`"));
    assert!(problem("flow_id,part\n".to_owned()).contains("it contains no flows"));
    let text = problem(good.replace("capture, 1.pcap#", "capture, 9.pcap#"));
    assert!(
        text.contains("5 flow id(s) are not among the experiment's flows (the first: line 7: folder/capture, 9"),
        "{text}"
    );
    assert!(text.contains("5 flow(s) are missing (the first: folder/capture, 1.pcap#0)"), "{text}");
    assert!(problem(good.replacen("train", "training", 1)).contains("part \"training\""));
    let text = problem(format!("{good}{}\n", lines[3]));
    assert!(text.contains("1 flow(s) are listed twice (the first: line 12: folder/capture, 0.pcap#2)"), "{text}");
    assert!(problem(lines[..10].join("\n")).contains("1 flow(s) are missing (the first: folder/capture, 1.pcap#4)"));
    let text = problem(good.replace(":443,tcp", ":444,tcp"));
    assert!(text.contains("10 flow(s) have different endpoints or start times (the first: line 2: "), "{text}");
    assert!(problem(good.replace("train", "test").replace("validation", "test")).contains("no flow in part train"));
    // Ids alone suffice, in any order.
    let mut short: Vec<String> = lines[1..]
        .iter()
        .map(|line| format!("{}\",{}\n", line.split("\",").next().unwrap(), line.rsplit(',').next().unwrap()))
        .collect();
    short.reverse();
    std::fs::write(&path, format!("flow_id,part\n{}", short.concat())).unwrap();
    let read = read_split(&path, &features).unwrap();
    std::fs::write(&path, &good).unwrap();
    assert_eq!(read, read_split(&path, &features).unwrap());
}
