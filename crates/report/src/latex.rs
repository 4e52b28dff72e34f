//! Tables as LaTeX, with the booktabs package.

use super::cell_text::{fixed, mark, p_value, visible};
use super::table::{Cell, Table};

/// Text longer than this is a sentence, not a name.
const SENTENCE: usize = 60;

impl Table {
    /// Renders the table as LaTeX, with the booktabs package.
    pub fn to_latex(&self) -> String {
        render(self)
    }
}

fn render(table: &Table) -> String {
    let shown = table.shown_columns();
    let line = |cells: Vec<String>| cells.join(" & ") + " \\\\\n";
    // A column of sentences is wrapped; on a single line it would make the whole table too small to read.
    let sentences = |column: usize| {
        table.rows.iter().any(|row| matches!(&row[column], Cell::Text(text) if text.chars().count() > SENTENCE))
    };
    let aligned = |&column: &usize| match table.columns[column].numeric {
        true => "r",
        false if sentences(column) => "p{9cm}",
        false => "l",
    };
    let alignment: String = shown.iter().map(aligned).collect();
    let mut text = format!("\\begin{{table}}\n\\caption{{{}}}\n", escape(&table.title));
    text += &format!("\\begin{{tabular}}{{{alignment}}}\n\\toprule\n");
    text += &line(shown.iter().map(|&column| escape(&table.columns[column].heading)).collect());
    text += "\\midrule\n";
    for row in &table.rows {
        text += &line(shown.iter().map(|&column| cell(&row[column])).collect());
    }
    text += "\\bottomrule\n\\end{tabular}\n";
    let mut notes: Vec<String> = table.notes.iter().map(|note| escape(note)).collect();
    for (index, note) in table.footnotes.iter().enumerate() {
        notes.push(format!("\\textsuperscript{{{}}} {}", mark(index), escape(note)));
    }
    if !notes.is_empty() {
        text += &format!("\n\\footnotesize\n{}\n", notes.join("\\\\\n"));
    }
    text + "\\end{table}\n"
}

fn cell(cell: &Cell) -> String {
    let marked = |footnote: &Option<usize>| {
        footnote.map_or(String::new(), |index| format!("\\textsuperscript{{{}}}", mark(index)))
    };
    match cell {
        Cell::Text(text) => escape(text),
        Cell::Number { value, standard_deviation: Some(deviation), decimals, footnote } => {
            format!("${} \\pm {deviation:.decimals$}${}", fixed(*value, *decimals), marked(footnote))
        }
        Cell::Number { value, standard_deviation: None, decimals, footnote } => {
            format!("${}${}", fixed(*value, *decimals), marked(footnote))
        }
        Cell::PValue(value) => p_value(*value).replace('<', "$<$"),
        Cell::Undefined(footnote) => format!("---{}", marked(footnote)),
        Cell::Absent => String::new(),
    }
}

/// Escapes text for LaTeX.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in visible(text).chars() {
        match character {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                escaped.push('\\');
                escaped.push(character);
            }
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '\\' => escaped.push_str("\\textbackslash{}"),
            '±' => escaped.push_str("$\\pm$"),
            '—' => escaped.push_str("---"),
            '\n' | '\r' => escaped.push(' '),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::example;
    use super::*;

    #[test]
    fn names_are_escaped_for_latex() {
        assert_eq!(
            escape("a_b \\input{x} 5% ^~\n±"),
            "a\\_b \\textbackslash{}input\\{x\\} 5\\% \\textasciicircum{}\\textasciitilde{} $\\pm$"
        );
    }

    #[test]
    fn latex_is_escaped() {
        let expected = "\
\\begin{table}
\\caption{50 \\% of a\\_b}
\\begin{tabular}{lr}
\\toprule
class & F1 \\\\
\\midrule
a|b \\& c & $0.123 \\pm 0.010$ \\\\
d & $1.000$\\textsuperscript{a} \\\\
e & ---\\textsuperscript{a} \\\\
\\bottomrule
\\end{tabular}

\\footnotesize
Means over 2 seeds.\\\\
\\textsuperscript{a} never predicted
\\end{table}
";
        assert_eq!(example().to_latex(), expected);
    }
}
