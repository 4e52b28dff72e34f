//! Units: the parts of a run that other processes, and other machines, can compute apart from one another. A unit is
//! one variant (a point of a sweep is one) with one seed: all its folds and models. What comes of it is in the cache,
//! where the run that puts everything together finds it; two processes that compute the same unit store the same.

use serde::{Deserialize, Serialize};

use super::flows::{flow_options, load_flows};
use super::pretraining::ElmoSources;
use super::run::{Settings, VariantContext, check_parameters, prepare};
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

/// The units of a run: variants in order, and of each its seeds.
pub fn units(experiment: &Experiment) -> Vec<Unit> {
    let of = |name: &str| {
        let unit = |&seed: &u64| Unit { variant: name.to_owned(), seed };
        experiment.seeds.iter().map(unit).collect::<Vec<_>>()
    };
    experiment.variants.iter().flat_map(|variant| of(&variant.name)).collect()
}

/// Puts the flows that units share into the cache, so that they do not all read the captures.
///
/// # Errors
/// As [`super::run`].
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
    ElmoSources::load(experiment, &experiment.variants, settings, progress)?;
    Ok(())
}

/// What came of a unit.
#[derive(Debug, Default)]
pub struct UnitOutcome {
    /// The names of its fits in the cache.
    pub fits: Vec<String>,
    /// Why fits of external models failed, a line each.
    pub failures: Vec<String>,
}

/// Computes a unit, or takes what is there of it from the cache.
///
/// # Errors
/// As [`super::run`]; a unit that is not one of the experiment's.
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
        .ok_or_else(|| ExperimentError::Internal { problem: format!("there is no variant {}", unit.variant) })?;
    // The variants stay: they decide together how many packets and bytes flows keep.
    let one = Experiment { seeds: vec![unit.seed], ..experiment.clone() };
    check_parameters(&one)?;
    let loaded = load_flows(&one, flow_options(&one, variant), settings, progress)?;
    memory::check_features(variant, &loaded, settings)?;
    let prepared = match prepare(&one, variant, &loaded, settings, progress) {
        // The run that puts the units together says so.
        Err(error) if one.ladder.is_some() && error.is_of_division() => return Ok(UnitOutcome::default()),
        prepared => prepared?,
    };
    let total = variant.models.len() * prepared.splits.len();
    let elmos = ElmoSources::load(&one, std::slice::from_ref(variant), settings, progress)?;
    elmos.check(&one, variant, &loaded, &prepared)?;
    let (flows, elmos) = (&loaded, &elmos);
    let context = VariantContext { experiment: &one, variant, flows, elmos, settings, progress };
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

/// Whether every one of these fits is in the cache, whole.
pub fn are_cached(cache: &Cache, fits: &[String]) -> bool {
    let whole = |key: &String| {
        let bytes = cache.get("fits", key)?;
        serde_json::from_slice::<FitOutcome>(&bytes).ok()
    };
    fits.iter().all(|key| whole(key).is_some())
}
