//! Tests of compressed captures and captures in archives, with files made by gzip, bzip2, xz, zstd and 7z
//! (`tests/fixtures/capture/make.py`).

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use super::archive::{self, ArchiveError};
use super::{CaptureError, CaptureReader, CaptureSource, CaptureSummary, ExpansionLimits, ReaderOptions};

const SUFFIXES: [&str; 4] = ["gz", "bz2", "xz", "zst"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/capture").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

/// Number, time and bytes of a packet.
type Seen = (u64, i64, Vec<u8>);

fn packets(mut reader: CaptureReader) -> Result<(Vec<Seen>, CaptureSummary), CaptureError> {
    let mut seen = Vec::new();
    while let Some(packet) = reader.next_packet()? {
        seen.push((packet.number, packet.timestamp, packet.bytes.to_vec()));
    }
    Ok((seen, reader.summary()))
}

fn read(file: Vec<u8>) -> Result<(Vec<Seen>, CaptureSummary), CaptureError> {
    packets(CaptureReader::from_reader(Cursor::new(file), "capture")?)
}

/// Reads a file, also with a thread that decompresses ahead, which changes neither packets nor errors.
fn open(path: &Path) -> Result<(Vec<Seen>, CaptureSummary), CaptureError> {
    let with = |decompress_ahead| {
        let options = ReaderOptions { decompress_ahead, ..ReaderOptions::default() };
        packets(CaptureReader::open_with(&CaptureSource::from(path), &options)?)
    };
    let (found, ahead) = (with(false), with(true));
    assert_eq!(format!("{ahead:?}"), format!("{found:?}"), "{}", path.display());
    found
}

fn refusal(path: &Path) -> String {
    open(path).unwrap_err().to_string()
}

/// Independent of its name, as one stream or two.
#[test]
fn a_compressed_capture_has_the_same_packets() {
    let plain = read(bytes("plain.pcap")).unwrap();
    assert_eq!((plain.0.len(), &plain.1.damage), (40, &None));
    for suffix in SUFFIXES {
        for parts in ["whole", "parts"] {
            assert_eq!(open(&fixture(&format!("{parts}.pcap.{suffix}"))).unwrap(), plain, "{parts} {suffix}");
        }
    }
    let mut twice = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    twice.write_all(&bytes("whole.pcap.xz")).unwrap();
    assert_eq!(read(twice.finish().unwrap()).unwrap(), plain);
    let mut nested = bytes("plain.pcap");
    for _ in 0..4 {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&nested).unwrap();
        nested = encoder.finish().unwrap();
    }
    assert!(read(nested).unwrap_err().to_string().contains("more than 3 nested compressions"));
}

#[test]
fn a_compressed_capture_cut_anywhere_gives_the_packets_before_the_cut_and_says_so() {
    let (plain, _) = read(bytes("plain.pcap")).unwrap();
    for suffix in SUFFIXES {
        let whole = bytes(&format!("whole.pcap.{suffix}"));
        let mut most = 0;
        for cut in 1..whole.len() {
            match read(whole[..cut].to_vec()) {
                Ok((seen, summary)) => {
                    assert_eq!(seen, plain[..seen.len()]);
                    let problem = summary.damage.expect("a cut is damage").problem;
                    assert!(problem.contains("damaged or cut"), "{problem}");
                    most = most.max(seen.len());
                }
                Err(CaptureError::Compressed { .. }) => {}
                Err(CaptureError::NotACapture { .. }) => assert!(cut < 6),
                Err(error) => panic!("{suffix} cut at {cut}: {error}"),
            }
        }
        println!("{suffix}: up to {most} packets of a cut file");
        assert!(most == 40, "{suffix}: only {most}");
    }
}

#[test]
fn damaged_compressed_captures_are_no_panic() {
    let mut random = etcbench_storage::seed::generator(0, "compressed damage");
    for suffix in SUFFIXES {
        let whole = bytes(&format!("parts.pcap.{suffix}"));
        for _ in 0..300 {
            let mut damaged = whole.clone();
            for _ in 0..1 + rand::RngExt::random_range(&mut random, 0..3) {
                let place = rand::RngExt::random_range(&mut random, 0..damaged.len());
                damaged[place] = rand::RngExt::random(&mut random);
            }
            let _ = read(damaged);
        }
    }
}

