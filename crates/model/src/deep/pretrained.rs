//! The result of a pre-training and its place in the artifact store. The key contains everything that determines the
//! result, so that no two fits repeat the same pre-training.

use super::checkpoint::Checkpoints;
use super::parameters::{ParameterSet, Specification};
use crate::{EpochRecord, FitContext, ModelArchive, ModelError, StageTime};
use etcbench_storage::Turn;

/// Pre-trained parameters with a record of their training.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pretrained {
    /// The parameters.
    pub parameters: ParameterSet,
    /// The training curve.
    pub epochs: Vec<EpochRecord>,
    /// Time that the training originally took.
    pub stage: StageTime,
}

/// A pre-training task for the artifact store.
pub(crate) struct Task<'a> {
    /// Stage name.
    pub stage: &'static str,
    /// Format of the stored result.
    pub format: &'static str,
    /// Key that contains everything that determines the result.
    pub key: &'a str,
    /// The parameters of the result.
    pub specifications: &'a [Specification],
    /// Training samples over all epochs.
    pub samples: u64,
}

impl Task<'_> {
    /// Returns the result from the artifact store, or else computes it with `train`, which resumes from the
    /// checkpoints.
    ///
    /// # Errors
    /// The training failed, or the stored artifact cannot be read.
    pub(crate) fn result(
        &self,
        context: &FitContext<'_>,
        train: impl FnOnce(&mut Checkpoints<'_>) -> Result<(ParameterSet, Vec<EpochRecord>), ModelError>,
    ) -> Result<Pretrained, ModelError> {
        let key = self.key;
        let _claim = match context.artifacts.look_up(self.stage, key, context.progress) {
            Turn::Ours(claim) => claim,
            Turn::Ready(stored) => {
                return self.read(&stored).map_err(|error| ModelError::File {
                    path: None,
                    problem: format!("stored artifact {key} cannot be used ({error}); delete it and run again"),
                });
            }
        };
        let mut checkpoints = Checkpoints::new(context.artifacts, key);
        let (parameters, epochs) = train(&mut checkpoints)?;
        let stage = self.stage.to_owned();
        let stage = StageTime { stage, wall_seconds: checkpoints.seconds(), samples: self.samples };
        let pretrained = Pretrained { parameters, epochs, stage };
        context.artifacts.put(key, &self.write(&pretrained)?);
        checkpoints.remove();
        Ok(pretrained)
    }

    fn write(&self, pretrained: &Pretrained) -> Result<Vec<u8>, ModelError> {
        let mut archive = ModelArchive::default();
        let epochs = serde_json::to_string(&pretrained.epochs).expect("records are JSON");
        let stage = serde_json::to_string(&pretrained.stage).expect("records are JSON");
        for (name, value) in [("format", self.format.to_owned()), ("epochs", epochs), ("stage", stage)] {
            archive.metadata.insert(name.to_owned(), value);
        }
        pretrained.parameters.store(&mut archive);
        archive.to_bytes()
    }

    fn read(&self, stored: &[u8]) -> Result<Pretrained, ModelError> {
        let archive = ModelArchive::from_bytes(stored)?;
        let problem = |problem: String| ModelError::File { path: None, problem };
        let metadata =
            |name: &str| archive.metadata.get(name).ok_or_else(|| problem(format!("metadata {name} is missing")));
        let unreadable = |error: serde_json::Error| problem(error.to_string());
        Ok(Pretrained {
            parameters: ParameterSet::load(&archive, self.specifications)?,
            epochs: serde_json::from_str(metadata("epochs")?).map_err(unreadable)?,
            stage: serde_json::from_str(metadata("stage")?).map_err(unreadable)?,
        })
    }
}
