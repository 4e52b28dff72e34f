//! Specifications of parameters: names, shapes, initial values, and their distance from the output, which determines
//! their learning rates in fine-tuning. Names and the order of the LSTM's gates (input, forget, candidate, output)
//! match a PyTorch state dict, so that the weights load there unchanged.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_distr::StandardNormal;

use super::{AttentionLstmOptions, ElmoOptions, Encoder, ParameterSet};
use crate::deep::pooling::PoolingKind;
use etcbench_storage::seed;

/// Name of the position embedding.
pub(crate) const POSITIONS: &str = "elmo.positions.weight";

/// Initial distribution of a parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Initialisation {
    /// This value everywhere.
    Constant(f32),
    /// Normal distribution with mean 0 and this standard deviation.
    Normal(f32),
    /// Uniform distribution within ±1 / sqrt(n), with n this number.
    Uniform(usize),
    /// Uniform distribution within ±sqrt(6 / n), with n this number (He et al. 2015).
    He(usize),
    /// Same as [`Self::Uniform`] with the size of an LSTM's state, plus 1 for the forget gates.
    Gates(usize),
}

/// A parameter, or running statistics.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Specification {
    /// Name in files and errors.
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    initialisation: Initialisation,
    /// Number of layers below the classifier: 0 for the classifier's own parameters, 1 for the ELMo's uppermost layer.
    depth: usize,
}

impl Specification {
    fn new(name: impl Into<String>, shape: &[usize], initialisation: Initialisation) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), initialisation, depth: 0 }
    }

    /// Creates a parameter initialised with one value everywhere.
    pub(crate) fn constant(name: impl Into<String>, shape: &[usize], value: f32) -> Self {
        Self::new(name, shape, Initialisation::Constant(value))
    }

    fn at(self, depth: usize) -> Self {
        Self { depth, ..self }
    }

    /// Returns the number of values.
    pub(crate) fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns its initial values. Every parameter has its own random stream, so adding a parameter never changes the
    /// others.
    fn initial(&self, seed: u64) -> Vec<f32> {
        let count = self.count();
        let mut generator = seed::generator(seed, &format!("initialisation {}", self.name));
        let mut uniform = |inputs: usize| {
            let bound = 1.0 / (inputs as f32).sqrt();
            (0..count).map(|_| generator.random_range(-bound..bound)).collect::<Vec<f32>>()
        };
        match self.initialisation {
            Initialisation::Constant(value) => vec![value; count],
            Initialisation::Normal(deviation) => {
                (0..count).map(|_| deviation * generator.sample::<f32, _>(StandardNormal)).collect()
            }
            Initialisation::Uniform(inputs) => uniform(inputs),
            Initialisation::He(inputs) => uniform(inputs).into_iter().map(|value| value * 6_f32.sqrt()).collect(),
            Initialisation::Gates(hidden) => {
                let mut values = uniform(hidden);
                values[hidden..2 * hidden].iter_mut().for_each(|value| *value += 1.0);
                values
            }
        }
    }
}

/// Returns ELMo's parameters in order; `vocabulary` includes the padding token, `bytes` is M.
pub(crate) fn elmo_specifications(options: &ElmoOptions, vocabulary: usize, bytes: usize) -> Vec<Specification> {
    let mut specifications = encoder_specifications(options, vocabulary, bytes);
    specifications.extend(linear("elmo.head", options.hidden, vocabulary));
    specifications
}

/// Returns the parameters of ELMo that encode a packet: all except the language model's head.
pub(crate) fn encoder_specifications(options: &ElmoOptions, vocabulary: usize, bytes: usize) -> Vec<Specification> {
    let ElmoOptions { embedding, hidden, layers, positions, .. } = *options;
    let table =
        |name: &str, rows| Specification::new(name, &[rows, embedding], Initialisation::Normal(0.1)).at(layers + 1);
    let mut specifications = vec![table("elmo.embedding.weight", vocabulary)];
    specifications.extend(positions.then(|| table(POSITIONS, bytes)));
    for direction in ["forward", "backward"] {
        for layer in 0..layers {
            let input = if layer == 0 { embedding } else { hidden };
            let of_layer = lstm(&format!("elmo.{direction}.{layer}"), input, hidden);
            specifications.extend(of_layer.map(|specification| specification.at(layers - layer)));
        }
    }
    specifications
}

