//! Downloads from a misbehaving server, and malicious archives.

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcbench::capture::ExpansionLimits;
use etcbench::dataset::{
    DatasetDefinition, DatasetError, FetchError, FetchOptions, Fetched, UnpackError, UnpackLimits, Unpacked, fetch,
    open_folder, unpack,
};
use etcbench::progress::Progress;
use sha2::Digest;

/// A response: bytes, then a pause before the connection is closed.
struct Answer(Vec<u8>, Duration);

/// A local server, and the heads of the requests it received.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` receives the number of the request, from 0, and its head in lower case.
    fn start(answer: impl Fn(usize, &str) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().take(64).enumerate() {
                let Ok(mut stream) = stream else { return };
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                // An open connection must not block the next one.
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8_lossy(&head).to_lowercase();
                    seen.lock().unwrap().push(head.clone());
                    let Answer(bytes, pause) = answer(number, &head);
                    // The client may close the connection on purpose.
                    let _ = stream.write_all(&bytes);
                    let _ = stream.flush();
                    std::thread::sleep(pause);
                });
            }
        });
        Server { address, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Answer {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").into_bytes();
    bytes.extend(body);
    Answer(bytes, Duration::ZERO)
}

/// A response with the whole file, of which only `sent` bytes are sent.
fn whole(content: &[u8], sent: usize, more: &str) -> Answer {
    answer("200 OK", &format!("Content-Length: {}\r\n{more}", content.len()), &content[..sent])
}

/// A response with the rest of the file from the requested offset.
fn rest(content: &[u8], head: &str, more: &str) -> Answer {
    let offset = requested_offset(head).expect("a range was asked for");
    let (last, total) = (content.len() - 1, content.len());
    let headers =
        format!("Content-Length: {}\r\nContent-Range: bytes {offset}-{last}/{total}\r\n{more}", total - offset);
    answer("206 Partial Content", &headers, &content[offset..])
}

fn requested_offset(head: &str) -> Option<usize> {
    head.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok())
}

fn content() -> Vec<u8> {
    (0..200_000_u32).map(|value| ((value * 7919) >> 3) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(sha2::Sha256::digest(bytes))
}

/// Records the events it receives.
#[derive(Default)]
struct Recorder {
    warnings: Mutex<Vec<String>>,
    advanced: Mutex<u64>,
}

impl Progress for Recorder {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, steps: u64) {
        *self.advanced.lock().unwrap() += steps;
    }
    fn note(&self, _: &str) {}
    fn warn(&self, text: &str) {
        self.warnings.lock().unwrap().push(text.to_owned());
    }
    fn end(&self) {}
}

/// A dataset with one file on a server, and the dataset's folder.
struct Case {
    folder: tempfile::TempDir,
    recorder: Recorder,
    options: RefCell<FetchOptions>,
}

impl Case {
    fn new() -> Case {
        let options = FetchOptions {
            retries: 2,
            backoff: Duration::from_millis(1),
            stall: Duration::from_millis(400),
            ..FetchOptions::default()
        };
        Case { folder: tempfile::tempdir().unwrap(), recorder: Recorder::default(), options: options.into() }
    }

    fn fetch(&self, url: &str, more: &str) -> Result<Vec<Fetched>, FetchError> {
        let path = self.folder.path().join("small.toml");
        let text = format!(
            "name = \"small\"\ntitle = \"Small\"\nreference = \"none\"\nlabel_columns = [\"kind\"]\n\
             [published_at]\nurl = \"https://example.org\"\nhow = \"nothing\"\n[files]\npatterns = [\"**/*.pcap\"]\n\
             [folders]\ncolumns = [\"kind\"]\n[[download]]\nurl = \"{url}\"\npath = \"a/file.bin\"\n{more}\n"
        );
        fs::write(&path, text).unwrap();
        let definition = DatasetDefinition::read(&path).unwrap();
        fetch(&definition, &self.folder.path().join("data"), &self.options.borrow(), &self.recorder)
    }

    /// Returns the files of the dataset's folder, relative, sorted.
    fn files(&self) -> Vec<String> {
        files(&self.folder.path().join("data"))
    }

