//! Golden renderings of tables made from small lists of records.

use std::path::Path;

use super::*;
use etcbench_experiment::RunKey;

/// One record of experiment `table3`.
pub(crate) fn record(variant: &str, model: &str, seed: u64, class: Option<&str>, metric: &str, value: f64) -> Record {
    Record {
        key: RunKey {
            experiment: "table3".to_owned(),
            dataset: "iscxvpn2016".to_owned(),
            size: "full".to_owned(),
            variant: variant.to_owned(),
            model: model.to_owned(),
            input: "bytes".to_owned(),
            implementation: "fast".to_owned(),
            seed,
            fold: 0,
        },
        class: class.map(str::to_owned),
        predicted: None,
        setting: None,
        epoch: None,
        metric: metric.to_owned(),
        value: Some(value),
    }
}

fn published(experiment: &str) -> PublishedTable {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../paper/published");
    PublishedTable::read(&folder, experiment).unwrap().unwrap()
}

fn model_records(variant: &str, model: &str, seed: u64, accuracy: f64) -> Vec<Record> {
    ["accuracy", "macro_precision", "macro_recall", "macro_f1"]
        .iter()
        .enumerate()
        .map(|(index, metric)| (*metric, accuracy - index as f64 / 100.0))
        .chain([("fit_wall_seconds", 1000.0 * accuracy), ("predict_wall_seconds", accuracy)])
        .map(|(metric, value)| record(variant, model, seed, None, metric, value))
        .collect()
}

fn seeded_records() -> Vec<Record> {
    let mut records = Vec::new();
    for seed in 0..2 {
        let change = seed as f64 / 50.0;
        for model in ["attention_lstm", "svm"] {
            records.extend(model_records("random_split", model, seed, 0.9 + change));
            records.extend(model_records("without_shortcuts", model, seed, 0.7 + change));
        }
        for variant in ["random_split", "without_shortcuts"] {
            for (class, precision) in [("voip", 0.5), ("chat", 0.75)] {
                records.push(record(variant, "attention_lstm", seed, Some(class), "precision", precision + change));
                records.push(record(variant, "attention_lstm", seed, Some(class), "recall", 0.25));
                records.push(record(variant, "attention_lstm", seed, Some(class), "f1", 0.3 + change));
                records.push(record(variant, "attention_lstm", seed, Some(class), "support", 40.0));
            }
        }
    }
    records
}

#[test]
fn tables_show_models_variants_and_published_numbers() {
    let mut records = seeded_records();
    records.reverse();
    records.sort_by_key(|record| record.class.as_deref() == Some("chat"));
    let tables = tables(&records, TableLayout::Classes, &[published("table3")]).unwrap();
    assert_eq!(tables.len(), 2);
    let classes = "\
**table3: classes of attention_lstm on iscxvpn2016, size full**

| class     | variant           |   precision |      recall |          F1 | in CI | support |
| --------- | ----------------- | ----------: | ----------: | ----------: | ----- | ------: |
| voip      | random_split      | 0.510±0.014 | 0.250±0.000 | 0.310±0.014 | –     |      40 |
| voip      | without_shortcuts | 0.510±0.014 | 0.250±0.000 | 0.310±0.014 | –     |      40 |
| chat      | random_split      | 0.760±0.014 | 0.250±0.000 | 0.310±0.014 | –     |      40 |
| chat      | without_shortcuts | 0.760±0.014 | 0.250±0.000 | 0.310±0.014 | –     |      40 |
| voip      | published         |   0.898 [a] |       0.902 |       0.900 |       |         |
| chat      | published         |   0.956 [a] |       0.892 |       0.923 |       |         |
| filetrans | published         |   0.923 [a] |       0.874 |       0.898 |       |         |
| video     | published         |   0.967 [a] |       0.936 |       0.951 |       |         |

- Mean±sample standard deviation over 2 seeds.
- Rows \"published\" are the numbers that the paper prints, on its own data; all others are measured here, on \
iscxvpn2016 in size full.
- In CI: which published numbers lie in the 95 % interval of the row's mean over seeds and folds, rounding counted (A \
accuracy, P precision, R recall, F F1; in parentheses where the number cannot be; – none).
- [a] impossible: no confusion matrix has the precisions and recalls of these four classes together: predictions, the sum of \
support times recall over precision, must be all flows, and only voip has a recall above its precision
";
    assert_eq!(tables[0].to_markdown(), classes);
    let models = "\
**table3: models on iscxvpn2016, size full**

| model          | input | variant           |    accuracy |   precision |      recall |          F1 | in CI | fit (s) | predict (s) |
| -------------- | ----- | ----------------- | ----------: | ----------: | ----------: | ----------: | ----- | ------: | ----------: |
| svm            | bytes | random_split      | 0.910±0.014 | 0.900±0.014 | 0.890±0.014 | 0.880±0.014 |       |  910±14 | 0.910±0.014 |
| svm            | bytes | without_shortcuts | 0.710±0.014 | 0.700±0.014 | 0.690±0.014 | 0.680±0.014 |       |  710±14 | 0.710±0.014 |
| attention_lstm | bytes | random_split      | 0.910±0.014 | 0.900±0.014 | 0.890±0.014 | 0.880±0.014 | (A)   |  910±14 | 0.910±0.014 |
| attention_lstm | bytes | without_shortcuts | 0.710±0.014 | 0.700±0.014 | 0.690±0.014 | 0.680±0.014 | –     |  710±14 | 0.710±0.014 |
| attention_lstm |       | published         |   0.942 [a] |             |             |             |       |         |             |
";
    let markdown = tables[1].to_markdown();
    assert!(markdown.starts_with(models), "{markdown}");
    assert!(markdown.contains("- [a] impossible: accuracy cannot exceed the largest recall, here 0.936\n"));
    assert!(markdown.lines().all(|line| !line.starts_with('|') || line.chars().count() <= 144));
    assert!(tables[1].to_latex().contains("attention\\_lstm &  & published & $0.942$\\textsuperscript{a} & "));
}

