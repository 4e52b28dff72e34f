//! Predicts the most frequent class of the training rows, the baseline that every model must beat. Ties go to the
//! lowest class. Both implementations are the same, and there are no parameters.

use std::time::Instant;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::classical::{checked_labels, unfitted};
use super::input::data;
use super::{
    Classifier, Examples, FitContext, FitReport, Implementation, Input, ModelArchive, ModelEntry, ModelError,
    StageTime, parameters, stored,
};
use etcbench_storage::progress::Progress;

const NAME: &str = "majority";

/// The model's entry in the table of models.
pub(super) static ENTRY: ModelEntry = ModelEntry {
    name: NAME,
    summary: "The most frequent class, a sanity baseline.",
    version: 6,
    inputs: &Input::CLASSICAL,
    reads_input: false,
    deep: false,
    proposed: false,
    usual: true,
    agreement: None,
    reference_row_limit: None,
    sequences: |_, _| Ok(()),
    pretraining: None,
    external: None,
    build: |spec| Ok(Box::new(Majority::new(spec.implementation, &spec.parameters)?)),
    load: |implementation, archive| Ok(Box::new(Majority::from_archive(implementation, archive)?)),
};

/// `[model.majority]` has no keys.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParameters {}

/// Always predicts the same class.
struct Majority {
    implementation: Implementation,
    /// Number of classes and the most frequent one.
    fitted: Option<(usize, usize)>,
}

impl Majority {
    /// Creates an unfitted model.
    ///
    /// # Errors
    /// Any key at all.
    fn new(implementation: Implementation, table: &toml::Table) -> Result<Self, ModelError> {
        parameters::parse::<NoParameters>(NAME, table)?;
        Ok(Self { implementation, fitted: None })
    }

    /// Loads a fitted model from its file.
    ///
    /// # Errors
    /// Missing or contradictory entries.
    fn from_archive(implementation: Implementation, archive: &ModelArchive) -> Result<Self, ModelError> {
        let table = stored::text(archive, "parameters")?
            .parse()
            .map_err(|error: toml::de::Error| stored::broken(format!("metadata `parameters`: {}", error.message())))?;
        let model = Self::new(implementation, &table)?;
        let classes = stored::class_count(archive)?;
        let class: usize = stored::json(archive, "majority_class")?;
        if class >= classes {
            return Err(stored::broken("the most frequent class is not among the classes"));
        }
        Ok(Self { fitted: Some((classes, class)), ..model })
    }
}

impl Classifier for Majority {
    fn fit(&mut self, training: Examples<'_>, _: Examples<'_>, _: &FitContext<'_>) -> Result<FitReport, ModelError> {
        let started = Instant::now();
        let labels = checked_labels(NAME, training)?;
        if labels.is_empty() {
            return Err(data(NAME, "there are no training rows; check the split and the dataset's labels"));
        }
        let mut counts = vec![0_usize; training.features.class_names.len()];
        for &label in &labels {
            counts[label as usize] += 1;
        }
        let class = (0..counts.len()).fold(0, |best, class| if counts[class] > counts[best] { class } else { best });
        self.fitted = Some((counts.len(), class));
        let stage = StageTime {
            stage: "fit".to_owned(),
            wall_seconds: started.elapsed().as_secs_f64(),
            samples: labels.len() as u64,
        };
        Ok(FitReport { stages: vec![stage], ..FitReport::default() })
    }

    fn predict_probabilities(&self, examples: Examples<'_>, _: &dyn Progress) -> Result<Array2<f32>, ModelError> {
        let (classes, class) = self.fitted.ok_or_else(|| unfitted(NAME))?;
        let mut probabilities = Array2::zeros((examples.rows.len(), classes));
        probabilities.column_mut(class).fill(1.0);
        Ok(probabilities)
    }

    fn save(&self) -> Result<ModelArchive, ModelError> {
        let (classes, class) = self.fitted.ok_or_else(|| unfitted(NAME))?;
        let mut archive = ModelArchive::default();
        archive.metadata.insert("model".to_owned(), NAME.to_owned());
        archive.metadata.insert("implementation".to_owned(), self.implementation.name().to_owned());
        archive.metadata.insert("parameters".to_owned(), String::new());
        stored::put_json(&mut archive, "classes", &classes);
        stored::put_json(&mut archive, "majority_class", &class);
        Ok(archive)
    }
}
