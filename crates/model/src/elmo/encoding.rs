//! Encodes the packets of flows, each distinct packet once, or reuses stored encodings of the same packets by the same
//! ELMo.

use std::collections::HashMap;
use std::time::Instant;

use crate::deep::Engine;
use crate::deep::engine::PacketEncoder;
use crate::deep::packets::{EncodedFlows, PacketList};
use crate::deep::parameters::{ElmoOptions, MODEL, ParameterSet};
use crate::deep::pooling::Pooling;
use crate::{ArtifactStore, ModelArchive, ModelError, Tensor};
use etcbench_feature::TokenArray;
use etcbench_storage::progress::Progress;
use etcbench_storage::{Determinants, Turn};

/// Name of the stage in records.
pub(crate) const ENCODING: &str = "encoding";

/// Number of packets encoded at once.
pub(crate) const BATCH: usize = 256;

/// Bump whenever the storage format of encodings changes.
const FORMAT: &str = "encodings 3";

/// Larger encodings, in bytes, are not stored: the store holds them in memory to read and write them.
pub(crate) const LARGEST: usize = 1 << 28;

/// The stored encodings of one ELMo.
pub(crate) struct Encodings<'a> {
    store: &'a dyn ArtifactStore,
    /// Determinants of the ELMo and its pooling.
    elmo: Determinants,
}

impl<'a> Encodings<'a> {
    /// Creates a handle for the ELMo with these parameters, run by this engine and with this pooling.
    pub(crate) fn new(
        store: &'a dyn ArtifactStore,
        engine: Engine,
        parameters: &ParameterSet,
        pooling: Pooling,
    ) -> Self {
        let elmo = engine
            .determinants(ENCODING)
            .and("format", FORMAT)
            .and("pooling", &format!("{pooling:?}"))
            .and_data("elmo", |add| parameters.add_to(add));
        Self { store, elmo }
    }

    fn key<'p>(&self, packets: impl Iterator<Item = &'p [u16]>) -> String {
        let facts = self
            .elmo
            .clone()
            .and_data("packets", |add| packets.for_each(|bytes| add(bytemuck::cast_slice::<u16, u8>(bytes))));
        format!("encodings-{}", facts.key())
    }

    fn put(&self, key: &str, shape: &[usize], vectors: &[f32], seconds: f64) -> Result<(), ModelError> {
        let mut archive = ModelArchive::default();
        archive.metadata.insert("seconds".to_owned(), seconds.to_string());
        archive.tensors.insert("vectors".to_owned(), Tensor::f32(shape, vectors.to_vec()));
        self.store.put(key, &archive.to_bytes()?);
        Ok(())
    }
}

/// Reads stored vectors and the time they took to compute; `None` if they do not match `shape`.
fn read(bytes: &[u8], shape: &[usize]) -> Option<(Vec<f32>, f64)> {
    let archive = ModelArchive::from_bytes(bytes).ok()?;
    let seconds = archive.metadata.get("seconds")?.parse().ok()?;
    Some((archive.f32("vectors", shape).ok()?.to_vec(), seconds))
}

/// The encodings of some flows.
pub(crate) struct Encoded {
    /// Flow `i` is row `i` of those requested.
    pub flows: EncodedFlows,
    /// Number of distinct packets, which went through the model.
    pub distinct: u64,
    /// Wall time of encoding them, from the original computation.
    pub seconds: f64,
}

