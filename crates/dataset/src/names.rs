//! Classifies file names: captures with other extensions, files left by an operating system, and names that are equal
//! up to letter case and Unicode form.

use unicode_normalization::{UnicodeNormalization, is_nfc_quick};

use super::rules::without_compression;

/// Extensions of captures, as used by Wireshark, tcpdump, WinDump and WinPcap.
const CAPTURE_ENDS: [&str; 5] = ["pcap", "pcapng", "cap", "dmp", "ntar"];
/// First bytes of captures: pcap with microseconds, nanoseconds and in Kuznetzov's format, in both byte orders, and
/// pcapng.
const CAPTURE_MAGICS: [[u8; 4]; 7] = [
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0x3c, 0x4d],
    [0x4d, 0x3c, 0xb2, 0xa1],
    [0xa1, 0xb2, 0xcd, 0x34],
    [0x34, 0xcd, 0xb2, 0xa1],
    [0x0a, 0x0d, 0x0d, 0x0a],
];
/// Files and folders that macOS and Windows create automatically, in lower case.
const SYSTEM_NAMES: [&str; 12] = [
    "__macosx",
    ".ds_store",
    ".appledouble",
    ".spotlight-v100",
    ".trashes",
    ".fseventsd",
    ".temporaryitems",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
];
/// Prefix of the files in which macOS keeps metadata of the file next to it (AppleDouble, RFC 1740).
const APPLE_DOUBLE_PREFIX: &str = "._";
/// First bytes of AppleDouble files.
const APPLE_DOUBLE_MAGIC: [u8; 4] = [0x00, 0x05, 0x16, 0x07];

/// Converts text to Unicode's composed form (NFC): macOS may store file names in decomposed form.
pub fn composed(text: &str) -> std::borrow::Cow<'_, str> {
    match is_nfc_quick(text.chars()) {
        unicode_normalization::IsNormalized::Yes => text.into(),
        _ => text.nfc().collect::<String>().into(),
    }
}

/// Returns the folded form of a name, equal for names that differ only in letter case or Unicode form.
pub(super) fn folded(name: &str) -> String {
    composed(&composed(name).to_lowercase()).into_owned()
}

/// A file name that looks like a capture's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CaptureName {
    /// The glob that matches such names: `**/*.cap`, or `**/*.pcap[0-9]*` for the numbered files written by tcpdump and
    /// logrotate.
    pub pattern: String,
    /// The path without its extension, to which `.pcap` could be appended.
    pub stem: String,
}

/// Recognizes a capture by its file name; returns `None` if the name looks like something else.
pub(super) fn capture_name(path: &str) -> Option<CaptureName> {
    let plain = without_compression(path);
    if !plain.ends_with(|character: char| character.is_ascii_alphanumeric()) {
        return None;
    }
    // The number or date of a rotated file, with its separator.
    let unnumbered = plain.trim_end_matches(|character: char| character.is_ascii_digit() || "-_.".contains(character));
    let rotation = match plain[unnumbered.len()..].chars().next() {
        None => String::new(),
        Some(digit) if digit.is_ascii_digit() => "[0-9]*".to_owned(),
        Some(separator) => format!("{separator}[0-9]*"),
    };
    let (stem, end) = unnumbered.rsplit_once('.')?;
    let end = CAPTURE_ENDS.into_iter().find(|known| known.eq_ignore_ascii_case(end))?;
    let is_named = !stem.is_empty() && !stem.ends_with(['/', '!']);
    is_named.then(|| CaptureName { pattern: format!("**/*.{end}{rotation}"), stem: stem.to_owned() })
}

/// Returns whether a file with these first bytes is a capture.
pub(super) fn is_capture(head: [u8; 4]) -> bool {
    CAPTURE_MAGICS.contains(&head)
}

/// Returns whether a path belongs to a file that macOS or Windows created. `head` reads the first bytes, which
/// distinguish AppleDouble files from other files whose names start with `._`.
pub(super) fn is_system_file(path: &str, head: impl FnOnce() -> Option<[u8; 4]>) -> bool {
    if path.split('/').any(|part| SYSTEM_NAMES.contains(&part.to_lowercase().as_str())) {
        return true;
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    // Empty and unreadable files are not captures either.
    name.starts_with(APPLE_DOUBLE_PREFIX) && head().is_none_or(|head| head == APPLE_DOUBLE_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_by_other_names_are_recognised() {
        for (name, pattern) in [
            ("a/t.cap", "**/*.cap"),
            ("t.DMP.gz", "**/*.dmp"),
            ("t.pcap1", "**/*.pcap[0-9]*"),
            ("t.pcap12.gz", "**/*.pcap[0-9]*"),
            ("t.pcap.3", "**/*.pcap.[0-9]*"),
            ("t.pcapng-20240131", "**/*.pcapng-[0-9]*"),
            ("all.zip!chat/t.pcap_00001_20240131120000", "**/*.pcap_[0-9]*"),
        ] {
            assert_eq!(capture_name(name).map(|name| name.pattern).as_deref(), Some(pattern), "{name}");
        }
        assert_eq!(capture_name("a/T.PCAP12.gz").unwrap().stem, "a/T");
        for other in ["Monday.pcap_ISCX.csv", "x.pcap.csv", "pcap", ".cap", "README", "1.2.3", "x.pcap.", "x.pcap_", ""]
        {
            assert_eq!(capture_name(other), None, "{other}");
        }
    }

    #[test]
    fn files_of_the_system_are_told_from_those_of_a_person() {
        let apple = || Some(APPLE_DOUBLE_MAGIC);
        let pcap = || Some(CAPTURE_MAGICS[1]);
        for path in ["__MACOSX/chat/._1.pcap", "a/.DS_Store", "Thumbs.db", "a/Desktop.ini", "$RECYCLE.BIN/x.pcap"] {
            assert!(is_system_file(path, pcap), "{path}");
        }
        assert!(is_system_file("chat/._1.pcap", apple) && is_system_file("chat/._1.pcap", || None));
        assert!(!is_system_file("chat/._1.pcap", pcap));
        assert!(!is_system_file("chat/1.pcap", apple) && !is_system_file("my__MACOSX/thumbs.db.pcap", apple));
    }

    #[test]
    fn names_fold_letter_case_and_unicode_form() {
        assert_eq!(composed("cafe\u{301}"), "caf\u{e9}");
        assert_eq!(folded("CAFE\u{301}"), folded("caf\u{e9}"));
        assert_ne!(folded("cafe"), folded("caf\u{e9}"));
    }
}
