//! Reads text files line by line, with a limit on line length.

use std::io::{BufRead, Read};

use super::Fault;

/// Maximum length of a line in bytes.
const LONGEST_LINE: u64 = 1 << 20;

/// Calls `each` with every non-empty line, trimmed of whitespace, and its number, starting at 1.
///
/// # Errors
/// The file cannot be read, a line is too long or not UTF-8, or `each` returns an error.
pub(super) fn each_line(
    mut input: impl BufRead,
    each: &mut dyn FnMut(u64, &str) -> Result<(), String>,
) -> Result<(), Fault> {
    let mut buffer = Vec::new();
    let mut number = 0;
    loop {
        buffer.clear();
        number += 1;
        let fault = |message: String| Fault::at(format_args!("line {number}"), message);
        let count = (&mut input).take(LONGEST_LINE + 1).read_until(b'\n', &mut buffer);
        let count = count.map_err(|error| fault(error.to_string()))?;
        if count == 0 {
            return Ok(());
        }
        if count as u64 > LONGEST_LINE {
            return Err(fault(format!("the line is longer than {LONGEST_LINE} bytes")));
        }
        let line = buffer.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1).unwrap_or(&buffer).trim_ascii();
        let text = std::str::from_utf8(line).map_err(|_| fault("it is not UTF-8".to_owned()))?;
        if !text.is_empty() {
            each(number, text).map_err(fault)?;
        }
    }
}
