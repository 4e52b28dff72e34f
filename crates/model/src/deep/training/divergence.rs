//! Detects trainings that cannot go on: numbers that are not finite, and layers whose rectifiers are all dead.

use crate::ModelError;
use crate::deep::checkpoint::DeadLayer;
use crate::deep::engine::{BatchLoss, NOT_FINITE, TRAINING, diverged};
use crate::deep::parameters::ParameterSet;

/// Returns the loss of a step, or an error with the epoch in which it diverged.
pub(crate) fn in_epoch(
    loss: Result<BatchLoss, ModelError>,
    stage: &str,
    epoch: usize,
) -> Result<BatchLoss, ModelError> {
    let loss = match loss {
        Ok(loss) if loss.sum.is_finite() => return Ok(loss),
        Ok(_) => Err(diverged(stage, "the loss", NOT_FINITE)),
        other => other,
    };
    loss.map_err(|error| match error {
        ModelError::Diverged { model, stage, place, problem } => {
            ModelError::Diverged { model, stage, place, problem: format!("in a step of epoch {epoch}, {problem}") }
        }
        other => other,
    })
}

/// Returns the validation loss, or an error that names the parameter that makes it non-finite.
pub(crate) fn after_epoch(
    loss: Result<BatchLoss, ModelError>,
    stage: &str,
    epoch: usize,
    parameters: impl FnOnce() -> ParameterSet,
) -> Result<BatchLoss, ModelError> {
    let loss = loss?;
    if loss.sum.is_finite() {
        return Ok(loss);
    }
    require_finite(&parameters(), stage, epoch)?;
    in_epoch(Err(diverged(stage, "the validation loss", NOT_FINITE)), stage, epoch)
}

/// Checks that all parameters are finite after an epoch: the last step of a training has no later step that would
/// detect it.
pub(crate) fn require_finite(parameters: &ParameterSet, stage: &str, epoch: usize) -> Result<(), ModelError> {
    match parameters.first_non_finite() {
        None => Ok(()),
        Some(name) => in_epoch(Err(diverged(stage, name, "is not finite after the step")), stage, epoch).map(|_| ()),
    }
}

/// A layer that outputs only 0 for this many consecutive flows is dead.
const DEAD_FLOWS: usize = 256;

/// One training step, as seen by the checks after it.
#[derive(Clone, Copy)]
pub(super) struct Step {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Number within the epoch, from 1.
    pub number: usize,
    /// Flows of its batch.
    pub flows: usize,
    /// Flows of the training part.
    pub all_flows: usize,
}

/// Checks for dead layers: a layer whose rectifier outputs only 0 no longer passes a gradient. This can happen by
/// chance in one small batch, but not in two consecutive ones with [`DEAD_FLOWS`] flows, or all flows if there are
/// fewer. `dead` tracks the layers across steps.
pub(super) fn check_alive(seen: &[impl AsRef<str>], dead: &mut Vec<DeadLayer>, step: Step) -> Result<(), ModelError> {
    dead.retain(|layer| seen.iter().any(|seen| seen.as_ref() == layer.layer));
    for layer in seen.iter().map(AsRef::as_ref) {
        match dead.iter_mut().find(|known| known.layer == layer) {
            None => {
                let Step { epoch, number, flows, .. } = step;
                dead.push(DeadLayer { layer: layer.to_owned(), epoch, step: number, flows });
            }
            Some(known) => {
                known.flows += step.flows;
                if known.flows >= DEAD_FLOWS.min(step.all_flows) {
                    let (since, number) = (known.epoch, known.step);
                    let what =
                        format!("has output nothing but 0 since step {number} of epoch {since} (dead rectifier)");
                    return in_epoch(Err(diverged(TRAINING, layer, &what)), TRAINING, step.epoch).map(|_| ());
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_rectifier_is_reported_in_the_step_that_makes_it_certain() {
        let step = |number| Step { epoch: 4, number, flows: 100, all_flows: 1000 };
        let mut dead = Vec::new();
        let both = ["classifier.lstm", "classifier.dense"];
        check_alive(&both, &mut dead, step(1)).unwrap();
        // The LSTM has recovered: its steps are counted from the next one that outputs only 0.
        check_alive(&both[1..], &mut dead, step(2)).unwrap();
        let before = dead.clone();
        let error = check_alive(&both, &mut dead, step(3)).unwrap_err().to_string();
        assert!(error.contains("classifier.dense") && error.contains("since step 1 of epoch 4"), "{error}");
        // State restored from a checkpoint gives the same result.
        assert_eq!(before.len(), 1);
        assert!(check_alive(&both, &mut before.clone(), step(3)).is_err());
        check_alive(&[""; 0], &mut dead, step(4)).unwrap();
        assert!(dead.is_empty());
    }

    #[test]
    fn parameters_that_are_not_finite_after_the_last_step_are_an_error() {
        let mut set = ParameterSet::default();
        set.insert("classifier.output.weight", &[1], vec![f32::INFINITY]);
        let error = require_finite(&set, TRAINING, 7).unwrap_err().to_string();
        assert!(error.contains("classifier.output.weight: in a step of epoch 7, it is not finite"), "{error}");
    }
}
