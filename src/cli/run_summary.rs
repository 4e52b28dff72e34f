//! The report at the end of a run: five lines (what was computed and how long it took, the best score, where to find
//! tables and details, and what to look at next), or one JSON object; with `--verbose`, also where the time went.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::output::{self, Verbosity, count, duration, verbosity};
use crate::experiment::{self, BestScore, Run, StageCounts};
use crate::report::{RunFacts, Table, ToleranceFile};

/// The facts reported at the end of a run.
pub(super) struct RunSummary {
    /// Name of its folder.
    name: String,
    folder: PathBuf,
    experiment: String,
    title: String,
    fits: usize,
    reused: usize,
    flows_reused: bool,
    /// Number of units, if other processes computed them.
    units: Option<usize>,
    failed: usize,
    best: Option<BestScore>,
    wall_seconds: Option<f64>,
    started: Option<String>,
    overrides: Vec<String>,
    kept: Option<PathBuf>,
    stages: StageCounts,
    /// Seconds of the fits that were computed in this run, by model and input.
    times: Vec<(String, f64)>,
    tables: Vec<Table>,
    /// Whether there are expectations to check it against.
    has_tolerances: bool,
}

impl RunSummary {
    /// Collects the facts about `run`, whose folder was just written.
    ///
    /// # Errors
    /// A `run.json` that cannot be read back.
    pub(super) fn new(
        project: &Path,
        run: &Run,
        folder: &Path,
        units: Option<usize>,
        kept: Option<PathBuf>,
        tables: Vec<Table>,
    ) -> anyhow::Result<Self> {
        let facts = RunFacts::read(folder)?;
        let mut times: Vec<(String, f64)> = Vec::new();
        for row in run.rows.iter().filter(|row| !row.reused) {
            let name = format!("{} · {}", row.key.model, row.key.input);
            let seconds = row.outcome.fit.wall_seconds + row.outcome.predict.wall_seconds;
            match times.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += seconds,
                None => times.push((name, seconds)),
            }
        }
        times.sort_by(|left, right| right.1.total_cmp(&left.1));
        let tolerances = experiment::results_folder(project).join("tolerances");
        let RunFacts { experiment, datasets, size, .. } = &facts;
        Ok(Self {
            name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            folder: folder.to_owned(),
            // The tolerances do not apply to a run that was changed on the command line.
            has_tolerances: folder.ends_with(format!("{experiment}-{}-{size}", datasets.join("+")))
                && ToleranceFile::path(&tolerances, experiment, &datasets.join("+"), size).is_file(),
            experiment: facts.experiment,
            title: facts.title,
            fits: run.rows.len(),
            reused: run.rows.iter().filter(|row| row.reused).count(),
            flows_reused: run.flows_reused,
            units,
            failed: run.failures.len(),
            best: facts.best,
            wall_seconds: facts.invocation.wall_seconds,
            started: facts.invocation.started,
            overrides: facts.invocation.overrides,
            kept,
            stages: run.stages.clone(),
            times,
            tables,
        })
    }

    /// Returns how many fits failed.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// Returns its tables.
    pub(super) fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Returns the run as JSON.
    pub(super) fn to_json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "folder": self.folder.display().to_string(),
            "experiment": self.experiment,
            "title": self.title,
            "started": self.started,
            "overrides": self.overrides,
            "wall_seconds": self.wall_seconds,
            "fits": self.fits,
            "fits_from_cache": self.reused,
            "flows_from_cache": self.flows_reused,
            "failed_fits": self.failed,
            "best": self.best,
            "older_run_kept_in": self.kept.as_ref().map(|kept| kept.display().to_string()),
            "tables": self.tables.iter().map(Table::to_json).collect::<Vec<_>>(),
        })
    }

    /// `table2: 54 fits, 12 of them from the cache, in 3 min 12 s; results in results/table2-lab-demo`.
    fn head(&self) -> String {
        let computed = self.fits - self.reused;
        let how = match self.units {
            None if self.flows_reused => format!(", {} of them from the cache, and the flows too", self.reused),
            None => format!(", {} of them from the cache", self.reused),
            Some(units) if computed > 0 => format!(" of {}, {computed} of them computed now", count(units, "unit")),
            Some(units) => format!(" of {}", count(units, "unit")),
        };
        let time = self.wall_seconds.map_or(String::new(), |seconds| format!(", in {}", duration(seconds)));
        format!("{}: {}{how}{time}; results in {}", self.experiment, count(self.fits, "fit"), self.folder.display())
    }

    /// Prints what `--verbose` adds.
    fn tell_details(&self) {
        for (stage, counts) in &self.stages {
            tell!("  stage {stage}: {} computed, {} from the cache", counts.computed, counts.reused);
        }
        for (model, seconds) in &self.times {
            tell!("  fits of {model}: {}", duration(*seconds));
        }
    }
}

/// Reports how runs ended.
pub(super) fn tell(summaries: &[RunSummary]) {
    for summary in summaries {
        tell!("{}", summary.head());
        if let Some(best) = &summary.best {
            tell!("  best: {best}");
        }
        if verbosity() == Verbosity::Verbose {
            summary.tell_details();
        }
    }
    match summaries {
        [one] => {
            let folder = one.folder.display();
            tell!("  tables: {folder}/tables, as CSV, Markdown and LaTeX; every value: records.csv");
            tell!("  details: predictions, splits, leaks.json and run.json in the same folder");
            let check = match one.has_tolerances {
                true => format!("; etcbench check {} (its tolerances)", one.name),
                false => String::new(),
            };
            tell!("  next: etcbench report {} (figures){check}", one.name);
        }
        [] => {}
        _ => tell!("  next: etcbench report (all runs as a page, with figures); etcbench list runs"),
    }
}

/// Prints runs as one JSON object.
pub(super) fn print_json(summaries: &[RunSummary], rankings: &[Table]) {
    output::json(&json!({
        "runs": summaries.iter().map(RunSummary::to_json).collect::<Vec<_>>(),
        "rankings": rankings.iter().map(Table::to_json).collect::<Vec<_>>(),
    }));
}
