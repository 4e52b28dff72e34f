//! Record files: one measured value per line, as JSON lines (`.jsonl`) or CSV (`.csv`). The format is
//! described in `results/FORMAT.md`.

use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ReportError, file_error};
use etcbench_experiment::{Record, RunKey};
use etcbench_storage::declarative::with_nearest_key;
use etcbench_storage::write_whole;

/// The columns of a record file, in their order.
pub const RECORD_COLUMNS: [&str; 15] = [
    "experiment",
    "dataset",
    "size",
    "variant",
    "model",
    "input",
    "implementation",
    "seed",
    "fold",
    "class",
    "predicted",
    "setting",
    "epoch",
    "metric",
    "value",
];

/// A record as stored in a file: flat, without unknown keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    experiment: String,
    dataset: String,
    size: String,
    variant: String,
    model: String,
    input: String,
    implementation: String,
    seed: u64,
    fold: usize,
    class: Option<String>,
    predicted: Option<String>,
    setting: Option<String>,
    // Absent in files of version 0.1.0.
    #[serde(default)]
    epoch: Option<usize>,
    metric: String,
    value: Option<f64>,
}

impl From<&Record> for Line {
    fn from(record: &Record) -> Self {
        let RunKey { experiment, dataset, size, variant, model, input, implementation, seed, fold } =
            record.key.clone();
        Self {
            experiment,
            dataset,
            size,
            variant,
            model,
            input,
            implementation,
            seed,
            fold,
            class: record.class.clone(),
            predicted: record.predicted.clone(),
            setting: record.setting.clone(),
            epoch: record.epoch,
            metric: record.metric.clone(),
            value: record.value,
        }
    }
}

impl From<Line> for Record {
    fn from(line: Line) -> Self {
        let Line { experiment, dataset, size, variant, model, input, implementation, seed, fold, .. } = line;
        let (metric, epoch) = match line.epoch {
            None => unpacked(line.metric),
            epoch => (line.metric, epoch),
        };
        Self {
            key: RunKey { experiment, dataset, size, variant, model, input, implementation, seed, fold },
            class: line.class,
            predicted: line.predicted,
            setting: line.setting,
            epoch,
            metric,
            value: line.value,
        }
    }
}

/// Splits the epoch from the name of a metric. In version 0.1.0 the names of training curves contained it:
/// `classifier_training_epoch_12_training_loss`.
fn unpacked(name: String) -> (String, Option<usize>) {
    let parts = || {
        let (stage, rest) = name.split_once("_epoch_")?;
        let (epoch, metric) = rest.split_once('_')?;
        Some((format!("{stage}_{metric}"), epoch.parse().ok()?))
    };
    match parts() {
        Some((metric, epoch)) => (metric, Some(epoch)),
        None => (name, None),
    }
}

enum Format {
    JsonLines,
    Csv,
}

fn format_of(path: &Path) -> Result<Format, ReportError> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("jsonl") => Ok(Format::JsonLines),
        Some("csv") => Ok(Format::Csv),
        _ => Err(file_error(path, "a record file's name ends in .jsonl or .csv")),
    }
}

/// Writes records in their order, as JSON lines or CSV according to the file extension.
///
/// # Errors
/// The extension is unknown, a value is not finite, a class name is empty (CSV cannot distinguish it from `None`), or
/// the file cannot be written.
pub fn write_records(path: &Path, records: &[Record]) -> Result<(), ReportError> {
    let format = format_of(path)?;
    for record in records {
        let place = || format!("metric {} of {} seed {}", record.metric, record.key.model, record.key.seed);
        if record.value.is_some_and(|value| !value.is_finite()) {
            return Err(file_error(path, format!("{} is not a finite number; leave undefined values empty", place())));
        }
        if [&record.class, &record.predicted, &record.setting].into_iter().flatten().any(String::is_empty) {
            return Err(file_error(path, format!("{} has a class or a setting without a name", place())));
        }
    }
    let bytes = match format {
        Format::JsonLines => {
            let mut bytes = Vec::new();
            for record in records {
                serde_json::to_writer(&mut bytes, &Line::from(record)).map_err(|problem| file_error(path, problem))?;
                bytes.push(b'\n');
            }
            bytes
        }
        Format::Csv => {
            let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
            writer.write_record(RECORD_COLUMNS).map_err(|problem| file_error(path, problem))?;
            for record in records {
                writer.serialize(Line::from(record)).map_err(|problem| file_error(path, problem))?;
            }
            writer.into_inner().map_err(|problem| file_error(path, problem))?
        }
    };
    write_whole(path, &bytes).map_err(|problem| file_error(path, problem))
}

