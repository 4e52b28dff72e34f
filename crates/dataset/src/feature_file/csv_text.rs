//! Artifacts of the programs that write tables, which are handled and reported: a byte order mark, CR LF, the unnamed
//! index column that pandas writes first, duplicate names, header lines in the middle, empty rows, separators at the
//! end of rows, decimal commas (if the separator is not a comma), and windows-1252 if the text is not UTF-8.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::BufRead;

use etcbench_storage::counted;

/// The characters of windows-1252 from 0x80 to 0x9f; the others are those of Unicode, and five are undefined.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Decodes bytes as UTF-8, or else as windows-1252; also returns whether they are UTF-8.
pub(super) fn text_of(bytes: &[u8]) -> (Cow<'_, str>, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), true),
        Err(_) => {
            let character = |&byte: &u8| match byte {
                0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
                _ => char::from(byte),
            };
            (Cow::Owned(bytes.iter().map(character).collect()), false)
        }
    }
}

/// Determines the separator of a table from its first line: a semicolon or tab if the line contains one and no comma,
/// otherwise a comma.
pub(super) fn separator(input: &mut impl BufRead) -> std::io::Result<u8> {
    let start = input.fill_buf()?;
    let line = &start[..start.iter().position(|&byte| byte == b'\n').unwrap_or(start.len())];
    let other = [b';', b'\t'].into_iter().find(|byte| line.contains(byte));
    Ok(other.filter(|_| !line.contains(&b',')).unwrap_or(b','))
}

/// Names the columns of a header as pandas does: an unnamed column, which pandas writes for its index, is `Unnamed: 0`
/// by its position, and the second column with a name gets the suffix `.1`.
pub(super) fn column_names(header: &[String]) -> Vec<String> {
    let mut taken: HashSet<String> = HashSet::new();
    // The next suffix of a repeated name: the ones before it are taken.
    let mut suffixes: HashMap<String, u64> = HashMap::new();
    let mut name_of = |(place, name): (usize, &String)| {
        let base = if name.is_empty() { format!("Unnamed: {place}") } else { name.clone() };
        let mut free = base.clone();
        while !taken.insert(free.clone()) {
            let next = suffixes.entry(base.clone()).or_insert(1);
            free = format!("{base}.{next}");
            *next += 1;
        }
        free
    };
    header.iter().enumerate().map(&mut name_of).collect()
}

/// Counts of irregularities that were ignored.
#[derive(Debug, Default)]
pub(super) struct Traces {
    pub headers: u64,
    pub empty_rows: u64,
    pub separators: u64,
    pub decimal_commas: u64,
    pub windows_1252: u64,
    pub index: bool,
    pub totals: bool,
}

impl Traces {
    pub(super) fn add(&mut self, other: &Traces) {
        self.headers += other.headers;
        self.empty_rows += other.empty_rows;
        self.separators += other.separators;
        self.decimal_commas += other.decimal_commas;
        self.windows_1252 += other.windows_1252;
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let told = [
            (self.headers, "line", "repeating the header, ignored"),
            (self.empty_rows, "row", "without values, ignored"),
            (self.separators, "row", "with trailing separators, which are ignored"),
            (self.decimal_commas, "number", "with a decimal comma, interpreted as such"),
            (self.windows_1252, "value", "not UTF-8, read as windows-1252"),
        ];
        let index = "the first column has no name and is ignored as a pandas index";
        let told = told
            .into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, one, what)| format!("{} {what}", counted(count, one)));
        let totals = "the lines from `Summary` on are totals and ignored";
        let totals = self.totals.then(|| totals.to_owned());
        self.index.then(|| index.to_owned()).into_iter().chain(told).chain(totals).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::column_names;

    fn named(header: &[&str]) -> Vec<String> {
        column_names(&header.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn repeated_and_missing_names_are_those_of_pandas() {
        // list(pandas.read_csv(io.StringIO("a,a,b,a,,b,")).columns) of pandas 3.1
        let expected = ["a", "a.1", "b", "a.2", "Unnamed: 4", "b.1", "Unnamed: 6"];
        assert_eq!(named(&["a", "a", "b", "a", "", "b", ""]), expected);
    }

    /// As an nPrint whose header is lost: the first row is read as names, and nearly all are equal.
    #[test]
    fn many_equal_names_are_numbered_in_one_pass() {
        let names = named(&vec!["-1"; 200_000]);
        assert_eq!((names[0].as_str(), names[1].as_str(), names[199_999].as_str()), ("-1", "-1.1", "-1.199999"));
    }
}
