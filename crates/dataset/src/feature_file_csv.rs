//! Tables of features with a header line, as written by flow meters, pandas and spreadsheets: separated by commas,
//! semicolons or tabs.
//!
//! Artifacts of these programs are handled and reported: a byte order mark, CR LF, the unnamed index column that pandas
//! writes first, duplicate names, header lines in the middle, empty rows, separators at the end of rows, decimal commas
//! (if the separator is not a comma), and windows-1252 if the text is not UTF-8.
//!
//! Files are long, so blocks of lines are parsed in parallel until the first quote: within quotes, a line break need
//! not end a row, so from there on lines are read sequentially. Rows, errors and notes are the same either way.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, Cursor, Read};

use rayon::prelude::*;

use super::feature_file::{
    Fault, FeatureFormat, FeatureRow, KnownLabels, MISSING, NOT_FINITE, Named, OneFile, Role, Rows, label_columns,
    single,
};
use super::feature_file_number::plain_number;
use super::feature_file_zeek::{ZeekHeader, boolean, read_objects};
use super::foreign::foreign_kind;
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
fn separator(input: &mut impl BufRead) -> std::io::Result<u8> {
    let start = input.fill_buf()?;
    let line = &start[..start.iter().position(|&byte| byte == b'\n').unwrap_or(start.len())];
    let other = [b';', b'\t'].into_iter().find(|byte| line.contains(byte));
    Ok(other.filter(|_| !line.contains(&b',')).unwrap_or(b','))
}

