//! The content of a report: runs with their tables and figures, models ranked over tables, the audit.

use std::collections::BTreeMap;
use std::path::Path;

use super::aggregate::{Aggregate, RowKey, aggregate};
use super::drawing::{Figure, critical_difference};
use super::ladder::is_ladder;
use super::ranks::is_ranked;
use super::row_figures::RowFigures;
use super::run_figures::RunFigures;
use super::run_tables::{RunHeading, RunTable, run_tables};
use super::{
    Cell, Column, PublishedTable, ReportError, RunFacts, StoredRun, Table, ToleranceFile, check, integrity, page,
    ranking_table, rankings, verdict_table,
};
use etcbench_evaluate::Metric;
use etcbench_experiment::{BestScore, Record};

/// A run with its tables and figures.
pub struct ReportedRun {
    /// The stored run.
    pub stored: StoredRun,
    /// What was changed since the run was written, one sentence each.
    pub changes: Vec<String>,
    /// Its tables, the main one first.
    pub(super) tables: Vec<RunTable>,
    /// Its expectations that are not met; `None` if the run has no expectations.
    pub tolerances: Option<Table>,
    pub(super) aggregate: Aggregate,
    pub(super) figures: RunFigures,
    pub(super) rows: Vec<RowFigures>,
}

/// A ranking of models over tables, as a figure.
pub(super) struct RankingFigure {
    pub name: String,
    pub figure: Figure,
    pub table: Table,
}

/// A figure and the path of its file.
pub(super) struct FigureFile<'a> {
    /// Its path below the folder of figures, without extension.
    pub path: String,
    /// The run it belongs to; `None` for figures over several runs.
    pub run: Option<&'a str>,
    /// Whether it is about one row of a table.
    pub of_one_row: bool,
    /// The figure.
    pub figure: &'a Figure,
}

/// A report.
pub struct Report {
    /// The runs, in their order.
    pub runs: Vec<ReportedRun>,
    /// The impossible numbers of each published table, with that table's name.
    pub audit: Vec<(String, Table)>,
    /// The version of the program.
    pub version: String,
    pub(super) rankings: Vec<RankingFigure>,
}

/// The metrics of the whole test set and of costs in the table of all results, in this order, in addition to
/// [`RANKED`].
const SHOWN: [Metric; 13] = [
    Metric::ACCURACY,
    Metric::BALANCED_ACCURACY,
    Metric::MACRO_PRECISION,
    Metric::MACRO_RECALL,
    Metric::MATTHEWS_CORRELATION,
    Metric::MACRO_ROC_AUC,
    Metric::MACRO_AVERAGE_PRECISION,
    Metric::LOG_LOSS,
    Metric::EXPECTED_CALIBRATION_ERROR,
    Metric::FIT_WALL_SECONDS,
    Metric::PREDICT_FLOWS_PER_SECOND,
    Metric::FIT_PEAK_MEMORY_BYTES,
    Metric::MODEL_BYTES,
];

/// The metric that models are ranked by; its column has its full name.
const RANKED: Metric = Metric::MACRO_F1;

impl ReportedRun {
    /// Reads the run in `folder` and draws its figures; `published` is the folder of published tables, `tolerances`
    /// that of expectations.
    ///
    /// # Errors
    /// Records contradict one another or belong to several experiments, or a file cannot be read.
    pub fn read(folder: &Path, published: &Path, tolerances: &Path) -> Result<Self, ReportError> {
        let stored = StoredRun::read(folder)?;
        let changes = integrity(&stored)?;
        let shown = run_tables(published, &RunHeading::of_stored(&stored), &stored.records, folder)?;
        let RunFacts { experiment, datasets, size, .. } = &stored.facts;
        let expected = ToleranceFile::path(tolerances, experiment, &datasets.join("+"), size);
        // Expectations do not apply to a run that the command line changed.
        let tolerances = if expected.is_file() && !stored.is_changed() {
            Some(verdict_table(&check(&stored.records, &ToleranceFile::read(&expected)?)?))
        } else {
            None
        };
        let published = PublishedTable::read(published, experiment)?;
        let mut aggregates = aggregate(&stored.records)?.into_values();
        let (Some(aggregate), None) = (aggregates.next(), aggregates.next()) else {
            let problem =
                format!("results/{}: a run has records of exactly one experiment, dataset and size", stored.name);
            return Err(ReportError::Records(problem));
        };
        // A ladder has every model on every rung; its own figure shows them all.
        let ladder = is_ladder(&stored.records);
        let rows = if ladder { Vec::new() } else { aggregate.rows() };
        let rows = rows.iter().map(|row| RowFigures::draw(&stored, &aggregate, row)).collect::<Result<_, _>>()?;
        let mut figures = match ladder {
            true => RunFigures { scores: Vec::new(), costs: Vec::new() },
            false => RunFigures::draw(&aggregate, published.as_ref()),
        };
        figures.scores.extend(shown.figures);
        let tables = shown.tables;
        Ok(Self { stored, changes, tables, tolerances, aggregate, figures, rows })
    }

