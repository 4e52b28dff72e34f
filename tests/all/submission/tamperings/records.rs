//! Tamperings with records: metrics, times, comparisons and tables.

use super::Tampering;

pub(super) const TAMPERINGS: &[Tampering] = &[
    (
        "a metric is edited",
        |t| t.edit_record(&[",random,knn,bytes,", "macro_f1,"], |value| value + 0.03),
        &["records: records.csv: macro_f1 (knn on bytes, random, seed 0, fold 0) is claimed as"],
    ),
    (
        "a bootstrap interval is made narrow",
        |t| t.edit_record(&["accuracy_bootstrap_low,"], |value| value + 0.001),
        &["records: records.csv: accuracy_bootstrap_low ("],
    ),
    (
        "a count of confusions is edited",
        |t| t.edit_record(&[",confusion,"], |value| value + 1.0),
        &["records: records.csv: confusion of web predicted as web ("],
    ),
    (
        "the number of training flows is edited",
        |t| t.edit_record(&[",training_flows,"], |value| value - 1.0),
        &["training_flows (knn on bytes, random, seed 0, fold 0) is claimed as 39, but is 40"],
    ),
    (
        "all accuracies are rounded up",
        |t| {
            t.edit("records.csv", |text| {
                let rounded = |line: &str| match line.rsplit_once(",accuracy,") {
                    Some((start, value)) => {
                        format!("{start},accuracy,{}\n", (value.parse::<f64>().unwrap() * 10.0).ceil() / 10.0)
                    }
                    None => format!("{line}\n"),
                };
                text.lines().map(rounded).collect()
            });
        },
        &["records: records.csv: accuracy ("],
    ),
    (
        "a number is rounded up in a table",
        |t| {
            let name = t.names(&["tables/plain.md"]).remove(0);
            t.edit(&name, |text| {
                let row = text.lines().find(|line| line.starts_with("| knn")).unwrap();
                let place = row.rfind("0.").unwrap();
                text.replacen(row, &format!("{}1.000{}", &row[..place], &row[place + 5..]), 1)
            });
        },
        &["tables: tables/plain.md: line ", ", but recomputed "],
    ),
    (
        "a record is left out",
        |t| t.retain_lines("records.csv", |line| !line.contains(",log_loss,")),
        &["records: records.csv: log_loss (knn on bytes, captures, seed 0, fold 0) is missing"],
    ),
    (
        "a record is added",
        |t| {
            t.edit("records.csv", |text| {
                let line = text.lines().find(|line| line.contains(",accuracy,")).unwrap();
                text.clone() + &line.replace(",accuracy,", ",earliness,") + "\n"
            });
        },
        &["records: records.csv: earliness (", "is claimed, but not derivable from the bundle"],
    ),
    (
        "a record is there twice",
        |t| {
            t.edit("records.csv", |text| {
                let line = text.lines().find(|line| line.contains(",macro_f1,")).unwrap();
                format!("{text}{line}\n")
            });
        },
        &["is claimed more than once"],
    ),
    (
        "records are of another dataset",
        |t| t.edit("records.csv", |text| text.replace("plain,many,", "plain,iscxvpn2016,")),
        &["experiment: records.csv: has values of plain on iscxvpn2016, full; the run is of plain on many, full"],
    ),
    (
        "the best score of run.json is a better one",
        |t| t.edit_json("run.json", |run| run["best"]["mean"] = 1.0.into()),
        &["records: run.json: the best score is stated as"],
    ),
    (
        "the time of a fit is edited in the records",
        |t| t.edit_record(&[",fit_wall_seconds,"], |value| value / 10.0),
        &["costs: records.csv: fit_wall_seconds (knn on bytes, "],
    ),
    (
        "times are edited in all files, and rates are not",
        |t| {
            let mut wall = 0.0;
            t.edit_json("run.json", |run| {
                let predict = &mut run["fits"][0]["predict"]["wall_seconds"];
                wall = predict.as_f64().unwrap();
                *predict = (wall / 4.0).into();
            });
            t.edit("records.csv", |text| {
                text.replacen(
                    &format!("predict_wall_seconds,{wall}"),
                    &format!("predict_wall_seconds,{}", wall / 4.0),
                    1,
                )
            });
        },
        &["costs: records.csv: predict_flows_per_second ("],
    ),
    (
        "a fit takes less than its only stage",
        |t| {
            t.edit_json("run.json", |run| {
                run["fits"][0]["stages"] = serde_json::json!([{"stage": "fit", "wall_seconds": 9.5, "samples": 40}])
            });
        },
        &["costs: run.json: knn on bytes, random, seed 0, fold 0: its stage took 9.5 s, but the whole fit "],
    ),
    (
        "a p-value is edited",
        |t| {
            t.edit("comparisons.csv", |text| {
                let line = text.lines().nth(1).unwrap();
                let (start, _) = line.rsplit_once(',').unwrap();
                text.replacen(line, &format!("{start},0.001"), 1)
            });
        },
        &["comparisons: comparisons.csv: line 2 is ", ", but recomputed "],
    ),
    (
        "a comparison is left out",
        |t| t.edit("comparisons.csv", |text| text.lines().take(4).map(|line| format!("{line}\n")).collect()),
        &["comparisons: comparisons.csv: line 5 is nothing, but recomputed "],
    ),
    (
        "captures on both sides are not stated",
        |t| {
            t.edit_json("leaks.json", |leaks| {
                for report in leaks.as_array_mut().unwrap() {
                    (report["shared"]["captures"], report["shared"]["capture_flows"]) = (0.into(), 0.into());
                }
            });
        },
        &["leaks: leaks.json: random, seed 0, fold 0: what training and test part share differs from the split"],
    ),
    (
        "the score of the most frequent class is edited",
        |t| t.edit_json("leaks.json", |leaks| leaks[0]["majority_macro_f1"] = 0.1.into()),
        &["leaks: leaks.json: random, seed 0, fold 0: the most frequent class scores 0.1, but in the split 0.333"],
    ),
];
