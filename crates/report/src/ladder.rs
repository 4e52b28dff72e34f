//! The scores of a ladder, computed only from stored predictions: on every rung the macro F1 over all flows tested in a
//! repetition, with an interval over captures, and the loss from each step.
//!
//! Intervals are from a bootstrap over captures (stratified by class), not over flows: whether flows of one capture are
//! classified correctly is correlated. Rungs that test the same captures share the draws, so the interval of a loss is
//! paired. If a class is tested on a single capture, resampling is impossible and there is no interval.

use std::collections::BTreeMap;
use std::path::Path;

use super::aggregate::RowKey;
use super::predictions_file::{predictions_path, read_predictions};
use super::{ReportError, file_error};
use etcbench_evaluate::{ConfusionMatrix, Interval, Metric, cluster_draws, percentile_interval};
use etcbench_experiment::{LADDER, LadderOptions, RUNGS, Record, Rung};

/// Number of bootstrap draws.
const RESAMPLES: usize = 1000;

/// Returns whether records are from a ladder: the experiment's name says so, and every variant is a rung.
pub(super) fn is_ladder(records: &[Record]) -> bool {
    let of_ladder =
        |record: &Record| record.key.experiment.ends_with(LADDER) && Rung::of_variant(&record.key.variant).is_some();
    !records.is_empty() && records.iter().all(of_ladder)
}

/// A model on one rung.
pub(super) struct RungScore {
    /// Index of the rung in [`RUNGS`].
    pub rung: usize,
    /// Mean over repetitions of the macro F1 over all flows tested in a repetition.
    pub macro_f1: f64,
    /// Interval over captures; `None` if a class is tested on a single capture.
    pub interval: Option<Interval>,
    /// Number of classes on the rung.
    pub classes: usize,
    /// The loss from the step to this rung.
    pub loss: Option<Loss>,
}

/// The loss of macro F1 from a step.
pub(super) struct Loss {
    /// The rung that the step starts from, as an index into [`RUNGS`].
    pub from: usize,
    /// Macro F1 at the start minus that at the end of the step, over the classes of both rungs.
    pub macro_f1: f64,
    /// Interval over captures; `None` as for scores.
    pub interval: Option<Interval>,
}

/// A model with one input, masked or not, on all rungs.
pub(super) struct LadderRow {
    /// The model.
    pub model: String,
    /// What it reads.
    pub input: String,
    /// Its implementation.
    pub implementation: String,
    /// Whether its bytes are masked.
    pub masked: bool,
    /// Its rungs, in order, without those on which it cannot be fitted.
    pub rungs: Vec<RungScore>,
}

/// The size of a ladder's variant.
pub(super) struct RungSize {
    /// The variant.
    pub variant: String,
    /// Number of classes.
    pub classes: usize,
    /// Number of rows tested in a repetition.
    pub rows: usize,
    /// Number of tested rows per capture, in the order of the captures' names.
    pub captures: Vec<usize>,
}

/// A ladder, read from a run's folder.
pub(super) struct Ladder {
    /// The models, unmasked ones first.
    pub rows: Vec<LadderRow>,
    /// The variants, in order.
    pub sizes: Vec<RungSize>,
    /// Number of folds of a repetition.
    pub folds: usize,
    /// Number of repetitions.
    pub repeats: usize,
}

/// Counts of a model's predictions on one rung, per capture.
struct Counted {
    rung: usize,
    classes: Vec<String>,
    /// For every repetition and capture, the row-major matrix of flow counts by class and prediction.
    repeats: Vec<BTreeMap<String, Vec<u64>>>,
    /// The seed of each repetition and its number within the seed.
    named: Vec<(u64, usize)>,
    /// Number of fits.
    fits: usize,
}

impl Counted {
    /// Returns the captures with a tested flow, sorted.
    fn captures(&self) -> Vec<&str> {
        let mut captures: Vec<&str> =
            self.repeats.iter().flat_map(|repeat| repeat.keys().map(String::as_str)).collect();
        captures.sort_unstable();
        captures.dedup();
        captures
    }

    /// Returns the number of captures with tested flows of a class.
    fn captures_of(&self, class: usize) -> usize {
        let classes = self.classes.len();
        let row = class * classes..(class + 1) * classes;
        self.repeats[0].values().filter(|counts| counts[row.clone()].iter().any(|&count| count > 0)).count()
    }

    /// Returns the mean over repetitions of the macro F1 over the classes `among`, with capture `i` counted `times[i]`
    /// times. Only flows of these classes are considered.
    fn macro_f1(&self, captures: &[&str], times: &[u64], among: &[usize]) -> f64 {
        let classes = self.classes.len();
        let mut sum = 0.0;
        for repeat in &self.repeats {
            let mut counts = vec![0; classes * classes];
            for (capture, &times) in captures.iter().zip(times).filter(|(_, times)| **times > 0) {
                let Some(own) = repeat.get(*capture) else { continue };
                for &label in among {
                    let row = label * classes..(label + 1) * classes;
                    for (count, own) in counts[row.clone()].iter_mut().zip(&own[row]) {
                        *count += own * times;
                    }
                }
            }
            let of_class = |matrix: &ConfusionMatrix| {
                among.iter().map(|&class| matrix.class_scores(class).f1.unwrap_or(0.0)).sum::<f64>()
            };
            sum += ConfusionMatrix::from_counts(counts, classes).map_or(0.0, |matrix| of_class(&matrix))
                / among.len() as f64;
        }
        sum / self.repeats.len() as f64
    }
}

