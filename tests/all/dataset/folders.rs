//! Folders as they are found: what cannot be read, what other programs leave behind, archives, and names of files.

use std::fs;

use super::{TABLE, definition, gzipped, holds, told, two_classes, usual, zipped};

const RUN: [&str; 2] = ["run", "experiments/small.toml"];

#[cfg(unix)]
#[test]
fn one_entry_that_cannot_be_read_is_left_out_with_a_word() {
    use std::os::unix::ffi::OsStringExt;
    let project = two_classes();
    let folder = project.path("data/small");
    std::os::unix::fs::symlink("/nowhere/old", folder.join("old")).unwrap();
    std::os::unix::fs::symlink("/nowhere/2.pcap", folder.join("chat/2.pcap")).unwrap();
    std::os::unix::fs::symlink("..", folder.join("mail/up")).unwrap();
    std::os::unix::fs::symlink("self", folder.join("self")).unwrap();
    let name = std::ffi::OsString::from_vec(b"readme-\xe9.txt".to_vec());
    fs::write(folder.join(name), "text").unwrap();
    assert!(std::process::Command::new("mkfifo").arg(folder.join("chat/pipe.pcap")).status().unwrap().success());
    let words = [
        "old is skipped: it is a link to /nowhere/old, which does not exist",
        "chat/2.pcap is skipped: it is a link to /nowhere/2.pcap",
        "mail/up is skipped: it is a link to ",
        "a folder that contains it",
        "its name is not UTF-8; rename it",
        "chat/pipe.pcap is skipped: it is not a regular file",
    ];
    let (text, code) = told(&project, &[&RUN[..], &["--device", "cpu"]].concat());
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["small: 1 more cannot be read (`etcbench data verify small` lists them)"]);
    let (text, code) = told(&project, &["data", "labels", "small"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["8 flows of kind=chat", "8 flows of kind=mail"]);
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &words.map(|word| word.replace(" is skipped", ", skipped")).each_ref().map(String::as_str));
    holds(&text, &["2 captures used (0 damaged)", "6 other files"]);
    let (text, code) = told(&project, &["list"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["small: Small [2 captures in "]);
}

/// Runs as a user who may not read a folder; tests that run as root, who may, switch to `nobody`.
#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_read_is_left_out_with_a_word() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let project = two_classes();
    let set = |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let closed = project.path("data/small/lost+found");
    fs::create_dir(&closed).unwrap();
    project.write("data/small/mail/2.pcap", usual(3000));
    set(&closed, 0o000);
    set(&project.path("data/small/mail/2.pcap"), 0o000);
    set(&project.path(""), 0o755);
    let binary = project.path("etcbench");
    fs::copy(env!("CARGO_BIN_EXE_etcbench"), &binary).unwrap();
    let mut command = std::process::Command::new(&binary);
    command.current_dir(project.path("")).args(["data", "labels", "small"]).env_remove("ETCBENCH_DATA");
    if fs::metadata(&binary).unwrap().uid() == 0 {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    set(&closed, 0o755);
    assert_eq!(output.status.code(), Some(0), "{text}");
    holds(
        &text,
        &[
            "small: lost+found is skipped: Permission denied",
            "small: mail/2.pcap is skipped: Permission denied",
            "8 flows of kind=chat",
            "8 flows of kind=mail",
        ],
    );
}

#[test]
fn a_listing_does_not_stop_at_what_is_broken() {
    let project = two_classes();
    project.write("data/broken.toml", "name = \"broken\"\ntitle = [\n");
    fs::create_dir(project.path("data/folder.toml")).unwrap();
    project.write("experiments/broken.toml", "title = \"x\"\nseeds = [\n");
    project.write("data/stopped.toml", definition("stopped", "\"kind\"", "[folders]\ncolumns = [\"kind\"]\n"));
    project.write("data/stopped/chat/1.pcap", usual(1000));
    project.write("data/stopped/.unpacking-rest.zip-12345678", "/downloads/rest.zip");
    let (text, code) = told(&project, &["list"]);
    assert_eq!(code, Some(0), "{text}");
    holds(
        &text,
        &[
            "broken: cannot be read (",
            "folder: cannot be read (",
            "small: Small [2 captures in ",
            "stopped: Small [cannot be used: ",
            "ctu13: ",
            "table2: ",
        ],
    );
    assert_eq!(text.matches("broken: cannot be read").count(), 2, "{text}");
    assert_eq!(told(&project, &["data", "list"]).1, Some(0));
    project.refused(&["data", "verify", "broken"], &["broken.toml"]);
    project.done(&RUN);
}

