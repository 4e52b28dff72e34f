//! State from which an interrupted training resumes: parameters, their average, the optimiser's moments, running
//! statistics, the position in the epoch, the best epoch so far and the training curve. The order of the batches is not
//! stored, because it is derived from the seed. When a checkpoint is written depends on the clock; the result of the
//! training does not.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::engine::{BatchLoss, OptimiserState};
use super::parameters::ParameterSet;
use crate::{ArtifactStore, EpochRecord, ModelArchive, ModelError, Tensor, TensorData};

/// Bump whenever an existing checkpoint would be misread.
const FORMAT: &str = "checkpoint 3";

/// The best epoch so far.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Best {
    /// Macro F1 on the validation flows.
    pub score: f64,
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Parameters after this epoch.
    pub parameters: ParameterSet,
}

/// A layer whose rectifier has output only 0 in the most recent steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeadLayer {
    /// Name of the layer.
    pub layer: String,
    /// Epoch of the first such step, from 1.
    pub epoch: usize,
    /// Number of that step within its epoch, from 1.
    pub step: usize,
    /// Total number of flows in these steps.
    pub flows: usize,
}

/// Progress of a training.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Position {
    /// Completed epochs.
    pub epochs: Vec<EpochRecord>,
    /// Batches processed in the current epoch.
    pub batches: usize,
    /// Loss of these batches.
    pub trained: BatchLoss,
    /// The best epoch so far, if there is a validation split.
    pub best: Option<Best>,
    /// Layers that may be dead.
    pub dead: Vec<DeadLayer>,
}

/// State from which an engine resumes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EngineState {
    /// Parameters and running statistics.
    pub parameters: ParameterSet,
    /// The optimiser.
    pub optimiser: OptimiserState,
}

/// The checkpoints of one training.
pub(crate) struct Checkpoints<'a> {
    store: &'a dyn ArtifactStore,
    key: String,
    interval: Option<Duration>,
    saved: Instant,
    start: Instant,
    /// Time the training took before it was interrupted.
    earlier: Duration,
}

impl<'a> Checkpoints<'a> {
    /// Creates the checkpoints of a training that starts now and is fully determined by `key`.
    pub(crate) fn new(store: &'a dyn ArtifactStore, key: &str) -> Self {
        let now = Instant::now();
        let interval = store.checkpoint_interval();
        Self { store, key: format!("{key}.checkpoint"), interval, saved: now, start: now, earlier: Duration::ZERO }
    }

    /// Returns the wall time of the training, including the time before an interruption.
    pub(crate) fn seconds(&self) -> f64 {
        (self.earlier + self.start.elapsed()).as_secs_f64()
    }

    /// Loads the state of the same training when it was interrupted. A checkpoint of another format is ignored.
    pub(crate) fn load(&mut self) -> Option<(Position, EngineState)> {
        self.interval?;
        let (position, engine, earlier) = read(&self.store.get(&self.key)?).ok()?;
        self.earlier = earlier;
        Some((position, engine))
    }

    /// Saves a checkpoint if one is due.
    ///
    /// # Errors
    /// Values that do not fill their shapes; errors of the file system are not reported.
    pub(crate) fn save_if_due(
        &mut self,
        position: &Position,
        engine: impl FnOnce() -> EngineState,
    ) -> Result<(), ModelError> {
        if self.interval.is_some_and(|interval| self.saved.elapsed() >= interval) {
            let taken = self.earlier + self.start.elapsed();
            self.store.put(&self.key, &write(position, &engine(), taken)?);
            self.saved = Instant::now();
        }
        Ok(())
    }

    /// Deletes the checkpoint once the result of the training is stored.
    pub(crate) fn remove(&self) {
        if self.interval.is_some() {
            self.store.remove(&self.key);
        }
    }
}

/// Prefixes of the parameter sets in a file.
const SETS: [&str; 5] = ["now", "first", "second", "average", "best"];

fn write(position: &Position, engine: &EngineState, taken: Duration) -> Result<Vec<u8>, ModelError> {
    let mut archive = ModelArchive::default();
    let best = position.best.as_ref();
    let mut put = |name: &str, value: String| archive.metadata.insert(name.to_owned(), value);
    put("format", FORMAT.to_owned());
    put("epochs", serde_json::to_string(&position.epochs).expect("records are JSON"));
    put("dead", serde_json::to_string(&position.dead).expect("records are JSON"));
    put("batches", position.batches.to_string());
    put("targets", position.trained.targets.to_string());
    put("steps", engine.optimiser.steps.to_string());
    put("best_epoch", best.map_or(0, |best| best.epoch).to_string());
    let numbers = vec![position.trained.sum, best.map_or(0.0, |best| best.score), taken.as_secs_f64()];
    archive.tensors.insert("numbers".to_owned(), Tensor::f64(&[3], numbers));
    let OptimiserState { first, second, average, .. } = &engine.optimiser;
    let sets = [Some(&engine.parameters), Some(first), Some(second), Some(average), best.map(|best| &best.parameters)];
    for (prefix, set) in SETS.into_iter().zip(sets) {
        // The archive sorts by name; the number preserves the set's own order.
        for (index, (name, parameter)) in set.into_iter().flat_map(ParameterSet::iter).enumerate() {
            let tensor = Tensor::f32(&parameter.shape, parameter.values.clone());
            archive.tensors.insert(format!("{prefix}/{index:04}/{name}"), tensor);
        }
    }
    archive.to_bytes()
}

