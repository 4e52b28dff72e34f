//! All tables of one run, each with its role. The role determines whether a table is printed, whether the page shows it
//! unfolded, and the names of its files.

use std::path::{Path, PathBuf};

use super::comparisons::{comparison_table, read_comparisons};
use super::decision_cost::decision_costs;
use super::evaluation::{evaluation_figures, evaluation_tables, read_evaluation, title_of};
use super::ladder::{Ladder, is_ladder};
use super::ladder_tables::{figure, ladder_table, rungs_table, steps_table};
use super::leaks::{leak_notes, read_leaks};
use super::reproduced::reproduced_tables;
use super::statistics::statistics_tables;
use super::stored_run::VariantFacts;
use super::sweep::{is_sweep, sweep_figures, sweep_tables};
use super::tables::tables;
use super::tuning::tuning_tables;
use super::{Figure, PublishedTable, ReportError, RunFacts, StoredRun, Table, file_error};
use etcbench_experiment::{EvaluationKind, Experiment, Record, TableLayout};
use etcbench_split::SmallClass;
use etcbench_storage::write_whole;

/// The titles and names for the tables of a run.
pub struct RunHeading<'a> {
    /// The experiment's name.
    pub experiment: &'a str,
    /// Its title.
    pub title: &'a str,
    /// The layout of its tables.
    pub layout: TableLayout,
    /// Its datasets.
    pub datasets: &'a [String],
    /// Its size.
    pub size: &'a str,
}

impl<'a> RunHeading<'a> {
    /// Returns the heading of an experiment.
    pub fn of(experiment: &'a Experiment) -> Self {
        let Experiment { name, title, layout, datasets, size, .. } = experiment;
        Self { experiment: name, title, layout: *layout, datasets, size }
    }

    /// Returns the heading of a stored run.
    pub fn of_stored(run: &'a StoredRun) -> Self {
        let RunFacts { experiment, title, datasets, size, .. } = &run.facts;
        Self { experiment, title, layout: run.layout(), datasets, size }
    }
}

/// The role of a table in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableRole {
    /// A main table, with its number from 0.
    Main(usize),
    /// All settings tried by tuning.
    Tuning,
    /// Tests of whether the models differ from the best.
    Differences,
    /// Tests of whether the models differ, for all pairs.
    AllDifferences,
    /// Every published number with the measured one.
    Published,
    /// Every metric with its intervals.
    Statistics,
    /// The size and leaks of a ladder's rungs.
    Rungs,
    /// The loss from each step of a ladder.
    Steps,
    /// Predictions under conditions of a kind.
    Evaluation(EvaluationKind),
    /// The cost of decisions.
    Cost,
}

impl TableRole {
    /// Returns the suffix of its file name, after the run or the experiment.
    fn file_suffix(self) -> String {
        match self {
            Self::Main(0) => String::new(),
            Self::Main(number) => format!("-{}", number + 1),
            Self::Tuning => "-tuning".to_owned(),
            Self::Differences => "-differences".to_owned(),
            Self::AllDifferences => "-differences-all".to_owned(),
            Self::Published => "-published".to_owned(),
            Self::Statistics => "-statistics".to_owned(),
            Self::Rungs => "-rungs".to_owned(),
            Self::Steps => "-steps".to_owned(),
            Self::Evaluation(kind) => format!("-{}", kind.name()),
            Self::Cost => "-cost".to_owned(),
        }
    }

    /// Returns the suffix of its title, after that of the experiment.
    fn subtitle(self) -> String {
        let words = match self {
            Self::Evaluation(kind) => return format!(": {}", title_of(kind)),
            Self::Main(0) => "",
            Self::Main(_) => ": models",
            Self::Tuning => ": what was tried",
            Self::Differences => ": whether the models differ",
            Self::AllDifferences => ": whether the models differ, all pairs",
            Self::Published => ": measured beside published",
            Self::Statistics => ": every metric with its intervals",
            Self::Rungs => ": what its rungs give away",
            Self::Steps => ": what each step takes",
            Self::Cost => ": cost of decisions",
        };
        words.to_owned()
    }
}

