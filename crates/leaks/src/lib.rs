//! The leak report: what a split and its features reveal before any model is trained. It covers test flows with the
//! same features as a training flow, classes that a single field predicts, and captures, hosts, connections and times
//! on both sides.

mod alarm;
mod ceiling;
mod duplicates;
mod fields;
mod scores;
mod shared;
mod tree;
mod windows;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use alarm::{Alarm, AlarmKind, LEVEL};
pub use ceiling::Ceiling;
pub use duplicates::Duplicates;
pub use scores::{FieldKind, FieldScore};
pub use shared::{ClassCaptures, Shared};
pub use tree::FIELD_TREE_DEPTH;
pub use windows::{RUN_LENGTH, SHORTEST_WINDOW, windows};

use alarm::Circumstances;
use etcbench_feature::{FeatureSet, TokenOptions};
use etcbench_flow::Flow;
use etcbench_split::Split;
use fields::SeenFlow;
use scores::{Column, header_columns};

/// Number of byte positions to report: those with the best score on the test part.
const REPORTED_POSITIONS: usize = 20;

/// Field name of a flow's start time.
const START_TIME: &str = "start_time";
/// Number of packets whose captured length is examined.
const CUT_PACKETS: usize = 3;

/// The leaks of one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeakReport {
    /// Number of rows to fit on.
    pub training_flows: usize,
    /// Number of rows to test on.
    pub test_flows: usize,
    /// Test flows with the same features as a training flow, for each way to compare them.
    pub duplicates: Vec<Duplicates>,
    /// The best accuracy that any classifier can have on these flows, for each input; empty in reports of versions that
    /// did not compute it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ceilings: Vec<Ceiling>,
    /// Macro F1 on the test part of always predicting the training part's most frequent class.
    pub majority_macro_f1: f64,
    /// How well each field predicts the class on its own, the best first.
    pub fields: Vec<FieldScore>,
    /// The same for single byte positions: the best 20.
    pub byte_positions: Vec<FieldScore>,
    /// What train and test share.
    pub shared: Shared,
    /// The captures of each class.
    pub classes: Vec<ClassCaptures>,
    /// The leaks beyond chance; empty in reports of versions that did not compute them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Alarm>,
}

/// Reports on each of `splits`. `flows` are those from which `features` were built with `tokens`, row by row.
/// Without them (features that come from no capture), there are no header fields, masked bytes or packet lengths to
/// report on.
pub fn leak_reports(
    features: &FeatureSet,
    flows: Option<(&[&Flow], &TokenOptions)>,
    splits: &[&Split],
) -> Vec<LeakReport> {
    let duplicates = duplicates::duplicates(features, flows, splits);
    let ceilings = ceiling::ceilings(features, flows);
    let mut columns: Vec<Column> = (0..features.statistic_names.len()).map(Column::Statistic).collect();
    let seen: Option<(Vec<SeenFlow<'_>>, &TokenOptions)> =
        flows.map(|(flows, tokens)| (flows.par_iter().map(|flow| SeenFlow::new(flow, tokens)).collect(), tokens));
    let seen = seen.as_ref().map(|(flows, tokens)| (flows.as_slice(), *tokens));
    if let Some(seen) = seen {
        columns.extend(header_columns(features, seen));
    }
    let positions: Vec<Column> = (0..features.tokens.packets)
        .flat_map(|packet| (0..features.tokens.bytes).map(move |byte| Column::Byte { packet, byte }))
        .collect();
    let scores = |columns: &[Column]| -> Vec<Vec<FieldScore>> {
        columns.par_iter().filter_map(|column| column.scores(features, seen, splits)).collect()
    };
    let (fields, positions) = (scores(&columns), scores(&positions));
    let mut circumstances = vec![Column::StartTime];
    if seen.is_some() {
        circumstances.extend((0..CUT_PACKETS).map(|packet| Column::CutLength { packet }));
    }
    let circumstances = scores(&circumstances);
    splits
        .iter()
        .zip(duplicates)
        .enumerate()
        .map(|(index, (split, duplicates))| {
            let of_split = |scores: &[Vec<FieldScore>]| scores.iter().map(|scores| scores[index].clone()).collect();
            let mut byte_positions: Vec<FieldScore> = of_split(&positions);
            scores::best_first(&mut byte_positions);
            byte_positions.truncate(REPORTED_POSITIONS);
            let mut report = LeakReport {
                training_flows: split.train.len(),
                test_flows: split.test.len(),
                duplicates,
                ceilings: ceilings.clone(),
                majority_macro_f1: scores::majority_macro_f1(features, split),
                fields: scores::one_per_field(of_split(&fields)),
                byte_positions,
                shared: Shared::new(features, split),
                classes: shared::class_captures(features, split),
                alarms: Vec::new(),
            };
            let (fields, largest_share) = (of_split(&circumstances), scores::largest_share(features, split));
            report.alarms = alarm::alarms(&report, &Circumstances { fields, largest_share, features, split });
            report
        })
        .collect()
}

#[cfg(test)]
mod agreement_tests;
#[cfg(test)]
mod planted_tests;
#[cfg(test)]
mod tests;

// Run the README's example as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