    fn file(&self) -> Vec<u8> {
        fs::read(self.folder.path().join("data/a/file.bin")).unwrap()
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut found: Vec<String> = walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| !entry.file_type().is_dir())
        .map(|entry| entry.path().strip_prefix(folder).unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    found
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    let body = content();
    let sent = body.clone();
    let server = Server::start(move |number, head| match number {
        0 => whole(&sent, 50_000, "ETag: \"one\"\r\n"),
        1 => {
            let Answer(mut bytes, pause) = rest(&sent, head, "ETag: \"one\"\r\n");
            bytes.truncate(bytes.len() - 60_000);
            Answer(bytes, pause)
        }
        _ => rest(&sent, head, "ETag: \"one\"\r\n"),
    });
    let case = Case::new();
    let fetched = case.fetch(&format!("{}/f", server.address), &format!("sha256 = \"{}\"", sha256(&body))).unwrap();
    assert_eq!((fetched[0].size, &fetched[0].sha256, fetched[0].already), (200_000, &sha256(&body), false));
    assert!(case.file() == body);
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(
        requests.iter().map(|head| requested_offset(head)).collect::<Vec<_>>(),
        [None, Some(50_000), Some(140_000)]
    );
    assert!(requests[1].contains("if-range: \"one\""), "{}", requests[1]);
    assert_eq!(case.recorder.warnings.lock().unwrap().len(), 2);
    assert_eq!(case.files(), ["a/file.bin", "downloads.json"]);
    // A complete file is not requested again.
    assert!(case.fetch(&format!("{}/f", server.address), "").unwrap()[0].already);
    assert_eq!(server.requests().len(), 3);
    // A changed file is reported.
    fs::write(case.folder.path().join("data/a/file.bin"), b"other").unwrap();
    let error = case.fetch(&format!("{}/f", server.address), "").unwrap_err();
    assert!(matches!(error, FetchError::Changed { .. }), "{error}");
    assert!(error.to_string().contains("--force"), "{error}");
}

#[test]
fn a_download_that_was_given_up_goes_on_with_the_next_command() {
    let body = content();
    let sent = body.clone();
    let server = Server::start(move |number, head| match number {
        0 => whole(&sent, 80_000, "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n"),
        1..=3 => answer("503 Service Unavailable", "Content-Length: 0\r\n", b""),
        _ => rest(&sent, head, ""),
    });
    let case = Case::new();
    let url = format!("{}/f", server.address);
    let error = case.fetch(&url, "").unwrap_err();
    assert!(
        error.to_string().contains("status 503") && error.to_string().contains("resume from 80000 bytes"),
        "{error}"
    );
    assert_eq!(case.files(), ["a/.partial-file.bin", "a/.partial-file.bin.json"]);
    assert_eq!(case.fetch(&url, "").unwrap()[0].sha256, sha256(&body));
    assert!(server.requests().last().unwrap().contains("if-range: mon, 01 jan 2024"));
}

#[test]
fn a_server_without_ranges_or_with_another_version_begins_anew() {
    let body = content();
    let sent = body.clone();
    // Once with a server that ignores ranges, which sends 200 again.
    let server = Server::start(move |number, _| {
        whole(&sent, if number == 0 { 30_000 } else { sent.len() }, "ETag: \"one\"\r\n")
    });
    let case = Case::new();
    assert_eq!(case.fetch(&format!("{}/f", server.address), "").unwrap()[0].sha256, sha256(&body));
    // Without a validator a download is not resumed: the first bytes might be of another version.
    let sent = body.clone();
    let server = Server::start(move |number, _| whole(&sent, if number == 0 { 30_000 } else { sent.len() }, ""));
    let case = Case::new();
    assert_eq!(case.fetch(&format!("{}/f", server.address), "").unwrap()[0].sha256, sha256(&body));
    assert_eq!(server.requests().iter().filter(|head| requested_offset(head).is_some()).count(), 0);
    // A range that was not requested is discarded.
    let sent = body.clone();
    let server = Server::start(move |number, _| match number {
        0 => whole(&sent, 30_000, "ETag: \"one\"\r\n"),
        1 => answer("206 Partial Content", "Content-Range: bytes 5-9/200000\r\nContent-Length: 5\r\n", b"wrong"),
        _ => whole(&sent, sent.len(), "ETag: \"one\"\r\n"),
    });
    let case = Case::new();
    assert_eq!(case.fetch(&format!("{}/f", server.address), "").unwrap()[0].sha256, sha256(&body));
    // A file that was already complete: the server has no bytes past its end.
    let sent = body.clone();
    let server = Server::start(move |number, _| match number {
        0 => {
            let Answer(bytes, _) = whole(&sent, sent.len(), "ETag: \"one\"\r\n");
            let text =
                String::from_utf8_lossy(&bytes[..200]).replace("Content-Length: 200000", "Content-Length: 200001");
            let head = text.split("\r\n\r\n").next().unwrap().to_owned() + "\r\n\r\n";
            Answer([head.as_bytes(), &sent].concat(), Duration::ZERO)
        }
        _ => answer("416 Range Not Satisfiable", "Content-Range: bytes */200000\r\nContent-Length: 0\r\n", b""),
    });
    let case = Case::new();
    assert_eq!(case.fetch(&format!("{}/f", server.address), "").unwrap()[0].sha256, sha256(&body));
}

#[test]
fn parts_of_two_versions_are_never_put_together() {
    let body = content();
    let other: Vec<u8> = body.iter().map(|byte| !byte).collect();
    let (first, second) = (body.clone(), other.clone());
    // The server continues with another version's bytes in spite of `If-Range`, and then sends that version in full.
    let server = Server::start(move |number, head| match number {
        0 => whole(&first, 30_000, "ETag: \"one\"\r\n"),
        1 => rest(&second, head, "ETag: \"two\"\r\n"),
        _ => whole(&second, second.len(), "ETag: \"two\"\r\n"),
    });
    let case = Case::new();
    assert_eq!(case.fetch(&format!("{}/f", server.address), "").unwrap()[0].sha256, sha256(&other));
    assert_eq!(requested_offset(server.requests().last().unwrap()), None);
    // If stopped between writing the new version's record and its first byte (here by a folder in place of the record),
    // no byte of the old version is kept.
    let server = Server::start(move |_, _| whole(&other, other.len(), "ETag: \"two\"\r\n"));
    let case = Case::new();
    let folder = case.folder.path().join("data/a");
    fs::create_dir_all(folder.join(".partial-file.bin.json/in")).unwrap();
    fs::write(folder.join(".partial-file.bin"), &body[..1000]).unwrap();
    case.fetch(&format!("{}/f", server.address), "").unwrap_err();
    assert!(!folder.join(".partial-file.bin").exists());
}

#[test]
fn concurrent_downloads_request_a_file_once() {
    let body = content();
    let sent = body.clone();
    let server = Server::start(move |_, _| {
        std::thread::sleep(Duration::from_millis(300));
        whole(&sent, sent.len(), "ETag: \"one\"\r\n")
    });
    let case = Case::new();
    let url = format!("{}/f", server.address);
    // Writes the definition that the downloads below share, along with the folder.
    case.fetch(&url, "").unwrap();
    fs::remove_dir_all(case.folder.path().join("data")).unwrap();
    let definition = DatasetDefinition::read(&case.folder.path().join("small.toml")).unwrap();
    let (data, options) = (
        case.folder.path().join("data"),
        FetchOptions { stall: Duration::from_secs(20), ..case.options.borrow().clone() },
    );
    let recorder = Recorder::default();
    let fetched: Vec<Fetched> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| fetch(&definition, &data, &options, &recorder).unwrap())).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(fetched.iter().all(|fetched| fetched.sha256 == sha256(&body)));
    assert_eq!(fetched.iter().filter(|fetched| !fetched.already).count(), 1);
    assert_eq!(
        (server.requests().len(), case.files()),
        (2, vec!["a/file.bin".to_owned(), "downloads.json".to_owned()])
    );
    assert!(
        recorder.warnings.lock().unwrap().iter().all(|warning| warning.contains("which is downloading a/file.bin"))
    );
}

