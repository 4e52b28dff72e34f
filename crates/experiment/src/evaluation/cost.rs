//! Decision costs: queries a fitted model with few and many flows at a time, often enough for a median and a tail.
//! Covers everything from features in memory to probabilities, but not the computation of features.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::super::ExperimentError;
use super::super::measure::{allocated_bytes, energy_joules};
use etcbench_feature::FeatureSet;
use etcbench_model::{Classifier, Examples, ModelError};
use etcbench_storage::progress::Silent;

/// Numbers of flows per query.
pub const DECISION_BATCHES: [usize; 3] = [1, 32, 1000];
/// Time for measuring a batch size, unless [`FEWEST`] queries take longer.
const BUDGET: Duration = Duration::from_millis(500);
const FEWEST: usize = 5;
const MOST: usize = 400;

/// The cost of queries with a given number of flows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BatchCost {
    /// Number of flows per query.
    pub flows: usize,
    /// Number of queries.
    pub calls: usize,
    /// Median time of the queries, divided by the number of flows.
    pub median_microseconds: f64,
    /// 99th percentile of the queries' times, divided by the number of flows.
    pub tail_microseconds: f64,
    /// CPU energy over all queries, divided by the number of flows; `None` if the system does not report it.
    pub joules: Option<f64>,
}

/// The cost of a fitted model's decisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionCost {
    /// Costs by the number of flows per query.
    pub batches: Vec<BatchCost>,
    /// Memory of the loaded model after its first query; `None` if the allocator does not report it, and for external
    /// models, which run in a separate process.
    pub memory_bytes: Option<u64>,
}

/// Loads a model and measures the cost of queries; returns `None` if there are no flows.
///
/// # Errors
/// The model cannot be loaded or queried.
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
        // Use different flows each time, starting over when there are no more.
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
