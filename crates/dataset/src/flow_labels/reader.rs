//! Reads a flow-label file line by line, in memory independent of the file's size.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;

use super::line::{Key, Line, NO_LABELS, fields, port};
use super::protocol::{ProtocolWord, UnknownProtocols, protocol};
use super::time::{advice, duration};
use super::{FlowLabelRules, Format};
use crate::error::DatasetError;
use crate::labelled::Labels;
use crate::names::folded;
use crate::rules::capture_stem;
use etcbench_capture::{ExpansionLimits, decompress};
use etcbench_storage::counted;
use etcbench_storage::declarative::nearest;

/// The comment with the columns of Zeek's logs.
const ZEEK_FIELDS: &[u8] = b"#fields\t";
/// Maximum length of a line; lines in published files have about 200 bytes.
const LONGEST_LINE: u64 = 1 << 20;
/// Maximum number of characters of an invalid field to show.
const SHOWN_LETTERS: usize = 40;
/// Maximum number of malformed lines to list.
const NAMED_LINES: usize = 10;
/// Maximum number of distinct labels cached with their rules.
const REMEMBERED_LABELS: usize = 100_000;
/// Maximum number of distinct labels in a CSV file; more cannot be classes.
const MOST_LABELS: usize = 1_000_000;
/// Limit on `Dur`, in nanoseconds (about 31 years).
const LONGEST_DURATION: i64 = 1_000_000_000_000_000_000;

/// TCP or UDP lines that could not be parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MalformedLines {
    /// Number of such lines.
    pub count: u64,
    /// Line numbers of the first ones, from 1, with the problem.
    pub first: Vec<(u64, String)>,
}

/// Why a line cannot be used.
struct Fault {
    what: &'static str,
    /// The invalid text, if the problem is a single field.
    text: Option<String>,
    advice: &'static str,
}

impl From<&'static str> for Fault {
    fn from(what: &'static str) -> Self {
        Self { what, text: None, advice: "" }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) if text.is_empty() => write!(formatter, "its {}: it is empty", self.what),
            Some(text) => write!(formatter, "its {}, `{text}`{}", self.what, self.advice),
            None => formatter.write_str(self.what),
        }
    }
}

impl fmt::Display for MalformedLines {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first: Vec<String> = self.first.iter().map(|(line, problem)| format!("line {line}: {problem}")).collect();
        let more = if self.count > first.len() as u64 { ", ..." } else { "" };
        write!(formatter, "{} could not be parsed ({}{more})", counted(self.count, "line"), first.join(", "))
    }
}

/// Column indices of a file.
struct Columns {
    start: usize,
    end: Option<usize>,
    duration: Option<usize>,
    transport: usize,
    source: (usize, usize),
    destination: (usize, usize),
    label: Option<usize>,
    capture: Option<usize>,
    /// Columns that contain labels directly, with their label columns.
    labels: Vec<(usize, String)>,
}

/// A flow-label file being read for one capture.
pub(super) struct LabelReader<'a> {
    rules: &'a FlowLabelRules,
    applicable: Vec<(usize, &'a regex::Regex)>,
    capture_stem: String,
    file: String,
    input: BufReader<Box<dyn Read + Send>>,
    line: u64,
    is_zeek: bool,
    bytes: Vec<u8>,
    places: Vec<Range<usize>>,
    separator: u8,
    columns: Columns,
    /// Name of the transport column, which lines that repeat the header contain.
    transport_header: String,
    /// Index of the rule or labels for each label text seen.
    remembered: HashMap<String, u32>,
    /// The labels of a CSV file, by index.
    own: Vec<Labels>,
    pub malformed: MalformedLines,
    pub unknown_protocols: UnknownProtocols,
}

