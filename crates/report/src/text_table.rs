//! A table as plain text for a terminal: columns stand under their headings and in blocks where they do not fit side by side,
//! notes are wrapped.

use super::table::{Table, mark};

/// Between two columns.
const GAP: usize = 2;

impl Table {
    /// The table for a terminal of `width` columns; in lines as long as they come where that is not known.
    ///
    /// Where the columns need more, their headings are broken at spaces, and columns that still do not fit stand in further
    /// blocks, below the words that each row begins with.
    pub fn to_text(&self, width: Option<usize>) -> String {
        let width = width.unwrap_or(usize::MAX);
        let mut text = wrapped(&self.title, width, "");
        text.push('\n');
        let columns = self.text_columns(width);
        let leading = columns.iter().take_while(|column| !column.numeric).count();
        // Columns of words alone have no words to repeat.
        let mut leading = if leading == columns.len() { 0 } else { leading };
        // Fewer are repeated where they would leave no room for the others.
        let widest = columns.iter().map(|column| column.width).max().unwrap_or_default();
        while leading > 1 && together(&columns[..leading]) + GAP + widest > width {
            leading -= 1;
        }
        let (repeated, others) = columns.split_at(leading);
        for block in blocks(repeated, others, width) {
            let shown: Vec<&TextColumn> = repeated.iter().chain(block).collect();
            let heading = shown.iter().map(|column| column.heading.len()).max().unwrap_or_default();
            for line in 0..heading {
                // Headings of fewer lines stand at the bottom.
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

    /// With its heading broken at spaces, as narrow as its cells and longest word are.
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

/// The other columns in blocks that fit beside the repeated ones, each of one column at least.
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

/// Text after a mark, in lines of at most `width` characters that stand below one another.
fn wrapped(text: &str, width: usize, mark: &str) -> String {
    let space = " ".repeat(mark.chars().count());
    let lines = lines(&one_line(text), width.saturating_sub(mark.len()).max(20));
    lines
        .iter()
        .enumerate()
        .map(|(index, line)| format!("{}{line}\n", if index == 0 { mark } else { &space }))
        .collect()
}

/// Text broken at spaces; a word that is longer than `width` has a line of its own.
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

/// Text in one line; what else commands a terminal is the business of whoever prints it.
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
    fn a_narrow_one_breaks_headings_and_then_shows_blocks() {
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
