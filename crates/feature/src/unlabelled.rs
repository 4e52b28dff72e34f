//! Features of flows of unknown class, for prediction with a trained model.

use super::build::{PacketColumns, features_of, usable};
use super::selected::{SelectionError, Usable};
use super::set::FeatureSet;
use super::token::TokenOptions;
use etcbench_dataset::LabelledFlow;

/// Why a flow has no features: training would also have excluded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Fewer packets than the selection requires.
    TooFewPackets,
    /// No bytes in any packet.
    WithoutBytes,
}

impl Unusable {
    /// Returns the name used in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooFewPackets => "too_few_packets",
            Self::WithoutBytes => "without_bytes",
        }
    }
}

/// Builds the features of flows without labels, by the same rules as [`super::build_features`]. Every row's label is a
/// meaningless 0. The second value has, for each flow, the reason why it has no row; the other flows are the rows, in
/// order. The options must have been validated against those of the flows.
///
/// # Errors
/// Options without tokens, or a flow with the statistics of another version.
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