fn read(bytes: &[u8]) -> Result<(Position, EngineState, Duration), ModelError> {
    let problem = |problem: &str| ModelError::File { path: None, problem: problem.to_owned() };
    let mut archive = ModelArchive::from_bytes(bytes)?;
    let text = |name: &str| archive.metadata.get(name).ok_or_else(|| problem("a checkpoint lacks its metadata"));
    let number =
        |name: &str| text(name)?.parse::<u64>().map_err(|_| problem("a checkpoint's metadata is not a number"));
    if text("format")? != FORMAT {
        return Err(problem("the checkpoint has another format"));
    }
    let epochs = serde_json::from_str(text("epochs")?).map_err(|_| problem("a checkpoint's epochs cannot be read"))?;
    let dead = serde_json::from_str(text("dead")?).map_err(|_| problem("a checkpoint's dead layers cannot be read"))?;
    let (batches, targets, steps, best_epoch) =
        (number("batches")? as usize, number("targets")?, number("steps")?, number("best_epoch")? as usize);
    let mut sets: [ParameterSet; SETS.len()] = Default::default();
    let mut numbers = None;
    for (name, tensor) in std::mem::take(&mut archive.tensors) {
        let mut parts = name.splitn(3, '/');
        let set = parts.next().and_then(|prefix| SETS.iter().position(|&set| set == prefix));
        match (set, parts.nth(1), tensor) {
            (Some(set), Some(name), Tensor { shape, data: TensorData::F32(values) }) => {
                sets[set].insert(name, &shape, values);
            }
            (None, None, Tensor { data: TensorData::F64(values), .. }) => numbers = Some(values),
            _ => return Err(problem("a checkpoint contains an unexpected tensor")),
        }
    }
    let [sum, score, taken] =
        <[f64; 3]>::try_from(numbers.unwrap_or_default()).map_err(|_| problem("a checkpoint's numbers are missing"))?;
    let taken = Duration::try_from_secs_f64(taken).map_err(|_| problem("a checkpoint's time is not valid"))?;
    let [parameters, first, second, average, best] = sets;
    let best = (best_epoch > 0).then_some(Best { score, epoch: best_epoch, parameters: best });
    let position = Position { epochs, batches, trained: BatchLoss { sum, targets }, best, dead };
    Ok((position, EngineState { parameters, optimiser: OptimiserState { steps, first, second, average } }, taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_survive_the_round_trip() {
        let set = |value: f32| {
            let mut set = ParameterSet::default();
            set.insert("z", &[2, 1], vec![value, -0.0]);
            set.insert("a.b", &[1], vec![f32::MIN_POSITIVE]);
            set
        };
        let record = EpochRecord {
            stage: "s".to_owned(),
            epoch: 1,
            training_loss: 0.1 + 0.2,
            validation_loss: None,
            validation_macro_f1: Some(1.0 / 3.0),
        };
        let engine = EngineState {
            parameters: set(1.5),
            optimiser: OptimiserState { steps: 7, first: set(2.5), second: set(3.5), average: set(5.5) },
        };
        for best in [None, Some(Best { score: 1.0 / 3.0, epoch: 1, parameters: set(4.5) })] {
            let trained = BatchLoss { sum: 0.1 + 0.7, targets: 9 };
            let dead = vec![DeadLayer { layer: "classifier.dense".to_owned(), epoch: 2, step: 3, flows: 64 }];
            let position = Position { epochs: vec![record.clone()], batches: 3, trained, best, dead };
            let bytes = write(&position, &engine, Duration::from_millis(1500)).unwrap();
            let found = read(&bytes).unwrap();
            assert_eq!(found, (position, engine.clone(), Duration::from_millis(1500)));
            let order = found.1.parameters.iter().map(|(name, _)| name).collect::<Vec<_>>();
            assert_eq!(order, ["z", "a.b"]);
            assert!((0..bytes.len()).step_by(7).all(|cut| read(&bytes[..cut]).is_err()));
        }
    }
}
