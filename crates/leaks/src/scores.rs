//! Columns of single fields, and how well a tree on one of them predicts the class.

use serde::{Deserialize, Serialize};

use super::fields::SeenFlow;
use super::tree::{ColumnTree, FIELD_TREE_DEPTH};
use etcbench_capture::PacketField;
use etcbench_feature::{FeatureSet, TokenOptions};
use etcbench_split::Split;

/// What a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// A header field that names the endpoints or the flow rather than the application: a shortcut.
    Identifier,
    /// Any other header field.
    Header,
    /// A flow statistic.
    Statistic,
    /// A byte position.
    Byte,
    /// What no model reads: when a flow began, how much of it was captured.
    Circumstance,
}

/// How well one field alone predicts the class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldScore {
    /// The field: a header field, a statistic, or `byte_<position>`, from 0.
    pub field: String,
    /// What it is.
    pub kind: FieldKind,
    /// The packet, from 1, for header fields and bytes: the one from which the training flows are predicted best.
    pub packet: Option<usize>,
    /// Different values among the training flows, one of them where the field is absent.
    pub values: usize,
    /// Macro F1 on the training part.
    pub training_macro_f1: f64,
    /// Macro F1 on the test part.
    pub macro_f1: f64,
    /// The share of test flows predicted right.
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

/// The flows that features were made of, row by row, and how.
pub(super) type Seen<'a> = (&'a [SeenFlow<'a>], &'a TokenOptions);

/// Every header field of every packet that any flow shows.
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
    /// A score per split; none where the column has one value only.
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

    /// A number per flow that is ordered as the column's values are.
    fn codes(&self, features: &FeatureSet, flows: Option<Seen<'_>>) -> Vec<u32> {
        match *self {
            Column::Statistic(column) => {
                // The order of floating-point numbers as whole numbers.
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
                // As long as any is not cut by the capture but by what flows keep.
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

/// Bytes that are ordered as the numbers are.
fn ordered_bytes(number: i64) -> Vec<u8> {
    (number as u64 ^ 1 << 63).to_be_bytes().to_vec()
}

/// Equal values get equal ranks, larger ones larger ranks; no value comes first.
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

/// Macro F1 of pairs of true and predicted class, an undefined F1 counting as 0, as everywhere else. The room of
/// metrics comes after this one.
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

/// The share of the largest class of the test part: no constant prediction is right more often.
pub(super) fn largest_share(features: &FeatureSet, split: &Split) -> f64 {
    let classes = features.class_names.len();
    let share = |rows: &[usize], class: usize| {
        rows.iter().filter(|&&row| features.labels[row] as usize == class).count() as f64 / rows.len().max(1) as f64
    };
    (0..classes).map(|class| share(&split.test, class)).fold(0.0, f64::max)
}

/// Of each field the packet from which the training flows are predicted best (the first of equals), and of these
/// the best on the test part first.
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

/// The best on the test part first; equal ones stay in order.
pub(super) fn best_first(scores: &mut [FieldScore]) {
    scores.sort_by(|left, right| right.macro_f1.total_cmp(&left.macro_f1));
}
