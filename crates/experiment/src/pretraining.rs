//! What an experiment's models are pre-trained on other than the training part: the flows of their corpora and the files
//! of those that were pre-trained earlier, read once for all fits. For each fit, provides its corpus, drawn without what its split holds
//! out, or its file, unless that has seen flows that are to be tested.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use super::capture_facts::CaptureFacts;
use super::corpus::{Drawn, HeldOut, Reading, Source, SourceFlow, draw, hashes};
use super::flows::{Content, LoadedFlows, flow_options, load_unlabelled};
use super::run::{Settings, VariantRun};
use super::variant_fits::settings_of;
use super::{Experiment, ExperimentError, Variant};
use etcbench_dataset::{LabelledFlow, Manifest};
use etcbench_feature::FeatureSet;
use etcbench_flow::FlowOptions;
use etcbench_model::pretraining::{
    Excluded, Pretrainable, PretrainedFile, Pretraining, PretrainingKeys, PretrainingSource, Sample, Seen,
    TRAINING_PART, pretraining_keys,
};
use etcbench_model::{ModelError, ModelSpec};
use etcbench_split::Split;
use etcbench_storage::Determinants;
use etcbench_storage::progress::Progress;

/// Bump whenever a change to the code changes what is drawn or refused.
const VERSION: u32 = 1;

/// The flows of a dataset for some flow options.
struct CorpusFlows {
    dataset: String,
    flows: LoadedFlows,
}

/// A pre-trained model with the checksum of its file.
struct ReadFile {
    file: Arc<PretrainedFile>,
    sha256: String,
}

/// The sources of the pre-training of an experiment's fits.
#[derive(Default)]
pub(super) struct PretrainingSources {
    corpora: Vec<CorpusFlows>,
    /// Pre-trained models by their names in the experiment.
    files: BTreeMap<String, ReadFile>,
}

/// A division of flows, as a fit sees it.
#[derive(Clone, Copy)]
pub(super) struct Divided<'a> {
    /// The experiment's flows.
    pub flows: &'a LoadedFlows,
    /// Their features.
    pub features: &'a FeatureSet,
    /// The parts.
    pub split: &'a Split,
    /// The training rows after sampling.
    pub training: &'a [usize],
    /// The seed.
    pub seed: u64,
}

/// A model with pre-training and what its keys state about that.
struct Stated {
    spec: ModelSpec,
    model: Pretrainable,
    keys: PretrainingKeys,
}

impl Stated {
    /// Returns `None` if the model's keys do not pre-train it.
    fn of(spec: &ModelSpec) -> Result<Option<Self>, ExperimentError> {
        let (model, keys) = (Pretrainable::of(spec.kind), pretraining_keys(spec)?);
        Ok(model.zip(keys).map(|(model, keys)| Self { spec: spec.clone(), model, keys }))
    }

    /// Returns those of a variant's models, including the settings to be tried.
    fn all_of(experiment: &Experiment, variant: &Variant) -> Result<Vec<Self>, ExperimentError> {
        let mut all = Vec::new();
        for spec in &variant.models {
            for setting in settings_of(experiment, spec)? {
                all.extend(Self::of(&setting.spec)?);
            }
        }
        Ok(all)
    }

    fn refused(&self, problem: String) -> ExperimentError {
        ModelError::Parameters { model: self.spec.kind.name().to_owned(), problem }.into()
    }
}

