//! The text of cells for readers: rounded numbers, p-values, marks of footnotes, and characters made visible.

use super::table::{Cell, Table};
use etcbench_evaluate::Metric;

impl Table {
    /// Returns the text of a cell in Markdown and plain text, with the mark of its footnote.
    pub(super) fn plain(&self, cell: &Cell) -> String {
        let marked = |footnote: &Option<usize>| footnote.map_or(String::new(), |index| format!(" [{}]", mark(index)));
        match cell {
            Cell::Text(text) => visible(text),
            Cell::Number { value, standard_deviation: Some(deviation), decimals, footnote } => {
                format!("{}±{deviation:.decimals$}{}", fixed(*value, *decimals), marked(footnote))
            }
            Cell::Number { value, standard_deviation: None, decimals, footnote } => {
                format!("{}{}", fixed(*value, *decimals), marked(footnote))
            }
            Cell::PValue(value) => p_value(*value),
            Cell::Undefined(footnote) => format!("—{}", marked(footnote)),
            Cell::Absent => String::new(),
        }
    }
}

/// A p-value below this is shown as an upper bound.
const SMALL_P_VALUE: f64 = 0.001;

/// Formats a p-value with three decimals, or as below the smallest that three decimals can show.
pub(super) fn p_value(value: f64) -> String {
    if value < SMALL_P_VALUE { format!("< {SMALL_P_VALUE}") } else { format!("{value:.3}") }
}

/// Formats a number with this many decimals; one that rounds to zero has no sign.
pub(super) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(size) if !size.contains(|character| matches!(character, '1'..='9')) && value.is_finite() => {
            size.to_owned()
        }
        _ => text,
    }
}

/// Returns the number of decimals for a metric's value, given in its display unit.
pub(super) fn decimals(metric: Metric, value: f64) -> usize {
    metric.unit.decimals.unwrap_or_else(|| significant_decimals(value))
}

/// Returns the number of decimals for three significant digits, at most three.
pub(super) fn significant_decimals(value: f64) -> usize {
    match value {
        _ if value >= 100.0 => 0,
        _ if value >= 10.0 => 1,
        _ if value >= 1.0 => 2,
        _ => 3,
    }
}

/// Returns the mark of a footnote: a to z, then aa, ab, ...
pub(super) fn mark(index: usize) -> String {
    let letter = char::from(b'a' + (index % 26) as u8);
    if index < 26 { letter.to_string() } else { mark(index / 26 - 1) + &letter.to_string() }
}

/// Writes the characters that override the direction of the text after them by their numbers, such as `[U+202E]`: a
/// label could otherwise make the rest of its row unreadable, and LaTeX knows no such characters.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.push_str(&format!("[U+{:04X}]", u32::from(character)));
            }
            _ => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::super::table::Column;
    use super::super::table::tests::example;
    use super::*;

    #[test]
    fn a_small_p_value_is_below_a_limit_for_people_and_exact_for_machines() {
        assert_eq!([0.000_999, 0.001, 0.0456, 1.0].map(p_value), ["< 0.001", "0.001", "0.046", "1.000"]);
        let table = Table {
            columns: vec![Column::number("p", "p")],
            rows: vec![vec![Cell::PValue(1.5e-7)]],
            ..Table::default()
        };
        assert!(table.to_csv().unwrap().ends_with("\n0.00000015,,\n"), "{}", table.to_csv().unwrap());
        assert!(table.to_markdown().contains("| < 0.001 |") && table.to_latex().contains("$<$ 0.001"));
    }

    #[test]
    fn characters_that_reverse_text_are_shown_as_codes() {
        assert_eq!(visible("a\u{202e}b\u{2066}c \u{200f}שלום"), "a[U+202E]b[U+2066]c \u{200f}שלום");
        let mut table = example();
        table.rows[0][0] = Cell::Text("chat\u{202e}".to_owned());
        for text in [table.to_markdown(), table.to_latex()] {
            assert!(text.contains("chat[U+202E]") && !text.contains('\u{202e}'), "{text}");
        }
    }

    #[test]
    fn values_that_round_to_zero_have_no_sign() {
        let shown = [-0.0004, -0.0, -0.0006, 0.0004, -1.0, f64::NEG_INFINITY].map(|value| fixed(value, 3));
        assert_eq!(shown, ["0.000", "0.000", "-0.001", "0.000", "-1.000", "-inf"]);
        assert_eq!(fixed(-0.3, 0), "0");
    }

    #[test]
    fn marks_of_notes_continue_after_z() {
        assert_eq!([0, 25, 26, 27, 52].map(mark), ["a", "z", "aa", "ab", "ba"]);
    }
}
