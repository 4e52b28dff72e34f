//! Tests the audit on the paper's tables, whose impossible numbers are listed, and on tables computed from a confusion
//! matrix.

use proptest::prelude::*;

use super::*;
use etcbench_evaluate::ConfusionMatrix;

fn audit(text: &str) -> Vec<Finding> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.csv");
    std::fs::write(&path, format!("row,metric,value\n{text}")).unwrap();
    AuditTable::read(&path).unwrap().audit().unwrap()
}

fn published(name: &str) -> Vec<Finding> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../paper/published/{name}.csv"));
    AuditTable::read(&path).unwrap().audit().unwrap()
}

/// Returns every number that is not possible: row, metric, verdict.
fn objections(findings: &[Finding]) -> Vec<(&str, &str, Possible)> {
    let not = findings.iter().filter(|finding| finding.possible != Possible::Yes);
    not.map(|finding| (finding.row.as_str(), finding.metric.as_str(), finding.possible)).collect()
}

#[test]
fn impossible_numbers_of_the_paper_are_found_cell_by_cell() {
    let findings = published("table1");
    assert_eq!(findings.len(), 20);
    assert_eq!(
        objections(&findings),
        [
            ("random_forest", "macro_f1", Possible::OnlyIf),
            ("knn", "macro_f1", Possible::No),
            ("gradient_boosting", "macro_f1", Possible::OnlyIf),
            ("attention_lstm", "macro_f1", Possible::OnlyIf),
        ]
    );
    let reason =
        |findings: &[Finding], row: &str| findings.iter().rfind(|finding| finding.row == row).unwrap().reason.clone();
    assert!(reason(&findings, "knn").ends_with("here 0.783"), "{}", reason(&findings, "knn"));
    assert!(reason(&findings, "random_forest").contains("at least 0.924"), "{}", reason(&findings, "random_forest"));

    // By the recalls alone, facebook_video needs at least 84.6 %; with the precisions it is impossible.
    let findings = published("table2");
    assert_eq!(objections(&findings), [("attention_lstm", "accuracy", Possible::No)]);
    let text = reason(&findings, "attention_lstm");
    assert!(text.contains("0.986 needs facebook_video to be at least 84.6 % of the test flows"), "{text}");
    assert!(text.contains("; with the precisions too no confusion matrix has these numbers"), "{text}");

    for (table, largest) in [("table3", "0.936"), ("table5", "0.932")] {
        let findings = published(table);
        let accuracy = ("attention_lstm", "accuracy", Possible::No);
        assert_eq!(objections(&findings).last(), Some(&accuracy), "{table}");
        let text = reason(&findings, "attention_lstm");
        assert_eq!(text, format!("accuracy cannot exceed the largest recall, here {largest}"));
    }
    // The share of predictions of a class is its support times recall over precision, and these shares also sum to 1.
    // In table 3 only voip's recall exceeds its precision, so it would need nearly all flows; then the other classes
    // have too few flows to be its false positives.
    let voip = ["chat", "filetrans", "video", "voip"].map(|class| (class, "precision", Possible::No));
    assert_eq!(objections(&published("table3"))[..4], voip);
    assert_eq!(objections(&published("table5")).len(), 1);
}

#[test]
fn a_class_that_is_not_printed_may_carry_an_accuracy_and_must_be_good_enough() {
    let findings = published("table4");
    let accuracy = findings.iter().find(|finding| finding.metric == "accuracy").unwrap();
    assert_ne!(accuracy.possible, Possible::Yes);
    let text = &accuracy.reason;
    let bound: f64 = text.split("a recall of at least ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    // If nearly all flows belong to the fifth class, its recall is the accuracy.
    assert!((bound - 0.9515).abs() < 2e-4, "{text}");
    // With four classes the accuracy would be impossible.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../paper/published/table4.csv");
    let four = AuditTable { classes: None, ..AuditTable::read(&path).unwrap() };
    let findings = four.audit().unwrap();
    assert_eq!(objections(&findings), [("attention_lstm", "accuracy", Possible::No)]);
    assert!(AuditTable { classes: Some(3), ..four }.audit().unwrap_err().to_string().contains("has 4 classes"));
}

#[test]
fn the_published_files_state_what_the_audit_finds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../paper/published");
    for name in ["table1", "table2", "table3", "table4", "table5"] {
        let stored = super::super::PublishedTable::read(&folder, name).unwrap().unwrap();
        for finding in published(name) {
            let cell = stored.get(&finding.row, &finding.metric).unwrap();
            assert_eq!(
                cell.possible, finding.possible,
                "{name}: {} of {}: {}",
                finding.metric, finding.row, finding.reason
            );
        }
    }
}

#[test]
fn single_checks() {
    let f1 =
        audit("a,precision,0.9\na,recall,0.5\na,f1,0.71\nb,precision,0.9\nb,recall,0.5\nb,f1,0.64\ntable,classes,3\n");
    assert_eq!(objections(&f1), [("a", "f1", Possible::No)]);
    assert_eq!(
        objections(&audit("m,accuracy,0.91\nm,weighted_recall,0.93\nm,micro_f1,0.91\n")),
        [("m", "weighted_recall", Possible::No)]
    );
    // Printed supports determine the accuracy.
    let supports = |accuracy: &str| {
        audit(&format!("a,recall,0.5\na,support,30\nb,recall,0.9\nb,support,10\nm,accuracy,{accuracy}\n"))
    };
    assert_eq!(objections(&supports("0.60")), []);
    assert_eq!(objections(&supports("0.80")), [("m", "accuracy", Possible::No)]);
    assert_eq!(objections(&audit("a,recall,0.5\nb,recall,0.9\nm,accuracy,0.70\n")), []);
    assert_eq!(
        objections(&audit("a,recall,0.50\nb,recall,0.90\nm,accuracy,0.85\n")),
        [("m", "accuracy", Possible::OnlyIf)]
    );
    // A precision of 0.5 for `a` means as many false as true positives; `b`, with recall 0.99, cannot supply them if it
    // is small.
    let low = audit("a,recall,1.00\na,precision,0.50\nb,recall,0.99\nb,precision,0.99\n");
    assert!(low.iter().any(|finding| finding.possible == Possible::No), "{low:?}");
}