/// Reads records written by [`write_records`].
///
/// # Errors
/// The file cannot be read or has no record, or a line is not a record; the error has the line number.
pub fn read_records(path: &Path) -> Result<Vec<Record>, ReportError> {
    let mut records = Vec::new();
    match format_of(path)? {
        Format::JsonLines => {
            let file = std::fs::File::open(path).map_err(|problem| file_error(path, problem))?;
            for (index, line) in BufReader::new(file).lines().enumerate() {
                let number = index + 1;
                let line = line.map_err(|problem| file_error(path, format!("line {number}: {problem}")))?;
                let line: Line = serde_json::from_str(&line).map_err(|problem| {
                    let problem = with_nearest_key(&problem.to_string());
                    file_error(path, format!("line {number} is not a record: {problem}"))
                })?;
                records.push(line.into());
            }
        }
        Format::Csv => {
            let mut reader = csv::Reader::from_path(path).map_err(|problem| file_error(path, problem))?;
            for line in reader.deserialize::<Line>() {
                let record: Record = line.map_err(|problem| file_error(path, problem))?.into();
                if record.value.is_some_and(|value| !value.is_finite()) {
                    let problem = format!("record {}: the value is not a finite number", records.len() + 1);
                    return Err(file_error(path, problem));
                }
                records.push(record);
            }
        }
    }
    if records.is_empty() {
        return Err(file_error(path, "the file has no records; run the experiment again"));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tables::tests::record;
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

        #[test]
        fn records_round_trip_through_their_files(
            drawn in prop::collection::vec(
                (any::<u64>(), proptest::option::of("[a-z_\",|&\n]{1,8}"), proptest::option::of(-1e9f64..1e9)), 1..20,
            ),
        ) {
            let records: Vec<Record> = drawn
                .into_iter()
                .map(|(seed, class, value)| {
                    let mut record = record("random_split", "svm", seed, class.as_deref(), "f1", 0.0);
                    record.value = value;
                    record
                })
                .collect();
            let folder = tempfile::tempdir().unwrap();
            for name in ["records.csv", "records.jsonl"] {
                let path = folder.path().join(name);
                write_records(&path, &records).unwrap();
                let read = read_records(&path).unwrap();
                prop_assert_eq!(read.len(), records.len());
                for (read, written) in read.iter().zip(&records) {
                    prop_assert_eq!((&read.key, &read.class, &read.metric), (&written.key, &written.class, &written.metric));
                    prop_assert_eq!(read.value, written.value);
                }
            }
        }
    }

    #[test]
    fn older_records_have_epochs_in_the_names_of_metrics() {
        let mut records = vec![record("random_split", "svm", 0, None, "accuracy", 0.5)];
        for (epoch, metric) in [(1, "elmo_pretraining_training_loss"), (12, "classifier_training_validation_macro_f1")]
        {
            let mut one = record("random_split", "svm", 0, None, metric, 0.25);
            one.epoch = Some(epoch);
            records.push(one);
        }
        let start = "table3,iscxvpn2016,full,random_split,svm,bytes,fast,0,0,,,";
        let before = format!(
            "experiment,dataset,size,variant,model,input,implementation,seed,fold,class,predicted,setting,metric,value\n\
             {start},accuracy,0.5\n{start},elmo_pretraining_epoch_1_training_loss,0.25\n\
             {start},classifier_training_epoch_12_validation_macro_f1,0.25\n"
        );
        let folder = tempfile::tempdir().unwrap();
        let csv = folder.path().join("records.csv");
        std::fs::write(&csv, before).unwrap();
        assert_eq!(read_records(&csv).unwrap(), records);
        let start = "{\"experiment\":\"table3\",\"dataset\":\"iscxvpn2016\",\"size\":\"full\",\"variant\":\"random_split\",\
                     \"model\":\"svm\",\"input\":\"bytes\",\"implementation\":\"fast\",\"seed\":0,\"fold\":0,\"class\":null,\
                     \"predicted\":null,\"setting\":null";
        let before = format!("{start},\"metric\":\"elmo_pretraining_epoch_1_training_loss\",\"value\":0.25}}\n");
        let json = folder.path().join("records.jsonl");
        std::fs::write(&json, before).unwrap();
        assert_eq!(read_records(&json).unwrap(), records[1..2]);
        for path in [csv, json] {
            write_records(&path, &records).unwrap();
            assert_eq!(read_records(&path).unwrap(), records);
        }
    }

    #[test]
    fn broken_files_are_errors_that_name_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            read_records(&path).unwrap_err().to_string()
        };
        let path = folder.path().join("good.jsonl");
        write_records(&path, &[record("random_split", "svm", 0, None, "accuracy", 0.5)]).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            good,
            "{\"experiment\":\"table3\",\"dataset\":\"iscxvpn2016\",\"size\":\"full\",\"variant\":\"random_split\",\
             \"model\":\"svm\",\"input\":\"bytes\",\"implementation\":\"fast\",\"seed\":0,\"fold\":0,\"class\":null,\
             \"predicted\":null,\"setting\":null,\"epoch\":null,\"metric\":\"accuracy\",\"value\":0.5}\n"
        );
        assert!(write("a.jsonl", &format!("{good}{{}}\n")).contains("line 2 is not a record: missing key"));
        assert!(
            write("b.jsonl", &good.replace("\"size\"", "\"sise\""))
                .contains("unknown key `sise`, did you mean `size`?")
        );
        assert!(write("c.csv", "experiment,metric\na,b\n").contains("missing field"));
        assert!(write("d.parquet", "").contains("ends in .jsonl or .csv"));
        let mut bad = record("random_split", "svm", 0, None, "accuracy", f64::NAN);
        assert!(write_records(&path, &[bad.clone()]).unwrap_err().to_string().contains("not a finite number"));
        bad.value = None;
        bad.class = Some(String::new());
        assert!(write_records(&path, &[bad]).unwrap_err().to_string().contains("without a name"));
    }
}
