//! The figures of one row of a table, that is, one model in one variant over its seeds and folds: confusion matrix,
//! bars per class, reliability diagram and training curves.

use std::collections::BTreeMap;

use super::aggregate::{Aggregate, RowKey};
use super::drawing::{
    ClassBars, Curve, CurvePoint, Curves, Figure, class_bars, confusion, curves, reliability_diagram,
};
use super::predictions_file::row_reliability;
use super::{ReportError, StoredRun};
use etcbench_evaluate::{ConfusionMatrix, Metric};

/// The figures of a row.
pub(super) struct RowFigures {
    /// The row.
    pub row: RowKey,
    /// The figures, each with the suffix of its file name.
    pub figures: Vec<(&'static str, Figure)>,
}

impl RowFigures {
    /// Draws the figures of a row, leaving out those whose values are not stored.
    ///
    /// # Errors
    /// The predictions cannot be read.
    pub(crate) fn draw(run: &StoredRun, aggregate: &Aggregate, row: &RowKey) -> Result<Self, ReportError> {
        let mut figures = Vec::new();
        let matrix = confusion_matrix(run, row);
        if let Some((classes, matrix)) = &matrix {
            let title = format!("Confusion matrix, all test sets together ({} flows)", matrix.total());
            figures.push(("confusion", confusion(title, matrix, classes)));
        }
        let classes = matrix.map_or_else(Vec::new, |(classes, _)| classes);
        if !classes.is_empty() {
            figures.push(("classes", bars(aggregate, row, &classes)));
        }
        if let Some(bins) = row_reliability(run, row)? {
            let error =
                aggregate.get(row, None, Metric::EXPECTED_CALIBRATION_ERROR).and_then(|measured| measured.summary);
            let note = error.map_or(String::new(), |error| {
                let deviation = error.standard_deviation.map_or(String::new(), |value| format!("±{value:.3}"));
                format!("calibration error {:.3}{deviation}", error.mean)
            });
            let title = "Reliability: are the probabilities calibrated?".to_owned();
            figures.push(("reliability", reliability_diagram(title, &bins, &note)));
        }
        figures.extend(training_curves(run, row));
        Ok(Self { row: row.clone(), figures })
    }
}

/// The largest number of classes drawn: more cannot be distinguished in a figure, and their cells would make the page
/// large.
const MAXIMUM_CLASSES_DRAWN: usize = 200;

/// Returns the counts over all seeds and folds, with the classes in the order of the records; `None` if there are too
/// many to draw.
fn confusion_matrix(run: &StoredRun, row: &RowKey) -> Option<(Vec<String>, ConfusionMatrix)> {
    let mut classes: Vec<String> = Vec::new();
    let mut cells: Vec<(usize, usize, u64)> = Vec::new();
    for record in run.records.iter().filter(|record| record.metric == Metric::CONFUSION.key && row.is_of(&record.key)) {
        let (Some(class), Some(predicted), Some(count)) = (&record.class, &record.predicted, record.value) else {
            continue;
        };
        let mut place = |name: &String| {
            classes.iter().position(|known| known == name).unwrap_or_else(|| {
                classes.push(name.clone());
                classes.len() - 1
            })
        };
        cells.push((place(class), place(predicted), count as u64));
        if classes.len() > MAXIMUM_CLASSES_DRAWN {
            return None;
        }
    }
    let mut counts = vec![0; classes.len() * classes.len()];
    for (class, predicted, count) in cells {
        counts[class * classes.len() + predicted] += count;
    }
    let matrix = ConfusionMatrix::from_counts(counts, classes.len()).ok()?;
    Some((classes, matrix))
}

fn bars(aggregate: &Aggregate, row: &RowKey, classes: &[String]) -> Figure {
    let metrics = [Metric::PRECISION, Metric::RECALL, Metric::F1];
    let summary = |class: &str, metric: Metric| aggregate.get(row, Some(class), metric)?.summary;
    let several = classes.iter().any(|class| summary(class, Metric::F1).is_some_and(|summary| summary.count > 1));
    let bars = classes.iter().map(|class| {
        let support = summary(class, Metric::SUPPORT).map(|support| support.mean);
        let values = metrics.map(|metric| summary(class, metric));
        (class.clone(), support, values.into())
    });
    class_bars(&ClassBars {
        title: if several { "Classes: mean and its 95 % interval" } else { "Classes" }.to_owned(),
        classes: bars.collect(),
        metrics: metrics.map(|metric| metric.heading.to_owned()).into(),
    })
}

/// Returns the name of a training stage for the beginning of a title.
fn stage_name(stage: &str) -> String {
    if stage == "elmo_pretraining" {
        return "ELMo pre-training".to_owned();
    }
    let words = stage.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// The metrics that are drawn as curves.
const CURVES: [Metric; 3] = [Metric::TRAINING_LOSS, Metric::VALIDATION_LOSS, Metric::VALIDATION_MACRO_F1];

/// Draws a figure of losses and one of scores per training stage, with one line per fit.
fn training_curves(run: &StoredRun, row: &RowKey) -> Vec<(&'static str, Figure)> {
    type Fits = BTreeMap<(u64, usize), Vec<CurvePoint>>;
    let mut stages: BTreeMap<&str, BTreeMap<&str, Fits>> = BTreeMap::new();
    for record in run.records.iter().filter(|record| record.class.is_none() && row.is_of(&record.key)) {
        let (Some(epoch), Some(y)) = (record.epoch, record.value) else { continue };
        let of_stage = |metric: Metric| Some((metric, metric.stage_in(&record.metric)?));
        let Some((metric, stage)) = CURVES.into_iter().find_map(of_stage) else { continue };
        let fits = stages.entry(stage).or_default().entry(metric.key).or_default();
        let key = (record.key.seed, record.key.fold);
        fits.entry(key).or_default().push(CurvePoint { x: epoch as f64, y, interval: None });
    }
    let mut figures = Vec::new();
    // Stages in the order of training, which is the reverse of their names' order.
    for (stage, quantities) in stages.iter().rev() {
        let figure = |wanted: &[(Metric, &str)], shares: bool| {
            let what = wanted[0].0.label;
            let present: Vec<_> = wanted.iter().filter(|(metric, _)| quantities.contains_key(metric.key)).collect();
            let drawn: Vec<Curve> = present
                .iter()
                .enumerate()
                .flat_map(|(series, (metric, _))| {
                    quantities[metric.key].values().map(move |points| {
                        let mut points = points.clone();
                        points.sort_by(|left, right| left.x.total_cmp(&right.x));
                        Curve { series, points }
                    })
                })
                .collect();
            let plot = Curves {
                title: format!("{}: {what}, a line per seed", stage_name(stage)),
                x_axis: "epoch".to_owned(),
                y_axis: what.to_owned(),
                series: present.iter().map(|(_, title)| (*title).to_owned()).collect(),
                curves: drawn,
                at_points: false,
                shares,
            };
            (!plot.curves.is_empty()).then(|| curves(&plot))
        };
        let losses = [(Metric::TRAINING_LOSS, "training"), (Metric::VALIDATION_LOSS, "validation")];
        let (loss, score) = match *stage {
            "elmo_pretraining" => ("elmo-loss", "elmo-f1"),
            "masked_pretraining" => ("masked-loss", "masked-f1"),
            _ => ("training-loss", "training-f1"),
        };
        figures.extend(figure(&losses, false).map(|figure| (loss, figure)));
        let scores = [(Metric::VALIDATION_MACRO_F1, "validation")];
        figures.extend(figure(&scores, true).map(|figure| (score, figure)));
    }
    figures
}
