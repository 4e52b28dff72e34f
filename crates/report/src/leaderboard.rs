//! A leaderboard: compares the results of submitted runs that have exactly the same flows and splits. Entries must be
//! checked by the caller; this module does not check them.

use std::collections::{BTreeMap, BTreeSet};

use super::aggregate::{Aggregate, RowKey, TableKey, aggregate};
use super::drawing::{Figure, ScatterPoint, critical_difference, scatter};
use super::ranks::is_ranked;
use super::{Cell, Column, ReportError, StoredRun, Table, page, ranking_table, rankings};
use etcbench_evaluate::{Metric, Summary, friedman};
use etcbench_experiment::{
    LADDER, RUNGS, Record, RunKey, Rung, current_variant, has_current_variant, with_current_variants,
};

/// A run on a leaderboard.
pub struct BoardEntry {
    /// The name of the run on the leaderboard: the first digits of its identity.
    pub bundle: String,
    /// The run.
    pub run: StoredRun,
    /// Identifies the flows and splits of each variant, by the variant's name.
    pub divisions: BTreeMap<String, String>,
    /// Facts about its models.
    pub cards: Vec<BoardCard>,
}

/// Facts about a model: names and values.
pub struct BoardCard {
    /// The model.
    pub model: String,
    /// The facts, as pairs of name and value.
    pub facts: Vec<(String, String)>,
}

/// A run excluded from the leaderboard.
pub struct RefusedEntry {
    /// Its file.
    pub name: String,
    /// The reasons, one sentence each.
    pub findings: Vec<String>,
}

/// A rendered leaderboard.
pub struct Leaderboard {
    pub(super) tables: Vec<BoardTable>,
    /// A line per table, with its first entry.
    pub(super) overview: Table,
    /// Models ranked over several tables, by variant.
    pub(super) rankings: Vec<(Figure, Table)>,
    pub(super) history: Table,
    /// The models of each run, with the name of its bundle.
    pub(super) cards: Vec<(String, Vec<BoardCard>)>,
    pub(super) refused: Vec<RefusedEntry>,
    all: Table,
}

/// The entries of one table, in one variant.
pub(super) struct BoardTable {
    pub title: String,
    pub table: Table,
    /// `None` if no fit was timed.
    pub figure: Option<Figure>,
    /// Its line in the overview.
    first: Vec<Cell>,
}

/// The metric that entries are ranked by.
const SCORE: Metric = Metric::MACRO_F1;
/// The metric for the cost of an entry.
const COST: Metric = Metric::FIT_WALL_SECONDS;
/// The other metrics shown.
const SHOWN: [Metric; 6] = [
    Metric::ACCURACY,
    Metric::MATTHEWS_CORRELATION,
    Metric::EXPECTED_CALIBRATION_ERROR,
    COST,
    Metric::PREDICT_FLOWS_PER_SECOND,
    Metric::MODEL_BYTES,
];

/// Identifies results that share a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct BoardKey {
    experiment: String,
    dataset: String,
    size: String,
    /// Position among the ladder's rungs, or among the variants of the experiment.
    place: usize,
    variant: String,
    division: String,
}

/// One model of one run.
struct Row {
    key: RowKey,
    bundle: String,
    title: String,
    score: Summary,
    /// 95 % interval of the mean over fits or, for a single fit, by bootstrap.
    interval: Option<(f64, f64)>,
    shown: Vec<Cell>,
    cost: Option<f64>,
    /// The score of every fit, by seed and fold.
    fits: BTreeMap<(u64, usize), f64>,
}

impl Leaderboard {
    /// Groups entries into tables, in the order of their bundles.
    ///
    /// # Errors
    /// Records that contradict one another.
    pub fn new(mut entries: Vec<BoardEntry>, refused: Vec<RefusedEntry>) -> Result<Self, ReportError> {
        entries.sort_by(|left, right| left.bundle.cmp(&right.bundle));
        let mut tables: BTreeMap<BoardKey, Vec<Row>> = BTreeMap::new();
        for entry in &entries {
            for (key, rows) in rows_of(entry)? {
                tables.entry(key).or_default().extend(rows);
            }
        }
        let mut all = Table { title: "All entries".to_owned(), columns: all_columns(), ..Table::default() };
        let names: Vec<BoardKey> = tables.keys().cloned().collect();
        let mut drawn = Vec::new();
        for (key, rows) in tables {
            let named_alike = |other: &&BoardKey| BoardKey { division: String::new(), ..(*other).clone() };
            let alike = names.iter().filter(|other| named_alike(other) == named_alike(&&key)).count();
            drawn.push(board_table(&key, rows, alike > 1, &mut all)?);
        }
        let overview = Table {
            title: "First of each table".to_owned(),
            columns: overview_columns(),
            rows: drawn.iter().map(|table| table.first.clone()).collect(),
            ..Table::default()
        };
        let rankings = board_rankings(&entries)?;
        let history = history(&entries);
        let cards = entries.into_iter().map(|entry| (entry.bundle, entry.cards)).collect();
        Ok(Self { tables: drawn, overview, rankings, history, cards, refused, all })
    }