#[test]
fn captures_by_other_names_are_told_of_and_used_where_a_definition_is_written() {
    let project = two_classes();
    project.write("data/small/chat/1.pcap1", usual(1100));
    project.write("data/small/chat/1.pcap2.gz", gzipped(&usual(1200)));
    project.write("data/small/mail/2.cap", usual(2100));
    project.write("data/small/mail/3.PCAP", usual(2200));
    project.write("data/small/mail/memory.dmp", b"MDMP, a dump of another kind");
    project.write("data/small/more.zip", zipped(&[("mail/4.dmp", &usual(2300)), ("mail/5.pcap", &usual(2400))]));
    let warning = "small: 4 files (chat/1.pcap1, ...) look like captures and are not used; to use such files, add \
                   \"**/*.cap\", \"**/*.dmp\", \"**/*.pcap[0-9]*\" to `patterns`";
    for _ in 0..2 {
        // Both from the captures and with flows from the cache.
        let output = project.done(&RUN);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        holds(&text, &[warning]);
        assert_eq!(text.matches("look like captures").count(), 1, "{text}");
    }
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(1), "{text}");
    holds(
        &text,
        &[
            "unexpected mail/2.cap, 792 bytes, looks like a capture, but no pattern matches it; add \"**/*.cap\"",
            "unexpected more.zip!mail/4.dmp",
            "4 captures used",
        ],
    );
    // A definition written for these files uses all of them.
    fs::remove_file(project.path("data/small/mail/memory.dmp")).unwrap();
    fs::remove_file(project.path("data/small.toml")).unwrap();
    let (text, code) = told(&project, &["data", "init", "small", "--folder", "data/small", "--column", "kind"]);
    assert_eq!(code, Some(0), "{text}");
    holds(
        &text,
        &["chat: 3 captures", "mail: 5 captures", "captures with other names are used too: **/*.cap, **/*.dmp"],
    );
    let (text, _) = told(&project, &["data", "labels", "small"]);
    holds(&text, &["24 flows of kind=chat", "40 flows of kind=mail"]);
}

#[test]
fn what_macos_and_windows_leave_behind_is_no_data() {
    let apple: &[u8] = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ";
    let project = two_classes();
    project.write("data/small/chat/._1.pcap", apple);
    project.write("data/small/chat/.DS_Store", b"\0\0\0\x01Bud1");
    project.write("data/small/__MACOSX/chat/._1.pcap", apple);
    project.write("data/small/mail/Thumbs.db", b"x");
    project.write("data/small/mail/desktop.ini", b"x");
    project.write("data/small/$RECYCLE.BIN/old.pcap", usual(1));
    // A capture may have such a name.
    project.write("data/small/mail/._own.pcap", usual(3000));
    project.write(
        "data/small/all.zip",
        zipped(&[
            ("chat/2.pcap", &usual(4000)),
            ("__MACOSX/chat/._2.pcap", apple),
            ("__MACOSX/._chat", apple),
            ("chat/._2.pcap", apple),
        ]),
    );
    let output = project.done(&RUN);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    holds(&text, &["small: 5 files ($RECYCLE.BIN/old.pcap, ...) are skipped: created by macOS or Windows"]);
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["4 captures used", "5 other files"]);
    fs::remove_file(project.path("data/small.toml")).unwrap();
    let (text, code) = told(&project, &["data", "init", "small", "--folder", "data/small", "--column", "kind"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["chat: 2 captures", "mail: 2 captures", "dataset small with 2 classes"]);
}