/// Returns the classifier's parameters and running statistics in order.
pub(crate) fn classifier_specifications(options: &AttentionLstmOptions, classes: usize) -> Vec<Specification> {
    let AttentionLstmOptions { lstm: hidden, dense, .. } = *options;
    let zero = Initialisation::Constant(0.0);
    let mut specifications = vec![
        Specification::new("classifier.mix.weight", &[options.elmo.layers + 1], zero),
        Specification::new("classifier.mix.gamma", &[1], Initialisation::Constant(1.0)),
    ];
    if options.pooling == PoolingKind::Attention {
        specifications.push(Specification::new("classifier.pooling.weight", &[2 * options.elmo.hidden], zero));
    }
    if options.is_normalised() {
        specifications.extend(norm("classifier.norm_0", options.step_size()));
    }
    specifications.extend(lstm("classifier.lstm", options.step_size(), hidden));
    specifications.extend(norm("classifier.norm_1", hidden));
    if options.attention {
        for part in ["query", "key", "value"] {
            specifications.extend(linear(&format!("classifier.attention.{part}"), hidden, hidden));
        }
        specifications.extend(norm("classifier.norm_2", hidden));
    }
    specifications.extend(linear("classifier.dense", hidden, dense));
    specifications.extend(linear("classifier.output", dense, classes));
    specifications
}

fn lstm(name: &str, input: usize, hidden: usize) -> [Specification; 3] {
    let uniform = Initialisation::Uniform(hidden);
    [
        Specification::new(format!("{name}.weight_ih"), &[4 * hidden, input], uniform),
        Specification::new(format!("{name}.weight_hh"), &[4 * hidden, hidden], uniform),
        Specification::new(format!("{name}.bias"), &[4 * hidden], Initialisation::Gates(hidden)),
    ]
}

/// A convolution over steps; the initial range of weight and bias depends on the number of values that one output
/// reads.
pub(crate) fn convolution(name: &str, input: usize, output: usize, kernel: usize) -> [Specification; 2] {
    let uniform = Initialisation::Uniform(input * kernel);
    [
        Specification::new(format!("{name}.weight"), &[output, input, kernel], uniform),
        Specification::new(format!("{name}.bias"), &[output], uniform),
    ]
}

/// A 2D convolution. Its bias is initially 0, because most pixels are so close to 0 that a random bias alone would
/// decide which channels ever pass the rectifier.
pub(crate) fn convolution2d(name: &str, input: usize, output: usize, kernel: usize) -> [Specification; 2] {
    let shape = [output, input, kernel, kernel];
    [
        Specification::new(format!("{name}.weight"), &shape, Initialisation::He(input * kernel * kernel)),
        Specification::constant(format!("{name}.bias"), &[output], 0.0),
    ]
}

/// A linear layer; the initial range of weight and bias depends on the number of inputs.
pub(crate) fn linear(name: &str, input: usize, output: usize) -> [Specification; 2] {
    let uniform = Initialisation::Uniform(input);
    [
        Specification::new(format!("{name}.weight"), &[output, input], uniform),
        Specification::new(format!("{name}.bias"), &[output], uniform),
    ]
}

/// A layer normalisation.
pub(crate) fn layer_norm(name: &str, size: usize) -> [Specification; 2] {
    [("weight", 1.0), ("bias", 0.0)]
        .map(|(part, value)| Specification::constant(format!("{name}.{part}"), &[size], value))
}

/// Learned values that are added or inserted: initially small numbers around 0, as in Devlin et al. 2019.
pub(crate) fn token(name: &str, shape: &[usize]) -> Specification {
    Specification::new(name, shape, Initialisation::Normal(0.02))
}

/// A batch normalisation and its running statistics.
pub(crate) fn norm(name: &str, size: usize) -> [Specification; 4] {
    [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)]
        .map(|(part, value)| Specification::new(format!("{name}.{part}"), &[size], Initialisation::Constant(value)))
}

/// Returns factors for the learning rates of parameters when classifier and ELMo are trained together. Only fine-tuning
/// slows the ELMo down: without pre-training there is nothing to preserve.
pub(crate) fn rate_factors(options: &AttentionLstmOptions, specifications: &[Specification]) -> BTreeMap<String, f32> {
    let factor = |depth: usize| match options.encoder {
        Encoder::FineTuned => (1.0 / f64::from(options.layer_rate_divisor).powi(depth as i32)) as f32,
        Encoder::Frozen | Encoder::FromScratch | Encoder::Untrained => 1.0,
    };
    specifications.iter().map(|known| (known.name.clone(), factor(known.depth))).collect()
}

