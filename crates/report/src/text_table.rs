//! Tables as plain text for a terminal: aligned columns, in blocks if they do not fit side by side, with wrapped notes.

use super::cell_text::mark;
use super::table::Table;

/// Spaces between two columns.
const GAP: usize = 2;

impl Table {
    /// Renders the table for a terminal of `width` columns; without wrapping if the width is unknown.
    ///
    /// If the columns need more space, their headings are wrapped at spaces; columns that still do not fit go into
    /// further blocks, each of which repeats the leading text columns.
    pub fn to_text(&self, width: Option<usize>) -> String {
        let width = width.unwrap_or(usize::MAX);
        let mut text = wrapped(&self.title, width, "");
        text.push('\n');
        let columns = self.text_columns(width);
        let leading = columns.iter().take_while(|column| !column.numeric).count();
        // A table of text columns only has no columns to repeat.
        let mut leading = if leading == columns.len() { 0 } else { leading };
        // Repeat fewer columns if they leave no space for the others.
        let widest = columns.iter().map(|column| column.width).max().unwrap_or_default();
        while leading > 1 && together(&columns[..leading]) + GAP + widest > width {
            leading -= 1;
        }
        let (repeated, others) = columns.split_at(leading);
        for block in blocks(repeated, others, width) {
            let shown: Vec<&TextColumn> = repeated.iter().chain(block).collect();
            let heading = shown.iter().map(|column| column.heading.len()).max().unwrap_or_default();
            for line in 0..heading {
                // Headings with fewer lines are aligned at the bottom.
                let cell = |column: &TextColumn| {
                    let before = heading - column.heading.len();
                    line.checked_sub(before).map_or(String::new(), |line| column.heading[line].clone())
                };
                push_line(&mut text, &shown, cell);
            }
            push_line(&mut text, &shown, |column| "-".repeat(column.width));
            for row in 0..self.rows.len() {
                push_line(&mut text, &shown, |column| column.cells[row].clone());
            }
            text.push('\n');
        }
        for note in &self.notes {
            text += &wrapped(note, width, "- ");
        }
        for (index, note) in self.footnotes.iter().enumerate() {
            text += &wrapped(note, width, &format!("[{}] ", mark(index)));
        }
        text.truncate(text.trim_end().len());
        text + "\n"
    }

    fn text_columns(&self, width: usize) -> Vec<TextColumn> {
        let column = |index: usize| {
            let column = &self.columns[index];
            let cells: Vec<String> = self.rows.iter().map(|row| one_line(&self.plain(&row[index]))).collect();
            TextColumn::new(vec![one_line(&column.heading)], cells, column.numeric)
        };
        let columns: Vec<TextColumn> = self.shown_columns().into_iter().map(column).collect();
        match together(&columns) > width {
            true => columns.into_iter().map(TextColumn::narrow).collect(),
            false => columns,
        }
    }
}

/// A column as lines of text.
struct TextColumn {
    heading: Vec<String>,
    cells: Vec<String>,
    numeric: bool,
    width: usize,
}

impl TextColumn {
    fn new(heading: Vec<String>, cells: Vec<String>, numeric: bool) -> Self {
        let width = heading.iter().chain(&cells).map(|text| text.chars().count()).max().unwrap_or_default();
        Self { heading, cells, numeric, width }
    }

    /// Wraps the heading at spaces, to the width of the widest cell or longest word.
    fn narrow(self) -> Self {
        let words = self.heading.iter().flat_map(|line| line.split(' ')).map(|word| word.chars().count());
        let width = self.cells.iter().map(|cell| cell.chars().count()).chain(words).max().unwrap_or_default();
        let heading = self.heading.iter().flat_map(|line| lines(line, width)).collect();
        Self::new(heading, self.cells, self.numeric)
    }
}

fn together<'a>(columns: impl IntoIterator<Item = &'a TextColumn>) -> usize {
    columns.into_iter().map(|column| column.width + GAP).sum::<usize>().saturating_sub(GAP)
}

/// Splits the other columns into blocks that fit next to the repeated ones, with at least one column each.
fn blocks<'a>(repeated: &[TextColumn], mut others: &'a [TextColumn], width: usize) -> Vec<&'a [TextColumn]> {
    let mut blocks = Vec::new();
    while !others.is_empty() {
        let fits = |&count: &usize| together(repeated.iter().chain(&others[..count])) <= width;
        let count = (1..=others.len()).take_while(fits).last().unwrap_or(1);
        let (block, rest) = others.split_at(count);
        blocks.push(block);
        others = rest;
    }
    blocks
}

fn push_line(text: &mut String, columns: &[&TextColumn], cell: impl Fn(&TextColumn) -> String) {
    let mut line = String::new();
    for column in columns {
        let cell = cell(column);
        let padding = " ".repeat(column.width - cell.chars().count());
        line += &if column.numeric { padding + &cell } else { cell + &padding };
        line += &" ".repeat(GAP);
    }
    *text += line.trim_end();
    text.push('\n');
}

/// Wraps text after a mark into lines of at most `width` characters, indented by the width of the mark.
fn wrapped(text: &str, width: usize, mark: &str) -> String {
    let space = " ".repeat(mark.chars().count());
    let lines = lines(&one_line(text), width.saturating_sub(mark.len()).max(20));
    lines
        .iter()
        .enumerate()
        .map(|(index, line)| format!("{}{line}\n", if index == 0 { mark } else { &space }))
        .collect()
}

/// Wraps text at spaces; a word longer than `width` gets its own line.
fn lines(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Joins text into one line; the caller that prints it handles other control characters.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cell, Column};

    fn table() -> Table {
        let number = |value| Cell::Number { value, standard_deviation: None, decimals: 2, footnote: None };
        Table {
            title: "Two rows of a title that is rather long".to_owned(),
            notes: vec!["One seed, of which this note has more to say.".to_owned()],
            footnotes: vec!["never predicted".to_owned()],
            columns: vec![
                Column::text("model", "model"),
                Column::number("precision", "macro precision"),
                Column::number("recall", "macro recall"),
            ],
            rows: vec![
                vec![Cell::Text("knn".to_owned()), number(0.5), number(10.25)],
                vec![Cell::Text("forest".to_owned()), Cell::Undefined(Some(0)), number(1.0)],
            ],
        }
    }

    #[test]
    fn a_wide_terminal_shows_all_columns_side_by_side() {
        let wide = "Two rows of a title that is rather long

model   macro precision  macro recall
------  ---------------  ------------
knn                0.50         10.25
forest            — [a]          1.00

- One seed, of which this note has more to say.
[a] never predicted
";
        assert_eq!(table().to_text(None), wide);
        assert_eq!(table().to_text(Some(80)), wide);
    }

    #[test]
    fn a_narrow_terminal_breaks_headings_and_then_shows_blocks() {
        let narrow = "Two rows of a title that is
rather long

           macro   macro
model  precision  recall
";
        let text = table().to_text(Some(27)).replace("forest", "trees").replace("------  ", "");
        assert!(
            text.starts_with(&narrow.replace("model  ", "model   ").replace("           macro", "            macro"))
        );
        let blocks = table().to_text(Some(20));
        assert_eq!(blocks.matches("\nforest").count(), 2, "{blocks}");
        assert!(blocks.lines().all(|line| line.chars().count() <= 20), "{blocks}");
    }
}