/// Names the columns of a header as pandas does: an unnamed column, which pandas writes for its index, is `Unnamed: 0`
/// by its position, and the second column with a name gets the suffix `.1`.
fn column_names(header: &[String]) -> Vec<String> {
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
struct Traces {
    headers: u64,
    empty_rows: u64,
    separators: u64,
    decimal_commas: u64,
    windows_1252: u64,
    index: bool,
    totals: bool,
}

impl Traces {
    fn add(&mut self, other: &Traces) {
        self.headers += other.headers;
        self.empty_rows += other.empty_rows;
        self.separators += other.separators;
        self.decimal_commas += other.decimal_commas;
        self.windows_1252 += other.windows_1252;
    }

    fn notes(&self) -> Vec<String> {
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

/// Bytes per block that a thread reads.
const BLOCK: usize = 1 << 20;

/// The layout of a table, from its header.
struct Table<'a> {
    separator: u8,
    /// The header's fields, trimmed of whitespace.
    header: Vec<Vec<u8>>,
    /// The names of the columns, without unnamed columns at the end of the header.
    columns: Vec<&'a str>,
    roles: Vec<Role>,
    /// The label columns.
    labels: Vec<&'a str>,
    features: usize,
    /// Whether some feature name is not a number, so that a repeated header line cannot be a row of numbers.
    names_are_words: bool,
    /// For Zeek's logs, their header; their lines with `#` are comments, and quotes have no meaning.
    zeek: Option<ZeekHeader>,
}

impl Table<'_> {
    /// Checks a line that is not part of the table; returns `None` if it is.
    fn comment(&self, line: &[u8]) -> Option<Result<(), String>> {
        self.zeek.as_ref().filter(|_| line.first() == Some(&b'#')).map(|zeek| zeek.check(line))
    }

    /// Whether a field has no value.
    fn is_unset(&self, field: &[u8]) -> bool {
        self.zeek.as_ref().is_some_and(|zeek| zeek.is_unset(field))
    }

    /// Parses a field as a number.
    fn number(&self, field: &[u8], traces: &mut Traces) -> Option<f64> {
        match &self.zeek {
            Some(_) => boolean(field).or_else(|| number(field, b',', traces)),
            None => number(field, self.separator, traces),
        }
    }

    /// Whether a line ends the table: nfdump writes totals after it.
    fn is_end(&self, line: &[u8]) -> bool {
        line.trim_ascii_end() == b"Summary" && self.columns.len() > 1
    }
}

/// Rows parsed from some lines, and the error that ended parsing, with its line number relative to these lines.
#[derive(Default)]
struct Part {
    rows: Vec<FeatureRow>,
    lines: u64,
    traces: Traces,
    fault: Option<Fault>,
    /// Whether the table ended.
    ended: bool,
}

/// Reads the rows of a table.
pub(super) fn read(mut input: impl BufRead, mut rows: Rows<'_>) -> Result<OneFile, Fault> {
    let unreadable = |error: std::io::Error| (0, error.to_string());
    let start = input.fill_buf().map_err(unreadable)?;
    if start.is_empty() {
        return Err((1, "the file is empty".to_owned()));
    }
    if let Some(told) = foreign_kind(start) {
        return Err((1, told.to_owned()));
    }
    let is_zeek = rows.rules.format == FeatureFormat::Zeek;
    if is_zeek && input.fill_buf().map_err(unreadable)?.trim_ascii_start().first() == Some(&b'{') {
        return read_objects(&mut input, rows);
    }
    let comma_or_other = separator(&mut input).map_err(unreadable)?;
    let mut block = Vec::new();
    next_block(&mut input, &mut block).map_err(unreadable)?;
    let zeek = ZeekHeader::parse(&block)?;
    match &zeek {
        Some(_) if !is_zeek => {
            return Err((1, "it is a log of Zeek; set format = \"zeek\" in [features]".to_owned()));
        }
        None if is_zeek => {
            let problem = "it does not begin with #separator or a JSON object, as logs of Zeek do";
            return Err((1, format!("{problem}; tables of zeek-cut are read with format = \"csv\"")));
        }
        _ => {}
    }
    let separator = zeek.as_ref().map_or(comma_or_other, |zeek| zeek.separator);
    let (record, after) = loop {
        if let Some(zeek) = &zeek {
            break (csv::ByteRecord::from(zeek.names.clone()), zeek.bytes);
        }
        let (record, after) = first_record(&block, separator)?;
        let known = block.len();
        // A quoted name may contain line breaks and continue past the end of the block.
        if after < known || !block.contains(&b'"') {
            break (record, after);
        }
        next_block(&mut input, &mut block).map_err(unreadable)?;
        if block.len() == known {
            break (record, after);
        }
    };
    let lines_before = block[..after].iter().filter(|&&byte| byte == b'\n').count() as u64;
    let header: Vec<Vec<u8>> = record.iter().map(|field| field.trim_ascii().to_vec()).collect();
    if header.iter().any(|name| has_lone_return(name)) {
        let problem = "its line ends are CR only; convert them to LF, such as by: tr '\\r' '\\n' < OLD.csv > NEW.csv";
        return Err((1, problem.to_owned()));
    }
    let names = header.iter().map(|field| text_of(field).0.trim_start_matches('\u{feff}').trim().to_owned());
    let mut names: Vec<String> = names.collect();
    // A separator at the end of the header and of each row creates a column without a name or values.
    while names.len() > 1 && names.last().is_some_and(String::is_empty) {
        names.pop();
    }
    let columns = column_names(&names);
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    rows.check(&columns, names.iter().any(String::is_empty)).map_err(|problem| (1, problem))?;
    let role = |(column, name): (&&str, &String)| {
        let unnamed = (name.is_empty() && rows.leaves_out_unnamed()).then_some(Role::LeftOut);
        rows.role(column).or(unnamed).unwrap_or(Role::Number)
    };
    let mut roles: Vec<Role> = columns.iter().zip(&names).map(role).collect();
    let mut traces = Traces::default();
    if names[0].is_empty() && matches!(roles[0], Role::Number) && roles.len() > 1 {
        roles[0] = Role::LeftOut;
        traces.index = true;
    }
    let features = columns.iter().zip(&roles).filter(|(_, role)| matches!(role, Role::Number));
    let features: Vec<String> = features.map(|(column, _)| (*column).to_owned()).collect();
    let names_are_words = header.iter().zip(&roles).any(|(name, role)| matches!(role, Role::Number) && !is_plain(name));
    let labels = label_columns(&columns, &roles);
    let table = Table { separator, header, columns, roles, labels, features: features.len(), names_are_words, zeek };

    block.drain(..after);
    let mut line = 1 + lines_before;
    // Reuse the memory of the blocks.
    let mut blocks = vec![block];
    blocks.resize_with(rayon::current_num_threads(), Vec::new);
    loop {
        // The first of the initial blocks is already filled.
        for block in blocks.iter_mut().filter(|block| block.is_empty()) {
            next_block(&mut input, block).map_err(unreadable)?;
        }
        let plain = blocks.iter().take_while(|block| table.zeek.is_some() || !block.contains(&b'"')).count();
        let parts: Vec<Part> = blocks[..plain].par_iter().map(|block| plain_lines(&table, &rows, block)).collect();
        for part in parts {
            let ended = part.ended;
            line += take(part, line, &mut rows, &mut traces)?;
            if ended {
                traces.totals = true;
                break;
            }
        }
        if traces.totals {
            break;
        }
        if plain < blocks.len() {
            let rest: Vec<u8> = blocks.drain(plain..).flatten().collect();
            quoted_lines(&table, &mut rows, &mut traces, Cursor::new(rest).chain(input), line)?;
            break;
        }
        if blocks.iter().any(Vec::is_empty) {
            break;
        }
        blocks.iter_mut().for_each(Vec::clear);
    }
    rows.notes.extend(traces.notes());
    rows.finish(features)
}

/// Returns whether a name contains a carriage return that is not part of a line break in quotes.
fn has_lone_return(name: &[u8]) -> bool {
    name.iter().enumerate().any(|(place, &byte)| byte == b'\r' && name.get(place + 1) != Some(&b'\n'))
}

/// Returns whether a name is a number.
fn is_plain(name: &[u8]) -> bool {
    plain_number(name).is_some_and(|(_, length)| length == name.len())
}

/// Adds the rows of a part that starts at line `first`, then returns its error, if any, or its number of lines.
fn take(part: Part, first: u64, rows: &mut Rows<'_>, traces: &mut Traces) -> Result<u64, Fault> {
    rows.add_all(part.rows).map_err(|problem| (first, problem))?;
    traces.add(&part.traces);
    match part.fault {
        Some((line, problem)) => Err((first + line, problem)),
        None => Ok(part.lines),
    }
}

/// Fills a block with whole lines; leaves it unchanged at the end of the file.
fn next_block(input: &mut impl BufRead, block: &mut Vec<u8>) -> std::io::Result<()> {
    block.reserve(BLOCK + BLOCK / 64);
    input.by_ref().take(BLOCK as u64).read_to_end(block)?;
    if block.last().is_some_and(|&byte| byte != b'\n') {
        input.read_until(b'\n', block)?;
    }
    Ok(())
}

fn reader<R: Read>(separator: u8, input: R) -> csv::Reader<R> {
    csv::ReaderBuilder::new()
        .delimiter(separator)
        .terminator(csv::Terminator::Any(b'\n'))
        .has_headers(false)
        .flexible(true)
        .from_reader(input)
}

/// Converts an error of the csv reader; `first` is the line number of the text's first line.
fn told(error: &csv::Error, first: u64) -> Fault {
    let line = error.position().map_or(0, |position| first - 1 + position.line());
    (line, error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Returns the first record of a text, and the position of the next one.
fn first_record(text: &[u8], separator: u8) -> Result<(csv::ByteRecord, usize), Fault> {
    let mut reader = reader(separator, text);
    let mut record = csv::ByteRecord::new();
    reader.read_byte_record(&mut record).map_err(|error| told(&error, 1))?;
    if record.iter().any(|field| field.contains(&0)) {
        return Err((1, "the file is UTF-16 or not text; save it as CSV in UTF-8".to_owned()));
    }
    if record.is_empty() {
        record.push_field(b"");
    }
    Ok((record, usize::try_from(reader.position().byte()).unwrap_or(usize::MAX).min(text.len())))
}

/// Reads lines without quotes.
fn plain_lines(table: &Table<'_>, rows: &Rows<'_>, lines: &[u8]) -> Part {
    let mut part = Part::default();
    let mut known = KnownLabels::new();
    let mut named = Named::default();
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        let number = part.lines;
        part.lines += 1;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        if let Some(checked) = table.comment(line) {
            if let Err(problem) = checked {
                part.fault = Some((number, problem));
                break;
            }
            continue;
        }
        if table.is_end(line) {
            part.ended = true;
            break;
        }
        let row = match plain_row(table, rows, line, &mut named, &mut known) {
            Some(row) => row.map(Some),
            None => {
                let fields = line.split(|&byte| byte == table.separator);
                any_row(table, rows, fields, &mut part.traces, &mut known)
            }
        };
        match row {
            Ok(Some(row)) => part.rows.push(row),
            Ok(None) => {}
            Err(problem) => {
                part.fault = Some((number, problem));
                break;
            }
        }
    }
    part
}

/// Reads lines that may contain quoted fields sequentially; `first` is the number of the first line.
fn quoted_lines(
    table: &Table<'_>,
    rows: &mut Rows<'_>,
    traces: &mut Traces,
    input: impl Read,
    first: u64,
) -> Result<(), Fault> {
    let mut reader = reader(table.separator, input);
    let mut record = csv::ByteRecord::new();
    let mut known = KnownLabels::new();
    while reader.read_byte_record(&mut record).map_err(|error| told(&error, first))? {
        let line = record.position().map_or(0, |position| first - 1 + position.line());
        if record.len() == 1 && table.is_end(&record[0]) {
            traces.totals = true;
            break;
        }
        let row = any_row(table, rows, record.iter(), traces, &mut known).map_err(|problem| (line, problem))?;
        if let Some(row) = row {
            rows.add(row).map_err(|problem| (line, problem))?;
        }
    }
    Ok(())
}

/// Parses a typical row: as many fields as columns, plain numbers for all features, and UTF-8. Returns `None` for all
/// other rows.
fn plain_row(
    table: &Table<'_>,
    rows: &Rows<'_>,
    line: &[u8],
    named: &mut Named,
    known: &mut KnownLabels,
) -> Option<Result<FeatureRow, String>> {
    if !table.names_are_words {
        return None;
    }
    let mut rest = Some(line.strip_suffix(b"\r").unwrap_or(line));
    let mut values = Vec::with_capacity(table.features);
    let (mut labels, mut groups) = (0, 0);
    for role in &table.roles {
        let text = rest?;
        if let Role::Number = role {
            let (number, length) = plain_number(text)?;
            rest = match text.get(length) {
                None => None,
                Some(&byte) if byte == table.separator => Some(&text[length + 1..]),
                Some(_) => return None,
            };
            let single = number as f32;
            values.push(Some(single).filter(|single| single.is_finite())?);
            continue;
        }
        let end = text.iter().position(|&byte| byte == table.separator);
        let field = std::str::from_utf8(text[..end.unwrap_or(text.len())].trim_ascii()).ok()?;
        rest = end.map(|end| &text[end + 1..]);
        match role {
            Role::Label => set(&mut named.labels, &mut labels, field),
            Role::Group => set(&mut named.group, &mut groups, field),
            Role::Endpoint(place) => field.clone_into(&mut named.endpoints[*place]),
            Role::LeftOut | Role::OneOf(_) | Role::Number => {}
        }
    }
    if rest.is_some() {
        return None;
    }
    Some(rows.make(values, &table.labels, named, known))
}

/// Stores a text at the next position of a list, reusing its memory for every row.
fn set(list: &mut Vec<String>, place: &mut usize, text: &str) {
    match list.get_mut(*place) {
        Some(old) => text.clone_into(old),
        None => list.push(text.to_owned()),
    }
    *place += 1;
}

/// Parses any row; returns `None` for a line that is not a row.
fn any_row<'f>(
    table: &Table<'_>,
    rows: &Rows<'_>,
    fields: impl Iterator<Item = &'f [u8]> + Clone,
    traces: &mut Traces,
    known: &mut KnownLabels,
) -> Result<Option<FeatureRow>, String> {
    let count = fields.clone().count();
    if fields.clone().all(|field| field.trim_ascii().is_empty()) {
        // A completely empty line is not a row.
        traces.empty_rows += u64::from(count > 1);
        return Ok(None);
    }
    if count == table.header.len() && fields.clone().zip(&table.header).all(|(field, name)| field.trim_ascii() == name)
    {
        traces.headers += 1;
        return Ok(None);
    }
    let named_columns = table.columns.len();
    if count < named_columns {
        return Err(format!("{count} values for {named_columns} columns"));
    }
    if count > named_columns {
        if let Some(more) = fields.clone().skip(named_columns).find(|field| !field.trim_ascii().is_empty()) {
            let more: String = text_of(more).0.chars().take(60).collect();
            return Err(format!("{count} values for {named_columns} named columns: `{more}` has no column"));
        }
        traces.separators += 1;
    }
    let mut values = Vec::with_capacity(table.features);
    let mut named = Named::default();
    for ((field, role), column) in fields.zip(&table.roles).zip(&table.columns) {
        let field = field.trim_ascii();
        let mut text = || {
            let (text, is_utf8) = text_of(field);
            traces.windows_1252 += u64::from(!is_utf8);
            text.into_owned()
        };
        match role {
            Role::Label => named.labels.push(text()),
            Role::Endpoint(place) => named.endpoints[*place] = text(),
            Role::Group => named.group.push(text()),
            Role::LeftOut | Role::OneOf(_) => {}
            Role::Number => values.push(match table.number(field, traces) {
                Some(number) if number.is_finite() => single(number)?,
                Some(_) => rows.missing(column, NOT_FINITE)?,
                None if field.is_empty() || field == b"?" || table.is_unset(field) => rows.missing(column, MISSING)?,
                None => {
                    let start: String = text_of(field).0.chars().take(60).collect();
                    let decimal_comma = start.contains(',') && start.replace(',', ".").parse::<f64>().is_ok();
                    let what = if decimal_comma { " (a decimal comma? use a point)" } else { "" };
                    return Err(format!(
                        "`{column}`: `{start}` is not a number{what}; or list the column in `leave_out`"
                    ));
                }
            }),
        }
    }
    rows.make(values, &table.labels, &named, known).map(Some)
}

/// Parses a field as a number. A single comma counts as a decimal comma if the separator is another character and there
/// is no decimal point.
fn number(field: &[u8], separator: u8, traces: &mut Traces) -> Option<f64> {
    let text = std::str::from_utf8(field).ok()?;
    if let Ok(number) = text.parse::<f64>() {
        return Some(number);
    }
    if separator == b',' || text.contains('.') || text.bytes().filter(|&byte| byte == b',').count() != 1 {
        return None;
    }
    let number = text.replace(',', ".").parse::<f64>().ok()?;
    traces.decimal_commas += 1;
    Some(number)
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