/// Encodes the packets of `rows`; flow `i` of the result is `rows[i]`. If `kept` is given, looks there first and stores
/// the vectors there.
///
/// # Errors
/// The errors of the engine.
pub(crate) fn encode_flows(
    model: &mut dyn PacketEncoder,
    (options, pooling): (&ElmoOptions, Pooling),
    tokens: &TokenArray,
    rows: &[usize],
    kept: Option<&Encodings<'_>>,
    progress: &dyn Progress,
) -> Result<Encoded, ModelError> {
    let start = Instant::now();
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
        let problem = format!("{} distinct packets exceed what can be encoded at once", distinct.len());
        return Err(ModelError::Data { model: MODEL.to_owned(), problem });
    }

    let size = (options.layers + 1) * 2 * pooling.slots * options.hidden;
    let shape = [distinct.len(), size];
    let encoded = |vectors, seconds| {
        let mut flows = EncodedFlows::new(tokens.packets, size, vectors, &vector_of);
        if pooling.kind.leaves_slots() {
            let filled = |&packet: &usize| pooling.filled(all.bytes(packet).len());
            flows = flows.with_slots(distinct.iter().map(filled).collect(), size);
        }
        Encoded { flows, distinct: distinct.len() as u64, seconds }
    };
    let key = kept.map(|kept| (kept, kept.key(distinct.iter().map(|&packet| all.bytes(packet)))));
    // Encodings that are too large to store are recomputed by each fit that needs them.
    let key = key.filter(|_| distinct.len() * size * size_of::<f32>() <= LARGEST);
    let mut _claim = None;
    if let Some((kept, key)) = &key {
        match kept.store.look_up(ENCODING, key, progress) {
            Turn::Ours(claim) => _claim = Some(claim),
            Turn::Ready(bytes) => {
                if let Some((vectors, seconds)) = read(&bytes, &shape) {
                    return Ok(encoded(vectors, seconds));
                }
            }
        }
    }

    // Packets of similar length are batched together to reduce padding.
    let mut order = (0..distinct.len()).collect::<Vec<_>>();
    order.sort_by_key(|&vector| all.bytes(distinct[vector]).len());
    let mut vectors = vec![0.0; distinct.len() * size];
    let mut output = vec![0.0; BATCH.min(distinct.len()) * size];
    progress.begin(ENCODING, order.len().div_ceil(BATCH) as u64);
    for chosen in order.chunks(BATCH) {
        let numbers = chosen.iter().map(|&vector| distinct[vector]).collect::<Vec<_>>();
        let output = &mut output[..chosen.len() * size];
        model.encode(&all.batch(&numbers), numbers.len(), pooling, output)?;
        for (encoded, &vector) in output.chunks_exact(size).zip(chosen) {
            vectors[vector * size..(vector + 1) * size].copy_from_slice(encoded);
        }
        progress.advance(1);
    }
    progress.end();
    let seconds = start.elapsed().as_secs_f64();
    if let Some((kept, key)) = key {
        kept.put(&key, &shape, &vectors, seconds)?;
    }
    Ok(encoded(vectors, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcbench_feature::{PAD, VOCABULARY};
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use crate::deep::engine::LanguageModel;
    use crate::deep::parameters::initial_elmo;
    use crate::deep::reference;
    use crate::{Device, Implementation};
    use etcbench_storage::progress::Silent;

    #[derive(Default)]
    struct Memory(Mutex<BTreeMap<String, Vec<u8>>>);

    impl ArtifactStore for Memory {
        fn get(&self, key: &str) -> Option<Vec<u8>> {
            self.0.lock().unwrap().get(key).cloned()
        }
        fn put(&self, key: &str, bytes: &[u8]) {
            self.0.lock().unwrap().insert(key.to_owned(), bytes.to_vec());
        }
    }

    /// Counts the packets that actually pass through a model.
    struct Counting(Box<dyn LanguageModel>, usize);

    impl PacketEncoder for Counting {
        fn encode(
            &mut self,
            tokens: &[u16],
            packets: usize,
            pooling: Pooling,
            output: &mut [f32],
        ) -> Result<(), ModelError> {
            self.1 += packets;
            self.0.encode(tokens, packets, pooling, output)
        }
    }

    #[test]
    fn equal_packets_are_encoded_once_and_independently_of_others() {
        let options = ElmoOptions { embedding: 4, hidden: 4, layers: 1, ..ElmoOptions::default() };
        let parameters = initial_elmo(&options, VOCABULARY, 8, 5);
        let mut model = Counting(reference::language_model(&options, &parameters, 5, Device::Cpu).unwrap(), 0);
        let flows: [[&[u16]; 2]; 4] = [[&[1, 2, 3], &[9]], [&[9], &[]], [&[1, 2, 3], &[1, 2]], [&[], &[]]];
        let mut tokens = TokenArray { packets: 2, bytes: 3, values: Vec::new() };
        for packet in flows.iter().flatten() {
            tokens.values.extend(packet.iter().copied().chain([PAD; 3]).take(3));
        }
        // Row 3 is omitted, row 0 is requested twice.
        let store = Memory::default();
        let engine = Engine { implementation: Implementation::Reference, device: Device::Cpu };
        let kept = Encodings::new(&store, engine, &parameters, Pooling::MEAN);
        let rows = [2, 0, 1, 0];
        let first = encode_flows(&mut model, (&options, Pooling::MEAN), &tokens, &rows, Some(&kept), &Silent).unwrap();
        assert_eq!((first.distinct, model.1), (3, 3));
        let (layers, counts) = first.flows.vectors(&[0, 1, 2, 3], 16);

        // The same request is served from the store, with its time; another ELMo's request and damaged data are not.
        let again = encode_flows(&mut model, (&options, Pooling::MEAN), &tokens, &rows, Some(&kept), &Silent).unwrap();
        assert_eq!((again.distinct, model.1, again.seconds), (3, 3, first.seconds));
        assert_eq!(again.flows.vectors(&[0, 1, 2, 3], 16), (layers.clone(), counts.clone()));
        let other = Encodings::new(&store, engine, &initial_elmo(&options, VOCABULARY, 8, 6), Pooling::MEAN);
        encode_flows(&mut model, (&options, Pooling::MEAN), &tokens, &rows, Some(&other), &Silent).unwrap();
        assert_eq!((model.1, store.0.lock().unwrap().len()), (6, 2));
        store.0.lock().unwrap().values_mut().for_each(|bytes| bytes.truncate(100));
        encode_flows(&mut model, (&options, Pooling::MEAN), &tokens, &rows, Some(&kept), &Silent).unwrap();
        assert_eq!(model.1, 9);
        assert_eq!(counts, [2, 2, 1, 2]);
        let place = |flow: usize, packet: usize| &layers[(flow * 2 + packet) * 16..][..16];
        assert_eq!(place(0, 0), place(1, 0));
        assert_eq!(place(1, 1), place(2, 0));
        assert_eq!(place(1, 0), place(3, 0));
        assert_eq!(place(2, 1), [0.0; 16]);
        for (bytes, found) in [(flows[0][0], place(1, 0)), (flows[0][1], place(1, 1)), (flows[2][1], place(0, 1))] {
            let mut alone = [0.0; 16];
            model.encode(bytes, 1, Pooling::MEAN, &mut alone).unwrap();
            assert!(alone.iter().zip(found).all(|(alone, found)| (alone - found).abs() < 1e-6));
        }
        assert_ne!(place(0, 0), place(0, 1));
    }
}
