//! Columns of single fields, and how well a tree on one of them predicts the class.

use serde::{Deserialize, Serialize};

use super::fields::SeenFlow;
use super::tree::{ColumnTree, FIELD_TREE_DEPTH};
use etcbench_capture::PacketField;
use etcbench_feature::{FeatureSet, TokenOptions};
use etcbench_split::Split;

/// The kind of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// A header field that identifies the endpoints or the flow rather than the application: a shortcut.
    Identifier,
    /// Any other header field.
    Header,
    /// A flow statistic.
    Statistic,
    /// A byte position.
    Byte,
    /// Properties that no model reads: start time and captured length.
    Circumstance,
}

/// How well a single field predicts the class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldScore {
    /// The field: a header field, a statistic, or `byte_<position>`, from 0.
    pub field: String,
    /// The kind of the field.
    pub kind: FieldKind,
    /// The packet, from 1, for header fields and bytes; for header fields, the one that predicts the training flows
    /// best.
    pub packet: Option<usize>,
    /// Number of distinct values among the training flows; an absent field counts as a value.
    pub values: usize,
    /// Macro F1 on the training part.
    pub training_macro_f1: f64,
    /// Macro F1 on the test part.
    pub macro_f1: f64,
    /// Fraction of test flows predicted correctly.
    pub accuracy: f64,
}

/// A column to score.
pub(super) enum Column {
    Header { field: PacketField, packet: usize },
    Statistic(usize),
    Byte { packet: usize, byte: usize },
    StartTime,
    CutLength { packet: usize },
}

/// The flows from which features were built, row by row, and the options.
pub(super) type Seen<'a> = (&'a [SeenFlow<'a>], &'a TokenOptions);

/// Returns a column for every header field of every packet that is visible in any flow.
pub(super) fn header_columns(features: &FeatureSet, (flows, tokens): Seen<'_>) -> Vec<Column> {
    let mut seen = vec![[false; PacketField::ALL.len()]; features.tokens.packets];
    for (row, flow) in flows.iter().enumerate() {
        for (packet, seen) in seen.iter_mut().enumerate().take(flow.packets()) {
            for (seen, field) in seen.iter_mut().zip(PacketField::ALL) {
                *seen = *seen || flow.visible(features, row, packet, field, tokens).is_some();
            }
        }
    }
    let columns = seen.iter().enumerate().flat_map(|(packet, seen)| {
        PacketField::ALL
            .into_iter()
            .zip(seen)
            .filter(|(_, seen)| **seen)
            .map(move |(field, _)| Column::Header { field, packet })
    });
    columns.collect()
}

impl Column {
    /// Returns a score per split, or `None` if the column has only one value.
    pub(crate) fn scores(
        &self,
        features: &FeatureSet,
        flows: Option<Seen<'_>>,
        splits: &[&Split],
    ) -> Option<Vec<FieldScore>> {
        let codes = self.codes(features, flows);
        if codes.iter().all(|&code| code == codes[0]) {
            return None;
        }
        Some(splits.iter().map(|split| self.score(features, &codes, split)).collect())
    }

    /// Returns a number per flow, in the order of the column's values.
    fn codes(&self, features: &FeatureSet, flows: Option<Seen<'_>>) -> Vec<u32> {
        match *self {
            Column::Statistic(column) => {
                // Map floats to integers with the same order.
                let ordered = features.statistics.column(column);
                ordered
                    .iter()
                    .map(|value| value.to_bits())
                    .map(|bits| bits ^ ((bits as i32 >> 31) as u32 | 1 << 31))
                    .collect()
            }
            Column::Byte { packet, byte } => {
                (0..features.len()).map(|row| u32::from(features.tokens.packet(row, packet)[byte])).collect()
            }
            Column::StartTime => {
                ranks(features.provenance.iter().map(|flow| Some(ordered_bytes(flow.start))).collect())
            }
            Column::CutLength { packet } => {
                let Some((flows, _)) = flows else { return vec![0; features.len()] };
                let longest = flows.iter().filter_map(|flow| flow.captured(packet)).map(|(kept, _)| kept).max();
                // The longest captured length is due to the limit of the flow options, not to the capture.
                let cut = |flow: &SeenFlow<'_>| {
                    let (kept, whole) = flow.captured(packet)?;
                    (kept < whole && Some(kept) < longest).then(|| (kept as u32).to_be_bytes().to_vec())
                };
                ranks(flows.iter().map(cut).collect())
            }
            Column::Header { field, packet } => {
                let Some((flows, tokens)) = flows else { return vec![0; features.len()] };
                let value = |(row, flow): (usize, &SeenFlow<'_>)| flow.visible(features, row, packet, field, tokens);
                ranks(flows.iter().enumerate().map(value).collect())
            }
        }
    }

