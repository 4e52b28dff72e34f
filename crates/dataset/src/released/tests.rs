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

/// Encodes an array in NumPy's format.
fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let size = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &size[..], header.as_bytes(), values].concat()
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
    let parts =
        read(&[("train.tsv", table(&short[..2])), ("test.tsv", table(&[("1", "4500 0001".to_owned())]))]).unwrap();
    assert_eq!((parts[0].width, &parts[0].values[..]), (3, &[69.0, 0.0, 0.0, 69.0, 0.0, 0.0][..]));
    assert_eq!(parts[1].values, [69.0, 0.0, 1.0]);
}

#[test]
fn parts_without_rows_or_values_are_refused() {
    let row = table(&[("0", "4500".to_owned())]);
    refused(&[("train.tsv", row.clone()), ("test.tsv", table(&[]))], &["part test has no rows"]);
    let nothing = table(&[("0", "\"\"".to_owned())]);
    refused(&[("train.tsv", nothing.clone()), ("test.tsv", nothing)], &["has no values"]);
    let array = |shape: &str| npy("|u1", shape, &[]);
    let labels = ("y_test.npy", array("(0,)"));
    refused(&[("X_test.npy", array("(0, 3)")), labels], &["part test has no rows"]);
    let wide = [("X_test.npy", array("(2, 0)")), ("y_test.npy", npy("|u1", "(2,)", &[0, 1]))];
    refused(&wide, &["part test has no values"]);
}
