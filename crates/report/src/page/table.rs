//! Tables as HTML. A table is sorted by its headings and filtered by a field above it; the values that sorting goes by
//! stand in the cells.

use askama::Template;

use super::{Cell, Column, Table};
use crate::table::{fixed, mark};

/// A table with fewer rows has no filter.
const FILTERED_ROWS: usize = 10;

/// A table with more columns is set narrower on paper, where nothing scrolls.
const WIDE_COLUMNS: usize = 11;

/// How a table is shown.
#[derive(Default)]
pub(super) struct Look<'a> {
    /// Whether its columns of words are also chosen from lists.
    pub choices: bool,
    /// The address that the first cell of a row leads to.
    pub links: Option<&'a [String]>,
    /// Whether its title stands above it.
    pub titled: bool,
}

/// `table.html`: a table.
#[derive(Template)]
#[template(path = "table.html", whitespace = "minimize")]
pub(super) struct TableView {
    title: String,
    titled: bool,
    wide: bool,
    /// Whether it has a field that filters its rows.
    filter: bool,
    choices: bool,
    headings: Vec<Heading>,
    rows: Vec<RowView>,
    notes: Vec<String>,
    /// Each with its mark.
    footnotes: Vec<(String, String)>,
}

struct Heading {
    text: String,
    numeric: bool,
}

struct RowView {
    /// What the paper printed is set apart from what was measured.
    published: bool,
    cells: Vec<CellView>,
}

#[derive(Default)]
struct CellView {
    numeric: bool,
    text: String,
    /// What its column is sorted by, where that is a number.
    value: Option<f64>,
    deviation: Option<String>,
    /// Of a footnote.
    mark: Option<String>,
    link: Option<String>,
}

impl TableView {
    /// The table in this look.
    pub(super) fn new(table: &Table, look: &Look<'_>) -> Self {
        let shown = table.shown_columns();
        let heading = |column: &Column| Heading { text: column.heading.clone(), numeric: column.numeric };
        let row = |(index, row): (usize, &Vec<Cell>)| {
            let mut cells: Vec<CellView> =
                shown.iter().map(|&column| CellView::new(&row[column], table.columns[column].numeric)).collect();
            if let (Some(first), Some(links)) = (cells.first_mut(), look.links) {
                first.link = links.get(index).cloned();
            }
            let published = row.iter().any(|cell| matches!(cell, Cell::Text(text) if text == "published"));
            RowView { published, cells }
        };
        Self {
            title: table.title.clone(),
            titled: look.titled,
            wide: shown.len() > WIDE_COLUMNS,
            filter: table.rows.len() >= FILTERED_ROWS || look.choices,
            choices: look.choices,
            headings: shown.iter().map(|&column| heading(&table.columns[column])).collect(),
            rows: table.rows.iter().enumerate().map(row).collect(),
            notes: table.notes.clone(),
            footnotes: table.footnotes.iter().enumerate().map(|(index, note)| (mark(index), note.clone())).collect(),
        }
    }
}

impl CellView {
    fn new(cell: &Cell, numeric: bool) -> Self {
        let empty = Self { numeric, ..Self::default() };
        match cell {
            Cell::Text(text) => Self { text: text.clone(), ..empty },
            Cell::Number { value, standard_deviation, decimals, footnote } => Self {
                text: fixed(*value, *decimals),
                value: Some(*value),
                deviation: standard_deviation.map(|deviation| format!("{deviation:.decimals$}")),
                mark: footnote.map(mark),
                ..empty
            },
            Cell::Undefined(footnote) => Self { text: "—".to_owned(), mark: footnote.map(mark), ..empty },
            Cell::Absent => empty,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_cell_is_markup_and_numbers_sort_by_their_value() {
        let mut shown = Table {
            title: "a < b".to_owned(),
            columns: vec![Column::text("class", "class"), Column::number("f1", "F1")],
            ..Table::default()
        };
        let never = shown.footnote("never \"predicted\"");
        let number =
            Cell::Number { value: 0.123_456, standard_deviation: Some(0.01), decimals: 3, footnote: Some(never) };
        shown.rows = vec![
            vec![Cell::Text("<script>".to_owned()), number],
            vec![Cell::Text("published".to_owned()), Cell::Undefined(None)],
        ];
        let html = TableView::new(&shown, &Look { titled: true, ..Look::default() }).to_string();
        assert!(!html.contains("<script>") && html.contains("&#60;script&#62;"), "{html}");
        assert!(
            html.contains("<td class=\"n\" data-value=\"0.123456\">0.123<span class=\"sd\">±0.010</span><sup>a</sup>")
        );
        assert!(html.contains("<tr class=\"published\">") && html.contains("never &#34;predicted&#34;"), "{html}");
        assert!(!html.contains("data-filter"), "two rows need no filter: {html}");
        shown.rows.clear();
        assert!(TableView::new(&shown, &Look::default()).to_string().contains("No rows."));
    }
}
