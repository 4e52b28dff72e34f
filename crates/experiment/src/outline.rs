//! Outlines a run without computing it: reads and divides its flows as the run would, which then finds them in the
//! cache, and lists every fit, but trains nothing.

use serde::Serialize;

use super::memory::{self, MemoryNeed};
use super::prepare::{PreparedAll, prepare_all};
use super::pretraining::PretrainingSources;
use super::run::{Settings, check_parameters};
use super::tune::is_tuned;
use super::variant_fits::VariantContext;
use super::{Experiment, ExperimentError, LeftOutVariant, RunKey};
use etcbench_storage::progress::Progress;

/// What a run would compute.
#[derive(Debug, Clone, Serialize)]
pub struct Outline {
    /// The variants, each with its flows.
    pub variants: Vec<OutlinedVariant>,
    /// The fits, in the order of the run.
    pub fits: Vec<OutlinedFit>,
    /// Expected peak memory; `None` if the system does not report the available memory.
    pub memory: Option<MemoryNeed>,
    /// The rungs of a ladder for which the data cannot be divided.
    pub left_out: Vec<LeftOutVariant>,
}

/// The flows of a variant, for its first seed and fold.
#[derive(Debug, Clone, Serialize)]
pub struct OutlinedVariant {
    /// Its name.
    pub name: String,
    /// Number of classes.
    pub classes: usize,
    /// Number of flows.
    pub flows: usize,
    /// Number of flows that models are fitted on.
    pub training: usize,
    /// Number of flows for validation during training.
    pub validation: usize,
    /// Number of flows that models are tested on.
    pub test: usize,
}

/// A fit that a run would compute.
#[derive(Debug, Clone, Serialize)]
pub struct OutlinedFit {
    /// Identifies the fit.
    #[serde(flatten)]
    pub key: RunKey,
    /// Number of flows of its variant.
    pub flows: usize,
    /// Number of flows that it would be fitted on.
    pub training_flows: usize,
    /// Whether the fit is cached. False for tuned models: their settings are unknown before tuning.
    pub cached: bool,
    /// Whether settings are tuned first.
    pub tuned: bool,
}

/// Outlines what running `experiment` would compute.
///
/// # Errors
/// Same as [`super::run`], up to training; a run that would not fit into memory is not an error here.
pub fn outline(
    experiment: &Experiment,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Outline, ExperimentError> {
    check_parameters(experiment)?;
    let PreparedAll { loaded, variants: prepared, left_out } = prepare_all(experiment, settings, progress)?;
    let sources = PretrainingSources::load(experiment, &experiment.variants, settings, progress)?;
    let mut outline = Outline { variants: Vec::new(), fits: Vec::new(), memory: None, left_out };
    let mut contexts = Vec::new();
    for (variant, index, variant_run) in &prepared {
        let (flows, sources) = (&loaded[*index], &sources);
        let context = VariantContext { experiment, variant, flows, sources, settings, progress };
        let first = variant_run.splits.first();
        outline.variants.push(OutlinedVariant {
            name: variant.name.clone(),
            classes: variant_run.features.class_names.len(),
            flows: variant_run.features.len(),
            training: first.map_or(0, |split| split.training.len()),
            validation: first.map_or(0, |split| split.split.validation.len()),
            test: first.map_or(0, |split| split.split.test.len()),
        });
        for split in &variant_run.splits {
            for spec in &variant.models {
                let tuned = is_tuned(experiment.tune.as_ref(), spec.kind);
                let key = context.cache_key("fit", &context.request(variant_run, split, spec));
                outline.fits.push(OutlinedFit {
                    key: context.run_key(spec, split),
                    flows: variant_run.features.len(),
                    training_flows: split.training.len(),
                    cached: !tuned && settings.cache.has("fits", &key),
                    tuned,
                });
            }
        }
        contexts.push((context, variant_run));
    }
    outline.memory = memory::needed(&experiment.name, &contexts, settings)?;
    Ok(outline)
}
