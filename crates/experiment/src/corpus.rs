//! The samples, packets or flows, that a model is pre-trained on in addition to those of the training part: drawn from
//! unlabelled flows, excluding anything that would reveal flows held out for testing and early stopping.
//!
//! A flow is excluded if it belongs to the same capture (by SHA-256) as a held-out flow, unless it is in the training
//! part, whose captures a split may share. From all other flows, including those of the training part, a packet is
//! excluded if its bytes equal those of a held-out flow's packet: either as the model reads them, or as recorded from
//! the IP header on, truncated to the same length. So the corpus contains no held-out flow, and no packet of one. If
//! samples are flows, all packets that are read count together: many flows begin with the same packets.

use std::collections::{BTreeSet, HashMap, HashSet};

use rand::seq::index;
use rayon::prelude::*;

use etcbench_dataset::LabelledFlow;
use etcbench_feature::{PAD, TokenArray, TokenError, TokenOptions, shown_packets, tokenize};
use etcbench_model::pretraining::{
    Corpus, CorpusPart, Excluded, Pretraining, Sample, SeenCapture, SeenSamples, content_hash,
};
use etcbench_storage::seed;

/// What is read of a flow, and what part of it is a sample.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    /// The bytes that are read.
    pub tokens: &'a TokenOptions,
    /// A packet or a flow.
    pub sample: Sample,
}

/// A dataset, or the training part.
pub(super) struct Source<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its flows, each with its dataset and the SHA-256 of its capture.
    pub flows: Vec<SourceFlow<'a>>,
    /// Whether these are the flows of the training part.
    pub is_training: bool,
}

/// A flow that samples may be drawn from.
#[derive(Clone, Copy)]
pub(super) struct SourceFlow<'a> {
    /// The flow.
    pub flow: &'a LabelledFlow,
    /// The dataset.
    pub dataset: &'a str,
    /// The capture's path in the dataset's folder.
    pub capture: &'a str,
    /// SHA-256 of its capture.
    pub sha256: &'a str,
}

/// Data that must not be seen in pre-training.
#[derive(Default)]
pub(super) struct HeldOut<'a> {
    /// SHA-256 of the captures of held-out flows.
    pub captures: HashSet<&'a str>,
    /// Hashes of their samples.
    samples: SeenSamples,
}

