//! The paper's model as a [`Classifier`]: an ELMo pre-trained on the training flows' packets encodes every packet once,
//! then an LSTM with self-attention reads a flow's packets. Alternatively both are trained together, and every step
//! re-encodes its packets.

mod joint;
mod memory;
mod options;

use ndarray::Array2;

use super::deep::Engine;
use super::deep::checkpoint::Checkpoints;
use super::deep::engine::TRAINING;
use super::deep::packets::{Metadata, PacketList};
use super::deep::parameters::{
    AttentionLstmOptions, ElmoOptions, Encoder, MODEL, ParameterSet, classifier_specifications, elmo_specifications,
    initial_classifier,
};
use super::deep::pretrained::Pretrained;
use super::deep::training::{OnEncodings, TrainingContext, fit_classifier, predict, prediction_batches, still_rising};
use super::elmo::{ENCODING, Encoded, Encodings, PRETRAINING_ENTRY, encode_flows, pretrain, untrained};
use super::pretraining::PretrainingSource;
use super::{
    AgreementBound, Classifier, Device, Examples, ExpectedMemory, FitContext, FitReport, FitSize, Implementation,
    Input, ModelArchive, ModelEntry, ModelError, StageTime,
};
use etcbench_feature::VOCABULARY;
use etcbench_storage::progress::Progress;

/// The model's entry in the table of models.
pub(super) static ENTRY: ModelEntry = ModelEntry {
    name: MODEL,
    summary: "ELMo over packet bytes, then an LSTM with self-attention over packets: the paper's model.",
    version: 6,
    inputs: &[Input::Bytes],
    reads_input: true,
    deep: true,
    proposed: true,
    usual: false,
    agreement: Some(AgreementBound {
        agreement: 0.85,
        macro_f1: 0.05,
        reason: "same initial weights; sums in another order diverge over epochs",
    }),
    reference_row_limit: None,
    sequences: |_, _| Ok(()),
    pretraining: Some(PRETRAINING_ENTRY),
    external: None,
    build: |spec| Ok(Box::new(AttentionLstm::new(spec.implementation, &spec.parameters)?)),
    load: |_, archive| Ok(Box::new(AttentionLstm::from_archive(archive)?)),
};

/// ELMo over packet bytes, then an LSTM with self-attention over packets.
#[derive(Debug, Clone)]
pub struct AttentionLstm {
    implementation: Implementation,
    device: Device,
    options: AttentionLstmOptions,
    fitted: Option<Fitted>,
}

#[derive(Debug, Clone)]
struct Fitted {
    elmo: ParameterSet,
    classifier: ParameterSet,
    /// N and M of the tokens that it was fitted on.
    packets: usize,
    bytes: usize,
    classes: usize,
}

impl AttentionLstm {
    /// Creates an unfitted model; `parameters` are the keys of `[model.attention_lstm]`, all optional.
    ///
    /// # Errors
    /// An unknown key, or an unusable value.
    pub fn new(implementation: Implementation, parameters: &toml::Table) -> Result<Self, ModelError> {
        let options = options::parse(parameters)?;
        Ok(Self { implementation, device: Device::Cpu, options, fitted: None })
    }