    /// Renders the leaderboard as one self-contained HTML page.
    ///
    /// # Errors
    /// The page cannot be rendered from its templates.
    pub fn page(&self) -> Result<String, ReportError> {
        page::leaderboard_page(self)
    }

    /// Returns every row of every table as CSV.
    ///
    /// # Errors
    /// None expected: every row has a cell per column.
    pub fn csv(&self) -> Result<String, ReportError> {
        self.all.to_csv()
    }
}

/// Returns the rows of a run, grouped by table.
fn rows_of(entry: &BoardEntry) -> Result<Vec<(BoardKey, Vec<Row>)>, ReportError> {
    let mut found: Vec<(BoardKey, Vec<Row>)> = Vec::new();
    let is_current = has_current_variant(entry.divisions.keys().map(String::as_str));
    let current = |name: &str| if is_current { name.to_owned() } else { current_variant(name).into_owned() };
    for (table, values) in aggregate(&entry.run.records)? {
        for row in values.rows() {
            let Some(score) = values.get(&row, None, SCORE).and_then(|measured| measured.summary) else { continue };
            let ladder = table.experiment.ends_with(LADDER);
            let rung = Rung::of_variant(&row.variant).filter(|_| ladder);
            let of_rung = |rung: &Rung| RUNGS.iter().position(|other| other.name == rung.name);
            let of_file = values.variants.iter().position(|variant| *variant == row.variant);
            let variant = current(&row.variant);
            let key = BoardKey {
                experiment: table.experiment.clone(),
                dataset: table.dataset.clone(),
                size: table.size.clone(),
                place: rung.map_or(of_file, |(rung, _)| of_rung(rung)).unwrap_or_default(),
                variant: variant.clone(),
                division: entry.divisions.get(&row.variant).cloned().unwrap_or_default(),
            };
            let mut row = made_row(entry, &values, row, score);
            row.key.variant = variant;
            match found.iter_mut().find(|(known, _)| *known == key) {
                Some((_, rows)) => rows.push(row),
                None => found.push((key, vec![row])),
            }
        }
    }
    Ok(found)
}

fn made_row(entry: &BoardEntry, values: &Aggregate, key: RowKey, score: Summary) -> Row {
    let mean = |name: &str| Some(values.get(&key, None, name)?.summary?.mean);
    let [low, high] = SCORE.bootstrap_names();
    let interval = match score.interval {
        // Student's t knows no bounds, but the score does.
        Some(half) => Some(((score.mean - half).max(0.0), (score.mean + half).min(1.0))),
        None => mean(&low).zip(mean(&high)),
    };
    let shown = SHOWN.map(|metric| match values.get(&key, None, metric).map(|measured| measured.summary) {
        Some(Some(summary)) => Cell::measured(metric, &summary),
        Some(None) => Cell::Undefined(None),
        None => Cell::Absent,
    });
    let of_fit = |record: &&Record| record.class.is_none() && record.metric == SCORE.key && key.is_of(&record.key);
    let scored = entry.run.records.iter().filter(of_fit);
    let fits = scored.filter_map(|record| Some(((record.key.seed, record.key.fold), record.value?))).collect();
    let cost = mean(COST.key);
    let title = entry.run.facts.title.clone();
    Row { bundle: entry.bundle.clone(), title, score, interval, shown: shown.into(), cost, fits, key }
}

fn all_columns() -> Vec<Column> {
    let mut columns: Vec<Column> =
        ["experiment", "dataset", "size", "variant", "division"].map(|name| Column::text(name, name)).into();
    columns.extend(entry_columns());
    columns
}

fn entry_columns() -> Vec<Column> {
    let mut columns = vec![
        Column::number("place", "place"),
        Column::text("model", "model"),
        // Where it is seen on a narrow screen without scrolling.
        Column::number(SCORE.key, SCORE.label),
        Column::text("input", "input"),
        Column::text("implementation", "implementation"),
        Column::number("interval_low", "95 % from"),
        Column::number("interval_high", "to"),
        Column::text("bundle", "bundle"),
        Column::number("fits", "fits"),
        Column::number("mean_rank", "mean rank"),
        Column::text("groups", "groups"),
    ];
    columns.extend(SHOWN.map(Column::metric));
    columns
}