#[test]
fn endless_answers_and_changed_files_are_reported() {
    // Neither the server nor the definition states the size of the file.
    let sent = content();
    let server = Server::start(move |_, _| answer("200 OK", "", &sent));
    let case = Case::new();
    case.options.borrow_mut().most_bytes = 100_000;
    let error = case.fetch(&format!("{}/f", server.address), "").unwrap_err().to_string();
    assert!(error.contains("more than 100000 bytes") && error.contains("set `size`"), "{error}");
    assert_eq!(case.files(), Vec::<String>::new());
    // Downloaded again, it is another.
    let server = Server::start(move |number, _| whole(&content()[number..], 200_000 - number, ""));
    let case = Case::new();
    let url = format!("{}/f", server.address);
    case.fetch(&url, "").unwrap();
    case.options.borrow_mut().force = true;
    case.fetch(&url, "").unwrap();
    let warnings = case.recorder.warnings.lock().unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("when it was first downloaded"), "{warnings:?}");
}

#[test]
fn wrong_bytes_and_wrong_lengths_are_not_kept() {
    let body = content();
    let mut wrong = body.clone();
    wrong[1000] ^= 1;
    let server = Server::start(move |_, _| whole(&wrong, wrong.len(), "ETag: \"one\"\r\n"));
    let case = Case::new();
    let url = format!("{}/f", server.address);
    let error = case.fetch(&url, &format!("sha256 = \"{}\"", sha256(&body))).unwrap_err();
    assert!(matches!(error, FetchError::Wrong { .. }) && error.to_string().contains("its SHA-256 is"), "{error}");
    assert!(case.files().is_empty(), "{:?}", case.files());
    // The length is known before anything is received.
    let error = case.fetch(&url, "size = 12").unwrap_err();
    assert!(error.to_string().contains("the server has 200000 bytes, but the definition specifies 12"), "{error}");
    // If the server states no length, bytes beyond the size are not written.
    let server = Server::start(move |_, _| answer("200 OK", "", &vec![1; 5000]));
    let case = Case::new();
    let error = case.fetch(&format!("{}/f", server.address), "size = 4000").unwrap_err();
    assert!(error.to_string().contains("more than the 4000 bytes"), "{error}");
    assert!(case.files().is_empty());
    let server = Server::start(move |_, _| answer("200 OK", "", &vec![1; 3000]));
    let error = case.fetch(&format!("{}/f", server.address), "size = 4000").unwrap_err();
    assert!(error.to_string().contains("it has 3000 bytes, but the definition specifies 4000"), "{error}");
    assert!(case.files().is_empty());
}