/// Returns the datasets of all corpora of an experiment.
pub(super) fn corpus_datasets(experiment: &Experiment) -> Result<Vec<String>, ExperimentError> {
    let mut names = Vec::new();
    for variant in &experiment.variants {
        for name in Stated::all_of(experiment, variant)?.into_iter().flat_map(|stated| stated.keys.corpus) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

impl PretrainingSources {
    /// Reads the sources required by some variants of an experiment.
    ///
    /// # Errors
    /// Data is missing or unusable, or a file is not a pre-trained model or has other settings.
    pub(crate) fn load(
        experiment: &Experiment,
        variants: &[Variant],
        settings: &Settings,
        progress: &dyn Progress,
    ) -> Result<Self, ExperimentError> {
        let mut sources = Self::default();
        for variant in variants {
            let flow_options = flow_options(experiment, variant);
            for stated in Stated::all_of(experiment, variant)? {
                sources.load_corpus(&stated.keys.corpus, &flow_options, settings, progress)?;
                if !stated.keys.pretrained.is_empty() {
                    sources.load_file(&stated, variant, settings)?;
                }
            }
        }
        Ok(sources)
    }

    /// Reads the flows of these datasets.
    pub(crate) fn load_corpus(
        &mut self,
        names: &[String],
        flow_options: &FlowOptions,
        settings: &Settings,
        progress: &dyn Progress,
    ) -> Result<(), ExperimentError> {
        for name in names {
            if self.corpus(name, flow_options).is_none() {
                let flows = load_unlabelled(name, flow_options.clone(), settings, progress)?;
                self.corpora.push(CorpusFlows { dataset: name.clone(), flows });
            }
        }
        Ok(())
    }

    fn load_file(&mut self, stated: &Stated, variant: &Variant, settings: &Settings) -> Result<(), ExperimentError> {
        let name = &stated.keys.pretrained;
        if !self.files.contains_key(name) {
            let (file, sha256) = PretrainedFile::read(&settings.project.join(name))?;
            self.files.insert(name.clone(), ReadFile { file: Arc::new(file), sha256 });
        }
        let Stated { spec, model, .. } = stated;
        let PretrainedFile { model: of_file, card, .. } = &*self.files[name].file;
        let (key, of_file) = (model.key("pretrained"), of_file.kind());
        if of_file != spec.kind {
            return Err(stated.refused(format!(
                "{key}: {name} has a pre-trained {}, not a pre-trained {}",
                of_file.name(),
                spec.kind.name()
            )));
        }
        let mut different = model.differences(&spec.parameters, &card.settings)?;
        let (requested, found) = (&variant.feature, &card.tokens);
        let mut compare = |key: &str, requested: String, found: String| {
            if requested != found {
                different.push((key.to_owned(), requested, found));
            }
        };
        if model.sample() == Sample::Flow {
            compare("feature.packets", requested.packets.to_string(), found.packets.to_string());
        }
        compare("feature.bytes", requested.bytes.to_string(), found.bytes.to_string());
        compare("feature.packet_start", json(&requested.packet_start), json(&found.packet_start));
        compare("feature.masks", json(&sorted(&requested.masks)), json(&sorted(&found.masks)));
        if !requested.masks.is_empty() {
            compare("feature.mask_method", json(&requested.mask_method), json(&found.mask_method));
        }
        if different.is_empty() {
            return Ok(());
        }
        let listed = different
            .iter()
            .map(|(key, requested, found)| format!("{key} is {requested} here but {found} in the file"));
        Err(stated.refused(format!(
            "{key}: {name} was pre-trained with settings that differ from those of variant {}: {}; change \
             them, or pre-train another with `etcbench pretrain`",
            variant.name,
            listed.collect::<Vec<_>>().join(", ")
        )))
    }

    fn corpus(&self, dataset: &str, options: &FlowOptions) -> Option<&LoadedFlows> {
        let wanted = |corpus: &&CorpusFlows| corpus.dataset == dataset && corpus.flows.options == *options;
        self.corpora.iter().find(wanted).map(|corpus| &corpus.flows)
    }

    /// Returns the manifests of the corpora's datasets, each once.
    pub(crate) fn manifests(&self) -> Vec<Manifest> {
        let mut manifests: Vec<Manifest> = Vec::new();
        for manifest in self.corpora.iter().flat_map(|corpus| &corpus.flows.manifests) {
            if manifests.iter().all(|known| known.dataset != manifest.dataset) {
                manifests.push(manifest.clone());
            }
        }
        manifests
    }

    /// Adds what determines a model's pre-training in addition to its keys and the training and validation parts, if anything.
    pub(crate) fn add_to(
        &self,
        facts: Determinants,
        spec: &ModelSpec,
        options: &FlowOptions,
        split: &Split,
    ) -> Determinants {
        let Ok(Some(keys)) = pretraining_keys(spec) else { return facts };
        if keys.is_training_only() {
            return facts;
        }
        let flows = keys.corpus.iter().filter_map(|name| self.corpus(name, options));
        let flows: Vec<String> = flows.map(|flows| flows.key.clone()).collect();
        let file = self.files.get(&keys.pretrained).map(|read| read.sha256.clone());
        let facts = if keys.unlabelled { facts.and("unlabelled", &split.train) } else { facts };
        let facts = facts.and("corpus_version", &VERSION).and("corpus_flows", &flows).and("elmo_file", &file);
        // A corpus depends on the test part, which is excluded from it.
        facts.and("kept_out", &split.test)
    }

    /// Returns what a fit's model is pre-trained on; `None` if it is the training part alone.
    ///
    /// # Errors
    /// A file has seen held-out flows.
    pub(crate) fn source(
        &self,
        variant: &Variant,
        spec: &ModelSpec,
        divided: Divided<'_>,
    ) -> Result<Option<PretrainingSource>, ExperimentError> {
        let Some(stated) = Stated::of(spec)? else { return Ok(None) };
        if let Some(read) = self.files.get(&stated.keys.pretrained) {
            return self.source_in_file(variant, &stated, read, divided).map(Some);
        }
        if stated.keys.is_training_only() {
            return Ok(None);
        }
        // As when it is pre-trained on the flows it is fitted on, nothing is left out of the training part alone.
        let holds_out = !stated.keys.corpus.is_empty();
        let drawn = self.draw(variant, stated.model.sample(), &stated.keys, divided, holds_out)?;
        Ok(Some(PretrainingSource::Corpus(Arc::new(drawn.corpus))))
    }

    /// Draws the corpus of a division: the training part and the named datasets, without what is in the validation and
    /// test parts if `holds_out`.
    pub(crate) fn draw(
        &self,
        variant: &Variant,
        sample: Sample,
        keys: &PretrainingKeys,
        divided: Divided<'_>,
        holds_out: bool,
    ) -> Result<Drawn, ExperimentError> {
        let reading = Reading { tokens: &variant.feature, sample };
        let rows = Rows::new(divided)?;
        let mut training = if keys.unlabelled { &divided.split.train } else { divided.training }.to_vec();
        training.sort_unstable();
        training.dedup();
        let training_part = Source { name: TRAINING_PART, flows: rows.of(&training)?, is_training: true };
        let held_out = match holds_out {
            true => {
                let held_out = [&divided.split.validation[..], &divided.split.test].concat();
                HeldOut::of(&rows.of(&held_out)?, reading).map_err(tokens)?
            }
            false => HeldOut::default(),
        };
        let mut sources = vec![training_part];
        sources.extend(self.datasets(&keys.corpus, &divided.flows.options)?);
        draw(&sources, &held_out, reading, keys.samples, divided.seed).map_err(tokens)
    }

    /// Returns all flows of these datasets, each as a separate source.
    pub(crate) fn datasets<'a>(
        &'a self,
        names: &'a [String],
        options: &FlowOptions,
    ) -> Result<Vec<Source<'a>>, ExperimentError> {
        let source = |name: &'a String| {
            let loaded = self.corpus(name, options).ok_or_else(|| internal("a corpus was not read"))?;
            let captures = captures_by_name(&loaded.captures, false);
            let flow = |flow: &'a LabelledFlow| source_flow(flow, &captures);
            Ok(Source {
                name,
                flows: labelled(loaded)?.iter().map(flow).collect::<Result<_, _>>()?,
                is_training: false,
            })
        };
        names.iter().map(source).collect()
    }

    /// Refuses files that have seen held-out flows of any split, before the first fit.
    ///
    /// # Errors
    /// The first such file, variant and split.
    pub(crate) fn check(
        &self,
        experiment: &Experiment,
        variant: &Variant,
        flows: &LoadedFlows,
        prepared: &VariantRun,
    ) -> Result<(), ExperimentError> {
        for spec in &variant.models {
            for setting in settings_of(experiment, spec)? {
                let Some(stated) = Stated::of(&setting.spec)? else { continue };
                let Some(read) = self.files.get(&stated.keys.pretrained) else { continue };
                for run in &prepared.splits {
                    let (features, seed) = (&prepared.features, run.seed);
                    let divided = Divided { flows, features, split: &run.split, training: &run.training, seed };
                    self.source_in_file(variant, &stated, read, divided)?;
                }
            }
        }
        Ok(())
    }

    fn source_in_file(
        &self,
        variant: &Variant,
        stated: &Stated,
        read: &ReadFile,
        divided: Divided<'_>,
    ) -> Result<PretrainingSource, ExperimentError> {
        let ReadFile { file, sha256 } = read;
        let Stated { model, keys, .. } = stated;
        let reading = Reading { tokens: &variant.feature, sample: model.sample() };
        let rows = Rows::new(divided)?;
        // Captures that the split itself shares between parts are allowed; their packets are compared nevertheless.
        let shared: HashSet<&str> = rows.of(divided.training)?.iter().map(|flow| flow.sha256).collect();
        let captures: HashSet<&str> = file.card.captures.iter().map(|capture| capture.sha256.as_str()).collect();
        let count = |part: &[usize]| -> Result<u64, ExperimentError> {
            let flows = rows.of(part)?;
            let hashes = hashes(&flows, reading).map_err(tokens)?;
            let seen = flows.iter().zip(hashes).filter(|(flow, samples)| {
                let capture = captures.contains(flow.sha256) && !shared.contains(flow.sha256);
                capture || samples.iter().any(|sample| file.seen.recorded.contains(&sample.recorded))
            });
            Ok(seen.count() as u64)
        };
        let (test, validation) = (&divided.split.test, &divided.split.validation);
        let seen = Seen { test_flows: count(test)?, validation_flows: count(validation)? };
        if seen != Seen::default() && !keys.accept_seen {
            return Err(stated.refused(format!(
                "{}: {} was pre-trained on {} of the {} test flows and {} of the {} validation flows of \
                 variant {}, seed {}, judging by captures and packets; pre-train one without them (`etcbench pretrain \
                 EXPERIMENT`), or set {} = true",
                model.key("pretrained"),
                keys.pretrained,
                seen.test_flows,
                test.len(),
                seen.validation_flows,
                validation.len(),
                variant.name,
                divided.seed,
                model.key("accept_seen")
            )));
        }
        let pretraining = Pretraining {
            parts: file.card.parts.clone(),
            excluded: file.card.held_out.as_ref().map_or_else(Excluded::default, |held_out| held_out.excluded),
            file: Some((sha256.clone(), seen)),
        };
        Ok(PretrainingSource::File(Arc::clone(file), pretraining))
    }
}