#[test]
fn members_of_an_archive_are_listed_and_read() {
    let archive = fixture("methods.zip");
    let members = archive::members(&archive).unwrap();
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let expected = ["bzip2.pcap", "copy.pcap", "deflate.pcap", "deflate64.pcap", "lzma.pcap", "nested.pcap.gz"];
    assert_eq!(names, expected.map(|name| format!("folder/{name}")));
    assert!(members.iter().all(|member| !member.encrypted && member.compressed_size > 0));
    assert_eq!(members[1].size, bytes("plain.pcap").len() as u64);

    let (nested, _) = open(&fixture("methods.zip!folder/nested.pcap.gz")).unwrap();
    assert_eq!(nested, read(bytes("plain.pcap")).unwrap().0);
    let copy = open(&fixture("methods.zip!folder/copy.pcap")).unwrap();
    assert_eq!((copy.0.len(), &copy.1.damage), (40, &None));
    for method in ["bzip2", "deflate", "deflate64"] {
        assert_eq!(open(&fixture(&format!("methods.zip!folder/{method}.pcap"))).unwrap(), copy, "{method}");
    }
    let source = CaptureSource::from(fixture("methods.zip!folder/copy.pcap").as_path());
    assert_eq!(source, CaptureSource::member(&archive, "folder/copy.pcap"));
    assert_eq!(source.to_string(), fixture("methods.zip!folder/copy.pcap").display().to_string());

    let mut whole = Vec::new();
    archive::open_member(&archive, "folder/deflate.pcap").unwrap().read_to_end(&mut whole).unwrap();
    assert_eq!(whole.len() as u64, members[2].size);
}

#[test]
fn archives_and_members_that_cannot_be_read_are_named() {
    assert!(refusal(&fixture("methods.zip!folder/lzma.pcap")).contains("compression method"));
    let encrypted = refusal(&fixture("encrypted.zip!secret.pcap"));
    assert!(encrypted.contains("encrypted.zip!secret.pcap: the member is encrypted"), "{encrypted}");
    assert!(archive::members(&fixture("encrypted.zip")).unwrap()[0].encrypted);
    let missing = refusal(&fixture("methods.zip!folder/deflat.pcap"));
    assert!(missing.contains("has no member folder/deflat.pcap, did you mean `folder/deflate.pcap`?"), "{missing}");
    let unnamed = refusal(&fixture("methods.zip"));
    assert!(unnamed.contains("methods.zip!MEMBER") && unnamed.contains("6 members"), "{unnamed}");
    let no_archive = refusal(&fixture("plain.pcap!x.pcap"));
    assert!(no_archive.contains("plain.pcap: not a zip archive"), "{no_archive}");
    assert!(matches!(archive::members(&fixture("absent.zip")), Err(ArchiveError::Open { .. })));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.zip");
    let whole = bytes("methods.zip");
    for cut in (0..whole.len()).step_by(97) {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert!(archive::members(&path).is_err());
        assert!(open(&folder.path().join("cut.zip!folder/copy.pcap")).is_err());
    }
    for (name, damaged) in [("copy", 24 + 30 * 84 + 60), ("deflate", 500), ("deflate64", 500), ("bzip2", 500)] {
        // The data begins after the member's own header of 30 bytes and its name.
        let header = format!("folder/{name}.pcap");
        let start = whole.windows(header.len()).position(|window| window == header.as_bytes()).unwrap() + header.len();
        let mut bytes = whole.clone();
        bytes[start + damaged] ^= 0x55;
        std::fs::write(&path, bytes).unwrap();
        match open(&folder.path().join(format!("cut.zip!{header}"))) {
            Ok((seen, summary)) => {
                // Wrongly decompressed data may be damaged as a capture before the checksum is compared.
                let problem = summary.damage.expect("the checksum differs").problem;
                assert!(name != "copy" || (seen.len() == 40 && problem.contains("checksum")), "{problem}");
            }
            Err(error) => assert!(matches!(error, CaptureError::Compressed { .. }), "{error}"),
        }
    }
}

