//! Released splits that are broken or unusual: what is refused, with which words, and what is read.

use std::fs;
use std::io::Write;

use super::*;

/// Writes files to a new folder and reads them, in this order, as a released split.
fn read(files: &[(&str, Vec<u8>)]) -> Result<Vec<ReleasedPart>, String> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files.iter().map(|(name, _)| folder.path().join(name)).collect();
    for (path, (_, content)) in paths.iter().zip(files) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
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

#[test]
fn classes_may_be_text() {
    let rows = |part: &str| (format!("X_{part}.npy"), npy("|u1", "(3, 1)", &[1, 2, 3]));
    let of = |part: &str, descr: &str, values: Vec<u8>| {
        let (name, content) = rows(part);
        let labels = (format!("y_{part}.npy"), npy(descr, "(3,)", &values));
        read(&[(name.as_str(), content), (labels.0.as_str(), labels.1)])
    };
    let labels = |read: Result<Vec<ReleasedPart>, String>| {
        read.unwrap()[0].labels.iter().map(|label| label.to_string()).collect::<Vec<_>>()
    };
    // numpy.array(["é", "vpn", "b"]), in both orders of bytes, and numpy.array([b"a", b"vpn", b"b"]).
    let text = ["é\0\0", "vpn", "b\0\0"].concat();
    let little: Vec<u8> = text.chars().flat_map(|letter| u32::from(letter).to_le_bytes()).collect();
    let big: Vec<u8> = text.chars().flat_map(|letter| u32::from(letter).to_be_bytes()).collect();
    assert_eq!(labels(of("test", "<U3", little.clone())), ["é", "vpn", "b"]);
    assert_eq!(labels(of("test", ">U3", big.clone())), ["é", "vpn", "b"]);
    assert_eq!(labels(of("test", "|S3", b"a\0\0vpnb\0\0".to_vec())), ["a", "vpn", "b"]);
    let told = |descr: &str, values: Vec<u8>| of("test", descr, values).unwrap_err();
    for (descr, values, words) in [
        ("<U3", big, "row 0: its text is not valid"),
        ("<U3", little[..30].to_vec(), "it ends in row 2 of 3"),
        ("|S1", b"abcd".to_vec(), "more values than its shape"),
        ("|S1", b"a\0b".to_vec(), "row 1: its class is an empty text"),
        ("|S1", b"\xffab".to_vec(), "row 0: its text is not valid"),
        ("<U99999", Vec::new(), "text of at most 65536 bytes"),
        ("|O", Vec::new(), "allow_pickle=True).astype(str))"),
        (
            "<f4",
            [0.5_f32, 1.0, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect(),
            "row 0: 0.5 is not a class",
        ),
    ] {
        let told = told(descr, values);
        assert!(told.contains("y_test.npy") && told.contains(words), "{words} is not in {told}");
    }
}

#[test]
fn files_of_other_kinds_are_refused_with_the_line_that_converts_them_to_arrays() {
    refused(
        &[("X_train.h5", b"\x89HDF\r\n\x1a\n".to_vec())],
        &["X_train.h5", "import h5py, numpy", "numpy.savez('NEW.npz'"],
    );
    // The name says nothing, which is not the problem.
    refused(&[("dataset.pkl", b"\x80\x04.".to_vec())], &["dataset.pkl: it is a pickle", "numpy.save('NEW.npy'"]);
}

/// Archives arrays as `numpy.savez` does.
fn npz(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in members {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn rows_get_the_classes_that_are_named_alike_in_any_order() {
    let one = |value: u8| npy("|u1", "(1,)", &[value]);
    // A row has the value of its class.
    let paired = |files: &[(&str, Vec<u8>)]| {
        for part in read(files).unwrap() {
            for (value, label) in part.values.iter().zip(&part.labels) {
                assert_eq!(value.to_string(), **label, "{:?}", files.iter().map(|(name, _)| name).collect::<Vec<_>>());
            }
        }
    };
    let files = ["x_train_1.npy", "x_train_2.npy", "y_train_2.npy", "y_train_1.npy"];
    paired(&[(files[0], one(1)), (files[1], one(2)), (files[2], one(2)), (files[3], one(1))]);
    let members = ["X_train_b.npy", "X_train_a.npy", "labels_train_a.npy", "labels_train_b.npy"];
    let archive = npz(&[(members[0], one(1)), (members[1], one(2)), (members[2], one(2)), (members[3], one(1))]);
    paired(&[("dataset.npz", archive)]);
    let files = ["a/x_test.npy", "b/x_test.npy", "b/y_test.npy", "a/y_test.npy"];
    paired(&[(files[0], one(1)), (files[1], one(2)), (files[2], one(2)), (files[3], one(1))]);
    let both = |value: u8| npz(&[("y.npy", one(value)), ("X.npy", one(value))]);
    paired(&[("train_1.npz", both(1)), ("train_2.npz", both(2)), ("test.npz", both(3))]);
    paired(&[("X_payload_train.npy", one(1)), ("y_train.npy", one(1))]);

    let parts = read(&[("train.npz", both(1)), ("test.npz", both(3))]).unwrap();
    let names: Vec<&str> = parts.iter().map(|part| part.name).collect();
    assert_eq!(names, ["train", "test"], "the archive's name states the part where the array's does not");

    refused(&[("x_train_1.npy", one(1)), ("y_train_2.npy", one(1))], &["x_train_1.npy", "y_train_2.npy, whose name"]);
    let files = ["x_train_1.npy", "x_train_2.npy", "y_train_1.npy", "y_train_3.npy"];
    refused(&files.map(|name| (name, one(1))), &["x_train_2.npy", "no array of classes is named alike"]);
    let files = ["x_train.npy", "data_train.npy", "y_train.npy", "label_train.npy"];
    refused(&files.map(|name| (name, one(1))), &["x_train.npy", "several arrays of its part are named alike"]);
}
