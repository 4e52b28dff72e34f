//! Splits released as tables of hexadecimal words, as ET-BERT and TrafficFormer do: `train_dataset.tsv`,
//! `valid_dataset.tsv` and `test_dataset.tsv`, with columns `label` and `text_a`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use super::{Budget, ReleasedPart, fault, part_of, words};
use crate::DatasetError;
use crate::published::words::each_row;

/// Reads a table as the bytes of its words; rows shorter than the longest one end in zeros.
pub(super) fn read(path: &Path, budget: &mut Budget) -> Result<ReleasedPart, DatasetError> {
    let text = path.display().to_string();
    let file = File::open(path).map_err(|error| fault(&text, error.to_string()))?;
    let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut labels: Vec<Arc<str>> = Vec::new();
    let mut rows: Vec<Vec<u8>> = Vec::new();
    let read = each_row(BufReader::with_capacity(1 << 18, file), &mut |label, packets| {
        let row = packets.concat();
        budget.take(row.len())?;
        let name = names.get(label).cloned().unwrap_or_else(|| {
            let name: Arc<str> = label.into();
            names.insert(Arc::clone(&name));
            name
        });
        labels.push(name);
        rows.push(row);
        Ok(())
    });
    read.map_err(|error| fault(&text, error.to_string()))?;
    let width = rows.iter().map(Vec::len).max().unwrap_or_default();
    budget.take(rows.iter().map(|row| width - row.len()).sum()).map_err(|problem| fault(&text, problem))?;
    let mut values = Vec::with_capacity(width * rows.len());
    for row in rows {
        let end = values.len() + width;
        values.extend(row.iter().map(|&byte| f32::from(byte)));
        values.resize(end, 0.0);
    }
    let stem = path.file_stem().map_or(String::new(), |stem| stem.to_string_lossy().into_owned());
    Ok(ReleasedPart { name: part_of(&words(&stem)), width, values, labels })
}