/// Returns ELMo's initial parameters.
pub(crate) fn initial_elmo(options: &ElmoOptions, vocabulary: usize, bytes: usize, seed: u64) -> ParameterSet {
    initial(&elmo_specifications(options, vocabulary, bytes), seed)
}

/// Returns the classifier's initial parameters.
pub(crate) fn initial_classifier(options: &AttentionLstmOptions, classes: usize, seed: u64) -> ParameterSet {
    initial(&classifier_specifications(options, classes), seed)
}

/// Returns the initial values of these parameters.
pub(crate) fn initial(specifications: &[Specification], seed: u64) -> ParameterSet {
    let mut set = ParameterSet::default();
    for specification in specifications {
        set.insert(specification.name.clone(), &specification.shape, specification.initial(seed));
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_values_follow_their_rules() {
        let options = AttentionLstmOptions::default();
        let elmo = initial_elmo(&options.elmo, 257, 128, 3);
        let embedding = elmo.get("elmo.embedding.weight", &[257, 128]).unwrap();
        let spread = (embedding.iter().map(|value| value * value).sum::<f32>() / embedding.len() as f32).sqrt();
        assert!((spread - 0.1).abs() < 0.005, "{spread}");
        let bias = elmo.get("elmo.backward.1.bias", &[512]).unwrap();
        let bound = 1.0 / 128f32.sqrt();
        for (index, value) in bias.iter().enumerate() {
            let centre = if (128..256).contains(&index) { 1.0 } else { 0.0 };
            assert!((value - centre).abs() <= bound + 1e-6);
        }
        assert!(elmo.get("elmo.head.bias", &[257]).unwrap().iter().all(|value| value.abs() <= bound));

        let classifier = initial_classifier(&options, 5, 3);
        assert!(classifier.get("classifier.output.bias", &[5]).unwrap().iter().all(|value| value.abs() <= 0.125));
        assert_eq!(classifier.get("classifier.norm_2.weight", &[256]).unwrap()[7], 1.0);
        assert_eq!(classifier.get("classifier.norm_2.running_mean", &[256]).unwrap()[7], 0.0);
        assert_eq!(classifier.get("classifier.mix.gamma", &[1]).unwrap(), [1.0]);
        assert!(classifier.get("classifier.mix.gamma", &[2]).is_err());
    }

    #[test]
    fn leaving_a_layer_out_changes_no_other() {
        let with = AttentionLstmOptions::default();
        let without = AttentionLstmOptions { attention: false, ..with.clone() };
        let all = initial_classifier(&with, 5, 3);
        for (name, parameter) in initial_classifier(&without, 5, 3).iter() {
            assert_eq!(all.get(name, &parameter.shape).unwrap(), parameter.values, "{name}");
        }
        assert_eq!(initial_classifier(&without, 5, 3).iter().count() + 10, all.iter().count());
    }

    #[test]
    fn lower_layers_of_a_fine_tuned_elmo_learn_more_slowly() {
        let mut options = AttentionLstmOptions { encoder: Encoder::FineTuned, ..AttentionLstmOptions::default() };
        (options.layer_rate_divisor, options.elmo.positions) = (2.0, true);
        let encoder = encoder_specifications(&options.elmo, 257, 128);
        let both = [classifier_specifications(&options, 3), encoder.clone()].concat();
        let factors = rate_factors(&options, &both);
        for (name, expected) in [
            ("classifier.mix.weight", 1.0),
            ("elmo.backward.1.bias", 0.5),
            ("elmo.forward.0.weight_ih", 0.25),
            ("elmo.embedding.weight", 0.125),
            (POSITIONS, 0.125),
        ] {
            assert_eq!(factors[name], expected, "{name}");
        }
        let scratch = AttentionLstmOptions { encoder: Encoder::FromScratch, ..options.clone() };
        assert!(rate_factors(&scratch, &both).values().all(|&factor| factor == 1.0));
        let elmo = elmo_specifications(&options.elmo, 257, 128);
        assert_eq!(encoder, elmo[..elmo.len() - 2]);
    }
}
