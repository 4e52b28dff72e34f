//! A transformer over patches of a flow's bytes, with masked pre-training: in the family of ET-BERT (Lin et al. 2022)
//! and YaTC (Zhao et al. 2023), at a size that trains on two cores. A flow's N x M bytes are cut into patches of equal
//! length, which do not cross packets if their length divides M. Each patch is embedded as a vector and learned
//! position embeddings are added; blocks of attention and a two-layer feed-forward network follow, each with
//! normalisation first and a residual connection (Dosovitskiy et al. 2021; parameter names are those of the library
//! timm's `Block`). Patches without any byte are excluded from the attention and from the mean that the classifier
//! reads.
//!
//! Before it learns classes, the network learns to reconstruct the bytes of hidden patches ([`super::masked`]), on the
//! flows of the training part without their labels. A byte b is encoded as (b + 1) / 256, and an absent byte as 0.

use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};

use super::class_weights::ClassWeights;
use super::classical::{Algorithm, Classical};
use super::deep::OptimiserKind;
use super::deep::network::{Branch, Layer, Network, Size};
use super::deep::parameters::{LearningRateSchedule, check_rate_divisor};
use super::input::InputOptions;
use super::masked::Masked;
use super::network_model::{Columns, Fitted, NetworkModel, Training, check_shares, check_sizes, pretrain, training_of};
use super::parameters::parse;
use super::pretraining::{PretrainingEntry, PretrainingKeys, Sample, differences_of};
use super::stored::broken;
use super::{AgreementBound, Implementation, Input, ModelEntry, ModelError};
use etcbench_feature::PAD;

/// Bump whenever a code change alters what a fit computes.
const VERSION: u32 = 1;

/// The model's entry in the table of models.
pub(super) static ENTRY: ModelEntry = ModelEntry {
    version: VERSION,
    inputs: &[Input::Bytes],
    agreement: Some(AgreementBound {
        agreement: 0.85,
        macro_f1: 0.05,
        reason: "same initial weights; sums in another order diverge over epochs",
    }),
    pretraining: Some(PretrainingEntry {
        kind: "byte_transformer",
        sample: Sample::Flow,
        prefix: "",
        keys: |table| {
            let parameters: ByteTransformerParameters = parse(ByteTransformer::NAME, table)?;
            Ok((parameters.pretraining_epochs > 0).then(|| ByteTransformer::pretraining(&parameters)))
        },
        settings: |table| {
            let parameters: ByteTransformerParameters = parse(ByteTransformer::NAME, table)?;
            Ok(serde_json::to_value(parameters.without_source()).expect("keys are JSON"))
        },
        specifications: |settings, tokens| {
            let columns = Columns { sequences: 0, others: tokens.packets * tokens.bytes };
            let masked = ByteTransformer::masked(&of_settings(settings)?, columns);
            Ok(masked.ok_or_else(|| broken("card: pretraining_epochs = 0"))?.specifications())
        },
        differences: |table, settings| {
            let shape = |known: ByteTransformerParameters| {
                [known.patch, known.embedding, known.layers, known.feed_forward].map(|size| size.to_string())
            };
            let both = [shape(parse(ByteTransformer::NAME, table)?), shape(of_settings(settings)?)];
            Ok(differences_of(["patch", "embedding", "layers", "feed_forward"], "", both))
        },
        pretrain: pretrain::<ByteTransformer>,
    }),
    ..Classical::<Fitted<ByteTransformer>>::entry(
        "A transformer over patches of bytes, pre-trained on hidden ones (after YaTC and ET-BERT).",
    )
};

/// Returns the parameters of a card.
fn of_settings(settings: &serde_json::Value) -> Result<ByteTransformerParameters, ModelError> {
    let parameters: ByteTransformerParameters =
        serde_json::from_value(settings.clone()).map_err(|error| broken(format!("card: {error}")))?;
    Fitted::<ByteTransformer>::check(&parameters, Implementation::Fast)
        .map_err(|problem| broken(format!("card: {problem}")))?;
    Ok(parameters)
}