impl<'a> LabelReader<'a> {
    /// Opens a file, compressed or not, and reads its header.
    pub(super) fn open(path: &Path, rules: &'a FlowLabelRules, capture: &str) -> Result<Self, DatasetError> {
        let file = path.display().to_string();
        let io = |source| DatasetError::Io { path: file.clone(), source };
        let stream = decompress(std::fs::File::open(path).map_err(io)?, ExpansionLimits::default()).map_err(io)?.stream;
        let mut input = BufReader::with_capacity(1 << 16, stream);
        let fault = |message: String| DatasetError::FlowLabels { file: file.clone(), line: 1, message };
        let mut bytes = Vec::new();
        if !read_line(&mut input, &mut bytes).map_err(io)? {
            return Err(fault("the header is longer than 1 MiB; this is not a flow-label file".to_owned()));
        }
        // Zeek's logs have their columns in a comment.
        let is_zeek = bytes.starts_with(b"#separator");
        let mut line = 1;
        while is_zeek && bytes.starts_with(b"#") && !bytes.starts_with(ZEEK_FIELDS) {
            line += 1;
            if !read_line(&mut input, &mut bytes).map_err(io)? {
                return Err(fault("a comment is longer than 1 MiB; this is not a log of Zeek".to_owned()));
            }
        }
        if is_zeek && !bytes.starts_with(ZEEK_FIELDS) {
            return Err(fault("it begins like a log of Zeek, but no line before the first row has #fields".to_owned()));
        }
        let head = std::str::from_utf8(&bytes).map_err(|_| fault("the header is not UTF-8 text".to_owned()))?;
        let head = head.strip_prefix('\u{feff}').unwrap_or(head);
        let head = if is_zeek { &head[ZEEK_FIELDS.len()..] } else { head };
        if head.trim().is_empty() {
            return Err(fault("the header line is missing".to_owned()));
        }
        let separator = [b'\t', b';'].into_iter().find(|&byte| head.as_bytes().contains(&byte)).unwrap_or(b',');
        let mut places = Vec::new();
        fields(head, separator, &mut places).ok_or_else(|| fault("quotes in the header are unbalanced".to_owned()))?;
        let headers: Vec<&str> = places.iter().map(|place| &head[place.clone()]).collect();
        let columns = columns(rules, &headers).map_err(|message| {
            let message = if is_zeek {
                let found = headers.join("`, `");
                format!("its first line is that of Zeek's logs, so line {line}, `#fields`, is the header: `{found}`; {message}")
            } else {
                message
            };
            DatasetError::FlowLabels { file: file.clone(), line, message }
        })?;
        let transport_header = headers[columns.transport].to_owned();
        Ok(Self {
            rules,
            applicable: rules.rules_for(capture),
            capture_stem: folded(capture_stem(capture)),
            file,
            input,
            line,
            is_zeek,
            bytes,
            places,
            separator,
            columns,
            transport_header,
            remembered: HashMap::new(),
            own: Vec::new(),
            malformed: MalformedLines::default(),
            unknown_protocols: UnknownProtocols::default(),
        })
    }

    /// Returns the labels with the index given in a line; `None` for `NO_LABELS`.
    pub(super) fn labels(&self, number: u32) -> Option<&Labels> {
        if self.rules.rules.is_empty() {
            self.own.get(number as usize)
        } else {
            self.rules.rules.get(number as usize).map(|rule| &rule.labels)
        }
    }

    /// Returns the next line that describes a TCP or UDP flow of this capture.
    pub(super) fn next_line(&mut self) -> Result<Option<Line>, DatasetError> {
        loop {
            self.line += 1;
            let whole = match read_line(&mut self.input, &mut self.bytes) {
                Ok(whole) => whole,
                Err(source) => return Err(DatasetError::Io { path: self.file.clone(), source }),
            };
            if self.bytes.is_empty() {
                return Ok(None);
            }
            let bytes = std::mem::take(&mut self.bytes);
            let parsed = if whole { self.parse(&bytes) } else { Err("it is longer than 1 MiB".into()) };
            self.bytes = bytes;
            match parsed {
                Ok(Some(line)) => return Ok(Some(line)),
                Ok(None) => {}
                Err(Fault { what: TOO_MANY_LABELS, .. }) => {
                    let message = format!("more than {MOST_LABELS} distinct labels; check the column names");
                    return Err(DatasetError::FlowLabels { file: self.file.clone(), line: self.line, message });
                }
                Err(problem) => {
                    self.malformed.count += 1;
                    if self.malformed.first.len() < NAMED_LINES {
                        self.malformed.first.push((self.line, problem.to_string()));
                    }
                }
            }
        }
    }

