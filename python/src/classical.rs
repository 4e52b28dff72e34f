//! The classical models on any matrix of numbers, the basis of `etcbench.sklearn`.

use std::sync::{Mutex, PoisonError};

use etcbench::feature::{FeatureSet, TokenArray};
use etcbench::model::{
    Classifier, Device, Examples, FitContext, Implementation, Input, ModelArchive, ModelKind, ModelSpec, NoArtifacts,
    TensorData, build, load,
};
use etcbench::progress::Silent;
use ndarray::Array2;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::{EtcbenchError, raised};

/// A fitted model.
#[pyclass(module = "etcbench._native", frozen)]
pub(crate) struct Classical {
    model: Mutex<Box<dyn Classifier>>,
    classes: usize,
    notes: Vec<String>,
}

/// Wraps rows of numbers as the features of flows that have only statistics.
fn features(matrix: Array2<f32>, labels: Vec<u32>, classes: usize) -> FeatureSet {
    let (rows, columns) = matrix.dim();
    FeatureSet {
        tokens: TokenArray { packets: 0, bytes: 0, values: Vec::new() },
        statistics: matrix,
        statistic_names: (0..columns).map(|column| format!("x{column}")).collect(),
        sequences: Array2::zeros((rows, 0)),
        flowpics: Array2::zeros((rows, 0)),
        labels,
        class_names: (0..classes).map(|class| class.to_string()).collect(),
        provenance: Vec::new(),
    }
}

#[pymethods]
impl Classical {
    /// Fits a built-in model to rows of numbers and their classes, integers from 0 below `classes`. `parameters` are
    /// the keys of the model's table in an experiment (TOML).
    #[staticmethod]
    fn fit(
        py: Python<'_>,
        model: &str,
        parameters: &str,
        matrix: PyReadonlyArray2<'_, f32>,
        labels: PyReadonlyArray1<'_, u32>,
        classes: usize,
        seed: u64,
    ) -> PyResult<Self> {
        let parameters: toml::Table = parameters.parse().map_err(raised)?;
        let kind = ModelKind::named(model).ok_or_else(|| EtcbenchError::new_err(format!("{model}: no such model")))?;
        let spec = ModelSpec { kind, input: Input::Statistics, implementation: Implementation::Fast, parameters };
        let features = features(matrix.as_array().to_owned(), labels.as_array().to_vec(), classes);
        py.detach(|| {
            let mut model = build(&spec).map_err(raised)?;
            let rows: Vec<usize> = (0..features.len()).collect();
            let training = Examples { features: &features, rows: &rows };
            let validation = Examples { features: &features, rows: &[] };
            let context =
                FitContext { seed, device: Device::Cpu, progress: &Silent, artifacts: &NoArtifacts, pretraining: None };
            let report = model.fit(training, validation, &context).map_err(raised)?;
            Ok(Self { model: Mutex::new(model), classes, notes: report.notes })
        })
    }

    /// Returns probabilities, shape `[rows, classes]`.
    fn predict_proba<'py>(
        &self,
        py: Python<'py>,
        matrix: PyReadonlyArray2<'py, f32>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let rows = matrix.as_array().nrows();
        let features = features(matrix.as_array().to_owned(), vec![0; rows], self.classes);
        let answer = py.detach(|| {
            let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
            let rows: Vec<usize> = (0..features.len()).collect();
            model.predict_probabilities(Examples { features: &features, rows: &rows }, &Silent)
        });
        Ok(answer.map_err(raised)?.into_pyarray(py))
    }

    /// Returns the notes of the fit.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// Returns a tensor of 64-bit floats of the fitted model, by its name in the model's file; `None` if there is none.
    fn tensor<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyArray1<f64>>>> {
        let mut archive = self.archive().map_err(raised)?;
        Ok(match archive.tensors.remove(name).map(|tensor| tensor.data) {
            Some(TensorData::F64(values)) => Some(values.into_pyarray(py)),
            _ => None,
        })
    }

    /// Serialises the fitted model to the bytes of a model file.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = py.detach(|| self.archive().and_then(|archive| archive.to_bytes())).map_err(raised)?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Restores a fitted model from the bytes of its file; its predictions are bit-identical.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, bytes: &[u8], classes: usize) -> PyResult<Self> {
        let model = py.detach(|| ModelArchive::from_bytes(bytes).and_then(|archive| load(&archive)));
        Ok(Self { model: Mutex::new(model.map_err(raised)?), classes, notes: Vec::new() })
    }
}

impl Classical {
    fn archive(&self) -> Result<ModelArchive, etcbench::model::ModelError> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner).save()
    }
}
