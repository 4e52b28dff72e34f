//! Archives of all kinds: what is in them, malicious and damaged ones, and interrupted unpacking.

mod sparse;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use etcbench::capture::ExpansionLimits;
use etcbench::dataset::{DatasetDefinition, DatasetError, UnpackError, UnpackLimits, Unpacked, open_folder, unpack};

pub(super) fn content() -> Vec<u8> {
    (0..200_000_u32).map(|value| ((value * 7919) >> 3) as u8).collect()
}

pub(super) fn files(folder: &Path) -> Vec<String> {
    let mut found: Vec<String> = walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| !entry.file_type().is_dir())
        .map(|entry| entry.path().strip_prefix(folder).unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    found
}

/// A tar member with any name and type, which the crate's own writer would refuse.
fn tar_member(builder: &mut tar::Builder<Vec<u8>>, name: &[u8], kind: tar::EntryType, link: &str, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

pub(super) fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        tar_member(&mut builder, name.as_bytes(), tar::EntryType::Regular, "", content);
    }
    builder.into_inner().unwrap()
}

fn compressed(kind: &str, bytes: &[u8]) -> Vec<u8> {
    match kind {
        "gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "bz2" => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "zst" => zstd::stream::encode_all(bytes, 1).unwrap(),
        _ => bytes.to_vec(),
    }
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("target")).unwrap();
        Place { folder }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    fn unpack(&self, archive: &[u8], limits: &UnpackLimits, force: bool) -> Result<Unpacked, UnpackError> {
        let path = self.folder.path().join("archive");
        fs::write(&path, archive).unwrap();
        unpack(&path, &self.target(), limits, force, &|_| {})
    }

    /// Unpacks and expects a refusal that leaves nothing behind, here or outside.
    #[track_caller]
    fn refuses(&self, archive: &[u8], limits: &UnpackLimits, words: &str) -> UnpackError {
        let before = files(self.folder.path());
        let error = self.unpack(archive, limits, false).unwrap_err();
        assert!(error.to_string().contains(words), "`{words}` is not in: {error}");
        let after: Vec<String> = files(self.folder.path()).into_iter().filter(|file| file != "archive").collect();
        let before: Vec<String> = before.into_iter().filter(|file| file != "archive").collect();
        assert_eq!(after, before);
        error
    }
}

/// A definition that labels every capture in a folder by class.
pub(super) fn by_folder(folder: &Path) -> DatasetDefinition {
    let path = folder.join("small.toml");
    let text = "name = \"small\"\ntitle = \"Small\"\nreference = \"none\"\nlabel_columns = [\"kind\"]\n\
                [published_at]\nurl = \"https://example.org\"\nhow = \"nothing\"\n[files]\npatterns = [\"**/*.pcap\"]\n\
                [folders]\ncolumns = [\"kind\"]\n";
    fs::write(&path, text).unwrap();
    DatasetDefinition::read(&path).unwrap()
}

#[test]
fn archives_of_every_kind_are_unpacked() {
    let members: [(&str, &[u8]); 3] = [("a/b/1.pcap", b"one"), ("./2.pcap", b"two"), ("3", b"")];
    for kind in ["", "gz", "bz2", "zst"] {
        let place = Place::new();
        let unpacked = place.unpack(&compressed(kind, &tar_of(&members)), &UnpackLimits::default(), false).unwrap();
        assert_eq!((unpacked.files.join(" "), unpacked.bytes), ("2.pcap 3 a/b/1.pcap".to_owned(), 6), "{kind}");
        assert_eq!(files(&place.target()), ["2.pcap", "3", "a/b/1.pcap"]);
        assert_eq!(fs::read(place.target().join("a/b/1.pcap")).unwrap(), b"one");
    }
    let place = Place::new();
    let unpacked = place.unpack(&zip_of(&members), &UnpackLimits::default(), false).unwrap();
    assert_eq!(unpacked.bytes, 6);
    assert_eq!(files(&place.target()), ["2.pcap", "3", "a/b/1.pcap"]);
}

fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn archives_that_leave_the_target_are_refused() {
    let limits = UnpackLimits::default();
    for name in ["../out", "a/../../out", "/etc/out", "a/b/../../../out"] {
        Place::new().refuses(&tar_of(&[("good", b"x"), (name, b"x")]), &limits, "points outside");
        Place::new().refuses(&zip_of(&[("good", b"x"), (name, b"x")]), &limits, "points outside");
    }
    Place::new().refuses(&tar_of(&[("a\\..\\out", b"x")]), &limits, "backslash");
    Place::new().refuses(&tar_of(&[("line\nbreak", b"x")]), &limits, "control character");
    for (kind, link) in [
        (tar::EntryType::Symlink, "/etc/passwd"),
        (tar::EntryType::Symlink, "inside"),
        (tar::EntryType::Link, "../out"),
        (tar::EntryType::Char, ""),
        (tar::EntryType::Block, ""),
        (tar::EntryType::Fifo, ""),
    ] {
        let mut builder = tar::Builder::new(Vec::new());
        tar_member(&mut builder, b"good", tar::EntryType::Regular, "", b"x");
        tar_member(&mut builder, b"special", kind, link, b"");
        // If the link were created, this would be written through it.
        tar_member(&mut builder, b"special/out", tar::EntryType::Regular, "", b"x");
        Place::new().refuses(&builder.into_inner().unwrap(), &limits, "`special` is a link, a device");
    }
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("good", zip::write::SimpleFileOptions::default()).unwrap();
    writer.add_symlink("special", "/etc/passwd", zip::write::SimpleFileOptions::default()).unwrap();
    Place::new().refuses(&writer.finish().unwrap().into_inner(), &limits, "is a link or a device");
    // A folder named to climb out is refused as well, though nothing would be in it.
    let mut builder = tar::Builder::new(Vec::new());
    tar_member(&mut builder, b"../folder/", tar::EntryType::Directory, "", b"");
    Place::new().refuses(&builder.into_inner().unwrap(), &limits, "points outside");
}

#[cfg(unix)]
#[test]
fn a_link_that_lies_in_the_target_is_not_followed() {
    let place = Place::new();
    fs::create_dir(place.folder.path().join("outside")).unwrap();
    std::os::unix::fs::symlink(place.folder.path().join("outside"), place.target().join("a")).unwrap();
    place.refuses(&tar_of(&[("a/out", b"x")]), &UnpackLimits::default(), "through the link");
    assert!(files(&place.folder.path().join("outside")).is_empty());
}

#[test]
fn bombs_end_at_the_limits() {
    let zeros = vec![0; 4 << 20];
    let limits = |most_bytes, most_ratio| UnpackLimits {
        expansion: ExpansionLimits { most_bytes, most_ratio, free_bytes: 1 << 20 },
        most_members: 100,
    };
    let ratio = limits(1 << 30, 50);
    let total = limits(2 << 20, 1 << 40);
    for kind in ["gz", "bz2", "zst"] {
        let archive = compressed(kind, &tar_of(&[("zeros", &zeros)]));
        for limits in [&ratio, &total] {
            let error = Place::new().refuses(&archive, limits, "decompression bomb");
            assert!(matches!(error, UnpackError::Expands { .. }), "{kind}: {error}");
        }
    }
    let archive = zip_of(&[("zeros", &zeros)]);
    Place::new().refuses(&archive, &ratio, "its members exceed 50 times the archive's size");
    Place::new().refuses(&archive, &total, "exceed 2097152 bytes in total");
    // Many members that are small each.
    let names: Vec<String> = (0..20).map(|number| format!("{number}")).collect();
    let piece = vec![0; 200_000];
    let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &piece[..])).collect();
    Place::new().refuses(&zip_of(&many), &total, "bytes in total");
    Place::new().refuses(&tar_of(&many), &limits(2 << 20, 1 << 40), "bytes in total");
    let few = UnpackLimits { most_members: 19, ..UnpackLimits::default() };
    Place::new().refuses(&zip_of(&many), &few, "more than 19 members");
    Place::new().refuses(&tar_of(&many), &few, "more than 19 members");
}

#[test]
fn files_that_are_there_are_kept_unless_forced_and_names_are_there_once() {
    let place = Place::new();
    fs::write(place.target().join("b"), b"mine").unwrap();
    let archive = tar_of(&[("a", b"1"), ("b", b"2")]);
    let error = place.refuses(&archive, &UnpackLimits::default(), "--force");
    assert!(matches!(error, UnpackError::Exists { .. }));
    assert_eq!(fs::read(place.target().join("b")).unwrap(), b"mine");
    place.unpack(&archive, &UnpackLimits::default(), true).unwrap();
    assert_eq!(fs::read(place.target().join("b")).unwrap(), b"2");
    let twice = tar_of(&[("a", b"1"), ("a", b"2")]);
    Place::new().refuses(&twice, &UnpackLimits::default(), "`a` is duplicated");
    // Two files if the file system distinguishes them.
    for (first, second) in [("a", "A"), ("caf\u{e9}/1", "cafe\u{301}/1")] {
        let place = Place::new();
        let result = place.unpack(&tar_of(&[(first, b"1"), (second, b"2")]), &UnpackLimits::default(), false);
        match result {
            Ok(_) => {
                assert_eq!(fs::read(place.target().join(first)).unwrap(), b"1");
                assert_eq!(fs::read(place.target().join(second)).unwrap(), b"2");
            }
            Err(error) => assert!(error.to_string().contains("which this file system ignores"), "{error}"),
        }
    }
    // A complete existing file is no conflict.
    place.unpack(&archive, &UnpackLimits::default(), false).unwrap();
    Place::new().refuses(&zip_of(&[("a", b"1"), ("./a", b"2")]), &UnpackLimits::default(), "is duplicated");
    Place::new().refuses(&tar_of(&[("a", b"1"), ("a/b", b"2")]), &UnpackLimits::default(), "a");
    Place::new().refuses(&zip_of(&[("a\\b", b"1"), ("a/b", b"2")]), &UnpackLimits::default(), "is duplicated");
}