/// The flows behind the rows of a feature set.
struct Rows<'a> {
    features: &'a FeatureSet,
    flows: HashMap<(&'a str, u32), &'a LabelledFlow>,
    captures: HashMap<&'a str, CaptureName<'a>>,
}

impl<'a> Rows<'a> {
    fn new(divided: Divided<'a>) -> Result<Self, ExperimentError> {
        let Divided { flows, features, .. } = divided;
        let datasets: HashSet<&str> = flows.captures.iter().map(|facts| facts.dataset.as_str()).collect();
        let by_name =
            labelled(flows)?.iter().map(|flow| ((flow.provenance.capture.as_str(), flow.provenance.number), flow));
        Ok(Self { features, flows: by_name.collect(), captures: captures_by_name(&flows.captures, datasets.len() > 1) })
    }

    fn of(&self, rows: &[usize]) -> Result<Vec<SourceFlow<'a>>, ExperimentError> {
        let flow = |&row: &usize| {
            let provenance = &self.features.provenance[row];
            let flow = self.flows.get(&(provenance.capture.as_str(), provenance.number));
            source_flow(flow.ok_or_else(|| internal("a row has no flow"))?, &self.captures)
        };
        rows.iter().map(flow).collect()
    }
}

/// A capture's dataset, its path in the dataset and its SHA-256.
type CaptureName<'a> = (&'a str, &'a str, &'a str);