/// A table of a run.
pub(super) struct RunTable {
    /// Its role.
    pub role: TableRole,
    /// The table.
    pub table: Table,
    /// Whether it is printed; long tables are only written to files.
    pub printed: bool,
}

impl RunTable {
    /// Returns the name of its files, without extension. `run` is the experiment's name for files within a run's
    /// folder, or the name of the run's folder for files among those of other runs.
    pub(super) fn file_name(&self, run: &str) -> String {
        format!("{run}{}", self.role.file_suffix())
    }
}

/// The tables and figures of a run.
pub(super) struct Shown {
    /// Its tables.
    pub tables: Vec<RunTable>,
    /// The figures of a ladder and of an evaluation, each with the name of its file.
    pub figures: Vec<(String, Figure)>,
}

/// Builds the tables of the run in the folder `run`, and the figures of the same data. `published` is the folder of
/// published tables.
///
/// # Errors
/// Records contradict one another, or a file of the run or a published table is invalid.
pub(super) fn run_tables(
    published: &Path,
    heading: &RunHeading<'_>,
    records: &[Record],
    run: &Path,
) -> Result<Shown, ReportError> {
    let published: Vec<PublishedTable> = PublishedTable::read(published, heading.experiment)?.into_iter().collect();
    // Runs of earlier versions have no leak report.
    let leaks = Some(run.join("leaks.json")).filter(|path| path.is_file());
    let leaks = leaks.map_or(Ok(Vec::new()), |path| read_leaks(&path))?;
    let facts = run.join("run.json").is_file().then(|| RunFacts::read(run)).transpose()?;
    let ladder = is_ladder(records);
    let mut notes = if ladder { Vec::new() } else { leak_notes(&leaks) };
    notes.extend(facts.iter().flat_map(|facts| facts.data_notes.iter().cloned()));
    notes.extend(facts.iter().flat_map(|facts| class_notes(&facts.variants)));
    let left_out = facts.map_or(Vec::new(), |facts| facts.left_out);
    let mut figures = Vec::new();
    let mut all: Vec<RunTable> = Vec::new();
    let mut add = |role: TableRole, mut table: Table, printed: bool| {
        table.title =
            format!("{}{} ({}, {})", heading.title, role.subtitle(), heading.datasets.join(" + "), heading.size);
        all.push(RunTable { role, table, printed });
    };
    let swept = is_sweep(records);
    let mut of_ladder = None;
    let main = if ladder {
        let ladder = Ladder::read(run, records)?;
        of_ladder = Some((rungs_table(&ladder, &leaks), steps_table(&ladder)));
        figures.push(("steps".to_owned(), figure(&ladder, heading.title)));
        vec![ladder_table(&ladder, &left_out)]
    } else if swept {
        sweep_tables(records)?
    } else {
        tables(records, heading.layout, &published)?
    };
    for (number, mut table) in main.into_iter().enumerate() {
        table.notes.extend(notes.iter().cloned());
        add(TableRole::Main(number), table, true);
    }
    if let Some((rungs, steps)) = of_ladder {
        add(TableRole::Rungs, rungs, true);
        add(TableRole::Steps, steps, false);
    }
    let evaluation = read_evaluation(run)?;
    figures.extend(evaluation_figures(&evaluation, heading.title));
    for (kind, table) in evaluation_tables(&evaluation) {
        // The table of zeroed bytes has many columns, so it is only written to a file, and drawn.
        add(TableRole::Evaluation(kind), table, kind != EvaluationKind::ZeroedBytes);
    }
    if let Some((table, drawn)) = decision_costs(records, heading.title)? {
        add(TableRole::Cost, table, true);
        figures.extend(drawn);
    }
    for table in tuning_tables(records) {
        add(TableRole::Tuning, table, true);
    }
    // Runs of earlier versions have no paired tests.
    let comparisons = Some(run.join("comparisons.csv")).filter(|path| path.is_file());
    let comparisons = comparisons.map_or(Ok(Vec::new()), |path| read_comparisons(&path))?;
    if let Some(table) = comparison_table(&comparisons, true) {
        // For a sweep these are the tests at every point; its main table is read along the axis instead.
        add(TableRole::Differences, table, !swept && !ladder);
    }
    if let Some(table) = comparison_table(&comparisons, false) {
        add(TableRole::AllDifferences, table, false);
    }
    for table in reproduced_tables(records, &published)? {
        add(TableRole::Published, table, false);
    }
    for table in statistics_tables(records)? {
        add(TableRole::Statistics, table, false);
    }
    Ok(Shown { tables: all, figures })
}

