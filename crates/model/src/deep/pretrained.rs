//! What pre-training gives, and its place in the artifact store: what determines the result names it there, so that no two fits
//! pre-train the same twice.

use super::checkpoint::Checkpoints;
use super::parameters::{ParameterSet, Specification};
use crate::{EpochRecord, FitContext, ModelArchive, ModelError, StageTime};
use etcbench_storage::Turn;

/// Pre-trained parameters and how they came about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pretrained {
    /// The parameters.
    pub parameters: ParameterSet,
    /// The training curve.
    pub epochs: Vec<EpochRecord>,
    /// How long the training took, when it was done.
    pub stage: StageTime,
}

/// A pre-training, to the artifact store.
pub(crate) struct Task<'a> {
    /// Its stage.
    pub stage: &'static str,
    /// In which form the result is kept.
    pub format: &'static str,
    /// Names everything that determines the result.
    pub key: &'a str,
    /// The parameters of the result.
    pub specifications: &'a [Specification],
    /// Samples that go through the training, epochs counted.
    pub samples: u64,
}

impl Task<'_> {
    /// The result out of the artifact store, or else by `train`, which goes on from the checkpoints.
    ///
    /// # Errors
    /// Those of the training, and an artifact that cannot be read.
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