fn board_table(key: &BoardKey, mut rows: Vec<Row>, several: bool, all: &mut Table) -> Result<BoardTable, ReportError> {
    rows.sort_by(|left, right| {
        right
            .score
            .mean
            .total_cmp(&left.score.mean)
            .then_with(|| (&left.key, &left.bundle).cmp(&(&right.key, &right.bundle)))
    });
    let BoardKey { experiment, dataset, size, variant, division, .. } = key;
    // Different splits of the same flows are different tables.
    let divided =
        if several { format!(", divided as {}", division.get(..8).unwrap_or(division)) } else { String::new() };
    let title = format!("{experiment} on {dataset}, {size}: {variant}{divided}");
    let mut table = Table { title: title.clone(), columns: entry_columns(), ..Table::default() };
    if let Some(row) = rows.first() {
        table.notes.push(row.title.clone());
    }
    let ranks = ranks(&rows)?;
    let usual = rows.iter().all(|row| row.key.is_default_implementation());
    for column in &mut table.columns {
        // Hide columns that would be empty or the same in every row.
        column.machine_only = match column.name.as_str() {
            "mean_rank" | "groups" => ranks.is_none(),
            "implementation" => usual,
            _ => false,
        };
    }
    let mut points = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        // Equal scores share a place.
        let place = 1 + rows.iter().filter(|other| other.score.mean > row.score.mean).count();
        let mut cells = vec![Cell::count(place), Cell::text(&row.key.model), Cell::summary(&row.score, 3)];
        cells.extend([&row.key.input, &row.key.implementation].map(Cell::text));
        cells.push(Cell::number_or_absent(row.interval.map(|(low, _)| low), 3));
        cells.push(Cell::number_or_absent(row.interval.map(|(_, high)| high), 3));
        cells.extend([Cell::text(&row.bundle), Cell::count(row.fits.len())]);
        match &ranks {
            Some((mean_ranks, groups, _)) => {
                cells.push(Cell::number(mean_ranks[index], 2));
                cells.push(Cell::text(&groups[index]));
            }
            None => cells.extend([Cell::Absent, Cell::Absent]),
        }
        cells.extend(row.shown.iter().cloned());
        let mut line: Vec<Cell> = [experiment, dataset, size, variant, division].map(Cell::text).into();
        line.extend(cells.iter().cloned());
        all.rows.push(line);
        table.rows.push(cells);
        if let Some(cost) = row.cost.filter(|&cost| cost > 0.0) {
            let name = format!("{}, {}", row.key.model_name(), row.bundle);
            points.push(ScatterPoint { number: index + 1, name, cost, score: row.score.mean });
        }
    }
    if let Some((_, _, note)) = ranks {
        table.notes.push(note);
    }
    let figure = (!points.is_empty()).then(|| {
        let title = format!("Score over cost; numbers refer to the rows of the table: {title}");
        scatter(title, "seconds of one fit, on the machine of its bundle", SCORE.label, &points)
    });
    let first = overview_row(&title, &rows);
    Ok(BoardTable { title, table, figure, first })
}

fn overview_columns() -> Vec<Column> {
    vec![
        Column::text("table", "table"),
        Column::number("entries", "entries"),
        Column::number("bundles", "bundles"),
        Column::text("model", "first"),
        Column::number(SCORE.key, SCORE.label),
        Column::number("interval_low", "95 % from"),
        Column::number("interval_high", "to"),
    ]
}

/// Returns the line of a table in the overview; `rows` are sorted.
fn overview_row(title: &str, rows: &[Row]) -> Vec<Cell> {
    let bundles: BTreeSet<&str> = rows.iter().map(|row| row.bundle.as_str()).collect();
    let mut cells = vec![Cell::text(title), Cell::count(rows.len()), Cell::count(bundles.len())];
    match rows.first() {
        Some(first) => {
            let alike = rows.iter().filter(|row| row.score.mean == first.score.mean).count();
            let more = if alike > 1 { format!(", {} more", alike - 1) } else { String::new() };
            cells.push(Cell::text(first.key.model_name() + &more));
            cells.push(Cell::summary(&first.score, 3));
            cells.push(Cell::number_or_absent(first.interval.map(|(low, _)| low), 3));
            cells.push(Cell::number_or_absent(first.interval.map(|(_, high)| high), 3));
        }
        None => cells.extend(std::iter::repeat_n(Cell::Absent, 4)),
    }
    cells
}