    fn parse(&mut self, bytes: &[u8]) -> Result<Option<Line>, Fault> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
        if text.trim().is_empty() || (self.is_zeek && text.starts_with('#')) {
            return Ok(None);
        }
        fields(text, self.separator, &mut self.places).ok_or("its quotes are unbalanced")?;
        let columns = &self.columns;
        let field = |index: usize| self.places.get(index).map(|place| &text[place.clone()]);
        let wrong = |column: usize, what: &'static str| {
            let text: Option<String> = field(column).map(|text| text.chars().take(SHOWN_LETTERS).collect());
            Fault { what, text: Some(text.unwrap_or_default()), advice: "" }
        };
        let word = field(columns.transport).ok_or("it has too few columns")?;
        let transport = match protocol(word) {
            ProtocolWord::Transport(transport) => Some(transport),
            ProtocolWord::Other => return Ok(None),
            ProtocolWord::Unknown => None,
        };
        if let Some(capture) = columns.capture
            && folded(capture_stem(field(capture).ok_or("it has too few columns")?)) != self.capture_stem
        {
            return Ok(None);
        }
        let Some(transport) = transport else {
            if word != self.transport_header {
                self.unknown_protocols.add(word);
            }
            return Ok(None);
        };
        let clock = self.rules.clock;
        let time = |column: usize, what: &'static str| {
            let text = field(column).ok_or("it has too few columns")?;
            let no_time = || Fault { advice: advice(text, clock), ..wrong(column, what) };
            clock.parse(text).ok_or_else(no_time)
        };
        let start = time(columns.start, "start is not a time")?;
        let end = match (columns.end, columns.duration) {
            (Some(end), _) => time(end, "end is not a time")?,
            (None, Some(column)) => {
                // Zeek leaves the duration of a connection of one packet unset.
                let unset = self.is_zeek && field(column) == Some("-");
                let length = if unset { Some(0) } else { field(column).and_then(duration) };
                let length = length.filter(|&length| length < LONGEST_DURATION);
                let length = length.ok_or_else(|| wrong(column, "duration is not a number of seconds"))?;
                start.checked_add(length).ok_or("it ends too late")?
            }
            (None, None) => start,
        };
        if end < start {
            return Err("it ends before it starts".into());
        }
        let endpoint = |(address, number): (usize, usize), of: [&'static str; 2]| -> Result<(IpAddr, u16), Fault> {
            let ip = field(address).and_then(|text| text.parse().ok()).ok_or_else(|| wrong(address, of[0]))?;
            Ok((ip, field(number).and_then(port).ok_or_else(|| wrong(number, of[1]))?))
        };
        let source = endpoint(columns.source, ["source is not an address", "source port is not a number"])?;
        let destination =
            endpoint(columns.destination, ["destination is not an address", "destination port is not a number"])?;
        let key = Key::new(source, destination, transport);
        let labels = match columns.label {
            Some(label) => {
                let label =
                    self.places.get(label).map(|place| unquoted(text, place)).ok_or("it has too few columns")?;
                match self.remembered.get(label.as_ref()) {
                    Some(&number) => number,
                    None => {
                        let rule = self.applicable.iter().find(|(_, regex)| regex.is_match(&label));
                        let number = rule.map_or(NO_LABELS, |(index, _)| *index as u32);
                        if self.remembered.len() < REMEMBERED_LABELS {
                            self.remembered.insert(label.into_owned(), number);
                        }
                        number
                    }
                }
            }
            None => {
                let mut values = Vec::with_capacity(columns.labels.len());
                for (index, _) in &columns.labels {
                    values.push(
                        self.places.get(*index).map(|place| unquoted(text, place)).ok_or("it has too few columns")?,
                    );
                }
                own_labels(&mut self.remembered, &mut self.own, &columns.labels, &values)?
            }
        };
        Ok(Some(Line { key, start, end, labels }))
    }
}