#[test]
fn a_stalled_server_is_left_and_what_came_before_is_kept() {
    let body = content();
    let sent = body.clone();
    let server = Server::start(move |number, head| match number {
        0 => Answer(whole(&sent, 70_000, "ETag: \"one\"\r\n").0, Duration::from_secs(2)),
        _ => rest(&sent, head, "ETag: \"one\"\r\n"),
    });
    let case = Case::new();
    let begun = std::time::Instant::now();
    assert_eq!(case.fetch(&format!("{}/f", server.address), "").unwrap()[0].sha256, sha256(&body));
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(requested_offset(&server.requests()[1]), Some(70_000));
    // A server that never responds is eventually abandoned.
    let server = Server::start(move |_, _| Answer(Vec::new(), Duration::from_millis(900)));
    let case = Case::new();
    let error = case.fetch(&format!("{}/f", server.address), "").unwrap_err();
    assert!(matches!(error, FetchError::BrokeOff { attempts: 3, .. }), "{error}");
}

#[test]
fn redirects_are_followed_but_not_for_ever_nor_anywhere() {
    let body = content();
    let sent = body.clone();
    let server = Server::start(move |_, head| {
        if head.starts_with("get /f ") {
            answer("302 Found", "Location: /elsewhere/g\r\nContent-Length: 0\r\n", b"")
        } else if head.starts_with("get /elsewhere/g ") {
            answer("307 Temporary Redirect", "Location: h?x=1\r\nContent-Length: 0\r\n", b"")
        } else if head.starts_with("get /elsewhere/h?x=1 ") {
            whole(&sent, sent.len(), "")
        } else if head.starts_with("get /loop ") {
            answer("301 Moved Permanently", "Location: /loop\r\nContent-Length: 0\r\n", b"")
        } else if head.starts_with("get /file ") {
            answer("301 Moved Permanently", "Location: file:///etc/hostname\r\nContent-Length: 0\r\n", b"")
        } else if head.starts_with("get /nowhere ") {
            answer("301 Moved Permanently", "Content-Length: 0\r\n", b"")
        } else {
            answer("404 Not Found", "Content-Length: 0\r\n", b"")
        }
    });
    let fetched = |path: &str| Case::new().fetch(&format!("{}{path}", server.address), "");
    assert_eq!(fetched("/f").unwrap()[0].sha256, sha256(&body));
    for (path, words) in [
        ("/loop", "more than 10 redirects"),
        ("/file", "neither https nor http"),
        ("/nowhere", "redirects without a target"),
        ("/gone", "status 404"),
    ] {
        let error = fetched(path).unwrap_err();
        assert!(matches!(error, FetchError::Refused { .. }) && error.to_string().contains(words), "{error}");
    }
}