/// `[model.byte_transformer]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ByteTransformerParameters {
    /// Bytes per patch; default 16.
    pub patch: usize,
    /// Size of a patch's vector between layers; default 128.
    pub embedding: usize,
    /// Layers, each a block of attention and a two-layer feed-forward network; default 4.
    pub layers: usize,
    /// Attention heads per layer, which share the vector evenly; default 4.
    pub heads: usize,
    /// Size of the feed-forward network's inner layer; default 512.
    pub feed_forward: usize,
    /// Share dropped after the attention and after the feed-forward network of each layer; default 0.1.
    pub dropout: f32,
    /// Pre-training passes over the training flows; default 20, or 0 for no pre-training.
    pub pretraining_epochs: usize,
    /// Flows per pre-training step; default 64.
    pub pretraining_batch: usize,
    /// Learning rate of pre-training; default 0.001.
    pub pretraining_learning_rate: f32,
    /// Share of a flow's patches that pre-training hides; default 0.5.
    pub mask_ratio: f32,
    /// Datasets for pre-training in addition to the training part; default none.
    pub corpus: Vec<String>,
    /// Maximum number of flows drawn from them and the training part together; default 50,000.
    pub corpus_flows: usize,
    /// Whether the training flows that the experiment leaves out by `training_flows_per_class` are used too; default
    /// false.
    pub unlabelled: bool,
    /// File of a pre-trained model, relative to the project's folder; default none.
    pub pretrained: String,
    /// Whether that one may have seen test and validation flows; default false.
    pub accept_seen: bool,
    /// Maximum passes over the training flows; default 60.
    pub epochs: usize,
    /// Flows per step; default 64.
    pub batch: usize,
    /// Epochs without a better validation macro F1 before training stops; default 15.
    pub patience: usize,
    /// `adamw` (default) or `adamax`.
    pub optimiser: OptimiserKind,
    /// Learning rate; default 0.0005.
    pub learning_rate: f32,
    /// `constant`, `cosine` (default) or `one_cycle`.
    pub learning_rate_schedule: LearningRateSchedule,
    /// Steps over which the learning rate rises to the value of the schedule; default 100.
    pub warm_up_steps: usize,
    /// Each layer learns this many times slower than the one above it, from the last block downwards and the embedding
    /// of the patches slowest; default 1. Not used in pre-training.
    pub layer_rate_divisor: f32,
    /// Decoupled weight decay, also for pre-training; default 0.05.
    pub weight_decay: f32,
    /// Share of each target that is spread over all classes; default 0.
    pub label_smoothing: f32,
    /// `none` (default), `balanced` or a table of numbers by class name.
    pub class_weights: ClassWeights,
}

impl Default for ByteTransformerParameters {
    fn default() -> Self {
        Self {
            patch: 16,
            embedding: 128,
            layers: 4,
            heads: 4,
            feed_forward: 512,
            dropout: 0.1,
            pretraining_epochs: 20,
            pretraining_batch: 64,
            pretraining_learning_rate: 0.001,
            mask_ratio: 0.5,
            corpus: Vec::new(),
            corpus_flows: 50_000,
            unlabelled: false,
            pretrained: String::new(),
            accept_seen: false,
            epochs: 60,
            batch: 64,
            patience: 15,
            optimiser: OptimiserKind::Adamw,
            learning_rate: 0.0005,
            learning_rate_schedule: LearningRateSchedule::Cosine,
            warm_up_steps: 100,
            layer_rate_divisor: 1.0,
            weight_decay: 0.05,
            label_smoothing: 0.0,
            class_weights: ClassWeights::default(),
        }
    }
}

impl ByteTransformerParameters {
    /// Returns these parameters without what they are pre-trained on, which callers identify by other means.
    fn without_source(&self) -> Self {
        let Self { corpus, corpus_flows, unlabelled, pretrained, accept_seen, .. } = Self::default();
        Self { corpus, corpus_flows, unlabelled, pretrained, accept_seen, ..self.clone() }
    }

    /// Returns the depth of a parameter below the head: 0 for the head, 1 for the last block and the normalisation after
    /// it, and one more than that of the first block for the embeddings (timm's `param_groups_layer_decay`, but for the
    /// last normalisation, which belongs to the head there).
    fn depth(&self, parameter: &str) -> usize {
        let mut parts = parameter.split('.');
        match (parts.next(), parts.next().and_then(|block| block.parse::<usize>().ok())) {
            (Some("head"), _) => 0,
            (Some("norm"), _) => 1,
            (Some("blocks"), Some(block)) => self.layers.saturating_sub(block),
            _ => self.layers + 1,
        }
    }

    /// Returns the blocks and the normalisation after them.
    fn encoder(&self) -> Vec<Layer> {
        let mut layers = Vec::new();
        for block in 0..self.layers {
            let name = |part: &str| format!("blocks.{block}.{part}");
            let dropout = |place: usize| Layer::Dropout { number: (2 * block + place) as u32, rate: self.dropout };
            layers.extend(Layer::residual([
                Layer::step_norm(name("norm1")),
                Layer::step_linear(name("attn.qkv"), 3 * self.embedding),
                Layer::Heads { heads: self.heads },
                Layer::step_linear(name("attn.proj"), self.embedding),
                dropout(0),
            ]));
            layers.extend(Layer::residual([
                Layer::step_norm(name("norm2")),
                Layer::step_linear(name("mlp.fc1"), self.feed_forward),
                Layer::Gelu,
                Layer::step_linear(name("mlp.fc2"), self.embedding),
                dropout(1),
            ]));
        }
        layers.push(Layer::step_norm("norm"));
        layers
    }

