//! Sparse files in tar archives, in all formats.

use std::fs;
use std::io::Write;
use std::process::Command;

use super::{Place, tar_member};
use etcbench::capture::ExpansionLimits;
use etcbench::dataset::UnpackLimits;

/// The pieces of data of a sparse file, and the whole file.
struct Sparse {
    pieces: Vec<(u64, Vec<u8>)>,
    size: u64,
}

impl Sparse {
    fn file(&self) -> Vec<u8> {
        let mut file = vec![0; self.size as usize];
        for (start, data) in &self.pieces {
            file[*start as usize..][..data.len()].copy_from_slice(data);
        }
        file
    }

    /// An archive with the file `capture.pcap` in one of the three forms of extended headers, and a file after it.
    fn archive(&self, form: &str) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut data: Vec<u8> = self.pieces.iter().flat_map(|(_, data)| data.clone()).collect();
        let pairs: Vec<(String, String)> =
            self.pieces.iter().map(|(start, data)| (start.to_string(), data.len().to_string())).collect();
        let (size, count) = (self.size.to_string(), pairs.len().to_string());
        let mut records: Vec<(&str, String)> = Vec::new();
        match form {
            "0.0" => {
                records.extend([("GNU.sparse.size", size), ("GNU.sparse.numblocks", count)]);
                for (start, length) in pairs {
                    records.extend([("GNU.sparse.offset", start), ("GNU.sparse.numbytes", length)]);
                }
            }
            "0.1" => {
                let map: Vec<String> = pairs.into_iter().map(|(start, length)| format!("{start},{length}")).collect();
                records.extend([("GNU.sparse.size", size), ("GNU.sparse.numblocks", count)]);
                records.extend([("GNU.sparse.name", "capture.pcap".to_owned()), ("GNU.sparse.map", map.join(","))]);
            }
            version => {
                let (major, minor) = version.split_once('.').unwrap();
                records.extend([("GNU.sparse.major", major.to_owned()), ("GNU.sparse.minor", minor.to_owned())]);
                records.extend([("GNU.sparse.name", "capture.pcap".to_owned()), ("GNU.sparse.realsize", size)]);
                let mut map = format!("{count}\n");
                for (start, length) in pairs {
                    map += &format!("{start}\n{length}\n");
                }
                let mut map = map.into_bytes();
                map.resize(map.len().div_ceil(512) * 512, 0);
                data = [map, data].concat();
            }
        }
        builder.append_pax_extensions(records.iter().map(|(key, value)| (*key, value.as_bytes()))).unwrap();
        let name: &[u8] = if form == "0.0" { b"capture.pcap" } else { b"GNUSparseFile.7/capture.pcap" };
        tar_member(&mut builder, name, tar::EntryType::Regular, "", &data);
        tar_member(&mut builder, b"after", tar::EntryType::Regular, "", b"x");
        builder.into_inner().unwrap()
    }
}

#[test]
fn sparse_files_come_out_whole_or_not_at_all() {
    let limits = UnpackLimits::default();
    let many: Vec<(u64, Vec<u8>)> = (0..200_u64).map(|index| (index * 1000, vec![index as u8; 10])).collect();
    let files = [
        Sparse { pieces: vec![(0, vec![7; 4096]), (70_000, vec![])], size: 70_000 },
        Sparse { pieces: vec![(512, vec![1; 100]), (9_000, vec![2; 1000])], size: 12_345 },
        Sparse { pieces: vec![], size: 1_000 },
        Sparse { pieces: many, size: 200_000 },
    ];
    for sparse in &files {
        for form in ["0.0", "0.1", "1.0"] {
            let place = Place::new();
            let unpacked = place.unpack(&sparse.archive(form), &limits, false).unwrap();
            assert_eq!(unpacked.files, ["after", "capture.pcap"], "{form}");
            assert!(fs::read(place.target().join("capture.pcap")).unwrap() == sparse.file(), "{form}");
            assert_eq!(fs::read(place.target().join("after")).unwrap(), b"x", "{form}");
        }
    }
    Place::new().refuses(&files[0].archive("2.0"), &limits, "is sparse in an unknown format (GNU 2.0)");
    let overlapping = Sparse { pieces: vec![(0, vec![1; 10]), (5, vec![2; 10])], size: 100 };
    let outside = Sparse { pieces: vec![(95, vec![1; 10])], size: 100 };
    for form in ["0.0", "0.1", "1.0"] {
        Place::new().refuses(
            &overlapping.archive(form),
            &limits,
            "its pieces overlap or extend past the end of the file",
        );
        Place::new().refuses(&outside.archive(form), &limits, "its pieces overlap or extend past the end of the file");
    }
    // A hole of a terabyte is a bomb.
    let mut bomb = Sparse { pieces: vec![(0, vec![1; 10])], size: 1 << 40 };
    for form in ["0.0", "0.1", "1.0"] {
        let expansion = ExpansionLimits { free_bytes: 1 << 20, ..ExpansionLimits::default() };
        let limits = UnpackLimits { expansion, ..UnpackLimits::default() };
        Place::new().refuses(&bomb.archive(form), &limits, "decompression bomb");
    }
    bomb.size = 10;
    assert!(Place::new().unpack(&bomb.archive("1.0"), &limits, false).is_ok());
}

/// The same with archives of the program that defines the formats, including the old one.
#[cfg(target_os = "linux")]
#[test]
fn sparse_files_of_gnu_tar_come_out_whole() {
    let version = Command::new("tar").arg("--version").output();
    if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("GNU tar")) {
        println!("skipped: there is no GNU tar");
        return;
    }
    let place = Place::new();
    let source = place.folder.path().join("source");
    fs::create_dir(&source).unwrap();
    let mut file = fs::File::create(source.join("capture.pcap")).unwrap();
    for piece in 0..30_u64 {
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(piece * (1 << 16))).unwrap();
        file.write_all(&[piece as u8 + 1; 4096]).unwrap();
    }
    file.set_len(40 << 16).unwrap();
    let expected = fs::read(source.join("capture.pcap")).unwrap();
    for form in [&["--format=gnu"][..], &["--sparse-version=0.0"], &["--sparse-version=0.1"], &["--sparse-version=1.0"]]
    {
        let format = if form[0].starts_with("--format") { &[][..] } else { &["--format=pax"][..] };
        let made = Command::new("tar")
            .args(["-c", "--sparse", "--hole-detection=raw", "-f", "../archive"])
            .args(format)
            .args(form)
            .arg("capture.pcap")
            .current_dir(&source)
            .status()
            .unwrap();
        assert!(made.success());
        let archive = fs::read(place.folder.path().join("archive")).unwrap();
        assert!(archive.len() < expected.len() / 2, "{form:?} is not sparse");
        let other = Place::new();
        other.unpack(&archive, &UnpackLimits::default(), false).unwrap();
        assert!(fs::read(other.target().join("capture.pcap")).unwrap() == expected, "{form:?}");
    }
}
