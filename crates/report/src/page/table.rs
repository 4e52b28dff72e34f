//! Tables and figures as HTML. A table is sorted by its headings and filtered by a field above it; the values that
//! sorting goes by stand in the cells.

use std::fmt::Write;

use super::super::drawing::Figure;
use super::super::table::{fixed, mark};
use super::{Cell, Table, escape};

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

/// The table as HTML.
pub(super) fn table(table: &Table, look: &Look<'_>) -> String {
    let shown = table.shown_columns();
    let wide = if shown.len() > WIDE_COLUMNS { " wide" } else { "" };
    let mut html = format!("<div class=\"table{wide}\">");
    if look.titled {
        push(&mut html, format_args!("<h4>{}</h4>", escape(&table.title)));
    }
    if table.rows.is_empty() {
        html += "<p class=\"empty\">No rows.</p>";
    } else {
        let filter = table.rows.len() >= FILTERED_ROWS || look.choices;
        push(
            &mut html,
            format_args!(
                "<div class=\"controls\"{}{}></div><div class=\"scroll\" role=\"region\" tabindex=\"0\" \
                 aria-label=\"{title}\"><table><caption class=\"hidden\">{title}</caption><thead><tr>",
                if filter { " data-filter" } else { "" },
                if look.choices { " data-choices" } else { "" },
                title = escape(&table.title)
            ),
        );
        for &column in &shown {
            let column = &table.columns[column];
            let class = if column.numeric { " class=\"n\"" } else { "" };
            push(&mut html, format_args!("<th scope=\"col\"{class}>{}</th>", escape(&column.heading)));
        }
        html += "</tr></thead><tbody>";
        for (index, row) in table.rows.iter().enumerate() {
            // What the paper printed is set apart from what was measured.
            let published = row.iter().any(|cell| matches!(cell, Cell::Text(text) if text == "published"));
            html += if published { "<tr class=\"published\">" } else { "<tr>" };
            for (place, &column) in shown.iter().enumerate() {
                let link = look.links.and_then(|links| links.get(index)).filter(|_| place == 0);
                html += &cell(&row[column], table.columns[column].numeric, link);
            }
            html += "</tr>";
        }
        html += "</tbody></table></div>";
    }
    if !table.notes.is_empty() || !table.footnotes.is_empty() {
        html += "<ul class=\"notes\">";
        for note in &table.notes {
            push(&mut html, format_args!("<li>{}</li>", escape(note)));
        }
        for (index, note) in table.footnotes.iter().enumerate() {
            push(&mut html, format_args!("<li><sup>{}</sup> {}</li>", mark(index), escape(note)));
        }
        html += "</ul>";
    }
    html + "</div>"
}

fn cell(cell: &Cell, numeric: bool, link: Option<&String>) -> String {
    let class = if numeric { " class=\"n\"" } else { "" };
    let marked =
        |footnote: &Option<usize>| footnote.map_or(String::new(), |index| format!("<sup>{}</sup>", mark(index)));
    match cell {
        Cell::Text(text) => match link {
            Some(address) => format!("<td{class}><a href=\"{}\">{}</a></td>", escape(address), escape(text)),
            None => format!("<td{class}>{}</td>", escape(text)),
        },
        Cell::Number { value, standard_deviation, decimals, footnote } => {
            let deviation = standard_deviation
                .map_or(String::new(), |deviation| format!("<span class=\"sd\">±{deviation:.decimals$}</span>"));
            let shown = fixed(*value, *decimals);
            format!("<td{class} data-value=\"{value}\">{shown}{deviation}{}</td>", marked(footnote))
        }
        Cell::Undefined(footnote) => format!("<td{class}>—{}</td>", marked(footnote)),
        Cell::Absent => format!("<td{class}></td>"),
    }
}

/// A figure with its caption.
pub(super) fn figure(figure: &Figure) -> String {
    format!(
        "<figure><figcaption>{}</figcaption><div class=\"scroll\">{}</div></figure>",
        escape(&figure.title),
        figure.to_html()
    )
}

/// Something that is folded away until it is asked for.
pub(super) fn folded(title: &str, content: &str) -> String {
    format!("<details><summary>{}</summary>{content}</details>", escape(title))
}

pub(super) fn push(html: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = html.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::super::super::Column;
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
        let html = table(&shown, &Look { titled: true, ..Look::default() });
        assert!(!html.contains("<script>") && html.contains("&lt;script&gt;"), "{html}");
        assert!(
            html.contains("<td class=\"n\" data-value=\"0.123456\">0.123<span class=\"sd\">±0.010</span><sup>a</sup>")
        );
        assert!(html.contains("<tr class=\"published\">") && html.contains("never &quot;predicted&quot;"), "{html}");
        assert!(!html.contains("data-filter"), "two rows need no filter: {html}");
        shown.rows.clear();
        assert!(table(&shown, &Look::default()).contains("No rows."));
    }
}