/// Indexes captures by their name in flows, which starts with the dataset if there are several.
fn captures_by_name(captures: &[CaptureFacts], prefixed: bool) -> HashMap<&str, CaptureName<'_>> {
    let mut by_name = HashMap::with_capacity(captures.len());
    for CaptureFacts { dataset, capture, sha256, .. } in captures {
        let path = if prefixed { capture.get(dataset.len() + 1..) } else { None };
        by_name.insert(capture.as_str(), (dataset.as_str(), path.unwrap_or(capture), sha256.as_str()));
    }
    by_name
}

fn source_flow<'a>(
    flow: &'a LabelledFlow,
    captures: &HashMap<&'a str, CaptureName<'a>>,
) -> Result<SourceFlow<'a>, ExperimentError> {
    // A part of a file, such as a sample of pcapML, is named after it.
    let capture = flow.provenance.capture.as_str();
    let of_file = || capture.rmatch_indices('!').find_map(|(end, _)| captures.get(&capture[..end]));
    let found = captures.get(capture).or_else(of_file);
    let &(dataset, capture, sha256) = found.ok_or_else(|| internal("a flow's capture has no checksum"))?;
    Ok(SourceFlow { flow, dataset, capture, sha256 })
}

fn labelled(flows: &LoadedFlows) -> Result<&[LabelledFlow], ExperimentError> {
    match &flows.content {
        Content::Flows(flows) => Ok(flows),
        Content::Table(_) => Err(internal("a table of features has no packets")),
    }
}

fn sorted(masks: &[etcbench_feature::Mask]) -> Vec<&'static str> {
    let mut names: Vec<&str> = masks.iter().map(|mask| mask.name()).collect();
    names.sort_unstable();
    names
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("names are JSON")
}

fn tokens(error: etcbench_feature::TokenError) -> ExperimentError {
    ExperimentError::Selection(error.into())
}

fn internal(problem: &str) -> ExperimentError {
    ExperimentError::Internal { problem: format!("pre-training: {problem}") }
}