/// The captures that a rung tests, and the draws of the bootstrap over them.
struct Design<'a> {
    captures: Vec<&'a str>,
    draws: Vec<Vec<u64>>,
}

impl<'a> Design<'a> {
    /// Draws the samples; a capture's stratum is the class of most of its flows.
    fn new(own: &'a Counted, captures: Vec<&'a str>, number: u64) -> Self {
        let classes = own.classes.len();
        let stratum = |capture: &&str| {
            let counts = own.repeats.iter().find_map(|repeat| repeat.get(*capture));
            let flows = |class: usize| {
                counts.map_or(0, |counts| counts[class * classes..(class + 1) * classes].iter().sum::<u64>())
            };
            (0..classes).max_by_key(|&class| (flows(class), std::cmp::Reverse(class))).unwrap_or_default()
        };
        let strata: Vec<usize> = captures.iter().map(stratum).collect();
        Self { captures, draws: cluster_draws(&strata, RESAMPLES, number) }
    }
}

/// A model on one rung, with the captures that it is tested on.
#[derive(Clone, Copy)]
struct Tested<'a> {
    counted: &'a Counted,
    design: &'a Design<'a>,
}

impl Tested<'_> {
    fn macro_f1(&self, among: &[usize]) -> f64 {
        self.counted.macro_f1(&self.design.captures, &vec![1; self.design.captures.len()], among)
    }

    /// Returns the score of each draw; `None` if a class is tested on a single capture.
    fn resampled(&self, among: &[usize]) -> Option<Vec<f64>> {
        let several = |&class: &usize| self.counted.captures_of(class) > 1;
        let scores = self.design.draws.iter().map(|times| self.counted.macro_f1(&self.design.captures, times, among));
        among.iter().all(several).then(|| scores.collect())
    }

    /// Returns the loss from the step from `before` to this rung.
    fn loss_from(&self, before: Tested<'_>, of_before: &[usize], of_own: &[usize]) -> Loss {
        let lost = before.macro_f1(of_before) - self.macro_f1(of_own);
        let draws = before.resampled(of_before).zip(self.resampled(of_own));
        let losses = draws.map(|(before, own)| before.iter().zip(own).map(|(before, own)| before - own).collect());
        Loss { from: before.counted.rung, macro_f1: lost, interval: losses.and_then(percentile_interval) }
    }
}

impl Ladder {
    /// Reads the ladder in a run's folder.
    ///
    /// # Errors
    /// Predictions are missing or invalid.
    pub(super) fn read(run: &Path, records: &[Record]) -> Result<Self, ReportError> {
        let options = options(run)?;
        let mut counted: Vec<(RowKey, Counted)> = Vec::new();
        for record in records.iter().filter(|record| record.class.is_none() && record.metric == Metric::ACCURACY.key) {
            let key = &record.key;
            let Some((rung, _)) = Rung::of_variant(&key.variant) else { continue };
            let path = predictions_path(run, key).ok_or_else(|| {
                let what = format!("predictions of {} on {} are missing; run the ladder again", key.model, key.variant);
                file_error(run, what)
            })?;
            let predictions = read_predictions(&path)?;
            let row = RowKey::of(key);
            let place = counted.iter().position(|(other, _)| *other == row).unwrap_or_else(|| {
                let rung = RUNGS.iter().position(|other| other.name == rung.name).unwrap_or_default();
                let classes = predictions.classes.clone();
                counted.push((row, Counted { rung, classes, repeats: Vec::new(), named: Vec::new(), fits: 0 }));
                counted.len() - 1
            });
            let current = &mut counted[place].1;
            let classes = current.classes.len();
            if predictions.classes != current.classes {
                return Err(file_error(&path, "classes differ from those of the other folds; run the ladder again"));
            }
            current.fits += 1;
            let named = (key.seed, key.fold / options.folds.max(1));
            let repeat = current.named.iter().position(|other| *other == named).unwrap_or_else(|| {
                current.named.push(named);
                current.repeats.push(BTreeMap::new());
                current.named.len() - 1
            });
            for ((flow, &label), &predicted) in
                predictions.flows.iter().zip(&predictions.labels).zip(&predictions.predicted)
            {
                let capture = flow.rsplit_once('#').map_or(flow.as_str(), |(capture, _)| capture);
                let counts = match current.repeats[repeat].get_mut(capture) {
                    Some(counts) => counts,
                    None => {
                        current.repeats[repeat].entry(capture.to_owned()).or_insert_with(|| vec![0; classes * classes])
                    }
                };
                counts[label as usize * classes + predicted as usize] += 1;
            }
        }
        // A model that failed on some folds has no overall score.
        let most = |variant: &str| {
            counted.iter().filter(|(row, _)| row.variant == variant).map(|(_, own)| own.fits).max().unwrap_or_default()
        };
        let whole: Vec<bool> = counted.iter().map(|(row, own)| own.fits == most(&row.variant)).collect();
        let mut whole = whole.into_iter();
        counted.retain(|_| whole.next().unwrap_or(true));
        Ok(Self { sizes: sizes(&counted), rows: rows(&counted), folds: options.folds, repeats: options.repeats })
    }