    fn score(&self, features: &FeatureSet, codes: &[u32], split: &Split) -> FieldScore {
        let classes = features.class_names.len();
        let labelled = |rows: &[usize]| -> Vec<(u32, u32)> {
            rows.iter().map(|&row| (codes[row], features.labels[row])).collect()
        };
        let (field, kind, packet) = match *self {
            Column::Statistic(column) => (features.statistic_names[column].clone(), FieldKind::Statistic, None),
            Column::Byte { packet, byte } => (format!("byte_{byte}"), FieldKind::Byte, Some(packet + 1)),
            Column::StartTime => (super::START_TIME.to_owned(), FieldKind::Circumstance, None),
            Column::CutLength { packet } => ("cut_length".to_owned(), FieldKind::Circumstance, Some(packet + 1)),
            Column::Header { field, packet } => {
                let kind = if field.identifies() { FieldKind::Identifier } else { FieldKind::Header };
                (field.name().to_owned(), kind, Some(packet + 1))
            }
        };
        let (train, test) = (labelled(&split.train), labelled(&split.test));
        if train.is_empty() || test.is_empty() {
            return FieldScore { field, kind, packet, values: 0, training_macro_f1: 0.0, macro_f1: 0.0, accuracy: 0.0 };
        }
        let mut values: Vec<u32> = train.iter().map(|(code, _)| *code).collect();
        values.sort_unstable();
        values.dedup();
        let tree = ColumnTree::fit(train.clone(), classes, FIELD_TREE_DEPTH);
        let measured = |rows: &[(u32, u32)]| {
            let pairs: Vec<(u32, u32)> = rows.iter().map(|&(code, label)| (label, tree.predict(code))).collect();
            macro_f1(&pairs, classes)
        };
        let right = test.iter().filter(|&&(code, label)| tree.predict(code) == label).count();
        FieldScore {
            field,
            kind,
            packet,
            values: values.len(),
            training_macro_f1: measured(&train),
            macro_f1: measured(&test),
            accuracy: right as f64 / test.len() as f64,
        }
    }
}

/// Returns bytes with the same order as the numbers.
fn ordered_bytes(number: i64) -> Vec<u8> {
    (number as u64 ^ 1 << 63).to_be_bytes().to_vec()
}

/// Returns ranks: equal values get equal ranks, larger ones larger ranks; missing values come first.
fn ranks(values: Vec<Option<Vec<u8>>>) -> Vec<u32> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&left, &right| values[left].cmp(&values[right]));
    let mut ranks = vec![0; values.len()];
    let mut rank = 0;
    for pair in order.windows(2) {
        rank += u32::from(values[pair[0]] != values[pair[1]]);
        ranks[pair[1]] = rank;
    }
    ranks
}

/// Returns macro F1 of pairs of true and predicted class; an undefined F1 counts as 0, as everywhere else. Computed
/// here because this crate does not depend on `etcbench-evaluate`.
fn macro_f1(pairs: &[(u32, u32)], classes: usize) -> f64 {
    let (mut found, mut sizes) = (vec![0_usize; classes], vec![0_usize; classes]);
    for &(label, predicted) in pairs {
        found[label as usize] += usize::from(label == predicted);
        sizes[label as usize] += 1;
        sizes[predicted as usize] += 1;
    }
    let f1 =
        found.iter().zip(&sizes).map(|(&found, &size)| if size == 0 { 0.0 } else { 2.0 * found as f64 / size as f64 });
    f1.sum::<f64>() / classes as f64
}

pub(super) fn majority_macro_f1(features: &FeatureSet, split: &Split) -> f64 {
    let classes = features.class_names.len();
    let mut counts = vec![0_usize; classes];
    split.train.iter().for_each(|&row| counts[features.labels[row] as usize] += 1);
    let mut majority = 0;
    for (class, &count) in counts.iter().enumerate() {
        if count > counts[majority] {
            majority = class;
        }
    }
    let pairs: Vec<(u32, u32)> = split.test.iter().map(|&row| (features.labels[row], majority as u32)).collect();
    macro_f1(&pairs, classes)
}

/// Returns the fraction of the test part in its largest class: no constant prediction is right more often.
pub(super) fn largest_share(features: &FeatureSet, split: &Split) -> f64 {
    let classes = features.class_names.len();
    let share = |rows: &[usize], class: usize| {
        rows.iter().filter(|&&row| features.labels[row] as usize == class).count() as f64 / rows.len().max(1) as f64
    };
    (0..classes).map(|class| share(&split.test, class)).fold(0.0, f64::max)
}

/// Keeps for each field the packet that predicts the training flows best (the first on ties), sorted by the score on
/// the test part, best first.
pub(super) fn one_per_field(scores: Vec<FieldScore>) -> Vec<FieldScore> {
    let mut best: Vec<FieldScore> = Vec::new();
    for score in scores {
        match best.iter_mut().find(|other| other.field == score.field && other.kind == score.kind) {
            Some(other) if score.training_macro_f1 > other.training_macro_f1 => *other = score,
            Some(_) => {}
            None => best.push(score),
        }
    }
    best_first(&mut best);
    best
}

/// Sorts by the score on the test part, best first; ties stay in order.
pub(super) fn best_first(scores: &mut [FieldScore]) {
    scores.sort_by(|left, right| right.macro_f1.total_cmp(&left.macro_f1));
}