    fn branch(&self, columns: Columns, hides: bool, last: Vec<Layer>) -> Branch {
        let mut layers = vec![Layer::step_linear("patch_embed", self.embedding)];
        layers.extend(hides.then(|| Layer::Hide { name: "mask_token".to_owned() }));
        layers.push(Layer::Positions { name: "pos_embed".to_owned() });
        layers.extend(self.encoder());
        layers.extend(last);
        let input = Size { steps: columns.others.div_ceil(self.patch), channels: self.patch };
        Branch { input, layers, marks: if hides { 2 } else { 1 } }
    }
}

/// The network.
pub(super) struct ByteTransformer;

impl NetworkModel for ByteTransformer {
    type Parameters = ByteTransformerParameters;
    const NAME: &'static str = "byte_transformer";
    const VERSION: u32 = VERSION;
    const TOO_SHORT: &'static str = "the features contain no bytes; raise feature.packets or feature.bytes";
    const SIZES: &'static str = "model.byte_transformer.embedding, feed_forward or layers";
    const BATCH: &'static str = "model.byte_transformer.batch";
    const CORPUS: &'static str = "model.byte_transformer.corpus_flows";

    fn check(parameters: &ByteTransformerParameters) -> Result<(), String> {
        let ByteTransformerParameters { patch, embedding, layers, heads, feed_forward, dropout, mask_ratio, .. } =
            *parameters;
        let ByteTransformerParameters { pretraining_epochs, pretraining_batch, pretraining_learning_rate, .. } =
            *parameters;
        check_rate_divisor(parameters.layer_rate_divisor)?;
        check_sizes(&[
            ("patch", patch),
            ("embedding", embedding),
            ("heads", heads),
            ("feed_forward", feed_forward),
            ("pretraining_batch", pretraining_batch),
        ])?;
        if !(1..=64).contains(&layers) {
            return Err(format!("layers = {layers} must be between 1 and 64"));
        }
        if !embedding.is_multiple_of(heads) {
            return Err(format!("embedding = {embedding} must be a multiple of heads = {heads}"));
        }
        check_shares(&[("dropout", dropout)])?;
        Self::pretraining(parameters).check("")?;
        if !(1..=1 << 31).contains(&parameters.corpus_flows) {
            return Err(format!("corpus_flows = {} must be between 1 and {}", parameters.corpus_flows, 1_u64 << 31));
        }
        if !(mask_ratio > 0.0 && mask_ratio <= 1.0) {
            return Err(format!("mask_ratio = {mask_ratio} must be above 0 and at most 1"));
        }
        if pretraining_epochs > 1 << 20 {
            return Err(format!("pretraining_epochs = {pretraining_epochs} must be at most {}", 1 << 20));
        }
        if !(pretraining_learning_rate > 0.0 && pretraining_learning_rate.is_finite()) {
            return Err(format!("pretraining_learning_rate = {pretraining_learning_rate} must be a positive number"));
        }
        Ok(())
    }

