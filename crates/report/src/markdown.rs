//! Tables as Markdown, with aligned columns.

use super::cell_text::mark;
use super::table::Table;

/// Above this width (in characters) Markdown cells are no longer padded to align.
const MARKDOWN_WIDTH: usize = 144;

impl Table {
    /// Renders the table as Markdown: title, table, notes, footnotes.
    pub fn to_markdown(&self) -> String {
        let shown = self.shown_columns();
        let mut lines: Vec<Vec<String>> =
            vec![shown.iter().map(|&column| escape(&self.columns[column].heading)).collect()];
        for row in &self.rows {
            lines.push(shown.iter().map(|&column| escape(&self.plain(&row[column]))).collect());
        }
        let mut widths: Vec<usize> = (0..shown.len())
            .map(|index| lines.iter().map(|line| line[index].chars().count()).max().unwrap_or(0).max(3))
            .collect();
        if widths.iter().sum::<usize>() + 3 * widths.len() + 1 > MARKDOWN_WIDTH {
            widths.fill(0);
        }
        let mut text = format!("**{}**\n\n", escape(&self.title));
        for (number, line) in lines.iter().enumerate() {
            for ((cell, &width), &column) in line.iter().zip(&widths).zip(&shown) {
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                let cell = if self.columns[column].numeric { padding + cell } else { cell.clone() + &padding };
                text += &format!("| {cell} ");
            }
            text += "|\n";
            if number == 0 {
                for (&width, &column) in widths.iter().zip(&shown) {
                    let dashes = "-".repeat(width.saturating_sub(1).max(2));
                    text +=
                        &if self.columns[column].numeric { format!("| {dashes}: ") } else { format!("| {dashes}- ") };
                }
                text += "|\n";
            }
        }
        if !self.notes.is_empty() || !self.footnotes.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            text += &format!("- {}\n", escape(note));
        }
        for (index, note) in self.footnotes.iter().enumerate() {
            text += &format!("- [{}] {}\n", mark(index), escape(note));
        }
        text
    }
}

/// Escapes text for Markdown: bars do not end a cell, tags are shown as text, and control characters become escapes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let begins_tag = |next: &char| next.is_ascii_alphabetic() || "/!?".contains(*next);
        match letter {
            '|' => escaped.push_str("\\|"),
            '<' if letters.peek().is_some_and(begins_tag) => escaped.push_str("\\<"),
            '\n' | '\r' => escaped.push(' '),
            letter if letter.is_control() => escaped.extend(letter.escape_default()),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::table::Cell;
    use super::super::table::tests::example;

    #[test]
    fn harmful_names_are_escaped() {
        let mut table = example();
        table.title = "<img src=x> \u{1b}[2J".to_owned();
        for text in ["=cmd|' /C calc'!A0", "+1", "-1.5", "a < b", "</td><script>"] {
            table.rows.push(vec![Cell::text(text), Cell::Absent, Cell::Absent]);
        }
        let markdown = table.to_markdown();
        for expected in ["**\\<img src=x> \\u{1b}[2J**", "=cmd\\|' /C", "a < b", "\\</td>\\<script>"] {
            assert!(markdown.contains(expected), "{expected} is not in {markdown}");
        }
        let csv = table.to_csv().unwrap();
        for expected in ["\n'=cmd|", "\n+1,", "\n-1.5,", "\na < b,"] {
            assert!(csv.contains(expected), "{expected} is not in {csv}");
        }
    }

    #[test]
    fn markdown_is_aligned_and_escaped() {
        let expected = "\
**50 % of a_b**

| class    |          F1 |
| -------- | ----------: |
| a\\|b & c | 0.123±0.010 |
| d        |   1.000 [a] |
| e        |       — [a] |

- Means over 2 seeds.
- [a] never predicted
";
        assert_eq!(example().to_markdown(), expected);
    }
}
