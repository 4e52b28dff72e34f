//! `etcbench audit-data` on generated arrays: leaks are named, other properties are not, and broken files have
//! messages.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::common::Project;

/// A generator of small pseudo-random numbers.
struct Draw(u64);

impl Draw {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Encodes an array of bytes in NumPy's format.
fn npy(rows: &[Vec<u8>]) -> Vec<u8> {
    let shape = match rows.first() {
        Some(row) if row.len() > 1 => format!("({}, {})", rows.len(), row.len()),
        _ => format!("({},)", rows.len()),
    };
    let mut header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    rows.iter().for_each(|row| bytes.extend(row));
    bytes
}

fn npz(path: &Path, members: &[(&str, Vec<u8>)]) {
    let mut archive = zip::ZipWriter::new(File::create(path).unwrap());
    for (name, content) in members {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap();
}

/// Encodes a row of 96 bytes as a grey image of 12 x 8 pixels.
fn png_of(row: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 12, 8);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().unwrap().write_image_data(row).unwrap();
    bytes
}

type Part = (Vec<Vec<u8>>, Vec<u8>);

/// Generates rows of two classes without leaks: a byte matches the class in seven of ten.
fn rows(draw: &mut Draw, count: usize) -> Part {
    let mut part: Part = Default::default();
    for number in 0..count {
        let class = (number % 2) as u8;
        let mut row: Vec<u8> = (0..96).map(|_| draw.next(256) as u8).collect();
        row[5] = if draw.next(10) < 7 { class } else { 1 - class };
        part.0.push(row);
        part.1.push(class);
    }
    part
}

fn store(project: &Project, name: &str, [train, test]: &[Part; 2]) {
    let labels = |part: &Part| npy(&part.1.iter().map(|&class| vec![class]).collect::<Vec<_>>());
    let members = [
        ("X_train.npy", npy(&train.0)),
        ("y_train.npy", labels(train)),
        ("X_test.npy", npy(&test.0)),
        ("y_test.npy", labels(test)),
    ];
    npz(&project.path(name), &members);
}

#[test]
fn what_a_released_split_leaks_is_named() {
    let project = Project::new();
    let mut draw = Draw(1);
    let clean = [rows(&mut draw, 200), rows(&mut draw, 100)];
    store(&project, "clean.npz", &clean);
    let printed = String::from_utf8(project.done(&["audit-data", "clean.npz"]).stdout).unwrap();
    assert!(printed.contains("train: 200 rows of 96 values, 2 classes") && !printed.contains("ALARM"), "{printed}");

    // What arrays without captures do not allow is not said to be clean.
    let verdict = |printed: &str, check: &str| {
        let row = printed.lines().find(|line| line.starts_with(&format!("| {check}")));
        let row = row.unwrap_or_else(|| panic!("{check} is not in {printed}")).to_owned();
        row.split('|').nth(2).unwrap().trim().to_owned()
    };
    for check in ["captures on", "connections on", "classes from one", "times that", "cut lengths", "identifiers"] {
        assert_eq!(verdict(&printed, check), "not checked", "{check}");
    }
    for check in ["test rows that train too", "single bytes", "test rows that are windows", "identical rows"] {
        assert_eq!(verdict(&printed, check), "none found", "{check}");
    }
    assert!(!printed.contains("every class comes from") && !printed.contains("from a capture with"), "{printed}");
    assert_eq!(printed.matches("rows are bytes").count(), 2, "{printed}");

    let named = |name: &str, parts: &[Part; 2], word: &str| {
        store(&project, name, parts);
        let output = project.etcbench(&["audit-data", name]);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{name}: {printed}{}", String::from_utf8_lossy(&output.stderr));
        let alarm = printed.lines().find(|line| line.contains("ALARM") && line.contains(word));
        assert!(alarm.is_some(), "{name}: {printed}");
    };
    let mut twice = clean.clone();
    for row in 0..10 {
        (twice[1].0[row], twice[1].1[row]) = (twice[0].0[row].clone(), twice[0].1[row]);
    }
    named("twice.npz", &twice, "10.0 % of the test flows have the same bytes as a training flow");
    let mut windows = clean.clone();
    for row in 0..12 {
        let mut shifted = windows[0].0[row][8..].to_vec();
        shifted.extend((0..8).map(|_| draw.next(256) as u8));
        (windows[1].0[row], windows[1].1[row]) = (shifted, windows[0].1[row]);
    }
    named("windows.npz", &windows, "windows of the same flows");
    let mut byte = clean.clone();
    for (rows, labels) in &mut byte {
        rows.iter_mut().zip(labels).for_each(|(row, class)| row[40] = 60 + 3 * *class);
    }
    named("byte.npz", &byte, "byte_40 alone predicts 100.0 %");
    let mut contradicts = clean.clone();
    for row in 0..40 {
        contradicts[0].0[2 * row + 1] = contradicts[0].0[2 * row].clone();
    }
    named("contradicts.npz", &contradicts, "identical bytes carry different labels");

    // Packets in which one class has its own servers: reports name the fields and unmasked addresses.
    let mut packets = clean.clone();
    for (rows, labels) in &mut packets {
        for (row, class) in rows.iter_mut().zip(labels) {
            row[..4].copy_from_slice(&[0x45, 0, 0, 96]);
            row[9] = 17;
            row[16..20].copy_from_slice(&[192, 0, 2, 40 + *class]);
        }
    }
    named("packets.npz", &packets, "identifier ip_destination alone predicts 100.0 %");

    // The same as separate files.
    let folder = project.path("apart");
    fs::create_dir(&folder).unwrap();
    for (name, part) in [("train", &twice[0]), ("test", &twice[1])] {
        fs::write(folder.join(format!("x_datagram_{name}.npy")), npy(&part.0)).unwrap();
        let labels: Vec<Vec<u8>> = part.1.iter().map(|&class| vec![class]).collect();
        fs::write(folder.join(format!("y_{name}.npy")), npy(&labels)).unwrap();
    }
    let files = ["x_datagram_train.npy", "y_train.npy", "x_datagram_test.npy", "y_test.npy"];
    let files: Vec<String> = files.iter().map(|name| format!("apart/{name}")).collect();
    let arguments: Vec<&str> = std::iter::once("audit-data").chain(files.iter().map(String::as_str)).collect();
    let output = project.etcbench(&arguments);
    assert!(String::from_utf8_lossy(&output.stdout).contains("10.0 % of the test flows have the same bytes"));

    // The same as tables of overlapping words, and as images.
    let folder = project.path("words");
    fs::create_dir(&folder).unwrap();
    for (name, part) in [("train", &twice[0]), ("test", &twice[1])] {
        let mut table = "label\ttext_a\n".to_owned();
        for (row, class) in part.0.iter().zip(&part.1) {
            let words: Vec<String> = row.windows(2).map(|pair| format!("{:02x}{:02x}", pair[0], pair[1])).collect();
            table += &format!("{class}\t{}\n", words.join(" "));
        }
        fs::write(folder.join(format!("{name}_dataset.tsv")), table).unwrap();
        for (number, (row, class)) in part.0.iter().zip(&part.1).enumerate() {
            let folder = project.path(&format!("images/{name}/class{class}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("{number}.png")), png_of(row)).unwrap();
        }
    }
    for paths in
        [&["words/train_dataset.tsv", "words/test_dataset.tsv"][..], &["images"], &["images/train", "images/test"]]
    {
        let output = project.etcbench(&[&["audit-data"], paths].concat());
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{paths:?}: {printed}{}", String::from_utf8_lossy(&output.stderr));
        assert!(printed.contains("train: 200 rows of 96 values, 2 classes"), "{printed}");
        assert!(printed.contains("10.0 % of the test flows have the same bytes"), "{printed}");
    }
    project.write("images/test/class1/0.png", b"not an image");
    project.refused(&["audit-data", "images"], &["class1/0.png", "it is not a PNG image"]);
    project.refused(&["audit-data", "images/test/class0"], &["in a folder per class"]);
    project.refused(&["audit-data", "words"], &["words", "contains no PNG images"]);
    project.write("words/test_dataset.tsv", b"label\ttext\n");
    project.refused(&["audit-data", "words/test_dataset.tsv"], &["lacks columns `label` and `text_a`"]);

    project.write("words/test_dataset.tsv", b"label\ttext_a\n");
    let halves = ["audit-data", "words/train_dataset.tsv", "words/test_dataset.tsv"];
    project.refused(&halves, &["part test has no rows"]);

    project.refused(&arguments[..3], &["must contain `train` and `test`"]);
    project.refused(&["audit-data", "apart/y_train.npy"], &["y_train.npy", "0 array(s) of rows and 1 of classes"]);
    project.write("apart/z.npy", npy(&clean[0].0));
    project.refused(&["audit-data", "apart/z.npy"], &["z.npy", "rename it"]);
    project.write("apart/x_train.npy", b"not an array");
    project
        .refused(&["audit-data", "apart/x_train.npy", "apart/y_train.npy"], &["x_train.npy", "it is not a .npy array"]);
    project.refused(&["audit-data", "apart/x_valid.npy"], &["x_valid.npy", "No such file"]);
    project.write("apart/x_test.npy", npy(&[vec![1, 2, 3], vec![4, 5, 6]]));
    project.refused(&["audit-data", "apart/x_test.npy", "apart/y_test.npy"], &["y_test.npy", "100 values for 2 rows"]);
}
