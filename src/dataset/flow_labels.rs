//! Labels of single flows from bidirectional netflow files, as CTU-13 publishes them: a capture's flows
//! are joined to the lines of its file by five-tuple, in either direction, and by time.
//!
//! Format: Argus `ra` output with a header line, separated by commas or tabs, columns found by name
//! (`StartTime`, `Dur`, `Proto`, `SrcAddr`, `Sport`, `DstAddr`, `Dport`, `Label`; others are not read).

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use globset::GlobSet;
use regex::Regex;

use super::definition::{FlowLabelsSection, globs};
use super::error::DatasetError;
use super::labelled::Labels;
use super::rules::known_column;
use crate::capture::Transport;
use crate::declarative::nearest;
use crate::flow::Flow;

/// Formats that `flow_labels.format` may name.
const FORMATS: [&str; 1] = ["ctu_binetflow"];
const NANOSECONDS: f64 = 1e9;

/// `[flow_labels]`, compiled.
#[derive(Debug, Clone)]
pub(super) struct FlowLabelRules {
    pub files: GlobSet,
    /// Local time minus universal time, nanoseconds.
    utc_offset: i64,
    tolerance: i64,
    rules: Vec<(Regex, Labels)>,
}

impl FlowLabelRules {
    pub fn new(columns: &[String], section: &FlowLabelsSection) -> Result<Self, String> {
        if !FORMATS.contains(&section.format.as_str()) {
            return Err(format!("`flow_labels.format` is `{}`; known: {}", section.format, FORMATS.join(", ")));
        }
        let utc_offset = parse_offset(&section.utc_offset)
            .ok_or_else(|| format!("`flow_labels.utc_offset` is `{}`; write it as +02:00", section.utc_offset))?;
        if !(0.0..=86_400.0).contains(&section.tolerance_seconds) {
            return Err("`flow_labels.tolerance_seconds` must be from 0 to 86400".to_owned());
        }
        let mut rules = Vec::new();
        for (index, rule) in section.rule.iter().enumerate() {
            let place = format!("[[flow_labels.rule]] number {}", index + 1);
            let regex =
                Regex::new(&rule.label).map_err(|_| format!("{place}: `{}` is no regular expression", rule.label))?;
            if rule.labels.is_empty() {
                return Err(format!("{place} gives no label"));
            }
            for column in rule.labels.keys() {
                known_column(column, columns).map_err(|message| format!("{place}: {message}"))?;
            }
            rules.push((regex, rule.labels.clone()));
        }
        if rules.is_empty() || rules.len() >= usize::from(NO_RULE) {
            return Err("[[flow_labels.rule]]: at least one and fewer than 65535 are needed".to_owned());
        }
        Ok(Self {
            files: globs([section.pattern.as_str()])?,
            utc_offset,
            tolerance: (section.tolerance_seconds * NANOSECONDS) as i64,
            rules,
        })
    }
}

/// What joins a capture to its label file: the file name up to the first dot, in lower case.
pub(super) fn join_name(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split('.').next().unwrap_or(name).to_lowercase()
}

fn parse_offset(text: &str) -> Option<i64> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..=14).contains(&hours) && (0..60).contains(&minutes)).then(|| sign * (hours * 60 + minutes) * 60_000_000_000)
}

/// `2011/08/10 09:46:53.047277` to nanoseconds since the Unix epoch, without regard to time zones.
fn parse_time(text: &str) -> Option<i64> {
    let (date, time) = text.trim().split_once(' ')?;
    let mut date = date.splitn(3, '/').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let in_range = (1970..2262).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !in_range || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: i64 = format!("{fraction:0<9}").parse().ok()?;
    // Days since 1970-01-01 of a Gregorian date, counting years from March so that leap days end them.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    (((days * 24 + hour) * 60 + minute) * 60 + second).checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// Both endpoints in ascending order, so that the direction does not matter.
type Key = ((u32, u16), (u32, u16), Transport);
const NO_RULE: u16 = u16::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    key: Key,
    start: i64,
    end: i64,
    rule: u16,
}

/// What a flow is, by its label file.
#[derive(Debug, PartialEq)]
pub(super) enum Joined<'a> {
    /// The labels of its line.
    Labels(&'a Labels),
    /// Its line's label is one that no rule uses.
    Unused,
    /// Lines that overlap it disagree.
    Ambiguous,
    /// No line has its five-tuple and time.
    Unjoined,
}

