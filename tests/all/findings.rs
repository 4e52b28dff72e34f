//! `paper/FINDINGS.md` agrees with the stored reference results: its tables of scores are generated again from
//! `results/reference/lab` and `results/reference/iscxvpn2016-first10`, those of its ablations from
//! `results/reference/ablations`, and must occur in it line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

/// Returns mean and standard deviation of macro F1 over the seeds, by variant and by model and input, table by table.
fn scores(folder: &Path, tables: RangeInclusive<usize>, variant: &str) -> Vec<(String, Vec<String>)> {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for table in tables {
        // If a table's layout is by class, its second table is that of models.
        let second = folder.join(format!("table{table}-2.csv"));
        let path = if second.is_file() { second } else { folder.join(format!("table{table}.csv")) };
        let mut reader = csv::Reader::from_path(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let header = reader.headers().unwrap().clone();
        let column = |name: &str| header.iter().position(|column| column == name).unwrap();
        let names = ["model", "input", "variant", "macro_f1", "macro_f1_standard_deviation"].map(column);
        for record in reader.records() {
            let record = record.unwrap();
            let [model, input, of_variant, mean, deviation] = names.map(|column| &record[column]);
            // A published row is not a variant, and may lack an average.
            if of_variant != variant {
                continue;
            }
            let [mean, deviation] = [mean, deviation].map(|value| value.parse::<f64>().unwrap());
            let (name, cell) = (format!("{model}, {input}"), format!("{mean:.3}±{deviation:.3}"));
            match rows.iter_mut().find(|(other, _)| *other == name) {
                Some((_, cells)) => cells.push(cell),
                None => rows.push((name, vec![cell])),
            }
        }
    }
    rows
}

#[test]
fn the_table_of_findings_is_that_of_the_stored_results() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("paper/FINDINGS.md")).unwrap();
    for variant in ["random_split", "without_shortcuts"] {
        for (data, tables) in [("lab", 1..=5), ("iscxvpn2016-first10", 2..=3)] {
            let rows = scores(&root.join("results/reference").join(data), tables.clone(), variant);
            // Four baselines with two inputs each, and the paper's model.
            assert_eq!(rows.len(), 9, "{data} {variant}");
            for (name, cells) in rows {
                assert_eq!(cells.len(), tables.clone().count(), "{data} {variant}: {name}");
                let line = format!("| {variant} | {name} | {} |\n", cells.join(" | "));
                assert!(page.contains(&line), "paper/FINDINGS.md has no line {line:?}");
            }
        }
    }
}

/// Returns the table of an ablation: its settings, and for each model mean and standard deviation of macro F1.
fn ablation(path: &Path) -> Vec<String> {
    let mut reader = csv::Reader::from_path(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|column| column == name).unwrap();
    // The column of the changed key follows that of the variant.
    let changed = column("variant") + 1;
    let (model, mean, deviation) = (column("model"), column("macro_f1"), column("macro_f1_standard_deviation"));
    let mut settings = Vec::new();
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for record in reader.records().map(Result::unwrap) {
        if !settings.contains(&record[changed].to_owned()) {
            settings.push(record[changed].to_owned());
        }
        let [mean, deviation] = [mean, deviation].map(|value| record[value].parse::<f64>().unwrap());
        let cell = format!("{mean:.3}±{deviation:.3}");
        match rows.iter_mut().find(|(name, _)| *name == record[model]) {
            Some((_, cells)) => cells.push(cell),
            None => rows.push((record[model].to_owned(), vec![cell])),
        }
    }
    let head = format!("| {} | {} |\n", &header[changed], settings.join(" | "));
    let lines = rows.into_iter().map(|(name, cells)| {
        assert_eq!(cells.len(), settings.len(), "{}: {name}", path.display());
        format!("| {name} | {} |\n", cells.join(" | "))
    });
    std::iter::once(head).chain(lines).collect()
}

#[test]
fn the_ablations_of_findings_are_those_of_the_stored_results() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("paper/FINDINGS.md")).unwrap();
    let first = ["activation", "attention", "direction", "elmo", "m", "masks", "n", "packet-start", "split"];
    let first = first.map(|name| format!("ablations/{name}.csv"));
    for name in first.into_iter().chain(["ablations-segments/n.csv".to_owned()]) {
        let lines = ablation(&root.join("results/reference").join(&name));
        assert!(lines.len() > 1, "{name}");
        for line in lines {
            assert!(page.contains(&line), "paper/FINDINGS.md has no line {line:?}");
        }
    }
}