    /// Returns the number of fits in its records.
    pub(super) fn fits(&self) -> usize {
        self.stored
            .records
            .iter()
            .filter(|record| record.class.is_none() && record.metric == Metric::ACCURACY.key)
            .count()
    }
}

impl Report {
    /// Combines runs and audits, and ranks the models over the tables of the runs.
    ///
    /// # Errors
    /// Values cannot be ranked.
    pub fn new(runs: Vec<ReportedRun>, audit: Vec<(String, Table)>) -> Result<Self, ReportError> {
        let rankings = ranking_figures(&runs)?;
        Ok(Self { runs, audit, rankings, version: env!("CARGO_PKG_VERSION").to_owned() })
    }

    /// Renders the report as one self-contained HTML page.
    ///
    /// # Errors
    /// The page cannot be rendered from its templates.
    pub fn page(&self) -> Result<String, ReportError> {
        page::page(self)
    }

    /// Returns every figure with its file.
    pub(super) fn figures(&self) -> Vec<FigureFile<'_>> {
        let mut all = Vec::new();
        for ranking in &self.rankings {
            let path = file_name(&ranking.name);
            all.push(FigureFile { path, run: None, of_one_row: false, figure: &ranking.figure });
        }
        for run in &self.runs {
            let folder = file_name(&run.stored.name);
            let name = Some(run.stored.name.as_str());
            for (file, figure) in run.figures.scores.iter().chain(&run.figures.costs) {
                let path = format!("{folder}/{}", file_name(file));
                all.push(FigureFile { path, run: name, of_one_row: false, figure });
            }
            for drawn in &run.rows {
                let mut row = format!("{}-{}-{}", drawn.row.model, drawn.row.input, drawn.row.variant);
                if !drawn.row.is_default_implementation() {
                    row += &format!("-{}", drawn.row.implementation);
                }
                for (file, figure) in &drawn.figures {
                    let path = format!("{folder}/{}-{file}", file_name(&row));
                    all.push(FigureFile { path, run: name, of_one_row: true, figure });
                }
            }
        }
        all
    }

    /// Returns a table with a line per run.
    pub(super) fn runs_table(&self) -> Table {
        let mut table = Table {
            title: "Runs".to_owned(),
            columns: vec![
                Column::text("run", "run"),
                Column::number(RANKED.key, &format!("highest {}", RANKED.label)),
                Column::text("model", "by"),
                Column::text("title", "title"),
                Column::text("dataset", "dataset"),
                Column::text("size", "size"),
                Column::number("fits", "fits"),
                Column::text("started", "started"),
                Column::text("changed", "changed on the command line"),
            ],
            ..Table::default()
        };
        for run in &self.runs {
            // The one that the run ended with: of equal ones the first of its records.
            let best = BestScore::of(&run.stored.records).and_then(|best| {
                let is_best = |row: &RowKey| {
                    (&row.model, &row.input, &row.implementation, &row.variant)
                        == (&best.model, &best.input, &best.implementation, &best.variant)
                };
                let row = run.aggregate.rows().into_iter().find(is_best)?;
                let summary = run.aggregate.get(&row, None, RANKED)?.summary?;
                Some((row, summary))
            });
            let RunFacts { title, datasets, size, invocation, .. } = &run.stored.facts;
            let mut cells = vec![Cell::text(&run.stored.name)];
            match best {
                Some((row, summary)) => {
                    cells.push(Cell::summary(&summary, 3));
                    cells.push(Cell::Text(format!("{} · {}", row.model_name(), row.variant)));
                }
                None => cells.extend([Cell::Absent, Cell::Absent]),
            }
            cells.extend([title, &datasets.join(" + "), size].map(Cell::text));
            cells.push(Cell::count(run.fits()));
            let started = invocation.started.as_deref().map(page::minute);
            let changed = Some(invocation.overrides.join(" ")).filter(|text| !text.is_empty());
            cells.extend([started, changed].map(|text| text.map_or(Cell::Absent, Cell::Text)));
            table.rows.push(cells);
        }
        // Hide these columns if no run has values: older versions did not store them.
        for place in (0..table.columns.len())
            .rev()
            .filter(|&place| ["started", "changed"].contains(&table.columns[place].name.as_str()))
            .collect::<Vec<_>>()
        {
            if table.rows.iter().all(|row| row[place] == Cell::Absent) {
                let column = table.columns.remove(place);
                table.columns.insert(place, column.machine_only());
            }
        }
        table
    }

    /// Returns a table with a line per row of every run, with metrics of the whole test set, time and size.
    pub(super) fn results_table(&self) -> Table {
        let mut columns = vec![
            Column::text("run", "run"),
            Column::text("model", "model"),
            Column::number(RANKED.key, RANKED.label),
            Column::text("input", "input"),
            Column::text("variant", "variant"),
        ];
        let several = self.runs.iter().flat_map(|run| &run.rows).any(|drawn| !drawn.row.is_default_implementation());
        let implementation = Column::text("implementation", "implementation");
        columns.push(if several { implementation } else { implementation.machine_only() });
        columns.extend(SHOWN.map(Column::metric));
        let mut table = Table { title: "All results".to_owned(), columns, ..Table::default() };
        for run in &self.runs {
            for row in run.aggregate.rows() {
                let score =
                    |metric: Metric| match run.aggregate.get(&row, None, metric).map(|measured| measured.summary) {
                        Some(Some(summary)) => Cell::measured(metric, &summary),
                        Some(None) => Cell::Undefined(None),
                        None => Cell::Absent,
                    };
                let mut cells = [&run.stored.name, &row.model].map(Cell::text).to_vec();
                cells.push(score(RANKED));
                cells.extend([&row.input, &row.variant, &row.implementation].map(Cell::text));
                cells.extend(SHOWN.map(score));
                table.rows.push(cells);
            }
        }
        table
    }
}