#[test]
fn files_that_are_not_tables_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.csv");
    let problem = |text: &str| {
        std::fs::write(&path, format!("row,metric,value\n{text}")).unwrap();
        AuditTable::read(&path).unwrap_err().to_string()
    };
    assert!(problem("a,f1,95.1\n").contains("record 1 (f1 of a): 95.1 is not between 0 and 1; write 95.1 % as 0.951"));
    assert!(problem("a,f2,0.9\n").contains("unknown metric, did you mean `f1`?"));
    assert!(problem("a,f1,nan\n").contains("is not a number such as 0.951"));
    assert!(problem("a,f1,0.9\na,f1,0.8\n").contains("record 2 (f1 of a): duplicate entry"));
    assert!(problem("a,support,1.5\n").contains("is not an integer"));
    assert!(problem("t,classes,1\n").contains("is not a number of classes"));
    assert!(problem("").contains("the table has no number to audit"));
    // A table with one row per class, as scikit-learn's classification_report prints it, with commas or semicolons.
    for (header, names) in [
        ("class,precision,recall,f1-score,support", "`class`, `precision`, `recall`, `f1-score`, `support`"),
        ("class;precision;recall", "`class;precision;recall`"),
    ] {
        std::fs::write(&path, format!("{header}\n{}\n", header.replace("class", "chat"))).unwrap();
        let message = AuditTable::read(&path).unwrap_err().to_string();
        assert!(message.contains("has the columns `row`, `metric` and `value`"), "{message}");
        assert!(message.ends_with(&format!("this one has {names}")), "{message}");
    }
}

/// Prints a table from a confusion matrix with this many decimals.
fn printed(matrix: &ConfusionMatrix, decimals: usize, hidden: usize, supports: bool) -> String {
    let mut text = String::new();
    for class in 0..matrix.classes() - hidden {
        let scores = matrix.class_scores(class);
        for (metric, value) in [("precision", scores.precision), ("recall", scores.recall), ("f1", scores.f1)] {
            if let Some(value) = value {
                text += &format!("c{class},{metric},{value:.decimals$}\n");
            }
        }
        if supports {
            text += &format!("c{class},support,{}\n", scores.support);
        }
    }
    let average = matrix.macro_average();
    text += &format!("m,accuracy,{:.decimals$}\n", matrix.accuracy());
    for (metric, value) in
        [("macro_precision", average.precision), ("macro_recall", average.recall), ("macro_f1", average.f1)]
    {
        text += &format!("m,{metric},{value:.decimals$}\n");
    }
    text + &format!("table,classes,{}\n", matrix.classes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_table_that_was_measured_is_never_called_impossible(
        rows in prop::collection::vec((0u32..4, 0u32..4, any::<bool>()), 4..80), decimals in 2usize..5, hidden in 0usize..2,
        supports: bool,
    ) {
        let labels: Vec<u32> = rows.iter().map(|(label, ..)| *label).collect();
        let predictions: Vec<u32> =
            rows.iter().map(|&(label, other, right)| if right { label } else { other }).collect();
        let matrix = ConfusionMatrix::new(&labels, &predictions, 4).unwrap();
        let text = printed(&matrix, decimals, hidden, supports);
        for finding in audit(&text) {
            prop_assert_ne!(finding.possible, Possible::No, "{} of {}: {}\n{}", finding.metric, finding.row, finding.reason, text);
            // A reported condition holds in the matrix that the table was computed from, and macro F1 has no condition.
            prop_assert!(finding.metric != "macro_f1" || finding.possible == Possible::Yes, "{}\n{}", finding.reason, text);
        }
    }

    #[test]
    fn no_classes_have_a_smaller_macro_f1_than_the_bound(
        values in prop::collection::vec((0.0f64..1.0, 0.0f64..1.0), 2..7), whole in prop::collection::vec(any::<(bool, bool)>(), 7),
    ) {
        // Moves many values to 0 or 1, where the bound is attained.
        let values: Vec<(f64, f64)> = values
            .iter()
            .zip(&whole)
            .map(|(&(precision, recall), &(round, up))| match (round, up) {
                (true, true) => (precision.round(), recall),
                (true, false) => (precision, recall.round()),
                (false, true) => (precision.round(), recall.round()),
                (false, false) => (precision, recall),
            })
            .collect();
        let mean = |value: fn(&(f64, f64)) -> f64| values.iter().map(value).sum::<f64>() / values.len() as f64;
        let f1 = mean(|&(precision, recall)| harmonic(precision, recall));
        let least = least_macro_f1(mean(|value| value.0) - 1e-9, mean(|value| value.1) - 1e-9, values.len());
        prop_assert!(least <= f1 + 1e-6, "{} {}", least, f1);
    }
}

#[test]
fn the_bound_of_two_classes_is_that_of_its_corners() {
    // Means 0.9285 and 0.9305: (0.857, 0.861) and (1, 1), or (0.857, 1) and (1, 0.861).
    let crossed = (harmonic(0.857, 1.0) + harmonic(1.0, 0.861)) / 2.0;
    let together = (harmonic(0.857, 0.861) + 1.0) / 2.0;
    assert!((least_macro_f1(0.9285, 0.9305, 2) - crossed.min(together)).abs() < 1e-12);
}