    /// Returns how the ELMo of a table is pre-trained; `None` if its encoder is not pre-trained.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub(crate) fn pretraining_options(parameters: &toml::Table) -> Result<Option<ElmoOptions>, ModelError> {
        let options = options::parse(parameters)?;
        Ok(options.encoder.is_pretrained().then_some(options.elmo))
    }

    /// Returns the options of the ELMo in a table.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub(crate) fn elmo_options(parameters: &toml::Table) -> Result<ElmoOptions, ModelError> {
        Ok(options::parse(parameters)?.elmo)
    }

    /// Loads a fitted model from a file. It uses the implementation it was fitted with, on the CPU.
    ///
    /// # Errors
    /// A file of another model, or a damaged one.
    pub fn from_archive(archive: &ModelArchive) -> Result<Self, ModelError> {
        let problem = |problem: String| ModelError::File { path: None, problem };
        let metadata = |name: &str| {
            archive
                .metadata
                .get(name)
                .ok_or_else(|| problem(format!("metadata {name} is missing; fit the model again")))
        };
        let number = |name: &str| -> Result<usize, ModelError> {
            metadata(name)?.parse().map_err(|_| problem(format!("metadata {name} is not a number")))
        };
        let model = metadata("model")?;
        if model != MODEL {
            return Err(problem(format!("the file contains a {model} model, not {MODEL}")));
        }
        let implementation = serde_json::from_value(metadata("implementation")?.as_str().into())
            .map_err(|error| problem(format!("metadata implementation: {error}")))?;
        let table = metadata("parameters")?
            .parse::<toml::Table>()
            .map_err(|error| problem(format!("metadata parameters: {}", error.message())))?;
        let options = options::parse(&table)?;
        let (packets, bytes, classes) = (number("packets")?, number("bytes")?, number("classes")?);
        let fitted = Fitted {
            elmo: ParameterSet::load(archive, &elmo_specifications(&options.elmo, VOCABULARY, bytes))?,
            classifier: ParameterSet::load(archive, &classifier_specifications(&options, classes))?,
            packets,
            bytes,
            classes,
        };
        Ok(Self { implementation, device: Device::Cpu, options, fitted: Some(fitted) })
    }

    /// Returns the model with another implementation: both use the same parameters.
    pub fn with_implementation(self, implementation: Implementation) -> Self {
        Self { implementation, ..self }
    }

    /// Returns the model on another device.
    pub fn with_device(self, device: Device) -> Self {
        Self { device, ..self }
    }

    fn engine(&self) -> Engine {
        Engine { implementation: self.implementation, device: self.device }
    }

    /// Returns a key of everything that determines the result of the classifier's training.
    fn training_key(&self, elmo: &ParameterSet, examples: [Examples<'_>; 2], classes: usize, seed: u64) -> String {
        let mut facts = self
            .engine()
            .determinants("classifier")
            .and("parameters", &options::to_table(&self.options).to_string())
            .and("seed", &seed)
            .and("classes", &classes)
            .and_data("elmo", |add| elmo.add_to(add));
        for (part, Examples { features, rows }) in ["training", "validation"].into_iter().zip(examples) {
            facts = facts.and_data(part, |add| {
                add(format!("{} {}", features.tokens.packets, features.tokens.bytes).as_bytes());
                for &row in rows {
                    add(bytemuck::cast_slice::<u16, u8>(features.tokens.flow(row)));
                    add(&features.labels[row].to_le_bytes());
                    if !self.options.packet_metadata.is_empty() {
                        features.sequences.row(row).iter().for_each(|value| add(&value.to_le_bytes()));
                    }
                }
            });
        }
        format!("classifier-{}", facts.key())
    }

    /// Returns the ELMo, pre-trained on the training packets or a corpus, or read from a file, and adds what is known
    /// about it to the report. Validation packets are only used to measure the loss.
    fn pretrained(
        &self,
        [training, validation]: [&PacketList<'_>; 2],
        bytes: usize,
        context: &FitContext<'_>,
        report: &mut FitReport,
    ) -> Result<ParameterSet, ModelError> {
        let options = &self.options.elmo;
        let corpus = match context.pretraining {
            Some(PretrainingSource::File(file, pretraining)) => {
                report.notes.extend(pretraining.notes());
                report.pretraining = Some(pretraining.clone());
                return Ok(file.parameters.clone());
            }
            Some(PretrainingSource::Corpus(corpus)) => {
                report.notes.extend(corpus.pretraining.notes());
                report.pretraining = Some(corpus.pretraining.clone());
                let rows = (0..corpus.tokens.values.len() / corpus.tokens.bytes).collect::<Vec<_>>();
                Some(PacketList::of_rows(&corpus.tokens, &rows))
            }
            None if options.source().is_training_only() => None,
            None => return Err(data_problem("elmo.corpus and elmo.pretrained need the captures of a run".to_owned())),
        };
        let packets = corpus.as_ref().unwrap_or(training);
        let Pretrained { parameters, epochs, stage } =
            pretrain(self.engine(), options, bytes, packets, validation, context)?;
        report.epochs.extend(epochs);
        report.stages.push(stage);
        Ok(parameters)
    }

    fn fitted(&self) -> Result<&Fitted, ModelError> {
        self.fitted.as_ref().ok_or_else(|| data_problem("the model is not fitted yet; call fit first".to_owned()))
    }

    /// Returns the weight of each class's flows in the loss.
    fn class_weights(&self, labels: &[u32], names: &[String]) -> Result<Vec<f32>, ModelError> {
        let mut counts = vec![0; names.len()];
        labels.iter().for_each(|&label| counts[label as usize] += 1);
        let weights = self.options.class_weights.of_counts(MODEL, &counts, names)?;
        Ok(weights.into_iter().map(|weight| weight as f32).collect())
    }

    /// Checks that the flows include the metadata that the model reads of each packet.
    fn check_metadata(&self, Examples { features, .. }: Examples<'_>) -> Result<(), ModelError> {
        let (packets, known) = (features.tokens.packets, features.sequences.ncols() / 2);
        if self.options.packet_metadata.is_empty() || packets <= known {
            return Ok(());
        }
        Err(data_problem(format!(
            "packet_metadata needs packet sequences of {packets} packets, but these flows have {known}"
        )))
    }

    /// Encodes flows with a pre-trained ELMo.
    fn encode(
        &self,
        elmo: &ParameterSet,
        Examples { features, rows }: Examples<'_>,
        kept: Option<&Encodings<'_>>,
        progress: &dyn Progress,
    ) -> Result<Encoded, ModelError> {
        // The seed is for dropout, which encoding does not use.
        let mut model = self.engine().language_model(&self.options.elmo, elmo, 0)?;
        let pooling = self.options.pooling_of(features.tokens.bytes);
        let reading = (&self.options.elmo, pooling);
        let encoded = encode_flows(&mut *model, reading, &features.tokens, rows, kept, progress)?;
        let metadata = Metadata::of_rows(features, rows, &self.options.packet_metadata);
        Ok(Encoded { flows: encoded.flows.with_metadata(metadata), ..encoded })
    }
}

fn data_problem(problem: String) -> ModelError {
    ModelError::Data { model: MODEL.to_owned(), problem }
}

impl Classifier for AttentionLstm {
    fn fit(
        &mut self,
        training: Examples<'_>,
        validation: Examples<'_>,
        context: &FitContext<'_>,
    ) -> Result<FitReport, ModelError> {
        let tokens = &training.features.tokens;
        let classes = training.features.class_names.len();
        if training.rows.is_empty() {
            return Err(data_problem("there are no training flows".to_owned()));
        }
        if tokens.packets == 0 || tokens.bytes == 0 || classes == 0 {
            let (packets, bytes) = (tokens.packets, tokens.bytes);
            let problem = format!("{packets} packets of {bytes} bytes and {classes} classes: none may be 0");
            return Err(data_problem(problem));
        }
        let validation_tokens = &validation.features.tokens;
        if (validation_tokens.packets, validation_tokens.bytes) != (tokens.packets, tokens.bytes) {
            return Err(data_problem("training and validation flows have tokens of different shapes".to_owned()));
        }
        if let Some(label) = training.labels().into_iter().chain(validation.labels()).find(|&l| l as usize >= classes) {
            return Err(data_problem(format!("label {label} is not one of the {classes} classes")));
        }
        self.check_metadata(training)?;
        self.check_metadata(validation)?;
        self.device = context.device;
        self.fitted = None;
        let mut report = FitReport::default();

        let packets = PacketList::of_rows(tokens, training.rows);
        let validation_packets = PacketList::of_rows(validation_tokens, validation.rows);
        let elmo = match self.options.encoder {
            Encoder::Frozen | Encoder::FineTuned => {
                self.pretrained([&packets, &validation_packets], tokens.bytes, context, &mut report)?
            }
            Encoder::FromScratch | Encoder::Untrained => untrained(&self.options.elmo, tokens.bytes, context.seed),
        };

        let encoded = if self.options.encoder.trains() {
            None
        } else {
            let kept = Encodings::new(context.artifacts, self.engine(), &elmo, self.options.pooling_of(tokens.bytes));
            let encode = |examples| self.encode(&elmo, examples, Some(&kept), context.progress);
            let encoded = [encode(training)?, encode(validation)?];
            report.stages.push(StageTime {
                stage: ENCODING.to_owned(),
                wall_seconds: encoded.iter().map(|encoded| encoded.seconds).sum(),
                samples: encoded.iter().map(|encoded| encoded.distinct).sum(),
            });
            Some(encoded.map(|encoded| encoded.flows))
        };

        let key = self.training_key(&elmo, [training, validation], classes, context.seed);
        let mut checkpoints = Checkpoints::new(context.artifacts, &key);
        let initial = initial_classifier(&self.options, classes, context.seed);
        let training_context =
            TrainingContext { seed: context.seed, checkpoints: &mut checkpoints, progress: context.progress };
        let labels = [training.labels(), validation.labels()];
        let class_weights = self.class_weights(&labels[0], &training.features.class_names)?;
        let (epochs, elmo, classifier) = match &encoded {
            None => {
                self.fit_together([elmo, initial], [training, validation], &labels, &class_weights, training_context)?
            }
            Some([training, validation]) => {
                let mut model = self.engine().classifier(&self.options, &initial, context.seed)?;
                model.set_class_weights(&class_weights)?;
                let mut learner = OnEncodings { model: &mut *model, training, validation, classes };
                let epochs = fit_classifier(
                    &mut learner,
                    &self.options.training(),
                    &labels[0],
                    &labels[1],
                    classes,
                    training_context,
                )?;
                (epochs, elmo, model.parameters())
            }
        };
        report.stages.push(StageTime {
            stage: TRAINING.to_owned(),
            wall_seconds: checkpoints.seconds(),
            samples: (training.rows.len() * epochs.len()) as u64,
        });
        if validation.rows.is_empty() {
            report.notes.push("no validation flows: trained for all epochs, without early stopping".to_owned());
        }
        report.notes.extend(still_rising(MODEL, &epochs, self.options.epochs));
        report.epochs.extend(epochs);
        let (packets, bytes) = (tokens.packets, tokens.bytes);
        self.fitted = Some(Fitted { elmo, classifier, packets, bytes, classes });
        checkpoints.remove();
        Ok(report)
    }

    fn predict_probabilities(
        &self,
        examples: Examples<'_>,
        progress: &dyn Progress,
    ) -> Result<Array2<f32>, ModelError> {
        let fitted = self.fitted()?;
        let tokens = &examples.features.tokens;
        if (tokens.packets, tokens.bytes) != (fitted.packets, fitted.bytes) {
            return Err(data_problem(format!(
                "fitted on {} packets of {} bytes, but the features have {} packets of {} bytes",
                fitted.packets, fitted.bytes, tokens.packets, tokens.bytes
            )));
        }
        self.check_metadata(examples)?;
        let flows = self.encode(&fitted.elmo, examples, None, progress)?.flows;
        let mut model = self.engine().classifier(&self.options, &fitted.classifier, 0)?;
        progress.begin("prediction", prediction_batches(flows.len()));
        let probabilities =
            predict(&mut |batch, output| model.probabilities(batch, output), &flows, fitted.classes, &mut |batches| {
                progress.advance(batches)
            })?;
        progress.end();
        Ok(Array2::from_shape_vec((flows.len(), fitted.classes), probabilities).expect("one row for each flow"))
    }

    fn expected_memory(&self, size: &FitSize) -> ExpectedMemory {
        memory::expected(&self.options, self.implementation, size)
    }

    fn save(&self) -> Result<ModelArchive, ModelError> {
        let fitted = self.fitted()?;
        let mut archive = ModelArchive::default();
        for (name, value) in [
            ("model", MODEL.to_owned()),
            ("implementation", self.implementation.name().to_owned()),
            ("parameters", options::to_table(&self.options).to_string()),
            ("packets", fitted.packets.to_string()),
            ("bytes", fitted.bytes.to_string()),
            ("classes", fitted.classes.to_string()),
        ] {
            archive.metadata.insert(name.to_owned(), value);
        }
        fitted.elmo.store(&mut archive);
        fitted.classifier.store(&mut archive);
        Ok(archive)
    }
}

#[cfg(test)]
mod tests;
