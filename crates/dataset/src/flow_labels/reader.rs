//! Reads a file of flow labels line by line, in memory that does not depend on the file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;

use super::line::{Key, Line, NO_LABELS, fields, port, transport};
use super::time::{advice, duration};
use super::{FlowLabelRules, Format};
use crate::error::DatasetError;
use crate::labelled::Labels;
use crate::names::folded;
use crate::rules::capture_stem;
use etcbench_capture::{ExpansionLimits, decompress};
use etcbench_storage::counted;
use etcbench_storage::declarative::nearest;

/// The longest line that is read; the published ones have some 200 bytes.
const LONGEST_LINE: u64 = 1 << 20;
/// How much of a field that is wrong is shown.
const SHOWN_LETTERS: usize = 40;
/// How many malformed lines are named.
const NAMED_LINES: usize = 10;
/// How many different labels are remembered with their rules.
const REMEMBERED_LABELS: usize = 100_000;
/// Different labels of a CSV file: more are no classes.
const MOST_LABELS: usize = 1_000_000;
/// Dur is not longer than this, in nanoseconds (some 31 years).
const LONGEST_DURATION: i64 = 1_000_000_000_000_000_000;

/// Lines of TCP or UDP that could not be understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MalformedLines {
    /// How many.
    pub count: u64,
    /// Numbers of the first ones, from 1, with what is wrong.
    pub first: Vec<(u64, String)>,
}

/// Why a line cannot be used.
struct Fault {
    what: &'static str,
    /// The text that is wrong, where it is one field.
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
        write!(formatter, "{} could not be understood ({}{more})", counted(self.count, "line"), first.join(", "))
    }
}

/// Where the columns of a file are.
struct Columns {
    start: usize,
    end: Option<usize>,
    duration: Option<usize>,
    transport: usize,
    source: (usize, usize),
    destination: (usize, usize),
    label: Option<usize>,
    capture: Option<usize>,
    /// Columns of labels themselves, with the label column.
    labels: Vec<(usize, String)>,
}

/// A file of flow labels being read, for one capture.
pub(super) struct LabelReader<'a> {
    rules: &'a FlowLabelRules,
    applicable: Vec<(usize, &'a regex::Regex)>,
    capture_stem: String,
    file: String,
    input: BufReader<Box<dyn Read + Send>>,
    line: u64,
    bytes: Vec<u8>,
    places: Vec<Range<usize>>,
    separator: u8,
    columns: Columns,
    /// Rule or labels of every label text that was met.
    remembered: HashMap<String, u32>,
    /// The labels of a CSV file, by number.
    own: Vec<Labels>,
    pub malformed: MalformedLines,
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
            return Err(fault("the header is longer than 1 MiB; this is no file of flow labels".to_owned()));
        }
        let head = std::str::from_utf8(&bytes).map_err(|_| fault("the header is not UTF-8 text".to_owned()))?;
        let head = head.strip_prefix('\u{feff}').unwrap_or(head);
        if head.trim().is_empty() {
            return Err(fault("there is no header line".to_owned()));
        }
        let separator = [b'\t', b';'].into_iter().find(|&byte| head.as_bytes().contains(&byte)).unwrap_or(b',');
        let mut places = Vec::new();
        fields(head, separator, &mut places).ok_or_else(|| fault("quotes in the header do not match".to_owned()))?;
        let headers: Vec<&str> = places.iter().map(|place| &head[place.clone()]).collect();
        let columns = columns(rules, &headers).map_err(fault)?;
        Ok(Self {
            rules,
            applicable: rules.rules_for(capture),
            capture_stem: folded(capture_stem(capture)),
            file,
            input,
            line: 1,
            bytes,
            places,
            separator,
            columns,
            remembered: HashMap::new(),
            own: Vec::new(),
            malformed: MalformedLines::default(),
        })
    }

    /// The labels of a number that a line has; nothing for `NO_LABELS`.
    pub(super) fn labels(&self, number: u32) -> Option<&Labels> {
        if self.rules.rules.is_empty() {
            self.own.get(number as usize)
        } else {
            self.rules.rules.get(number as usize).map(|rule| &rule.labels)
        }
    }

    /// The next line that speaks of a flow of TCP or UDP of this capture.
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
                    let message = format!("more than {MOST_LABELS} different labels; name the right columns");
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
        if text.trim().is_empty() {
            return Ok(None);
        }
        fields(text, self.separator, &mut self.places).ok_or("its quotes do not match")?;
        let columns = &self.columns;
        let field = |index: usize| self.places.get(index).map(|place| &text[place.clone()]);
        let wrong = |column: usize, what: &'static str| {
            let text: Option<String> = field(column).map(|text| text.chars().take(SHOWN_LETTERS).collect());
            Fault { what, text: Some(text.unwrap_or_default()), advice: "" }
        };
        let Some(transport) = transport(field(columns.transport).ok_or("it has too few columns")?) else {
            return Ok(None);
        };
        if let Some(capture) = columns.capture
            && folded(capture_stem(field(capture).ok_or("it has too few columns")?)) != self.capture_stem
        {
            return Ok(None);
        }
        let clock = self.rules.clock;
        let time = |column: usize, what: &'static str| {
            let text = field(column).ok_or("it has too few columns")?;
            let no_time = || Fault { advice: advice(text, clock), ..wrong(column, what) };
            clock.parse(text).ok_or_else(no_time)
        };
        let start = time(columns.start, "start is no time")?;
        let end = match (columns.end, columns.duration) {
            (Some(end), _) => time(end, "end is no time")?,
            (None, Some(column)) => {
                let length = field(column).and_then(duration).filter(|&length| length < LONGEST_DURATION);
                let length = length.ok_or_else(|| wrong(column, "duration is no number of seconds"))?;
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
        let source = endpoint(columns.source, ["source is no address", "source port is no number"])?;
        let destination =
            endpoint(columns.destination, ["destination is no address", "destination port is no number"])?;
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

/// A field, of which two quotes inside quotes are one.
fn unquoted<'a>(text: &'a str, place: &Range<usize>) -> Cow<'a, str> {
    let field = &text[place.clone()];
    let is_quoted = place.start > 0 && text.as_bytes()[place.start - 1] == b'"';
    if is_quoted && field.contains("\"\"") { field.replace("\"\"", "\"").into() } else { field.into() }
}

const TOO_MANY_LABELS: &str = "too many labels";

/// The number of the labels that a line itself has; `NO_LABELS` where one of them is empty.
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

/// Reads a line without its end into `bytes`, which stays empty at the end of the file only; false where the line
/// is too long, and then the whole of it is passed over.
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
            "the header begins with `{}`: a Zeek log has its header in comments; write it as a table with `zeek-cut -c` or \
             zeek's JSON, and name its columns",
            headers[0]
        ));
    }
    let find = |name: &str| {
        let mut places = headers.iter().enumerate().filter(|(_, header)| **header == name).map(|(place, _)| place);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (Some(_), Some(_)) => Err(format!("the header has the column `{name}` twice; rename one of the two")),
            (None, _) => {
                let near = nearest(name, headers.iter().copied()).unwrap_or_default();
                Err(format!("no column `{name}` in the header; the nearest is `{near}`"))
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
