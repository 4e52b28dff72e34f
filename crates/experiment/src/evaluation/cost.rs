//! What a decision costs: a fitted model is asked about few and many flows at once, as often as it takes for a median and a
//! tail. Everything from features in memory to probabilities is in it; how flows become features is not.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::super::ExperimentError;
use super::super::measure::{allocated_bytes, energy_joules};
use etcbench_feature::FeatureSet;
use etcbench_model::{Classifier, Examples, ModelError};
use etcbench_storage::progress::Silent;

/// Flows that are asked about at once.
pub const DECISION_BATCHES: [usize; 3] = [1, 32, 1000];
/// How long a batch size is measured, unless it takes longer to ask [`FEWEST`] times.
const BUDGET: Duration = Duration::from_millis(500);
const FEWEST: usize = 5;
const MOST: usize = 400;

/// What it costs to ask about so many flows at once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BatchCost {
    /// Flows.
    pub flows: usize,
    /// How often they were asked about.
    pub calls: usize,
    /// Median of the calls, divided by the flows.
    pub median_microseconds: f64,
    /// 99th percentile of the calls, divided by the flows.
    pub tail_microseconds: f64,
    /// Energy of the processor over all calls, divided by the flows; none where the system does not count it.
    pub joules: Option<f64>,
}

/// What decisions of a fitted model cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionCost {
    /// By the number of flows.
    pub batches: Vec<BatchCost>,
    /// Memory that the loaded model holds after its first answer; none where the allocator does not tell, and of an external
    /// model, whose process is its own.
    pub memory_bytes: Option<u64>,
}

/// Loads a model, asks it, and says what that cost; nothing where there is no flow.
///
/// # Errors
/// A model that cannot be loaded or asked.
pub(super) fn decision_cost(
    features: &FeatureSet,
    is_external: bool,
    load: impl FnOnce() -> Result<Box<dyn Classifier>, ExperimentError>,
) -> Result<Option<DecisionCost>, ExperimentError> {
    if features.is_empty() {
        return Ok(None);
    }
    let before = allocated_bytes();
    let model = load()?;
    ask(&*model, features, &[0])?;
    let grown = before.and_then(|before| Some(allocated_bytes()?.saturating_sub(before)));
    let batches = DECISION_BATCHES.iter().map(|&flows| of_batch(&*model, features, flows));
    let batches = batches.collect::<Result<Vec<_>, _>>()?;
    Ok(Some(DecisionCost { batches, memory_bytes: grown.filter(|_| !is_external) }))
}

fn ask(model: &dyn Classifier, features: &FeatureSet, rows: &[usize]) -> Result<(), ModelError> {
    model.predict_probabilities(Examples { features, rows }, &Silent).map(|_| ())
}

fn of_batch(model: &dyn Classifier, features: &FeatureSet, flows: usize) -> Result<BatchCost, ExperimentError> {
    let mut times: Vec<Duration> = Vec::new();
    let mut rows = Vec::with_capacity(flows);
    let (began, energy) = (Instant::now(), energy_joules());
    while times.len() < FEWEST || (times.len() < MOST && began.elapsed() < BUDGET) {
        // Other flows each time, and from the first again where there are no more.
        let first = times.len() * flows;
        rows.clear();
        rows.extend((first..first + flows).map(|place| place % features.len()));
        let start = Instant::now();
        ask(model, features, &rows)?;
        times.push(start.elapsed());
    }
    let used = energy.and_then(|before| Some(energy_joules()? - before)).filter(|used| *used >= 0.0);
    times.sort_unstable();
    let at = |share: f64| {
        let place = (share * (times.len() - 1) as f64).round() as usize;
        times[place].as_secs_f64() * 1e6 / flows as f64
    };
    let asked = (times.len() * flows) as f64;
    Ok(BatchCost {
        flows,
        calls: times.len(),
        median_microseconds: at(0.5),
        tail_microseconds: at(0.99),
        joules: used.map(|used| used / asked),
    })
}
