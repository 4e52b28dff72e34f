//! `--dry-run` of a run: shows the resolved experiment, its flows, its fits and which of them are cached, the expected
//! memory, and the time expected from earlier runs; with `--slurm`, the jobs that would be submitted.

use std::path::Path;

use serde_json::{Value, json};

use super::output::{count, duration};
use super::run::Options;
use super::{Verdict, output, progress};
use crate::experiment::{
    self, Experiment, Outline, OutlinedFit, Overrides, PlannedRun, RunKey, SlurmOptions, results_folder, results_name,
};
use crate::report::{Cell, Column, StoredRun, Table};

/// Shows what runs of these experiments would compute.
pub(super) fn runs(
    project: &Path,
    experiments: &[Experiment],
    overrides: &Overrides,
    options: &Options,
) -> anyhow::Result<Verdict> {
    let as_json = options.as_json();
    let settings = options.settings(project)?;
    let progress = progress::for_standard_error();
    let rates = Rates::read(project);
    let mut described = Vec::new();
    for experiment in experiments {
        let outline = experiment::outline(experiment, &settings, progress.as_ref())?;
        let folder = results_folder(project).join(results_name(experiment, overrides.change_results()));
        let time = rates.expected(&outline.fits);
        if as_json {
            described.push(json!({
                "experiment": experiment.name,
                "folder": folder.display().to_string(),
                "resolved": experiment.resolved,
                "outline": outline,
                "expected_seconds": time.seconds,
                "of_unknown_time": time.unknown,
            }));
            continue;
        }
        say!("# {}, with everything it extends\n{}", experiment.name, experiment.resolved);
        say!("{}", output::table(&flows_table(experiment, &outline)));
        say!("{}", output::table(&fits_table(&outline, &rates)));
        for left in &outline.left_out {
            say!("{} is left out: {}", left.variant, left.problem);
        }
        say!("Results: {}", folder.display());
        match &outline.memory {
            Some(need) => {
                let verdict = if need.expected > need.available { "; the run would be refused" } else { "" };
                say!("Memory: {} MiB of {} MiB available, {}{verdict}", need.expected, need.available, need.what);
            }
            None => say!("Memory: unknown, because this system does not report it"),
        }
        say!("Time: {}\n", time.text());
    }
    if as_json {
        output::json(&json!({"dry_run": true, "runs": described}));
    }
    Ok(Verdict::Done)
}

fn flows_table(experiment: &Experiment, outline: &Outline) -> Table {
    let columns = ["classes", "flows", "training", "validation", "test"].map(|name| Column::number(name, name));
    let row = |variant: &experiment::OutlinedVariant| {
        let counts = [variant.classes, variant.flows, variant.training, variant.validation, variant.test];
        let mut cells = vec![Cell::text(&variant.name)];
        cells.extend(counts.map(Cell::count));
        cells
    };
    Table {
        title: format!("{}: flows, divided for the first seed", experiment.name),
        columns: [vec![Column::text("variant", "variant")], columns.into()].concat(),
        rows: outline.variants.iter().map(row).collect(),
        ..Table::default()
    }
}

/// Returns a table with a row per model, input and variant.
fn fits_table(outline: &Outline, rates: &Rates) -> Table {
    let mut rows: Vec<(&OutlinedFit, Vec<&OutlinedFit>)> = Vec::new();
    let row_of = |key: &RunKey| [&key.variant, &key.model, &key.input, &key.implementation].map(String::clone);
    for fit in &outline.fits {
        match rows.iter_mut().find(|(first, _)| row_of(&first.key) == row_of(&fit.key)) {
            Some((_, fits)) => fits.push(fit),
            None => rows.push((fit, vec![fit])),
        }
    }
    let cached = outline.fits.iter().filter(|fit| fit.cached).count();
    let mut table = Table {
        title: format!("{}, {cached} of them in the cache", count(outline.fits.len(), "fit")),
        columns: vec![
            Column::text("variant", "variant"),
            Column::text("model", "model"),
            Column::text("input", "input"),
            Column::number("fits", "fits"),
            Column::number("cached", "in the cache"),
            Column::number("expected_seconds", "seconds expected"),
        ],
        ..Table::default()
    };
    for (first, fits) in rows {
        let new: Vec<OutlinedFit> = fits.iter().filter(|fit| !fit.cached).map(|fit| (*fit).clone()).collect();
        let time = rates.expected(&new);
        let mut cells = [&first.key.variant, &first.key.model, &first.key.input].map(Cell::text).to_vec();
        cells.extend([fits.len(), fits.len() - new.len()].map(Cell::count));
        cells.push(if time.unknown.is_empty() { Cell::number(time.seconds, 1) } else { Cell::Undefined(None) });
        table.rows.push(cells);
    }
    table
}