/// Returns a note for each class that was left out, naming the variants.
fn class_notes(variants: &[VariantFacts]) -> Vec<String> {
    let mut found: Vec<(&SmallClass, Vec<&str>)> = Vec::new();
    for variant in variants {
        for small in &variant.small_classes {
            match found.iter_mut().find(|(other, _)| *other == small) {
                Some((_, names)) => names.push(&variant.name),
                None => found.push((small, vec![&variant.name])),
            }
        }
    }
    let note = |(small, names): (&SmallClass, Vec<&str>)| {
        // Older versions stored only the number of flows.
        let lacks = if small.lacks.is_empty() { format!("it has {} flows", small.flows) } else { small.lacks.clone() };
        format!("Left out, {}: class {}, since {lacks}", names.join(" and "), small.class)
    };
    found.into_iter().map(note).collect()
}

/// Writes a run's tables as CSV, Markdown and LaTeX to `folder`, a subfolder of the run's, and a sweep's curves as SVG.
/// Returns the tables to print and the paths of the written files.
///
/// # Errors
/// Records contradict one another, a file of the run or a published table is invalid, or a file cannot be written.
pub fn write_run_tables(
    published: &Path,
    heading: &RunHeading<'_>,
    records: &[Record],
    folder: &Path,
) -> Result<(Vec<Table>, Vec<PathBuf>), ReportError> {
    let run = folder.parent().unwrap_or(Path::new("."));
    let mut printed = Vec::new();
    let mut paths = Vec::new();
    let shown = run_tables(published, heading, records, run)?;
    for table in shown.tables {
        paths.extend(write_table(&table.table, folder, &table.file_name(heading.experiment))?);
        if table.printed {
            printed.push(table.table);
        }
    }
    for (name, figure) in sweep_figures(records)?.into_iter().chain(shown.figures) {
        let path = folder.join(format!("{}-{name}.svg", heading.experiment));
        write_whole(&path, figure.to_svg_file().as_bytes()).map_err(|problem| file_error(&path, problem))?;
        paths.push(path);
    }
    Ok((printed, paths))
}

/// Returns a run's tables as CSV and Markdown, each with its file name; `run` is the run's folder.
///
/// # Errors
/// Same as [`write_run_tables`], except for writing.
pub fn run_table_texts(
    published: &Path,
    heading: &RunHeading<'_>,
    records: &[Record],
    run: &Path,
) -> Result<Vec<(String, String)>, ReportError> {
    let mut texts = Vec::new();
    for table in run_tables(published, heading, records, run)?.tables {
        let name = table.file_name(heading.experiment);
        texts.push((format!("{name}.csv"), table.table.to_csv()?));
        texts.push((format!("{name}.md"), table.table.to_markdown()));
    }
    Ok(texts)
}

/// Writes a table as `<name>.csv`, `.md` and `.tex`, and returns the paths of these files.
pub(super) fn write_table(table: &Table, folder: &Path, name: &str) -> Result<Vec<PathBuf>, ReportError> {
    let contents = [("csv", table.to_csv()?), ("md", table.to_markdown()), ("tex", table.to_latex())];
    let mut paths = Vec::new();
    for (extension, content) in contents {
        let path = folder.join(format!("{name}.{extension}"));
        write_whole(&path, content.as_bytes()).map_err(|problem| file_error(&path, problem))?;
        paths.push(path);
    }
    Ok(paths)
}