#[test]
fn the_ladders_of_findings_are_those_of_the_stored_results() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("paper/FINDINGS.md")).unwrap();
    let lab = (1..=5).map(|table| ("lab", format!("table{table}"), format!("table {table}"), 6));
    let iscx = (2..=3).map(|table| ("iscxvpn2016-first10", format!("table{table}"), format!("table {table}"), 12));
    let ustc = [("ustc-tfc2016", "table1-ustc".to_owned(), "table1-ustc".to_owned(), 6)];
    for (data, experiment, label, expected) in lab.chain(iscx).chain(ustc) {
        let path = root.join(format!("results/reference/ladder/{data}/{experiment}-ladder.csv"));
        let mut reader = csv::Reader::from_path(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let header = reader.headers().unwrap().clone();
        let column = |name: &str| header.iter().position(|column| column == name).unwrap();
        // Invented times exclude the rung by time.
        let present = |name: &&str| header.iter().any(|column| column == *name);
        let rungs = etcbench::experiment::RUNGS.iter().map(|rung| rung.name).filter(present);
        let (rungs, names) = (rungs.map(column).collect::<Vec<_>>(), ["model", "input", "masks"].map(column));
        let mut rows = 0;
        for record in reader.records() {
            let record = record.unwrap();
            let [model, input, masks] = names.map(|column| &record[column]);
            // Masks do not affect statistics.
            if (input, masks) == ("statistics", "masked") {
                continue;
            }
            let cells: Vec<&str> = rungs.iter().map(|&column| &record[column]).collect();
            let line = format!("| {label} | {model}, {input} | {masks} | {} |\n", cells.join(" | "));
            assert!(page.contains(&line), "paper/FINDINGS.md has no line {line:?}");
            rows += 1;
        }
        assert_eq!(rows, expected, "{data}, {experiment}");
    }
}

#[test]
fn the_networks_of_today_in_findings_are_those_of_the_stored_results() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("paper/FINDINGS.md")).unwrap();
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let mut add = |name: String, cell: String| match rows.iter_mut().find(|(known, _)| *known == name) {
        Some((_, cells)) => cells.push(cell),
        None => rows.push((name, vec![cell])),
    };
    for table in 2..=4 {
        let path = root.join(format!("results/reference/ladder/lab-today/today-table{table}-ladder.csv"));
        for record in csv::Reader::from_path(path).unwrap().deserialize() {
            let record: BTreeMap<String, String> = record.unwrap();
            add(format!("| {}, {} | ", record["model"], record["input"]), record["captures"].clone());
        }
    }
    assert_eq!(rows.len(), 4);
    let lab: Vec<String> = rows.drain(..).map(|(name, cells)| name + &cells.join(" | ")).collect();
    for (table, models) in [("lab/today-table3", 6), ("iscxvpn2016-first10/today-table2", 7)] {
        let path = root.join(format!("results/reference/{table}.csv"));
        let mut cells = BTreeMap::new();
        for record in csv::Reader::from_path(path).unwrap().deserialize() {
            let record: BTreeMap<String, String> = record.unwrap();
            let [mean, deviation] = ["macro_f1", "macro_f1_standard_deviation"]
                .map(|column| format!("{:.3}", record[column].parse::<f64>().unwrap()));
            let name = format!("{}, {}", record["model"], record["input"]);
            cells.insert((name, record["variant"].clone()), format!("{mean}±{deviation}"));
        }
        let names: BTreeSet<&String> = cells.keys().map(|(name, _)| name).collect();
        assert_eq!((names.len(), cells.len()), (models, 2 * models), "{table}");
        for name in names {
            let cell = |variant: &str| &cells[&(name.clone(), variant.to_owned())];
            let line = format!("| {name} | {} | {} |\n", cell("random_split"), cell("without_shortcuts"));
            assert!(page.contains(&line), "paper/FINDINGS.md has no line {line:?}");
        }
    }
    for line in lab {
        assert!(page.contains(&format!("{line} |\n")), "paper/FINDINGS.md has no line {line:?}");
    }
}
