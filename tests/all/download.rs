//! Downloads from a misbehaving server.

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::unpack::{by_folder, content, files, tar_of};
use etcbench::dataset::{
    DatasetDefinition, DatasetError, FetchError, FetchOptions, Fetched, UnpackError, fetch, open_folder,
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