/// Returns a field with doubled quotes inside quotes replaced by single ones.
fn unquoted<'a>(text: &'a str, place: &Range<usize>) -> Cow<'a, str> {
    let field = &text[place.clone()];
    let is_quoted = place.start > 0 && text.as_bytes()[place.start - 1] == b'"';
    if is_quoted && field.contains("\"\"") { field.replace("\"\"", "\"").into() } else { field.into() }
}

const TOO_MANY_LABELS: &str = "too many labels";

/// Returns the index of the labels contained in a line; `NO_LABELS` if one of them is empty.
fn own_labels(
    remembered: &mut HashMap<String, u32>,
    own: &mut Vec<Labels>,
    columns: &[(usize, String)],
    values: &[Cow<'_, str>],
) -> Result<u32, &'static str> {
    if values.iter().any(|value| value.is_empty()) {
        return Ok(NO_LABELS);
    }
    let key = values.join("\u{1f}");
    if let Some(&number) = remembered.get(&key) {
        return Ok(number);
    }
    if own.len() >= MOST_LABELS {
        return Err(TOO_MANY_LABELS);
    }
    let number = own.len() as u32;
    own.push(columns.iter().zip(values).map(|((_, column), value)| (column.clone(), value.to_string())).collect());
    remembered.insert(key, number);
    Ok(number)
}

/// Reads a line without its terminator into `bytes`, which is empty only at the end of the file. Returns false if the
/// line is too long; then all of it is skipped.
fn read_line(input: &mut BufReader<Box<dyn Read + Send>>, bytes: &mut Vec<u8>) -> std::io::Result<bool> {
    bytes.clear();
    input.by_ref().take(LONGEST_LINE).read_until(b'\n', bytes)?;
    let whole = bytes.last() == Some(&b'\n') || (bytes.len() as u64) < LONGEST_LINE;
    if !whole {
        loop {
            let available = input.fill_buf()?;
            let (length, last) = match available.iter().position(|&byte| byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (available.len(), available.is_empty()),
            };
            input.consume(length);
            if last {
                break;
            }
        }
    }
    Ok(whole)
}

fn columns(rules: &FlowLabelRules, headers: &[&str]) -> Result<Columns, String> {
    if headers.first().is_some_and(|first| first.starts_with('#')) {
        return Err(format!(
            "the header begins with `{}`: Zeek logs have their header in comments; convert it to a table with \
             `zeek-cut -c` or to JSON, and name its columns",
            headers[0]
        ));
    }
    let find = |name: &str| {
        let mut places = headers.iter().enumerate().filter(|(_, header)| **header == name).map(|(place, _)| place);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (Some(_), Some(_)) => Err(format!("column `{name}` occurs twice in the header; rename one of the two")),
            (None, _) => {
                let near = nearest(name, headers.iter().copied()).unwrap_or_default();
                Err(format!("no column `{name}` in the header; the most similar is `{near}`"))
            }
        }
    };
    match &rules.format {
        Format::CtuBinetflow => Ok(Columns {
            start: find("StartTime")?,
            end: None,
            duration: Some(find("Dur")?),
            transport: find("Proto")?,
            source: (find("SrcAddr")?, find("Sport")?),
            destination: (find("DstAddr")?, find("Dport")?),
            label: Some(find("Label")?),
            capture: None,
            labels: Vec::new(),
        }),
        Format::Csv(named) => {
            let optional = |name: &Option<String>| name.as_deref().map(find).transpose();
            let mut labels = Vec::new();
            if named.label.is_none() {
                for column in &rules.label_columns {
                    if headers.contains(&column.as_str()) {
                        labels.push((find(column)?, column.clone()));
                    }
                }
                if labels.is_empty() {
                    return Err(format!(
                        "no label column in the header; expected {}",
                        rules.label_columns.join(" or ")
                    ));
                }
            }
            Ok(Columns {
                start: find(&named.start)?,
                end: optional(&named.end)?,
                duration: optional(&named.duration)?,
                transport: find(&named.transport)?,
                source: (find(&named.source_address)?, find(&named.source_port)?),
                destination: (find(&named.destination_address)?, find(&named.destination_port)?),
                label: optional(&named.label)?,
                capture: optional(&named.capture)?,
                labels,
            })
        }
    }
}
