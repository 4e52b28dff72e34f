//! The nearest class mean behind `etcbench-model-1`, with nothing but the standard library and `serde_json`.

use std::error::Error;
use std::fs::{read, write};
use std::io::{Write, stdin, stdout};

use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Names of the arrays that a request may have.
const ARRAYS: [&str; 3] = ["bytes", "statistics", "sequences"];
const INPUTS: [&str; 7] = [
    "bytes", "statistics", "bytes_and_statistics", "sequences", "bytes_and_sequences", "sequences_and_statistics", "all",
];

/// The mean and spread of each column, and the mean of each class in units of these; none for a class without rows.
#[derive(Default)]
struct Model {
    scale: Vec<(f64, f64)>,
    means: Vec<Option<Vec<f64>>>,
    sharpness: f64,
}

fn main() -> Result<()> {
    let mut model = Model::default();
    for line in stdin().lines() {
        let ask: Value = serde_json::from_str(&line?)?;
        let answer = match ask["message"].as_str().unwrap_or_default() {
            "describe" => {
                json!({"message": "description", "protocol": "etcbench-model-1", "inputs": INPUTS, "deterministic": true})
            }
            "fit" => {
                model = Model::fit(&ask)?;
                json!({"message": "fitted"})
            }
            "predict" => {
                let rows: Vec<Vec<f64>> = matrix(&ask)?.iter().map(|row| model.distribution(row)).collect();
                write(text(&ask, "answer")?, npy(&rows, model.means.len()))?;
                json!({"message": "predicted"})
            }
            "save" => {
                let scale: Vec<[f64; 2]> = model.scale.iter().map(|&(mean, spread)| [mean, spread]).collect();
                let kept = json!({"scale": scale, "means": model.means, "sharpness": model.sharpness});
                write(format!("{}/centroid.json", text(&ask, "folder")?), kept.to_string())?;
                json!({"message": "saved"})
            }
            "load" => {
                let kept: Value = serde_json::from_slice(&read(format!("{}/centroid.json", text(&ask, "folder")?))?)?;
                model = Model::restored(&kept);
                json!({"message": "loaded"})
            }
            _ => break,
        };
        println!("{answer}");
        stdout().flush()?;
    }
    Ok(())
}

impl Model {
    fn fit(ask: &Value) -> Result<Self> {
        let training = &ask["training"];
        let rows = matrix(training)?;
        let labels: Vec<usize> = array(text(training, "labels")?)?.1.into_iter().map(|label| label as usize).collect();
        let columns = rows.first().map_or(0, Vec::len);
        let count = rows.len() as f64;
        let scale: Vec<(f64, f64)> = (0..columns)
            .map(|column| {
                let mean = rows.iter().map(|row| row[column]).sum::<f64>() / count;
                let variance = rows.iter().map(|row| (row[column] - mean).powi(2)).sum::<f64>() / count;
                (mean, if variance > 0.0 { variance.sqrt() } else { 1.0 })
            })
            .collect();
        let classes = ask["class_names"].as_array().map_or(0, Vec::len);
        let mut model = Self { scale, means: Vec::new(), sharpness: ask["parameters"]["sharpness"].as_f64().unwrap_or(1.0) };
        model.means = (0..classes)
            .map(|class| {
                let own: Vec<Vec<f64>> =
                    rows.iter().zip(&labels).filter(|&(_, &label)| label == class).map(|(row, _)| model.scaled(row)).collect();
                let mean = |column: usize| own.iter().map(|row| row[column]).sum::<f64>() / own.len() as f64;
                (!own.is_empty()).then(|| (0..columns).map(mean).collect())
            })
            .collect();
        Ok(model)
    }

    fn restored(kept: &Value) -> Self {
        let numbers = |value: &Value| value.as_array().map(|values| values.iter().filter_map(Value::as_f64).collect());
        let list = |key: &str| kept[key].as_array().cloned().unwrap_or_default();
        Self {
            scale: list("scale").iter().filter_map(|pair| Some((pair[0].as_f64()?, pair[1].as_f64()?))).collect(),
            means: list("means").iter().map(numbers).collect(),
            sharpness: kept["sharpness"].as_f64().unwrap_or(1.0),
        }
    }

    fn scaled(&self, row: &[f64]) -> Vec<f64> {
        row.iter().zip(&self.scale).map(|(value, (mean, spread))| (value - mean) / spread).collect()
    }

    /// Softmax of the negative mean squared distances.
    fn distribution(&self, row: &[f64]) -> Vec<f64> {
        let row = self.scaled(row);
        let far = |mean: &Vec<f64>| {
            let sum: f64 = row.iter().zip(mean).map(|(value, mean)| (value - mean).powi(2)).sum();
            -self.sharpness * sum / row.len().max(1) as f64
        };
        let scores: Vec<Option<f64>> = self.means.iter().map(|mean| mean.as_ref().map(far)).collect();
        let highest = scores.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| score.map_or(0.0, |score| (score - highest).exp())).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / total).collect()
    }
}

fn text<'a>(ask: &'a Value, key: &str) -> Result<&'a str> {
    ask[key].as_str().ok_or_else(|| format!("the request has no `{key}`").into())
}

/// The rows of a request: all its arrays side by side.
fn matrix(ask: &Value) -> Result<Vec<Vec<f64>>> {
    let mut rows = vec![Vec::new(); ask["rows"].as_u64().unwrap_or_default() as usize];
    for path in ARRAYS.iter().filter_map(|name| ask[*name].as_str()) {
        let (shape, values) = array(path)?;
        let width: usize = shape[1..].iter().product();
        for (row, values) in rows.iter_mut().zip(values.chunks(width.max(1))) {
            row.extend(values);
        }
    }
    Ok(rows)
}

/// The shape and the values of a `.npy` file, version 1.0, C order.
fn array(path: &str) -> Result<(Vec<usize>, Vec<f64>)> {
    let bytes = read(path)?;
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..start]).into_owned();
    let shape = header.split('(').nth(1).and_then(|rest| rest.split(')').next()).ok_or("no shape")?;
    let shape = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape = shape.map(str::parse).collect::<std::result::Result<Vec<usize>, _>>()?;
    let values = &bytes[start..];
    let values = match header.split('\'').nth(3) {
        Some("<u2") => values.as_chunks().0.iter().map(|value| f64::from(u16::from_le_bytes(*value))).collect(),
        Some("<u4") => values.as_chunks().0.iter().map(|value| f64::from(u32::from_le_bytes(*value))).collect(),
        Some("<f4") => values.as_chunks().0.iter().map(|value| f64::from(f32::from_le_bytes(*value))).collect(),
        Some("<f8") => values.as_chunks().0.iter().map(|value| f64::from_le_bytes(*value)).collect(),
        other => return Err(format!("{path}: type {other:?}").into()),
    };
    Ok((shape, values))
}

/// A matrix as a `.npy` file.
fn npy(rows: &[Vec<f64>], columns: usize) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({}, {columns}), }}", rows.len());
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(rows.iter().flatten().flat_map(|value| value.to_le_bytes()));
    bytes
}
