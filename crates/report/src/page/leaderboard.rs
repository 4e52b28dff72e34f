//! The leaderboard's page: `templates/leaderboard.html`, in the style of the report's.

use askama::Template;

use super::table::{Look, TableView};
use super::{Figures, rendered};
use crate::ReportError;
use crate::drawing::Looks;
use crate::leaderboard::{BoardCard, Leaderboard, RefusedEntry};

/// `leaderboard.html`: the whole page.
#[derive(Template)]
#[template(path = "leaderboard.html", whitespace = "minimize")]
struct LeaderboardPage<'a> {
    style: &'static str,
    /// Style sheet of the figures.
    looks: String,
    /// Parts that several figures share.
    definitions: String,
    script: &'static str,
    version: &'static str,
    about: String,
    /// Links to sections: anchor and text.
    contents: Vec<(String, &'a str)>,
    overview: TableView,
    tables: Vec<Section<'a>>,
    critical_differences: Figures,
    /// The same rankings as tables, each with its title.
    rankings: Vec<(&'a str, TableView)>,
    cards: &'a [(String, Vec<BoardCard>)],
    history: TableView,
    refused: &'a [RefusedEntry],
}

/// A table of the leaderboard.
struct Section<'a> {
    anchor: String,
    title: &'a str,
    table: TableView,
    figure: Figures,
}

/// The whole page.
///
/// # Errors
/// Rendering fails; the compiler checks templates, so only writing can fail.
pub(crate) fn leaderboard_page(board: &Leaderboard) -> Result<String, ReportError> {
    let drawn = board.tables.iter().flat_map(|table| &table.figure);
    let looks = Looks::of(drawn.chain(board.rankings.iter().map(|(figure, _)| figure)));
    let anchor = |index: usize| format!("table-{}", index + 1);
    let overview = Some(("first".to_owned(), board.overview.title.as_str())).filter(|_| !board.tables.is_empty());
    let mut contents: Vec<(String, &str)> = overview.into_iter().collect();
    contents.extend(board.tables.iter().enumerate().map(|(index, table)| (anchor(index), table.title.as_str())));
    contents.extend(
        [("ranks", "Models over tables"), ("cards", "Models"), ("history", "Bundles"), ("reading", "How to read this")]
            .map(|(anchor, name)| (anchor.to_owned(), name)),
    );
    let section = |(index, table): (usize, &'_ crate::leaderboard::BoardTable)| -> (String, TableView) {
        (anchor(index), TableView::new(&table.table, &Look::default()))
    };
    let tables = board.tables.iter().enumerate().map(|(index, table)| {
        let (anchor, view) = section((index, table));
        Section { anchor, title: &table.title, table: view, figure: Figures::of(&table.figure, &looks) }
    });
    let ranking = |(_, table): &'_ (crate::Figure, crate::Table)| TableView::new(table, &Look::default());
    let rows: usize = board.tables.iter().map(|table| table.table.rows.len()).sum();
    let page = LeaderboardPage {
        looks: looks.to_css(),
        definitions: looks.to_definitions(),
        style: include_str!("style.css"),
        script: include_str!("script.js"),
        version: env!("CARGO_PKG_VERSION"),
        about: format!("{rows} entries in {} tables, of {} bundles", board.tables.len(), board.history.rows.len()),
        contents,
        overview: TableView::new(&board.overview, &Look::default()),
        tables: tables.collect(),
        critical_differences: Figures::of(board.rankings.iter().map(|(figure, _)| figure), &looks),
        rankings: board.rankings.iter().map(|drawn| (drawn.1.title.as_str(), ranking(drawn))).collect(),
        cards: &board.cards,
        history: TableView::new(&board.history, &Look::default()),
        refused: &board.refused,
    };
    rendered(&page)
}
