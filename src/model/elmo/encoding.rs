//! Encodes the packets of flows, each distinct packet once.

use std::collections::HashMap;

use crate::feature::TokenArray;
use crate::model::ModelError;
use crate::model::deep::engine::LanguageModel;
use crate::model::deep::packets::{EncodedFlows, PacketList};
use crate::model::deep::parameters::ElmoOptions;
use crate::progress::Progress;

/// The stage, in records.
pub(crate) const ENCODING: &str = "encoding";

/// Packets that are encoded at once.
const BATCH: usize = 256;

/// Encodes the packets of `rows`; flow `i` of the result is `rows[i]`. Also gives the number of distinct
/// packets, which is how many went through the model.
///
/// # Errors
/// What the engine cannot do.
pub(crate) fn encode_flows(
    model: &mut dyn LanguageModel,
    options: &ElmoOptions,
    tokens: &TokenArray,
    rows: &[usize],
    progress: &dyn Progress,
) -> Result<(EncodedFlows, u64), ModelError> {
    let all = PacketList::of_rows(tokens, rows);
    let mut number_of: HashMap<&[u16], u32> = HashMap::new();
    let mut distinct = Vec::new();
    let mut vector_of = Vec::with_capacity(rows.len() * tokens.packets);
    for row in rows {
        for packet in row * tokens.packets..(row + 1) * tokens.packets {
            let bytes = all.bytes(packet);
            vector_of.push((!bytes.is_empty()).then(|| {
                *number_of.entry(bytes).or_insert_with(|| {
                    distinct.push(packet);
                    (distinct.len() - 1) as u32
                })
            }));
        }
    }
    if u32::try_from(distinct.len()).is_err() {
        let problem = format!("{} distinct packets are more than can be encoded at once", distinct.len());
        return Err(ModelError::Data { model: "attention_lstm".to_owned(), problem });
    }

    // Packets of like length go together, so that little of a batch is padding.
    let mut order = (0..distinct.len()).collect::<Vec<_>>();
    order.sort_by_key(|&vector| all.bytes(distinct[vector]).len());
    let size = (options.layers + 1) * 2 * options.hidden;
    let mut vectors = vec![0.0; distinct.len() * size];
    let mut output = vec![0.0; BATCH.min(distinct.len()) * size];
    progress.begin(ENCODING, order.len().div_ceil(BATCH) as u64);
    for chosen in order.chunks(BATCH) {
        let numbers = chosen.iter().map(|&vector| distinct[vector]).collect::<Vec<_>>();
        let output = &mut output[..chosen.len() * size];
        model.encode(&all.batch(&numbers), numbers.len(), output)?;
        for (encoded, &vector) in output.chunks_exact(size).zip(chosen) {
            vectors[vector * size..(vector + 1) * size].copy_from_slice(encoded);
        }
        progress.advance(1);
    }
    progress.end();
    Ok((EncodedFlows::new(tokens.packets, size, vectors, &vector_of), distinct.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::{PAD, VOCABULARY};
    use crate::model::deep::engine::BatchLoss;
    use crate::model::deep::parameters::{ParameterSet, initial_elmo};
    use crate::model::deep::reference;
    use crate::progress::Silent;

    /// Counts the packets that really go through a model.
    struct Counting(Box<dyn LanguageModel>, usize);

    impl LanguageModel for Counting {
        fn train_step(&mut self, tokens: &[u16], packets: usize, rate: f32) -> Result<BatchLoss, ModelError> {
            self.0.train_step(tokens, packets, rate)
        }
        fn loss(&mut self, tokens: &[u16], packets: usize) -> Result<BatchLoss, ModelError> {
            self.0.loss(tokens, packets)
        }
        fn encode(&mut self, tokens: &[u16], packets: usize, output: &mut [f32]) -> Result<(), ModelError> {
            self.1 += packets;
            self.0.encode(tokens, packets, output)
        }
        fn parameters(&self) -> ParameterSet {
            self.0.parameters()
        }
    }

    #[test]
    fn equal_packets_are_encoded_once_and_every_packet_as_if_it_were_alone() {
        let options = ElmoOptions { embedding: 4, hidden: 4, layers: 1, ..ElmoOptions::default() };
        let parameters = initial_elmo(&options, VOCABULARY, 5);
        let mut model = Counting(reference::language_model(&options, &parameters, 5).unwrap(), 0);
        let flows: [[&[u16]; 2]; 4] = [[&[1, 2, 3], &[9]], [&[9], &[]], [&[1, 2, 3], &[1, 2]], [&[], &[]]];
        let mut tokens = TokenArray { packets: 2, bytes: 3, values: Vec::new() };
        for packet in flows.iter().flatten() {
            tokens.values.extend(packet.iter().copied().chain([PAD; 3]).take(3));
        }
        // Row 3 is left out, row 0 is asked for twice.
        let (encoded, distinct) = encode_flows(&mut model, &options, &tokens, &[2, 0, 1, 0], &Silent).unwrap();
        assert_eq!((distinct, model.1), (3, 3));
        let (layers, counts) = encoded.batch(&[0, 1, 2, 3]);
        assert_eq!(counts, [2, 2, 1, 2]);
        let place = |flow: usize, packet: usize| &layers[(flow * 2 + packet) * 16..][..16];
        assert_eq!(place(0, 0), place(1, 0));
        assert_eq!(place(1, 1), place(2, 0));
        assert_eq!(place(1, 0), place(3, 0));
        assert_eq!(place(2, 1), [0.0; 16]);
        for (bytes, found) in [(flows[0][0], place(1, 0)), (flows[0][1], place(1, 1)), (flows[2][1], place(0, 1))] {
            let mut alone = [0.0; 16];
            model.encode(bytes, 1, &mut alone).unwrap();
            assert!(alone.iter().zip(found).all(|(alone, found)| (alone - found).abs() < 1e-6));
        }
        assert_ne!(place(0, 0), place(0, 1));
    }
}
