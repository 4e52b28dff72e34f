//! Units: the parts of a run that other processes, and other machines, can compute independently. A unit is one variant
//! (each point of a sweep is a variant) with one seed: all its folds and models. Its results are stored in the cache,
//! where the run that assembles everything finds them; two processes that compute the same unit store the same results.

use serde::{Deserialize, Serialize};

use super::flows::{flow_options, load_flows};
use super::prepare::prepare;
use super::pretraining::PretrainingSources;
use super::run::{Settings, check_parameters};
use super::variant_fits::VariantContext;
use super::{Cache, Experiment, ExperimentError, FitOutcome, memory};
use etcbench_flow::FlowOptions;
use etcbench_storage::counted;
use etcbench_storage::progress::Progress;

/// One variant with one seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// The variant's name.
    pub variant: String,
    /// The seed.
    pub seed: u64,
}

/// Returns the units of a run: variants in order, and the seeds of each.
pub fn units(experiment: &Experiment) -> Vec<Unit> {
    let units_of = |name: &str| {
        let unit = |&seed: &u64| Unit { variant: name.to_owned(), seed };
        experiment.seeds.iter().map(unit).collect::<Vec<_>>()
    };
    experiment.variants.iter().flat_map(|variant| units_of(&variant.name)).collect()
}

/// Puts the flows shared by units into the cache, so that not every unit reads the captures.
///
/// # Errors
/// Same as [`super::run`].
pub fn load_shared(
    experiment: &Experiment,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<(), ExperimentError> {
    check_parameters(experiment)?;
    let mut loaded: Vec<FlowOptions> = Vec::new();
    for variant in &experiment.variants {
        let options = flow_options(experiment, variant);
        if !loaded.contains(&options) {
            load_flows(experiment, options.clone(), settings, progress)?;
            loaded.push(options);
        }
    }
    PretrainingSources::load(experiment, &experiment.variants, settings, progress)?;
    Ok(())
}

/// The result of a unit.
#[derive(Debug, Default)]
pub struct UnitOutcome {
    /// Keys of its fits in the cache.
    pub fits: Vec<String>,
    /// Errors of failed fits of external models, one line each.
    pub failures: Vec<String>,
}

/// Computes a unit, using cached results where available.
///
/// # Errors
/// Same as [`super::run`]; also if the unit does not belong to the experiment.
pub fn run_unit(
    experiment: &Experiment,
    unit: &Unit,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<UnitOutcome, ExperimentError> {
    let variant = experiment
        .variants
        .iter()
        .find(|variant| variant.name == unit.variant)
        .ok_or_else(|| ExperimentError::Internal { problem: format!("no such variant: {}", unit.variant) })?;
    // Keep all variants: together they determine how many packets and bytes flows keep.
    let one = Experiment { seeds: vec![unit.seed], ..experiment.clone() };
    check_parameters(&one)?;
    let loaded = load_flows(&one, flow_options(&one, variant), settings, progress)?;
    memory::check_features(variant, &loaded, settings)?;
    let prepared = match prepare(&one, variant, &loaded, settings, progress) {
        // The run that assembles the units reports this.
        Err(error) if one.ladder.is_some() && error.is_of_division() => return Ok(UnitOutcome::default()),
        prepared => prepared?,
    };
    let total = variant.models.len() * prepared.splits.len();
    let sources = PretrainingSources::load(&one, std::slice::from_ref(variant), settings, progress)?;
    sources.check(&one, variant, &loaded, &prepared)?;
    let (flows, sources) = (&loaded, &sources);
    let context = VariantContext { experiment: &one, variant, flows, sources, settings, progress };
    let variants = [(context, &prepared)];
    memory::check_fits(&one.name, &variants, settings, progress)?;
    let [(context, _)] = variants;
    let fits = counted(total as u64, "fit");
    progress.begin(&format!("{}, {}, seed {}: {fits}", one.name, unit.variant, unit.seed), total as u64);
    let mut outcome = UnitOutcome::default();
    for split in &prepared.splits {
        for spec in &variant.models {
            match context.fit(&prepared, split, spec) {
                Ok(row) => outcome.fits.push(row.cache_key),
                Err(error) => outcome.failures.push(context.told_failure(split, error)?.to_string()),
            }
            progress.advance(1);
        }
    }
    progress.end();
    Ok(outcome)
}

/// Returns whether all of these fits are in the cache and intact.
pub fn are_cached(cache: &Cache, fits: &[String]) -> bool {
    let whole = |key: &String| {
        let bytes = cache.get("fits", key)?;
        serde_json::from_slice::<FitOutcome>(&bytes).ok()
    };
    fits.iter().all(|key| whole(key).is_some())
}
