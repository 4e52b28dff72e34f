//! What a fit's model is pre-trained on other than the training part alone: a corpus, or a file with one that was
//! pre-trained earlier. The experiment builds both, since it knows which captures and flows are held out; the facts
//! about them end up in the fit's report.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::file::PretrainedFile;
use etcbench_feature::TokenArray;

/// Name of the training part among the parts of a corpus; no dataset can have this name.
pub const TRAINING_PART: &str = "training part";

/// What was drawn from one dataset, or from the training part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusPart {
    /// The dataset, or `training part`.
    pub name: String,
    /// Number of captures with a drawn packet.
    pub captures: u64,
    /// Number of flows with a drawn packet.
    pub flows: u64,
    /// Number of drawn packets, or of packets in the drawn flows.
    pub packets: u64,
    /// Number of further samples, packets or flows, that could have been drawn.
    pub left_over: u64,
}

/// What was excluded from a corpus because of the test and validation flows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excluded {
    /// Number of captures that contain test or validation flows.
    pub captures: u64,
    /// Number of other flows in these captures; those of the training part are not counted.
    pub flows: u64,
    /// Number of packets with the same bytes as a packet of a test or validation flow, in other flows; if samples are
    /// flows, of packets in flows whose packets all are those of a test or validation flow.
    pub packets: u64,
}

/// Test and validation flows that a pre-trained model has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Number of flows of the test part.
    pub test_flows: u64,
    /// Number of flows of the validation part.
    pub validation_flows: u64,
}

/// What a fit's model was pre-trained on, if that is not the training part alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pretraining {
    /// The parts of the corpus.
    pub parts: Vec<CorpusPart>,
    /// What was excluded from it.
    pub excluded: Excluded,
    /// SHA-256 of its file, and the held-out flows it has seen; `None` if it was pre-trained for this fit.
    pub file: Option<(String, Seen)>,
}

impl Pretraining {
    /// Returns the number of packets of all parts.
    pub fn packets(&self) -> u64 {
        self.parts.iter().map(|part| part.packets).sum()
    }

    /// Returns the notes for readers of the results.
    pub fn notes(&self) -> Vec<String> {
        let parts: Vec<String> = self.parts.iter().map(|part| format!("{} {}", part.packets, part.name)).collect();
        let from = self.file.as_ref().map_or(String::new(), |(sha256, _)| {
            format!(", read from a file (SHA-256 {})", sha256.get(..16).unwrap_or(sha256))
        });
        let mut notes = vec![format!(
            "pre-trained on {} packets{from}: {}; excluded because of held-out flows: {} flows by their \
             captures, {} packets by their bytes",
            self.packets(),
            parts.join(", "),
            self.excluded.flows,
            self.excluded.packets
        )];
        if let Some((_, seen)) = self.file.as_ref().filter(|(_, seen)| *seen != Seen::default()) {
            notes.push(format!(
                "its pre-training has seen {} test flows and {} validation flows, as accept_seen permits: scores \
                 may be too high",
                seen.test_flows, seen.validation_flows
            ));
        }
        notes
    }
}

/// Samples for pre-training.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// The samples, one per row.
    pub tokens: TokenArray,
    /// Their origin.
    pub pretraining: Pretraining,
}

/// What a fit's model is pre-trained on.
#[derive(Debug, Clone)]
pub enum PretrainingSource {
    /// These samples.
    Corpus(Arc<Corpus>),
    /// It was pre-trained earlier.
    File(Arc<PretrainedFile>, Pretraining),
}