/// Mean ranks over the fits that all rows have, the groups of each row, and a note for the reader.
type Ranks = (Vec<f64>, Vec<String>, String);

fn ranks(rows: &[Row]) -> Result<Option<Ranks>, ReportError> {
    let Some(first) = rows.first() else { return Ok(None) };
    let common: Vec<(u64, usize)> =
        first.fits.keys().copied().filter(|fit| rows.iter().all(|row| row.fits.contains_key(fit))).collect();
    if rows.len() < 2 || common.len() < 2 {
        return Ok(None);
    }
    let blocks: Vec<Vec<f64>> = common.iter().map(|fit| rows.iter().map(|row| row.fits[fit]).collect()).collect();
    let test = friedman(&blocks).map_err(|error| ReportError::Records(error.to_string()))?;
    let order = test.order();
    let mut groups = vec![String::new(); rows.len()];
    for (number, group) in test.groups().iter().enumerate() {
        for place in group.clone() {
            let numbers = &mut groups[order[place]];
            *numbers += &format!("{}{}", if numbers.is_empty() { "" } else { " " }, number + 1);
        }
    }
    let note = format!(
        "Mean ranks over {} fits (seeds and folds); critical difference {:.2} (Nemenyi, 5 %): entries of one group \
         differ by less. Fits share flows, so the true critical difference is larger.",
        common.len(),
        test.critical_difference
    );
    Ok(Some((test.mean_ranks.clone(), groups, note)))
}

/// Ranks the models that appear in several tables.
fn board_rankings(entries: &[BoardEntry]) -> Result<Vec<(Figure, Table)>, ReportError> {
    // If several runs have the same row, none represents the model.
    let mut rows: BTreeMap<(TableKey, RowKey), Vec<Vec<Record>>> = BTreeMap::new();
    for entry in entries {
        let mut of_run: BTreeMap<(TableKey, RowKey), Vec<Record>> = BTreeMap::new();
        let records = with_current_variants(&entry.run.records);
        for record in records.iter().filter(|record| is_ranked(record, SCORE)) {
            let RunKey { experiment, dataset, size, .. } = record.key.clone();
            let row = (TableKey { experiment, dataset, size }, RowKey::of(&record.key));
            of_run.entry(row).or_default().push(record.clone());
        }
        of_run.into_iter().for_each(|(row, records)| rows.entry(row).or_default().push(records));
    }
    let alone = rows.into_values().filter(|runs| runs.len() == 1);
    let records: Vec<Record> = alone.flatten().flatten().collect();
    let drawn = rankings(&records, SCORE.key)?.into_iter().map(|ranking| {
        let models: Vec<String> =
            ranking.models.iter().map(|model| format!("{} · {}", model.model, model.input)).collect();
        let title = format!("Critical difference over {} tables: {}", ranking.tables.len(), ranking.variant);
        (critical_difference(title, &models, &ranking.test), ranking_table(&ranking))
    });
    Ok(drawn.collect())
}

/// Returns a table with a line per bundle.
fn history(entries: &[BoardEntry]) -> Table {
    let mut table = Table {
        title: "Bundles".to_owned(),
        columns: vec![
            Column::text("bundle", "bundle"),
            Column::text("run", "run"),
            Column::number("seeds", "seeds"),
            Column::number("fits", "fits"),
            Column::text("version", "etcbench"),
            Column::text("commit", "commit"),
            Column::text("system", "system"),
            Column::text("processor", "processor"),
            Column::text("device", "device"),
        ],
        ..Table::default()
    };
    for entry in entries {
        let facts = &entry.run.facts;
        let provenance = &facts.provenance;
        let unknown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
        let commit = provenance.commit.as_ref().map(|commit| commit.get(..10).unwrap_or(commit).to_owned());
        let run = format!("{} on {}, {}", facts.experiment, facts.datasets.join(" + "), facts.size);
        let mut cells = vec![Cell::text(&entry.bundle), Cell::text(run)];
        cells.extend([Cell::count(facts.seeds.len()), Cell::count(facts.fits.len())]);
        cells.push(Cell::text(&provenance.version));
        cells.push(Cell::text(unknown(&commit)));
        cells.push(Cell::text(&provenance.system));
        cells.push(Cell::text(unknown(&provenance.processor)));
        cells.push(Cell::text(&provenance.device));
        table.rows.push(cells);
    }
    table
}