/// The lines of one label file by five-tuple. About 40 bytes of memory a line.
#[derive(Debug)]
pub(super) struct FlowLabelIndex<'a> {
    rules: &'a FlowLabelRules,
    addresses: HashMap<IpAddr, u32>,
    lines: Vec<Line>,
    /// Lines of TCP or UDP that could not be understood.
    pub malformed: u64,
}

impl<'a> FlowLabelIndex<'a> {
    /// Reads a label file, line by line.
    pub fn read(path: &Path, rules: &'a FlowLabelRules) -> Result<Self, DatasetError> {
        let file = path.display().to_string();
        let io = |source| DatasetError::Io { path: file.clone(), source };
        let mut input = BufReader::new(std::fs::File::open(path).map_err(io)?);
        // The separator is whichever the header line has; a label file's header is short.
        let head = input.fill_buf().map_err(io)?;
        let tabs = head.split(|byte| *byte == b'\n').next().is_some_and(|line| line.contains(&b'\t'));
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(if tabs { b'\t' } else { b',' })
            .flexible(true)
            .quoting(false)
            .trim(csv::Trim::All)
            .from_reader(input);
        let fault = |line: u64, message: String| DatasetError::FlowLabels { file: file.clone(), line, message };
        let headers = reader.headers().map_err(|error| fault(1, error.to_string()))?.clone();
        let mut columns = [0; 8];
        let names = ["StartTime", "Dur", "Proto", "SrcAddr", "Sport", "DstAddr", "Dport", "Label"];
        for (column, name) in columns.iter_mut().zip(names) {
            *column = headers.iter().position(|header| header == name).ok_or_else(|| {
                let near = nearest(name, headers.iter()).unwrap_or_default();
                fault(1, format!("no column `{name}` in the header; the nearest is `{near}`"))
            })?;
        }
        let mut index = Self { rules, addresses: HashMap::new(), lines: Vec::new(), malformed: 0 };
        let mut record = csv::StringRecord::new();
        while reader
            .read_record(&mut record)
            .map_err(|error| fault(error.position().map_or(0, csv::Position::line), error.to_string()))?
        {
            let transport = match record.get(columns[2]) {
                Some("tcp") => Transport::Tcp,
                Some("udp") => Transport::Udp,
                _ => continue,
            };
            match index.line(&record, &columns, transport) {
                Some(line) => index.lines.push(line),
                None => index.malformed += 1,
            }
        }
        index.lines.sort_unstable();
        Ok(index)
    }

    fn line(&mut self, record: &csv::StringRecord, columns: &[usize; 8], transport: Transport) -> Option<Line> {
        let field = |index: usize| record.get(columns[index]);
        let start = parse_time(field(0)?)?.checked_sub(self.rules.utc_offset)?;
        let duration: f64 = field(1)?.parse().ok()?;
        if !(0.0..1e9).contains(&duration) {
            return None;
        }
        let end = start.checked_add((duration * NANOSECONDS) as i64)?;
        let source = SocketAddr::new(field(3)?.parse().ok()?, field(4)?.parse().ok()?);
        let destination = SocketAddr::new(field(5)?.parse().ok()?, field(6)?.parse().ok()?);
        let label = field(7)?;
        let rule = self.rules.rules.iter().position(|(regex, _)| regex.is_match(label));
        let rule = rule.map_or(NO_RULE, |rule| rule as u16);
        let mut number = |endpoint: SocketAddr| {
            let next = self.addresses.len() as u32;
            (*self.addresses.entry(endpoint.ip()).or_insert(next), endpoint.port())
        };
        let (source, destination) = (number(source), number(destination));
        Some(Line { key: (source.min(destination), source.max(destination), transport), start, end, rule })
    }

