//! Released splits that are broken or unusual: what is refused, with which words, and what is read.

use std::fs;

use super::*;

/// Writes files to a new folder and reads them as a released split.
fn read(files: &[(&str, Vec<u8>)]) -> Result<Vec<ReleasedPart>, String> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files.iter().map(|(name, _)| folder.path().join(name)).collect();
    for (path, (_, content)) in paths.iter().zip(files) {
        fs::write(path, content).unwrap();
    }
    read_released(&paths).map_err(|error| error.to_string())
}

/// Encodes rows of words as ET-BERT's tables have them.
fn table(rows: &[(&str, String)]) -> Vec<u8> {
    let rows = rows.iter().map(|(label, words)| format!("{label}\t{words}\n"));
    format!("label\ttext_a\n{}", rows.collect::<String>()).into_bytes()
}

fn refused(files: &[(&str, Vec<u8>)], words: &[&str]) {
    let problem = read(files).unwrap_err();
    for word in words {
        assert!(problem.contains(word), "{word} is not in {problem}");
    }
}

#[test]
fn padding_to_another_table_counts_as_values() {
    let short: Vec<(&str, String)> = (0..20_000).map(|_| ("0", "4500".to_owned())).collect();
    let long = [("1", "0000 ".repeat(200_000))];
    refused(
        &[("train.tsv", table(&short)), ("test.tsv", table(&long))],
        &["train.tsv", "more than 2147483648 values; use a subset of the rows"],
    );
    let parts = read(&[("train.tsv", table(&short[..2])), ("test.tsv", table(&[("1", "4500 0001".to_owned())]))]).unwrap();
    assert_eq!((parts[0].width, &parts[0].values[..]), (3, &[69.0, 0.0, 0.0, 69.0, 0.0, 0.0][..]));
    assert_eq!(parts[1].values, [69.0, 0.0, 1.0]);
}