#[test]
fn table_1_of_the_paper_fits_a_page() {
    let mut records = Vec::new();
    for (seed, model) in [0, 1].into_iter().flat_map(|seed| [(seed, "gradient_boosting"), (seed, "attention_lstm")]) {
        for input in ["bytes", "statistics"] {
            for mut record in model_records("without_shortcuts", model, seed, 0.9 + 0.02 * seed as f64) {
                record.key.experiment = "table1".to_owned();
                record.key.input = input.to_owned();
                records.push(record);
            }
        }
    }
    let tables = tables(&records, TableLayout::Models, &[published("table1"), published("table2")]).unwrap();
    assert_eq!(tables.len(), 1);
    let markdown = tables[0].to_markdown();
    let lines: Vec<&str> = markdown.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(lines.len(), 2 + 5 + 4);
    let width = lines[0].chars().count();
    assert!(width <= 144 && lines.iter().all(|line| line.chars().count() == width), "{markdown}");
    assert!(markdown.contains("| knn               |            | published         |       0.834 |"), "{markdown}");
    assert!(markdown.contains("0.889 [b]") && markdown.contains("- [b] impossible:"), "{markdown}");
}

#[test]
fn one_seed_has_no_deviation_and_undefined_values_are_explained() {
    let mut records = seeded_records();
    records.retain(|record| record.key.seed == 0);
    for record in &mut records {
        if record.class.as_deref() == Some("voip") && record.metric == "precision" {
            record.value = None;
        }
    }
    records.push(record("random_split", "attention_lstm", 0, None, "undefined_precision_classes", 1.0));
    let tables = tables(&records, TableLayout::Classes, &[]).unwrap();
    let classes = tables[0].to_markdown();
    assert!(!classes.contains('±'), "{classes}");
    assert!(classes.contains("| voip  | random_split      |     — [a] |  0.250 | 0.300 |      40 |"), "{classes}");
    assert!(classes.contains("- [a] undefined: the class was never predicted\n"), "{classes}");
    let models = tables[1].to_markdown();
    assert!(models.contains("- [a] a class was never predicted: its precision counts as 0\n"), "{models}");
    assert_eq!(models.matches("[a]").count(), 2, "{models}");
    let csv = tables[0].to_csv().unwrap();
    assert!(csv.contains("voip,bytes,fast,random_split,,,undefined: the class was never predicted,0.25,"), "{csv}");

    let mut two = seeded_records();
    let index = two.iter().position(|record| record.metric == "precision").unwrap();
    two[index].value = None;
    let table = &super::tables(&two, TableLayout::Classes, &[]).unwrap()[0];
    assert_eq!(table.footnotes, ["undefined: the class was never predicted in 1 of 2 seeds; mean of the others"]);
}

#[test]
fn a_record_given_twice_is_an_error() {
    let records = vec![record("random_split", "svm", 0, None, "accuracy", 0.5); 2];
    let error = tables(&records, TableLayout::Models, &[]).unwrap_err().to_string();
    assert!(error.contains("accuracy of svm (bytes, random_split) class (all) seed 0"), "{error}");
}

#[test]
fn runs_of_other_data_are_other_tables_and_the_reference_is_named() {
    let mut records = seeded_records();
    for mut record in model_records("random_split", "svm", 0, 0.5) {
        record.key.size = "smoke".to_owned();
        record.key.implementation = "reference".to_owned();
        records.push(record);
    }
    let tables = tables(&records, TableLayout::Models, &[]).unwrap();
    assert_eq!(tables.len(), 2);
    assert!(!tables[0].to_markdown().contains("| implementation |"));
    assert!(tables[1].title.ends_with("size smoke"));
    assert!(tables[1].to_markdown().contains("| reference      |"));
}

#[test]
fn the_split_table_counts_flows_and_shared_captures_and_hosts() {
    use etcbench_split::{Part, SharedProvenance};
    let shared = |first, second| SharedProvenance {
        first,
        second,
        captures: vec!["a.pcap".to_owned()],
        capture_flows: 3,
        hosts: 2,
        host_flows: 4,
    };
    let summary = SplitSummary {
        class_names: vec!["chat".to_owned(), "voip".to_owned()],
        counts: vec![[8, 1, 1], [16, 2, 2]],
        shared: [
            shared(Part::Train, Part::Validation),
            shared(Part::Train, Part::Test),
            shared(Part::Validation, Part::Test),
        ],
    };
    let table = split_table(&summary);
    assert!(table.to_markdown().contains("| (all) |    24 |          3 |    3 |"), "{}", table.to_markdown());
    assert_eq!(
        table.notes[1],
        "train and test: 1 capture in both (3 of the test flows come from them), 2 destination hosts in both (4 \
         flows)."
    );
}