impl<'a> HeldOut<'a> {
    /// Collects the given held-out flows.
    ///
    /// # Errors
    /// Token options without tokens.
    pub(crate) fn of(flows: &[SourceFlow<'a>], reading: Reading<'_>) -> Result<Self, TokenError> {
        let mut held_out = Self { captures: flows.iter().map(|flow| flow.sha256).collect(), ..Self::default() };
        for sample in hashes(flows, reading)?.into_iter().flatten() {
            held_out.samples.recorded.insert(sample.recorded);
            held_out.samples.read.insert(sample.read);
        }
        Ok(held_out)
    }

    fn has(&self, sample: SampleHash) -> bool {
        self.samples.read.contains(&sample.read) || self.samples.recorded.contains(&sample.recorded)
    }
}

/// Hashes of a sample's bytes, as far as a model may read them.
#[derive(Clone, Copy)]
pub(super) struct SampleHash {
    /// The first M bytes from the IP header on, as recorded.
    pub recorded: u64,
    /// The tokens, masked and starting at `packet_start`.
    pub read: u64,
    /// Number of packets.
    packets: u64,
}

/// Returns the hashes of the samples that have tokens, for every flow.
pub(super) fn hashes(
    flows: &[SourceFlow<'_>],
    Reading { tokens, sample }: Reading<'_>,
) -> Result<Vec<Vec<SampleHash>>, TokenError> {
    let of_flow = |flow: &SourceFlow<'_>| {
        let mut row = vec![PAD; tokens.packets * tokens.bytes];
        tokenize(&flow.flow.flow, tokens, &mut row)?;
        let recorded = shown_packets(&flow.flow.flow, tokens)
            .map(|packet| content_hash(&packet.bytes[..packet.bytes.len().min(tokens.bytes)]));
        let read = row.chunks_exact(tokens.bytes).map(|tokens| content_hash(bytemuck::cast_slice::<u16, u8>(tokens)));
        let packets = recorded.zip(read).map(|(recorded, read)| SampleHash { recorded, read, packets: 1 });
        let packets: Vec<SampleHash> = packets.collect();
        Ok(match sample {
            Sample::Packet => packets,
            Sample::Flow => whole(&packets).into_iter().collect(),
        })
    };
    flows.par_iter().map(of_flow).collect()
}

/// Returns the hash of a flow's packets together; `None` without any.
fn whole(packets: &[SampleHash]) -> Option<SampleHash> {
    let hash = |of: fn(&SampleHash) -> u64| {
        content_hash(&packets.iter().flat_map(|packet| of(packet).to_le_bytes()).collect::<Vec<_>>())
    };
    let (recorded, read) = (hash(|packet| packet.recorded), hash(|packet| packet.read));
    (!packets.is_empty()).then_some(SampleHash { recorded, read, packets: packets.len() as u64 })
}

/// A corpus, with the information for a model card.
pub(super) struct Drawn {
    /// The samples.
    pub corpus: Corpus,
    /// The captures of the samples.
    pub captures: Vec<SeenCapture>,
    /// The hashes of the samples.
    pub seen: SeenSamples,
}

/// Draws at most `most` samples from the sources, excluding held-out data, as evenly from each source as they have
/// samples, in the order of sources, flows and packets. A capture that occurs in several datasets is used in the first
/// of them.
///
/// # Errors
/// Token options without tokens.
pub(super) fn draw(
    sources: &[Source<'_>],
    held_out: &HeldOut<'_>,
    reading: Reading<'_>,
    most: usize,
    seed: u64,
) -> Result<Drawn, TokenError> {
    let Reading { tokens, sample } = reading;
    let number = |flow: &SourceFlow<'_>| flow.flow.provenance.number;
    let training: HashSet<(&str, u32)> = sources
        .iter()
        .filter(|source| source.is_training)
        .flat_map(|source| &source.flows)
        .map(|flow| (flow.sha256, number(flow)))
        .collect();
    let mut excluded = Excluded { captures: held_out.captures.len() as u64, ..Excluded::default() };
    // The dataset and path under which a capture is used.
    let mut used_of: HashMap<&str, (&str, &str)> = HashMap::new();
    let mut candidates = Vec::new();
    for source in sources {
        let mut flows = Vec::with_capacity(source.flows.len());
        for flow in &source.flows {
            if !source.is_training {
                let used = *used_of.entry(flow.sha256).or_insert((flow.dataset, flow.capture));
                if used != (flow.dataset, flow.capture) || training.contains(&(flow.sha256, number(flow))) {
                    continue;
                }
                if held_out.captures.contains(flow.sha256) {
                    excluded.flows += 1;
                    continue;
                }
            }
            flows.push(*flow);
        }
        // Flow index, sample index and hash.
        let mut left = Vec::new();
        for (flow, samples) in hashes(&flows, reading)?.into_iter().enumerate() {
            for (place, hash) in samples.into_iter().enumerate() {
                if held_out.has(hash) {
                    excluded.packets += hash.packets;
                } else {
                    left.push((flow, place, hash));
                }
            }
        }
        candidates.push((flows, left));
    }

    let available: Vec<usize> = candidates.iter().map(|(_, left)| left.len()).collect();
    let shares = shares(&available, most);
    let packets = sample.packets(tokens.packets);
    let mut drawn = Drawn {
        corpus: Corpus {
            tokens: TokenArray { packets, bytes: tokens.bytes, values: Vec::new() },
            pretraining: Pretraining { parts: Vec::new(), excluded, file: None },
        },
        captures: Vec::new(),
        seen: SeenSamples::default(),
    };
    let size = packets * tokens.bytes;
    drawn.corpus.tokens.values.reserve_exact(shares.iter().sum::<usize>() * size);
    let mut row = vec![PAD; tokens.packets * tokens.bytes];
    for ((source, (flows, left)), share) in sources.iter().zip(candidates).zip(shares) {
        let mut places: Vec<usize> = if share == left.len() {
            (0..share).collect()
        } else {
            let mut generator = seed::generator(seed, &format!("corpus/{}", source.name));
            index::sample(&mut generator, left.len(), share).into_vec()
        };
        places.sort_unstable();
        let mut flows_drawn = BTreeSet::new();
        let mut packets_drawn = 0;
        let mut captures: Vec<SeenCapture> = Vec::new();
        let mut place_of: HashMap<&str, usize> = HashMap::new();
        for place in places {
            let (number, within, hash) = left[place];
            let flow = flows[number];
            let is_new = flows_drawn.insert(number);
            if is_new {
                tokenize(&flow.flow.flow, tokens, &mut row)?;
            }
            drawn.corpus.tokens.values.extend_from_slice(&row[within * size..(within + 1) * size]);
            drawn.seen.recorded.insert(hash.recorded);
            drawn.seen.read.insert(hash.read);
            let at = *place_of.entry(flow.sha256).or_insert_with(|| {
                captures.push(SeenCapture {
                    dataset: flow.dataset.to_owned(),
                    capture: flow.capture.to_owned(),
                    sha256: flow.sha256.to_owned(),
                    flows: 0,
                    packets: 0,
                });
                captures.len() - 1
            });
            captures[at].packets += hash.packets;
            packets_drawn += hash.packets;
            captures[at].flows += u64::from(is_new);
        }
        drawn.corpus.pretraining.parts.push(CorpusPart {
            name: source.name.to_owned(),
            captures: captures.len() as u64,
            flows: flows_drawn.len() as u64,
            packets: packets_drawn,
            left_over: (left.len() - share) as u64,
        });
        drawn.captures.extend(captures);
    }
    Ok(drawn)
}

/// Divides `most` evenly: a source with fewer samples than its share contributes all of them, and the others share the
/// rest.
fn shares(available: &[usize], most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..available.len()).collect();
    order.sort_by_key(|&source| available[source]);
    let mut shares = vec![0; available.len()];
    let mut left = most;
    for (index, &source) in order.iter().enumerate() {
        shares[source] = available[source].min(left / (order.len() - index));
        left -= shares[source];
    }
    shares
}

#[cfg(test)]
#[path = "corpus_tests.rs"]
mod tests;
