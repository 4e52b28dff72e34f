//! Tables as HTML, which can be sorted by their headings and filtered by a field above. The cells contain the values
//! used for sorting.

use askama::Template;

use super::{Cell, Column, Table};
use crate::cell_text::{fixed, mark, p_value, visible};

/// Tables with fewer rows have no filter.
const FILTERED_ROWS: usize = 10;

/// Tables with more columns are set narrower on paper, where nothing scrolls.
const WIDE_COLUMNS: usize = 11;

/// How a table is shown.
#[derive(Default)]
pub(super) struct Look<'a> {
    /// Whether its text columns can also be filtered by lists.
    pub choices: bool,
    /// The link of the first cell of each row.
    pub links: Option<&'a [String]>,
    /// Whether its title is shown above it.
    pub titled: bool,
    /// The name of the column that is moved to the front.
    pub score: Option<&'a str>,
}

/// The position, from 1, to which a score column is moved forward.
const SCORE_PLACE: usize = 3;

/// The largest number of leading text columns that the style sheet supports.
const MAXIMUM_LEADING_COLUMNS: usize = 9;

/// Returns the number of leading text columns, if all others are numeric.
fn leading(numeric: impl Iterator<Item = bool> + Clone) -> Option<usize> {
    let count = numeric.clone().take_while(|numeric| !numeric).count();
    (count <= MAXIMUM_LEADING_COLUMNS && numeric.skip(count).all(|numeric| numeric)).then_some(count)
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
    /// The number of leading text columns if all others are numeric: a class of the table replaces one per cell.
    leading: Option<usize>,
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
    /// Whether the row has published numbers, which look different from measured ones.
    published: bool,
    cells: Vec<CellView>,
}

#[derive(Default)]
struct CellView {
    numeric: bool,
    text: String,
    /// The number that its column is sorted by, if the text does not begin with it.
    value: Option<f64>,
    deviation: Option<String>,
    /// The mark of a footnote.
    mark: Option<String>,
    link: Option<String>,
}

impl TableView {
    /// Builds the view of a table.
    pub(super) fn new(table: &Table, look: &Look<'_>) -> Self {
        let mut shown = table.shown_columns();
        // A narrow page shows the first columns only, so the score must be among them.
        if let Some(place) =
            look.score.and_then(|name| shown.iter().position(|&column| table.columns[column].name == name))
            && place >= SCORE_PLACE
        {
            let score = shown.remove(place);
            shown.insert(SCORE_PLACE - 1, score);
        }
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
            leading: leading(shown.iter().map(|&column| table.columns[column].numeric)),
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
            Cell::Text(text) => Self { text: visible(text), ..empty },
            Cell::Number { value, standard_deviation, decimals, footnote } => Self {
                text: fixed(*value, *decimals),
                deviation: standard_deviation.map(|deviation| format!("{deviation:.decimals$}")),
                mark: footnote.map(mark),
                ..empty
            },
            Cell::PValue(value) => Self { text: p_value(*value), value: Some(*value), ..empty },
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
            vec![Cell::Text("<script>\u{202e}".to_owned()), number],
            vec![Cell::Text("published".to_owned()), Cell::Undefined(None)],
        ];
        let html = TableView::new(&shown, &Look { titled: true, ..Look::default() }).to_string();
        assert!(!html.contains("<script>") && html.contains("&#60;script&#62;"), "{html}");
        assert!(
            html.contains("<tr><td>&#60;script&#62;[U+202E]<td>0.123<small>±0.010</small><sup>a</sup>")
                && html.contains("class=\"t1\""),
            "{html}"
        );
        assert!(html.contains("<tr class=published>") && html.contains("never &#34;predicted&#34;"), "{html}");
        assert!(!html.contains("data-filter"), "two rows need no filter: {html}");
        // A score is moved to the front, and if text follows numbers, every cell has its own class.
        shown.columns.extend([Column::text("note", "note"), Column::number("score", "score")]);
        shown.rows = vec![vec![Cell::text("a"), Cell::PValue(0.000_2), Cell::text("b"), Cell::number(0.5, 1)]];
        let html = TableView::new(&shown, &Look { score: Some("score"), ..Look::default() }).to_string();
        let row = "<tr><td>a<td class=n data-value=\"0.0002\">&#60; 0.001<td class=n>0.5<td>b";
        assert!(html.contains(row) && html.contains("<table>"), "{html}");
        shown.rows.clear();
        assert!(TableView::new(&shown, &Look::default()).to_string().contains("No rows."));
    }
}