/// How long fits took in the stored runs, in seconds per flow of their variants, by model, input and implementation.
struct Rates(Vec<([String; 3], f64)>);

/// The expected time of fits.
struct ExpectedTime {
    seconds: f64,
    /// Models without a stored run.
    unknown: Vec<String>,
    /// Whether settings are tuned, for which no time is known.
    tuned: bool,
}

impl Rates {
    fn read(project: &Path) -> Self {
        let mut rates: Vec<([String; 3], f64)> = Vec::new();
        for folder in StoredRun::folders(&results_folder(project)).unwrap_or_default() {
            let bytes = std::fs::read(folder.join("run.json")).unwrap_or_default();
            let Ok(run) = serde_json::from_slice::<Value>(&bytes) else { continue };
            let flows = |variant: &str| {
                let variants = run["variants"].as_array()?;
                variants.iter().find(|known| known["name"] == variant)?["flows"].as_f64().filter(|&flows| flows > 0.0)
            };
            for fit in run["fits"].as_array().into_iter().flatten() {
                let name = |key: &str| fit[key].as_str().map(str::to_owned);
                let seconds = |part: &str| fit[part]["wall_seconds"].as_f64();
                let (Some(model), Some(input), Some(implementation)) =
                    (name("model"), name("input"), name("implementation"))
                else {
                    continue;
                };
                let time = seconds("fit").zip(seconds("predict")).zip(fit["variant"].as_str().and_then(flows));
                rates.extend(
                    time.map(|((fit, predict), flows)| ([model, input, implementation], (fit + predict) / flows)),
                );
            }
        }
        Self(rates)
    }

    /// Returns the median of a model's rates; `None` if no stored run has it.
    fn rate(&self, fit: &OutlinedFit) -> Option<f64> {
        let key = [&fit.key.model, &fit.key.input, &fit.key.implementation];
        let matching = self.0.iter().filter(|(known, _)| known.iter().eq(key)).map(|(_, rate)| *rate);
        let mut rates: Vec<f64> = matching.collect();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied()
    }

    /// Returns the expected time of the fits that are not in the cache.
    fn expected(&self, fits: &[OutlinedFit]) -> ExpectedTime {
        let mut time = ExpectedTime { seconds: 0.0, unknown: Vec::new(), tuned: false };
        for fit in fits.iter().filter(|fit| !fit.cached) {
            time.tuned |= fit.tuned;
            match self.rate(fit) {
                Some(rate) => time.seconds += rate * fit.flows as f64,
                None => {
                    let name = format!("{} on {}", fit.key.model, fit.key.input);
                    if !time.unknown.contains(&name) {
                        time.unknown.push(name);
                    }
                }
            }
        }
        time
    }
}

impl ExpectedTime {
    fn text(&self) -> String {
        let rest = if self.tuned { "; plus the trials of tuned models" } else { "" };
        match (self.unknown.as_slice(), self.seconds) {
            ([], seconds) => {
                format!("about {} of fits, by how long they took per flow in the stored runs{rest}", duration(seconds))
            }
            (unknown, 0.0) => format!("unknown: no stored run has {}{rest}", unknown.join(", ")),
            (unknown, seconds) => format!(
                "about {} of fits, plus {}, which no stored run has{rest}",
                duration(seconds),
                unknown.join(", ")
            ),
        }
    }
}

/// Shows what would be submitted to Slurm.
pub(super) fn slurm(
    project: &Path,
    planned: &PlannedRun,
    options: &SlurmOptions,
    gather: bool,
    as_json: bool,
) -> anyhow::Result<Verdict> {
    let missing = planned.missing(&super::run::cache(project));
    let jobs = match missing.is_empty() {
        true => Vec::new(),
        false => experiment::preview(planned, &std::path::absolute(project)?, &missing, options, gather)?,
    };
    if as_json {
        let job = |(arguments, script): &(Vec<String>, String)| json!({"arguments": arguments, "script": script});
        output::json(&json!({
            "dry_run": true,
            "run": planned.plan.name,
            "units": planned.units.len(),
            "missing": missing,
            "jobs": jobs.iter().map(job).collect::<Vec<_>>(),
        }));
        return Ok(Verdict::Done);
    }
    let units = count(planned.units.len(), "unit");
    say!("{}: {units}, {} of them to compute, {}", planned.plan.name, missing.len(), count(jobs.len(), "job"));
    for (number, (arguments, script)) in jobs.iter().enumerate() {
        say!("\nJob {}: sbatch {}\n{script}", number + 1, arguments.join(" "));
    }
    if !jobs.is_empty() {
        say!("Nothing is submitted. Dependencies refer to the job numbers shown here.");
    }
    Ok(Verdict::Done)
}
