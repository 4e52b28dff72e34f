//! Tables of features with a header line, as written by flow meters, pandas and spreadsheets: separated by commas,
//! semicolons or tabs.
//!
//! Files are long, so blocks of lines are parsed in parallel until the first quote: within quotes, a line break need
//! not end a row, so from there on lines are read sequentially. Rows, errors and notes are the same either way.

use std::io::{BufRead, Cursor, Read};

use rayon::prelude::*;

use super::FeatureRow;
use super::csv_row::{Table, any_row, plain_row};
use super::csv_text::{Traces, column_names, separator, text_of};
use super::number::plain_number;
use super::rows::{Fault, KnownLabels, Named, OneFile, Role, Rows, label_columns};
use super::rules::FeatureFormat;
use super::zeek::{ZeekHeader, read_objects};
use crate::foreign::foreign_kind;

/// Bytes per block that a thread reads.
const BLOCK: usize = 1 << 20;

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