    /// Finds what the file says of a flow.
    pub fn join(&self, flow: &Flow) -> Joined<'a> {
        let number = |endpoint: SocketAddr| Some((*self.addresses.get(&endpoint.ip())?, endpoint.port()));
        let tuple = flow.five_tuple;
        let (Some(source), Some(destination)) = (number(tuple.source), number(tuple.destination)) else {
            return Joined::Unjoined;
        };
        let key = (source.min(destination), source.max(destination), tuple.transport);
        let first = self.lines.partition_point(|line| line.key < key);
        let tolerance = self.rules.tolerance;
        let mut found: Option<u16> = None;
        for line in self.lines[first..].iter().take_while(|line| line.key == key) {
            let overlaps =
                line.start.saturating_sub(tolerance) <= flow.end && flow.start <= line.end.saturating_add(tolerance);
            match found {
                _ if !overlaps => {}
                None => found = Some(line.rule),
                Some(rule) if rule != line.rule => return Joined::Ambiguous,
                Some(_) => {}
            }
        }
        match found {
            None => Joined::Unjoined,
            Some(NO_RULE) => Joined::Unused,
            Some(rule) => Joined::Labels(&self.rules.rules[usize::from(rule)].1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::definition::FlowLabelRuleSection;
    use crate::flow::FiveTuple;

    fn rules(label: &str, offset: &str) -> FlowLabelRules {
        let section = FlowLabelsSection {
            pattern: "**/*.binetflow".to_owned(),
            format: "ctu_binetflow".to_owned(),
            utc_offset: offset.to_owned(),
            tolerance_seconds: 1.0,
            rule: vec![FlowLabelRuleSection {
                label: label.to_owned(),
                labels: Labels::from([("traffic".to_owned(), "botnet".to_owned())]),
            }],
        };
        FlowLabelRules::new(&["traffic".to_owned()], &section).unwrap()
    }

    fn flow(source: &str, destination: &str, start: i64, end: i64) -> Flow {
        let five_tuple = FiveTuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            transport: Transport::Tcp,
        };
        Flow { five_tuple, start, end, packets: Vec::new(), statistics: Vec::new() }
    }

    #[test]
    fn times_and_offsets() {
        assert_eq!(parse_time("1970/01/01 01:00:00.000000"), Some(3_600_000_000_000));
        assert_eq!(parse_time("2000/02/29 00:00:00"), Some(951_782_400_000_000_000));
        assert_eq!(parse_time("2011/08/10 09:46:53.047277"), Some(1_312_969_613_047_277_000));
        assert_eq!(parse_time("2011/13/10 09:46:53"), None);
        assert_eq!(parse_offset("+02:00"), Some(7_200_000_000_000));
        assert_eq!(parse_offset("02:00"), None);
    }

    #[test]
    fn flows_join_in_either_direction_within_their_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.binetflow");
        let text = "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,Label\n\
            1970/01/01 02:00:10.5,2.0,tcp,10.0.0.1,1000,   ->,10.0.0.2,80,S,flow=From-Botnet-V42\n\
            1970/01/01 02:05:00.0,2.0,tcp,10.0.0.1,1000,   ->,10.0.0.2,80,S,flow=Background\n\
            1970/01/01 02:05:00.0,2.0,tcp,nonsense,1000,   ->,10.0.0.2,80,S,flow=Background\n\
            1970/01/01 02:05:00.0,2.0,icmp,10.0.0.1,0x0008,   ->,10.0.0.2,,S,flow=Background\n";
        std::fs::write(&path, text).unwrap();
        let rules = rules("From-Botnet", "+02:00");
        let index = FlowLabelIndex::read(&path, &rules).unwrap();
        assert_eq!((index.lines.len(), index.malformed), (2, 1));
        let (client, server) = ("10.0.0.1:1000", "10.0.0.2:80");
        let second = 1_000_000_000;
        assert!(matches!(index.join(&flow(client, server, 10 * second, 11 * second)), Joined::Labels(_)));
        assert!(matches!(index.join(&flow(server, client, 13 * second, 20 * second)), Joined::Labels(_)));
        assert_eq!(index.join(&flow(server, client, 14 * second, 20 * second)), Joined::Unjoined);
        assert_eq!(index.join(&flow(client, server, 301 * second, 302 * second)), Joined::Unused);
        assert_eq!(index.join(&flow(client, server, 11 * second, 302 * second)), Joined::Ambiguous);
        assert_eq!(index.join(&flow(client, "10.0.0.9:80", 11 * second, 12 * second)), Joined::Unjoined);
    }

    #[test]
    fn published_files_of_every_variant_are_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/ctu-binetflow");
        if !folder.is_dir() {
            eprintln!("skipped: {} is missing", folder.display());
            return;
        }
        let rules = rules("Malware", "+01:00");
        let counts: Vec<(usize, usize)> = ["test2-malicious", "test3-mixed", "test4-malicious", "test5-mixed"]
            .into_iter()
            .map(|name| {
                let index = FlowLabelIndex::read(&folder.join(format!("{name}.binetflow")), &rules).unwrap();
                (index.lines.len(), index.lines.iter().filter(|line| line.rule != NO_RULE).count())
            })
            .collect();
        // Labels counted with awk, over the lines of TCP or UDP.
        assert_eq!(counts[3].1, 277);
        assert_eq!((counts[0].1, counts[1].1, counts[2].1), (0, 0, 0));
        assert!(counts[0].0 > 6000 && counts[1].0 > 50 && counts[2].0 > 300, "{counts:?}");
    }
}
