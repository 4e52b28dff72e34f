//! Memory of a fit of the deep model: the encoded packets of all flows, the parameters of both networks, and the values
//! of one batch, whose number the fast engine sums from its buffers.

use crate::deep::fast;
use crate::deep::parameters::{
    AttentionLstmOptions, Specification, classifier_specifications, elmo_specifications, encoder_specifications,
};
use crate::elmo::{ENCODED_AT_ONCE, LARGEST_KEPT};
use crate::memory::{ExpectedMemory, FitSize, ROWS, TOKENS, matrix};
use crate::{Device, Implementation};
use etcbench_feature::VOCABULARY;

const FLOAT: f64 = 4.0;

/// Copies of a network's parameters: the parameters, gradients, two moments, the initial and the best ones, and a
/// checkpoint of all of these while it is written.
const COPIES: f64 = 12.0;

/// Additional copies if weights are averaged: the average, its part of a checkpoint, and the weights set aside during
/// validation, with the optimiser's state that belongs to them.
const AVERAGE_COPIES: f64 = 6.0;

/// What dfdx keeps per batch in addition to the fast engine: the result and gradient of every operation.
const TAPE: f64 = 6.0;

const ELMO: &str = "model.attention_lstm.elmo.hidden";
const ELMO_BATCH: &str = "model.attention_lstm.elmo.batch";
const CORPUS: &str = "model.attention_lstm.elmo.corpus_packets";
const LSTM: &str = "model.attention_lstm.lstm";
const BATCH: &str = "model.attention_lstm.batch";

/// Returns the peak memory of a fit: in pre-training, encoding or training of the classifier.
pub(super) fn expected(
    options: &AttentionLstmOptions,
    implementation: Implementation,
    size: &FitSize,
) -> ExpectedMemory {
    let elmo = &options.elmo;
    let layers = elmo.layers as f64;
    let classes = size.class_counts.len();
    let parameters = |specifications: &[Specification]| -> f64 {
        specifications.iter().map(|known| known.count() as f64).sum::<f64>() * FLOAT * COPIES
    };
    let averaged = if options.averaging().is_some() { (COPIES + AVERAGE_COPIES) / COPIES } else { 1.0 };
    let tape = match implementation {
        Implementation::Fast => 1.0,
        Implementation::Reference => TAPE,
    };
    // On a GPU, a batch is in the GPU's memory.
    let on_processor = if size.device == Device::Cpu { tape } else { 0.0 };
    let packets_of = |rows: usize| rows as f64 * size.packets as f64;
    let all = size.training() as f64 + size.validation as f64;

    let states = |packets: f64| packets * size.bytes as f64;
    let elmo_batch = packets_of(size.training()).min(elmo.batch as f64);
    let pretraining =
        ExpectedMemory::default().and(ELMO, parameters(&elmo_specifications(elmo, VOCABULARY, size.bytes))).and(
            ELMO_BATCH,
            states(elmo_batch) * fast::language_model_values(elmo, VOCABULARY) as f64 * FLOAT * on_processor,
        );

    // Tokens, their places and, during the draw, their hashes.
    let drawn = if elmo.corpus.is_empty() && !elmo.unlabelled { 0.0 } else { elmo.corpus_packets as f64 };
    let pretraining = pretraining.and(CORPUS, drawn * (2.0 * size.bytes as f64 + 64.0));

    // The vector of every packet, assuming all packets are distinct. While they are stored there are three copies.
    let packet = options.encoded_size() as f64;
    let vector = (layers + 1.0) * packet * FLOAT;
    let encoded = |rows: f64| rows * size.packets as f64 * (vector + 12.0);
    let most = packets_of(size.training().max(size.validation).max(size.predicted));
    let at_once = most.min(ENCODED_AT_ONCE as f64);
    let stored = (packets_of(size.training()) * vector).min(LARGEST_KEPT as f64) * 2.0;
    let encoding = ExpectedMemory::default()
        .and(TOKENS, encoded(all.max(size.predicted as f64)) + stored)
        .and(ELMO, parameters(&elmo_specifications(elmo, VOCABULARY, size.bytes)) / 2.0)
        .and(ELMO, states(at_once) * fast::encoder_values(elmo) as f64 * FLOAT * on_processor + at_once * vector);

    // The packets of a batch as encoded, on the host and on the device.
    let of_packets = 2.0 * size.packets as f64 * (layers + 1.0) * packet;
    let of_flow = fast::classifier_values(options, classes, size.packets) as f64 + of_packets;
    let flows = (size.training() as f64).min((options.batch as f64).max(256.0));
    let training = ExpectedMemory::default()
        .and(TOKENS, encoded(all))
        .and(LSTM, parameters(&classifier_specifications(options, classes)) * averaged)
        .and(BATCH, flows * of_flow * FLOAT * on_processor.max(0.3))
        .and(ROWS, matrix(size.predicted.max(size.validation), classes, 12));
    let training = if options.encoder.trains() {
        // The ELMo is trained in the same steps, without the language model's head; the encodings have a gradient.
        let batch = (size.training() as f64).min(options.batch as f64) * size.packets as f64;
        training.and(ELMO, parameters(&encoder_specifications(elmo, VOCABULARY, size.bytes)) * averaged).and(
            BATCH,
            (states(batch) * fast::joint_values(elmo) as f64 + batch * (layers + 1.0) * packet) * FLOAT * on_processor,
        )
    } else {
        training
    };
    let fitting = encoding.or(training);
    if options.encoder.is_pretrained() { pretraining.or(fitting) } else { fitting }
}