    fn training(parameters: &ByteTransformerParameters) -> Training<'_> {
        let mut training = training_of!(parameters);
        training.options.warm_up_steps = parameters.warm_up_steps;
        training
    }

    fn input(input: Input) -> InputOptions {
        InputOptions::plain(input)
    }

    fn network(parameters: &ByteTransformerParameters, columns: Columns, classes: usize) -> Network {
        let branch = parameters.branch(columns, false, vec![Layer::PresentMean]);
        Network { branches: vec![branch], trunk: vec![Layer::linear("head", classes)], classes }
    }

    fn masked(parameters: &ByteTransformerParameters, columns: Columns) -> Option<Masked> {
        let decoder = vec![Layer::step_linear("decoder", parameters.patch)];
        let network = Network { branches: vec![parameters.branch(columns, true, decoder)], trunk: vec![], classes: 0 };
        (parameters.pretraining_epochs > 0).then_some(Masked {
            network,
            epochs: parameters.pretraining_epochs,
            batch: parameters.pretraining_batch,
            learning_rate: parameters.pretraining_learning_rate,
            weight_decay: parameters.weight_decay,
            hidden: f64::from(parameters.mask_ratio),
        })
    }

    fn pretraining(parameters: &ByteTransformerParameters) -> PretrainingKeys {
        let ByteTransformerParameters { corpus, corpus_flows, unlabelled, pretrained, accept_seen, .. } =
            parameters.clone();
        PretrainingKeys { corpus, samples: corpus_flows, unlabelled, pretrained, accept_seen }
    }

    fn rate_factor(parameters: &ByteTransformerParameters, parameter: &str) -> f32 {
        (1.0 / f64::from(parameters.layer_rate_divisor).powi(parameters.depth(parameter) as i32)) as f32
    }

    fn scaling(_: &ByteTransformerParameters, _: &Array2<f32>, _: Columns) -> Vec<f64> {
        Vec::new()
    }

    fn scaling_size(_: Columns) -> usize {
        0
    }

    fn scale(_: &[f64], _: Columns, network: &Network, row: ArrayView1<'_, f32>, scaled: &mut [f32]) {
        let Size { steps, channels: patch } = network.branches[0].input;
        let (values, present) = scaled.split_at_mut(steps * patch);
        values.fill(0.0);
        present.fill(0.0);
        for (place, &token) in row.iter().enumerate().filter(|(_, token)| **token != f32::from(PAD)) {
            values[place] = (token + 1.0) / 256.0;
            present[place / patch] = 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    const COLUMNS: Columns = Columns { sequences: 0, others: 768 };

    #[test]
    fn parameters_are_as_many_as_in_the_blocks_of_timm() {
        let network = ByteTransformer::network(&ByteTransformerParameters::default(), COLUMNS, 12);
        let count = network.specifications().unwrap().iter().map(|known| known.count()).sum::<usize>();
        let block = 2 * 2 * 128 + 128 * 384 + 384 + 128 * 128 + 128 + 128 * 512 + 512 + 512 * 128 + 128;
        assert_eq!(count, 16 * 128 + 128 + 48 * 128 + 4 * block + 2 * 128 + 128 * 12 + 12);
    }

    #[test]
    fn pre_training_reconstructs_its_input_with_the_encoder_of_the_classifier() {
        let parameters = ByteTransformerParameters::default();
        let masked = ByteTransformer::masked(&parameters, COLUMNS).unwrap().network;
        let sizes = masked.chains().unwrap()[0].sizes().unwrap();
        assert_eq!(sizes.first(), sizes.last());
        assert_eq!(masked.columns(), 768 + 48 + 48);
        let names = |network: &Network| -> Vec<String> {
            network.specifications().unwrap().into_iter().map(|known| known.name).collect()
        };
        let (of_masked, of_classifier) = (names(&masked), names(&ByteTransformer::network(&parameters, COLUMNS, 5)));
        let others: Vec<&String> = of_classifier.iter().filter(|name| !of_masked.contains(name)).collect();
        assert_eq!(others, ["head.weight", "head.bias"]);
        let none = ByteTransformerParameters { pretraining_epochs: 0, ..parameters };
        assert!(ByteTransformer::masked(&none, COLUMNS).is_none());
    }

    #[test]
    fn lower_layers_learn_slower() {
        let parameters = ByteTransformerParameters { layer_rate_divisor: 2.0, layers: 2, ..Default::default() };
        let names = ["head.weight", "norm.bias", "blocks.1.mlp.fc1.weight", "blocks.0.norm1.weight", "pos_embed"];
        let factors = names.map(|name| ByteTransformer::rate_factor(&parameters, name));
        assert_eq!(factors, [1.0, 0.5, 0.5, 0.25, 0.125]);
        let known = ByteTransformer::network(&parameters, COLUMNS, 5).specifications().unwrap();
        assert!(known.iter().all(|known| parameters.depth(&known.name) <= 3));
        assert_eq!(known.iter().filter(|known| parameters.depth(&known.name) == 3).count(), 3);
        let even = ByteTransformerParameters::default();
        assert!(known.iter().all(|known| ByteTransformer::rate_factor(&even, &known.name) == 1.0));
    }

    #[test]
    fn patches_without_a_byte_are_marked() {
        let row = arr1(&[0.0, 255.0, 256.0, 256.0, 256.0, 256.0, 7.0]);
        let columns = Columns { sequences: 0, others: 7 };
        let parameters = ByteTransformerParameters { patch: 3, ..Default::default() };
        let network = ByteTransformer::network(&parameters, columns, 2);
        // Seven bytes fill three patches of three, the last of them padded.
        let mut scaled = [9.0; 12];
        assert_eq!(network.columns(), scaled.len());
        ByteTransformer::scale(&[], columns, &network, row.view(), &mut scaled);
        assert_eq!(scaled[..9], [1.0 / 256.0, 1.0, 0.0, 0.0, 0.0, 0.0, 8.0 / 256.0, 0.0, 0.0]);
        assert_eq!(scaled[9..], [1.0, 0.0, 1.0]);
    }
}