/// Replaces characters that are not valid in file names on every system.
fn file_name(name: &str) -> String {
    let safe = |letter: char| letter.is_ascii_alphanumeric() || "._-=+".contains(letter);
    let name: String = name.chars().map(|letter| if safe(letter) { letter } else { '-' }).collect();
    name.trim_start_matches('.').replace("--", "-")
}

/// Ranks the models that all tables of a size have in a variant by macro F1. Runs that the command line changed do not
/// represent their experiment and are excluded.
fn ranking_figures(runs: &[ReportedRun]) -> Result<Vec<RankingFigure>, ReportError> {
    let mut sizes: BTreeMap<&str, Vec<Record>> = BTreeMap::new();
    for run in runs.iter().filter(|run| !run.stored.is_changed()) {
        let rows = run.rows.iter().map(|drawn| (drawn.row.model_name(), &drawn.row.variant)).collect::<Vec<_>>();
        // An ablation of one or two models is excluded; with it, no model would be in all tables.
        let compared = |variant: &str| rows.iter().filter(|(_, other)| *other == variant).count() > 2;
        let records = run
            .stored
            .records
            .iter()
            .filter(|record| is_ranked(record, RANKED))
            .filter(|record| compared(&record.key.variant));
        sizes.entry(&run.stored.facts.size).or_default().extend(records.cloned());
    }
    let mut figures = Vec::new();
    for (size, records) in sizes {
        for ranking in rankings(&records, RANKED.key)? {
            let variant = &ranking.variant;
            let models: Vec<String> =
                ranking.models.iter().map(|model| format!("{} · {}", model.model, model.input)).collect();
            let title = format!("Critical difference over {} tables: {variant}, size {size}", ranking.tables.len());
            figures.push(RankingFigure {
                name: format!("critical-difference-{variant}-{size}"),
                figure: critical_difference(title, &models, &ranking.test),
                table: ranking_table(&ranking),
            });
        }
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_cannot_leave_their_folder() {
        assert_eq!(file_name("../a b, masks=none/é"), "-a-b-masks=none-");
        assert_eq!(file_name("over-feature.packets"), "over-feature.packets");
    }
}