#[test]
fn damaged_archives_leave_nothing() {
    let limits = UnpackLimits::default();
    let big: Vec<u8> = content();
    for kind in ["", "gz", "bz2", "zst"] {
        let archive = compressed(kind, &tar_of(&[("a", b"1"), ("b", &big)]));
        let error = Place::new().refuses(&archive[..archive.len() / 2], &limits, "check that the download is complete");
        assert!(matches!(error, UnpackError::Damaged { .. }), "{kind}: {error}");
    }
    let mut archive = zip_of(&[("a", b"1"), ("b", &big)]);
    Place::new().refuses(&archive[..archive.len() / 2], &limits, "check that the download is complete");
    let middle = archive.len() / 2;
    archive[middle] ^= 0xff;
    Place::new().refuses(&archive, &limits, "check that the download is complete");
    for other in [&b""[..], b"no archive at all", &[0xff; 4096]] {
        Place::new().refuses(other, &limits, "check that the download is complete");
    }
}

#[test]
fn members_are_where_their_names_say_and_what_the_system_made_is_left_out() {
    let apple: &[u8] = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ";
    let members: [(&str, &[u8]); 6] = [
        ("chat/1.pcap", b"one"),
        ("chat/._1.pcap", apple),
        ("__MACOSX/chat/._1.pcap", apple),
        ("mail/.DS_Store", b"x"),
        ("mail/Thumbs.db", b"x"),
        ("mail/._own", b"no file of macOS"),
    ];
    for archive in [tar_of(&members), zip_of(&members), compressed("gz", &tar_of(&members))] {
        let place = Place::new();
        let unpacked = place.unpack(&archive, &UnpackLimits::default(), false).unwrap();
        assert_eq!((unpacked.files.join(" "), unpacked.system_files), ("chat/1.pcap mail/._own".to_owned(), 4));
        assert_eq!(unpacked.bytes, 3 + 16);
        assert_eq!(files(&place.target()), ["chat/1.pcap", "mail/._own"]);
    }
    let place = Place::new();
    place.unpack(&zip_of(&[("chat\\1.pcap", b"one")]), &UnpackLimits::default(), false).unwrap();
    assert_eq!(files(&place.target()), ["chat/1.pcap"]);
    Place::new().refuses(&zip_of(&[("..\\out", b"x")]), &UnpackLimits::default(), "points outside");
}

