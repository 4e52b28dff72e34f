//! Features of flows whose class is not known: what a trained model is asked about.

use super::build::{PacketColumns, SelectionError, Usable, features_of, usable};
use super::set::FeatureSet;
use super::token::TokenOptions;
use etcbench_dataset::LabelledFlow;

/// Why a flow has no features: training would have left it out too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Fewer packets than the selection asks for.
    TooFewPackets,
    /// No byte of any packet to show.
    WithoutBytes,
}

impl Unusable {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooFewPackets => "too_few_packets",
            Self::WithoutBytes => "without_bytes",
        }
    }
}

/// The features of flows without labels, by the same rules as [`super::build_features`] makes those of labelled ones.
/// Every row's label is 0 and means nothing. The second value says of each flow why it has no row; rows are the others in
/// order. The options were checked against those of the flows.
///
/// # Errors
/// Options without tokens, or a flow whose statistics are another version's.
pub fn unlabelled_features(
    flows: &[LabelledFlow],
    tokens: &TokenOptions,
    columns: PacketColumns<'_>,
    minimum_packets: u64,
    class_names: Vec<String>,
) -> Result<(FeatureSet, Vec<Option<Unusable>>), SelectionError> {
    let mut scratch = vec![0; tokens.packets.saturating_mul(tokens.bytes)];
    let mut left = Vec::with_capacity(flows.len());
    let mut rows = Vec::with_capacity(flows.len());
    for flow in flows {
        left.push(match usable(flow, tokens, minimum_packets, &mut scratch)? {
            Usable::Yes => {
                rows.push(flow);
                None
            }
            Usable::TooFewPackets => Some(Unusable::TooFewPackets),
            Usable::WithoutBytes => Some(Unusable::WithoutBytes),
        });
    }
    let labels = vec![0; rows.len()];
    Ok((features_of(&rows, labels, class_names, tokens, columns)?, left))
}