    /// Returns the rungs on which any model has a score, as indices into [`RUNGS`].
    pub(super) fn rungs(&self) -> Vec<usize> {
        let has = |rung: &usize| self.rows.iter().any(|row| row.rungs.iter().any(|score| score.rung == *rung));
        (0..RUNGS.len()).filter(has).collect()
    }
}

/// Reads `[ladder]` of the stored experiment.
fn options(run: &Path) -> Result<LadderOptions, ReportError> {
    let path = run.join("experiment.toml");
    let text = std::fs::read_to_string(&path).map_err(|problem| file_error(&path, problem))?;
    let table: toml::Table = text.parse().map_err(|problem| file_error(&path, problem))?;
    match table.get("ladder") {
        Some(ladder) => ladder.clone().try_into().map_err(|problem| file_error(&path, problem)),
        None => Ok(LadderOptions::default()),
    }
}

fn sizes(counted: &[(RowKey, Counted)]) -> Vec<RungSize> {
    let mut sizes: Vec<RungSize> = Vec::new();
    for (row, own) in counted {
        if sizes.iter().any(|size| size.variant == row.variant) {
            continue;
        }
        let captures: Vec<usize> = own.repeats[0].values().map(|counts| counts.iter().sum::<u64>() as usize).collect();
        let (variant, classes, rows) = (row.variant.clone(), own.classes.len(), captures.iter().sum());
        sizes.push(RungSize { variant, classes, rows, captures });
    }
    sizes
}

fn rows(counted: &[(RowKey, Counted)]) -> Vec<LadderRow> {
    let mut designs: Vec<Design<'_>> = Vec::new();
    let design_of: Vec<usize> = counted
        .iter()
        .map(|(_, own)| {
            let captures = own.captures();
            designs.iter().position(|design| design.captures == captures).unwrap_or_else(|| {
                designs.push(Design::new(own, captures, designs.len() as u64));
                designs.len() - 1
            })
        })
        .collect();
    let counted: Vec<(&RowKey, Tested<'_>)> = counted
        .iter()
        .zip(design_of)
        .map(|((key, own), design)| (key, Tested { counted: own, design: &designs[design] }))
        .collect();

    let mut rows: Vec<(LadderRow, Vec<Tested<'_>>)> = Vec::new();
    for masked in [false, true] {
        for &(key, own) in &counted {
            if Rung::of_variant(&key.variant).is_none_or(|(_, other)| other != masked) {
                continue;
            }
            let RowKey { model, input, implementation, .. } = key.clone();
            let same = |(row, _): &(LadderRow, Vec<Tested<'_>>)| {
                (&row.model, &row.input, &row.implementation, row.masked) == (&model, &input, &implementation, masked)
            };
            match rows.iter().position(same) {
                Some(place) => rows[place].1.push(own),
                None => rows.push((LadderRow { model, input, implementation, masked, rungs: Vec::new() }, vec![own])),
            }
        }
    }
    let scored = rows.into_iter().map(|(mut row, mut of_rungs)| {
        of_rungs.sort_by_key(|own| own.counted.rung);
        let present: Vec<&str> = of_rungs.iter().map(|own| RUNGS[own.counted.rung].name).collect();
        for &own in &of_rungs {
            let classes = &own.counted.classes;
            let all: Vec<usize> = (0..classes.len()).collect();
            let start = RUNGS[own.counted.rung].start(&present);
            let before = start.and_then(|rung| of_rungs.iter().find(|own| RUNGS[own.counted.rung].name == rung.name));
            let loss = before.and_then(|&before| {
                // Classes that only one of the rungs has are excluded from the comparison.
                let both = classes.iter().enumerate().filter_map(|(place, class)| {
                    Some((before.counted.classes.iter().position(|other| other == class)?, place))
                });
                let (of_before, of_own): (Vec<usize>, Vec<usize>) = both.unzip();
                (!of_own.is_empty()).then(|| own.loss_from(before, &of_before, &of_own))
            });
            row.rungs.push(RungScore {
                rung: own.counted.rung,
                macro_f1: own.macro_f1(&all),
                interval: own.resampled(&all).and_then(percentile_interval),
                classes: classes.len(),
                loss,
            });
        }
        row
    });
    scored.collect()
}