#[test]
fn an_archive_is_unpacked_beside_itself_and_again_only_by_force() {
    let archive = tar_of(&[("x/1.pcap", b"one"), ("2.pcap", b"two")]);
    let server = Server::start(move |_, _| whole(&archive, archive.len(), ""));
    let case = Case::new();
    let url = format!("{}/f", server.address);
    let fetched = case.fetch(&url, "unpack = true").unwrap();
    assert_eq!(fetched[0].unpacked, ["2.pcap", "x/1.pcap"]);
    assert_eq!(case.files(), ["a/2.pcap", "a/file.bin", "a/x/1.pcap", "downloads.json"]);
    fs::write(case.folder.path().join("data/a/2.pcap"), b"changed").unwrap();
    assert!(case.fetch(&url, "unpack = true").unwrap()[0].already);
    case.options.borrow_mut().force = true;
    assert!(!case.fetch(&url, "unpack = true").unwrap()[0].already);
    assert_eq!(fs::read(case.folder.path().join("data/a/2.pcap")).unwrap(), b"two");
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

fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
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

/// A definition that labels every capture in a folder by class.
fn by_folder(folder: &Path) -> DatasetDefinition {
    let path = folder.join("small.toml");
    let text = "name = \"small\"\ntitle = \"Small\"\nreference = \"none\"\nlabel_columns = [\"kind\"]\n\
                [published_at]\nurl = \"https://example.org\"\nhow = \"nothing\"\n[files]\npatterns = [\"**/*.pcap\"]\n\
                [folders]\ncolumns = [\"kind\"]\n";
    fs::write(&path, text).unwrap();
    DatasetDefinition::read(&path).unwrap()
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
fn a_download_that_was_not_unpacked_to_its_end_is_unpacked_by_the_same_command() {
    let archive = tar_of(&[("x/1.pcap", b"one"), ("x/2.pcap", b"two")]);
    let sent = archive.clone();
    let server = Server::start(move |_, _| whole(&sent, sent.len(), ""));
    let case = Case::new();
    let url = format!("{}/f", server.address);
    case.fetch(&url, "unpack = true").unwrap();
    let data = case.folder.path().join("data");
    let records = fs::read_to_string(data.join("downloads.json")).unwrap();
    assert!(records.contains("\"unpacked\": true"), "{records}");
    // States after kills: right after the download, with and without its record, and between two files.
    let unfinished = records.replace("\"unpacked\": true", "\"unpacked\": false");
    for (left, record) in [(&[][..], None), (&[], Some(&unfinished)), (&["a/x/1.pcap"], Some(&unfinished))] {
        for file in ["a/x/1.pcap", "a/x/2.pcap"].iter().filter(|file| !left.contains(*file)) {
            fs::remove_file(data.join(file)).unwrap();
        }
        match record {
            Some(record) => fs::write(data.join("downloads.json"), record).unwrap(),
            None => fs::remove_file(data.join("downloads.json")).unwrap(),
        }
        let fetched = case.fetch(&url, "unpack = true").unwrap();
        assert!(fetched[0].already);
        assert_eq!(fetched[0].unpacked, ["x/1.pcap", "x/2.pcap"]);
        assert_eq!(fs::read(data.join("a/x/1.pcap")).unwrap(), b"one");
        assert_eq!(case.files(), ["a/file.bin", "a/x/1.pcap", "a/x/2.pcap", "downloads.json"]);
    }
    assert_eq!(server.requests().len(), 1);
    // One that cannot be unpacked is retried, and never counted as unpacked.
    let server = Server::start(move |_, _| whole(b"no archive", 10, ""));
    let case = Case::new();
    for _ in 0..2 {
        let error = case.fetch(&format!("{}/f", server.address), "unpack = true").unwrap_err();
        assert!(matches!(error, FetchError::Unpack(UnpackError::Damaged { .. })), "{error}");
        // The captures next to it are missing.
        let folder = open_folder(&by_folder(case.folder.path()), &case.folder.path().join("data"));
        assert!(matches!(folder, Err(DatasetError::Unpacking { .. })));
    }
    assert_eq!(server.requests().len(), 1);
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