#[test]
fn bombs_are_stopped_at_the_limits() {
    let mut file = bytes("plain.pcap");
    let mut packet = file[24..40].to_vec();
    packet[8..12].copy_from_slice(&100_000_u32.to_le_bytes());
    packet[12..16].copy_from_slice(&100_000_u32.to_le_bytes());
    packet.extend([0; 100_000]);
    (0..100).for_each(|_| file.extend(&packet));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&file).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 20_000);
    // How far a stream has expanded when that is noticed depends on the size of its reads.
    for decompress_ahead in [false, true] {
        let read = |expansion| {
            let options = ReaderOptions { expansion, decompress_ahead, ..ReaderOptions::default() };
            packets(CaptureReader::from_reader_with(Cursor::new(bomb.clone()), "bomb", &options)?)
        };
        let default = ExpansionLimits::default();
        assert_eq!(read(default).unwrap().1.packets, 140);
        let message = read(ExpansionLimits { most_bytes: 1 << 20, ..default }).unwrap_err().to_string();
        assert!(
            message.starts_with("bomb: the gzip data expands past 1") && message.contains("1048576 bytes"),
            "{message}"
        );
        let message = read(ExpansionLimits { most_ratio: 50, free_bytes: 1 << 20, ..default }).unwrap_err().to_string();
        assert!(message.contains("ratio of 50"), "{message}");
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.zip");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    zip.start_file("bomb.pcap", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(&file).unwrap();
    zip.finish().unwrap();
    let limits = ExpansionLimits { most_ratio: 50, free_bytes: 1 << 20, ..ExpansionLimits::default() };
    let mut member = archive::open_member_with(&path, "bomb.pcap", limits).unwrap();
    let mut unpacked = Vec::new();
    assert!(member.read_to_end(&mut unpacked).unwrap_err().to_string().contains("ratio of 50"));
    assert!(unpacked.len() < 3 << 20);
    assert!(member.read_to_end(&mut unpacked).is_err(), "the fault is repeated");
}

/// Windows of 2 GiB and 4 GiB in the headers of zstd and xz are rejected before they are allocated.
#[test]
fn falsified_window_sizes_are_refused() {
    // RFC 8878, 3.1.1.1.2: exponent 21 means 2^31.
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 0x40, 0, 0, 0];
    let message = read(zstd.to_vec()).unwrap_err().to_string();
    assert!(message.contains("zstd data is damaged") && message.contains("memory"), "{message}");
    // The block header's LZMA2 dictionary byte (40 means 4 GiB - 1), with its CRC-32 updated.
    let mut xz = bytes("whole.pcap.xz");
    let header = 12..12 + (usize::from(xz[12]) + 1) * 4;
    let dictionary = header.start + xz[header.clone()].windows(2).position(|pair| pair == [0x21, 1]).unwrap() + 2;
    xz[dictionary] = 40;
    let end = header.end - 4;
    let mut crc = flate2::Crc::new();
    crc.update(&xz[header.start..end]);
    xz[end..end + 4].copy_from_slice(&crc.sum().to_le_bytes());
    let message = read(xz).unwrap_err().to_string();
    assert!(message.contains("xz data is damaged") && message.contains("memory"), "{message}");
}

fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn names_of_members_are_paths_with_slashes_however_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.zip");
    let names = |members: &[&str]| -> Vec<String> {
        let members: Vec<(&str, &[u8])> = members.iter().map(|name| (*name, b"x".as_slice())).collect();
        std::fs::write(&path, zip_of(&members)).unwrap();
        archive::members(&path).unwrap().into_iter().map(|member| member.name).collect()
    };
    assert_eq!(
        names(&["chat\\1.pcap", "./mail/1.pcap", "a//b", "c/./d"]),
        ["chat/1.pcap", "mail/1.pcap", "a/b", "c/d"]
    );
    // A backslash in a name with a slash is part of the name.
    assert_eq!(names(&["a/b\\c"]), ["a/b\\c"]);
    assert_eq!(names(&["folder\\", "folder\\file"]), ["folder/file"]);
    std::fs::write(&path, zip_of(&[("chat\\1.pcap", &bytes("plain.pcap"))])).unwrap();
    assert_eq!(open(&folder.path().join("all.zip!chat/1.pcap")).unwrap().0.len(), 40);
    std::fs::write(&path, zip_of(&[("/etc/a", b"x"), ("..\\a", b"x"), ("a", b"x")])).unwrap();
    let out: Vec<bool> = archive::members(&path).unwrap().iter().map(archive::Member::leads_out).collect();
    assert_eq!(out, [true, true, false]);
    // Two spellings of one path.
    std::fs::write(&path, zip_of(&[("a\\b", b"1"), ("./a/b", b"2")])).unwrap();
    let twice = archive::members(&path).unwrap_err().to_string();
    assert!(twice.contains("two members have the same name, a/b"), "{twice}");
}
