//! Where an ELMo comes from other than the training part alone: a corpus that it is pre-trained on, or a file with one
//! that was pre-trained before. The experiment makes both, since it knows which captures and flows are held out; what
//! is told of them ends in the fit's report.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::file::ElmoFile;
use crate::deep::parameters::ElmoOptions;
use etcbench_feature::TokenArray;

/// What the training part is called among the parts of a corpus; no dataset can be called so.
pub const TRAINING_PART: &str = "training part";

/// What was drawn of one dataset, or of the training part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusPart {
    /// The dataset, or `training part`.
    pub name: String,
    /// Captures with a packet that was drawn.
    pub captures: u64,
    /// Flows with a packet that was drawn.
    pub flows: u64,
    /// The packets.
    pub packets: u64,
    /// Packets that could have been drawn too.
    pub left_over: u64,
}

/// What was kept out of a corpus because of the test and validation flows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excluded {
    /// Captures that test or validation flows are of.
    pub captures: u64,
    /// Flows of these captures; not those of the training part.
    pub flows: u64,
    /// Packets of other flows whose bytes are those of a test or validation flow's packet.
    pub packets: u64,
}

/// Test and validation flows that a pre-trained ELMo has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Of the test part.
    pub test_flows: u64,
    /// Of the validation part.
    pub validation_flows: u64,
}

/// What a fit's ELMo was pre-trained on, where that is not the training part alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pretraining {
    /// The parts of the corpus.
    pub parts: Vec<CorpusPart>,
    /// What was kept out of it.
    pub excluded: Excluded,
    /// SHA-256 of the file that the ELMo came from, and what of the held-out flows it has seen; none where the ELMo was
    /// pre-trained for this fit.
    pub file: Option<(String, Seen)>,
}

impl Pretraining {
    /// Packets of all parts.
    pub fn packets(&self) -> u64 {
        self.parts.iter().map(|part| part.packets).sum()
    }

    /// What a reader of the results should know.
    pub fn notes(&self) -> Vec<String> {
        let parts: Vec<String> = self.parts.iter().map(|part| format!("{} {}", part.packets, part.name)).collect();
        let from = self.file.as_ref().map_or(String::new(), |(sha256, _)| {
            format!(", in a file of its own (SHA-256 {})", sha256.get(..16).unwrap_or(sha256))
        });
        let mut notes = vec![format!(
            "the ELMo was pre-trained on {} packets{from}: {}; kept out because of held-out flows: {} flows by their \
             captures, {} packets by their bytes",
            self.packets(),
            parts.join(", "),
            self.excluded.flows,
            self.excluded.packets
        )];
        if let Some((_, seen)) = self.file.as_ref().filter(|(_, seen)| *seen != Seen::default()) {
            notes.push(format!(
                "the ELMo has seen {} test flows and {} validation flows in its pre-training, as accept_seen allows: \
                 scores may be too good",
                seen.test_flows, seen.validation_flows
            ));
        }
        notes
    }
}

/// Packets to pre-train on.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// The packets, one to a row.
    pub tokens: TokenArray,
    /// What they are.
    pub pretraining: Pretraining,
}

/// Where the ELMo of a fit comes from.
#[derive(Debug, Clone)]
pub enum ElmoSource {
    /// It is pre-trained on these packets.
    Corpus(Arc<Corpus>),
    /// It was pre-trained before.
    File(Arc<ElmoFile>, Pretraining),
}

/// The keys in which an ELMo of a file must agree with what an experiment asks for, with both values.
pub fn differences(asked: &ElmoOptions, found: &ElmoOptions) -> Vec<(&'static str, String, String)> {
    let mut differences = Vec::new();
    for (key, asked, found) in [
        ("elmo.embedding", asked.embedding, found.embedding),
        ("elmo.hidden", asked.hidden, found.hidden),
        ("elmo.layers", asked.layers, found.layers),
    ] {
        if asked != found {
            differences.push((key, asked.to_string(), found.to_string()));
        }
    }
    if asked.positions != found.positions {
        differences.push(("elmo.positions", asked.positions.to_string(), found.positions.to_string()));
    }
    differences
}