#[test]
fn archives_are_read_in_place_whatever_made_them() {
    let project = two_classes();
    fs::remove_dir_all(project.path("data/small")).unwrap();
    project.write("data/small/windows.zip", zipped(&[("chat\\1.pcap", &usual(1000)), ("mail\\1.pcap", &usual(2000))]));
    project.write("data/small/dots.zip", zipped(&[("./chat/2.pcap", &usual(1100)), ("mail//2.pcap", &usual(2100))]));
    // Downloaded twice by a browser, or without a name.
    project.write("data/small/more.zip.1", zipped(&[("chat/3.pcap", &usual(1200))]));
    project.write("data/small/download", zipped(&[("mail/3.pcap", &usual(2200))]));
    project.write("data/small/report.docx", zipped(&[("word/document.xml", b"text")]));
    project.write("data/small/out.zip", zipped(&[("../chat/4.pcap", &usual(1300)), ("mail/4.pcap", &usual(2300))]));
    project.write("data/small/page.bin", b"PK\x03\x04 and no archive");
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(0), "{text}");
    holds(
        &text,
        &[
            "used windows.zip!chat/1.pcap, 792 bytes, 16 packets",
            "used more.zip.1!chat/3.pcap",
            "used download!mail/3.pcap",
            "kind=chat",
            "unexpected out.zip!../chat/4.pcap, skipped: its name points outside the archive",
            "unexpected report.docx",
            "7 captures used",
        ],
    );
    let (text, _) = told(&project, &["data", "labels", "small"]);
    holds(&text, &["24 flows of kind=chat", "32 flows of kind=mail"]);
    assert!(!text.contains("kind=.") && !text.contains('\\'), "{text}");
    // Two spellings of one path.
    project.write("data/small/twice.zip", zipped(&[("chat\\9.pcap", &usual(1)), ("chat/9.pcap", &usual(2))]));
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(1), "{text}");
    holds(&text, &["damaged archive twice.zip", "two members have the same name, chat/9.pcap"]);
}

#[test]
fn names_that_differ_in_unicode_form_are_one_and_in_letter_case_are_told() {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let project = two_classes();
    for (number, class) in ["Chat", composed, decomposed].into_iter().enumerate() {
        let port = 3000 + 1000 * number as u16;
        project.write(&format!("data/small/{class}/1.pcap"), usual(port));
    }
    let alike = "label column `kind`: `Chat` and `chat` differ only in letter case and are 2 classes";
    for _ in 0..2 {
        let output = project.done(&RUN);
        holds(&String::from_utf8_lossy(&output.stderr), &[alike]);
    }
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &[alike, "5 captures used"]);
    let (text, _) = told(&project, &["data", "labels", "small"]);
    holds(&text, &[&format!("16 flows of kind={composed}"), alike]);
    // An experiment may spell the class either way.
    for class in [composed, decomposed] {
        let classes = format!("selection.classes=[\"{class}\", \"mail\"]");
        project.done(&[&RUN[..], &["--set", &classes]].concat());
    }
    // A table may also name captures in either form, and captures in archives.
    project.write("data/small.toml", definition("small", "\"kind\"", TABLE));
    project.write("data/small.csv", format!("stem,kind\n{composed},a\n{decomposed}-2,b\n"));
    fs::remove_dir_all(project.path("data/small")).unwrap();
    project.write(&format!("data/small/{decomposed}.pcap"), usual(1000));
    project.write("data/small/all.zip", zipped(&[(&format!("{composed}-2.pcap"), &usual(2000))]));
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["2 captures used", "0 without label, 0 missing"]);
    project.write("data/small.csv", format!("stem,kind\n{composed},a\n{decomposed},b\n"));
    project.refused(&["data", "verify", "small"], &["small.csv: line 3", "ignoring letter case and Unicode form"]);
}