#[test]
fn files_that_are_no_archives_are_named() {
    let limits = UnpackLimits::default();
    for (bytes, words) in [
        (&b"\n<!DOCTYPE html>\n<html><title>Log in"[..], "it is a web page"),
        (b"Rar!\x1a\x07\x01\x00rest", "it is a RAR archive, which is not supported; unpack it with unrar"),
        (b"7z\xbc\xaf\x27\x1crest", "it is a 7z archive"),
        (b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00", "it is a capture, not an archive"),
    ] {
        let error = Place::new().refuses(bytes, &limits, words).to_string();
        assert!(!error.contains("download is complete"), "{error}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/capture/encrypted.zip");
    let error = Place::new().refuses(&fs::read(path).unwrap(), &limits, "is encrypted").to_string();
    assert!(error.matches("archive:").count() == 1 && !error.contains("download is complete"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_killed_unpack_is_no_data_and_the_same_command_ends_it() {
    let kills: u32 = std::env::var("ETCBENCH_KILLS").map_or(8, |text| text.parse().unwrap());
    let contents: Vec<(String, Vec<u8>)> =
        (0..40_u32).map(|number| (format!("chat/{number}.pcap"), vec![number as u8; 2000])).collect();
    let members: Vec<(&str, &[u8])> = contents.iter().map(|(name, content)| (name.as_str(), &content[..])).collect();
    let archive = compressed("gz", &tar_of(&members));
    let definition = by_folder(tempfile::tempdir().unwrap().path());
    let command = |place: &Place| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcbench"));
        command.args(["data", "unpack"]).arg(place.folder.path().join("archive")).arg("--into").arg(place.target());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    // Measures how long an undisturbed one takes.
    let place = Place::new();
    fs::write(place.folder.path().join("archive"), &archive).unwrap();
    let begun = std::time::Instant::now();
    assert!(command(&place).status().unwrap().success());
    let whole = begun.elapsed();
    let (mut refused, mut nothing, mut finished) = (0, 0, 0);
    for kill in 0..kills {
        let place = Place::new();
        fs::write(place.folder.path().join("archive"), &archive).unwrap();
        let mut child = command(&place).spawn().unwrap();
        std::thread::sleep(whole * (kill + 1) / (kills + 1));
        child.kill().unwrap();
        child.wait().unwrap();
        match open_folder(&definition, &place.target()) {
            Err(DatasetError::Unpacking { .. }) => refused += 1,
            Ok(folder) if folder.captures.is_empty() => nothing += 1,
            Ok(folder) => {
                assert_eq!(folder.captures.len(), contents.len(), "a part was taken for the whole");
                finished += 1;
            }
            Err(error) => panic!("{error}"),
        }
        let output = command(&place).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let folder = open_folder(&definition, &place.target()).unwrap();
        assert_eq!(folder.captures.len(), contents.len());
        assert!(folder.captures.iter().all(|capture| !capture.path.starts_with('.')));
        // Nothing remains of the killed one.
        assert_eq!(files(&place.target()).len(), contents.len());
    }
    println!("{kills} kills: {refused} refused, {nothing} before anything, {finished} after all");
}

#[test]
fn what_was_moved_into_place_before_a_kill_is_taken_up() {
    let archive = tar_of(&[("chat/1.pcap", b"one"), ("chat/2.pcap", b"two")]);
    let place = Place::new();
    let definition = by_folder(place.folder.path());
    place.unpack(&archive, &UnpackLimits::default(), false).unwrap();
    // The state after a kill between two files.
    fs::remove_file(place.target().join("chat/2.pcap")).unwrap();
    let marker = place.target().join(".unpacking-archive-01234567");
    fs::write(&marker, "/downloads/archive").unwrap();
    fs::create_dir(place.target().join(".partial-0123456789abcdef-1-1-1")).unwrap();
    fs::write(place.target().join(".partial-0123456789abcdef-1-1-1/3.pcap"), "half").unwrap();
    let error = open_folder(&definition, &place.target()).unwrap_err().to_string();
    assert!(error.contains("unpack /downloads/archive again, or remove this file"), "{error}");
    fs::remove_file(marker).unwrap();
    place.unpack(&archive, &UnpackLimits::default(), false).unwrap();
    let folder = open_folder(&definition, &place.target()).unwrap();
    let captures: Vec<&str> = folder.captures.iter().map(|capture| capture.path.as_str()).collect();
    assert_eq!(captures, ["chat/1.pcap", "chat/2.pcap"]);
    // A file with other content belongs to the user, and then nothing is moved.
    fs::write(place.target().join("chat/2.pcap"), b"own").unwrap();
    fs::remove_file(place.target().join("chat/1.pcap")).unwrap();
    place.refuses(&archive, &UnpackLimits::default(), "--force");
}

#[test]
fn headers_that_claim_gigabytes_are_not_held() {
    // An extended header (POSIX pax) of 3 GiB, of which the stream has 64 MiB.
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_path("long").unwrap();
    header.set_size(3 << 30);
    header.set_cksum();
    let archive = [header.as_bytes(), &vec![b'x'; 64 << 20][..]].concat();
    let place = Place::new();
    let error = place.unpack(&archive, &UnpackLimits::default(), false).unwrap_err().to_string();
    assert!(error.contains("the headers of a member exceed 4 MiB"), "{error}");
    assert!(files(&place.target()).is_empty());
    // Long names stay below the folder, and members after a member of any length are read.
    let name = format!("{}/a.pcap", "n".repeat(90));
    let content = vec![7; 9 << 20];
    let members: [(&str, &[u8]); 3] = [("first.pcap", &content), (&name, &content), ("last.pcap", b"x")];
    let unpacked = Place::new().unpack(&tar_of(&members), &UnpackLimits::default(), false).unwrap();
    assert_eq!(unpacked.files.len(), 3);
}
