//! Experiments: reading with overrides, computing features and splits, running.

use std::path::PathBuf;

use etcbench::experiment::{self, Cache, Invocation, Overrides, VariantRun, split_leaks};
use etcbench::progress::Progress;
use etcbench::runs;
use numpy::{IntoPyArray, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::raised;
use crate::work::interruptible;

/// A resolved experiment file, with overrides.
#[pyclass(module = "etcbench._native", frozen)]
pub(crate) struct Experiment {
    experiment: experiment::Experiment,
    project: PathBuf,
    overrides: Overrides,
}

/// Converts a variant's features and splits to a dictionary; arrays are moved, not copied.
fn variant<'py>(py: Python<'py>, variant: VariantRun) -> PyResult<Bound<'py, PyDict>> {
    let VariantRun { name, features, splits, .. } = variant;
    let told = PyDict::new(py);
    told.set_item("name", name)?;
    let ids: Vec<String> = features.provenance.iter().map(|provenance| provenance.flow_id()).collect();
    told.set_item("flow_ids", ids)?;
    let (rows, packets, bytes) = (features.labels.len(), features.tokens.packets, features.tokens.bytes);
    told.set_item("bytes", features.tokens.values.into_pyarray(py).reshape([rows, packets, bytes])?)?;
    told.set_item("statistics", features.statistics.into_pyarray(py))?;
    told.set_item("statistic_names", features.statistic_names)?;
    told.set_item("sequences", features.sequences.into_pyarray(py))?;
    told.set_item("flowpics", features.flowpics.into_pyarray(py))?;
    told.set_item("labels", features.labels.into_pyarray(py))?;
    told.set_item("class_names", features.class_names)?;
    let parts = PyList::empty(py);
    let numbers = |rows: Vec<usize>| rows.into_iter().map(|row| row as i64).collect::<Vec<i64>>();
    for split in splits {
        let one = PyDict::new(py);
        one.set_item("seed", split.seed)?;
        one.set_item("fold", split.fold)?;
        one.set_item("training", numbers(split.training).into_pyarray(py))?;
        one.set_item("validation", numbers(split.split.validation).into_pyarray(py))?;
        one.set_item("test", numbers(split.split.test).into_pyarray(py))?;
        parts.append(one)?;
    }
    told.set_item("splits", parts)?;
    Ok(told)
}

#[pymethods]
impl Experiment {
    #[new]
    #[pyo3(signature = (experiment, *, project, data, size, assignments, seeds, models, variants))]
    #[expect(clippy::too_many_arguments, reason = "arguments are passed by name")]
    fn new(
        experiment: &str,
        project: Option<PathBuf>,
        data: Vec<String>,
        size: Option<String>,
        assignments: Vec<String>,
        seeds: Option<Vec<u64>>,
        models: Vec<String>,
        variants: Vec<String>,
    ) -> PyResult<Self> {
        let project = etcbench::project::open(project);
        let overrides = Overrides { data, size, assignments, seeds, models, variants, ladder: None };
        let path = etcbench::project::experiment_file(&project, std::path::Path::new(experiment)).map_err(raised)?;
        let experiment = experiment::read_experiment(&path, &overrides).map_err(raised)?;
        Ok(Self { experiment, project, overrides })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.experiment.name
    }

    #[getter]
    fn title(&self) -> &str {
        &self.experiment.title
    }

    #[getter]
    fn datasets(&self) -> Vec<String> {
        self.experiment.datasets.clone()
    }

    #[getter]
    fn size(&self) -> &str {
        &self.experiment.size
    }

    #[getter]
    fn seeds(&self) -> Vec<u64> {
        self.experiment.seeds.clone()
    }

    /// Returns the names of the variants.
    #[getter]
    fn variants(&self) -> Vec<String> {
        self.experiment.variants.iter().map(|variant| variant.name.clone()).collect()
    }

    /// Returns the model and input of every row of a variant.
    fn models(&self, variant: &str) -> Vec<(String, String)> {
        let variants = self.experiment.variants.iter().filter(|other| other.name == variant);
        let specs = variants.flat_map(|variant| &variant.models);
        specs.map(|spec| (spec.kind.name().to_owned(), spec.input.name().to_owned())).collect()
    }

    /// Returns the whole experiment as TOML.
    #[getter]
    fn resolved(&self) -> PyResult<String> {
        toml::to_string(&self.experiment.resolved).map_err(raised)
    }

    /// Returns the folder of its run, whether or not it exists.
    #[getter]
    fn folder(&self) -> PathBuf {
        experiment::results_folder(&self.project)
            .join(experiment::results_name(&self.experiment, self.overrides.change_results()))
    }

    /// Returns the features and splits of every variant, and the leak reports as JSON.
    fn divide<'py>(
        &self,
        py: Python<'py>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyList>, String)> {
        let (variants, leaks) = interruptible(py, progress.as_ref(), |progress| {
            experiment::require_data(&self.experiment, &self.project)?;
            let settings = runs::plain_settings(&self.project, Cache::disabled());
            let variants = experiment::divide(&self.experiment, &settings, progress)?;
            let leaks = serde_json::to_string(&split_leaks(&variants))?;
            Ok((variants, leaks))
        })?;
        let all = PyList::empty(py);
        for one in variants {
            all.append(variant(py, one)?)?;
        }
        Ok((all, leaks))
    }

    /// Runs the experiment and writes the run's folder. Returns the folder, the number of fits, how many of them came
    /// from the cache, how many failed, and the folder in which an older run was kept.
    #[pyo3(signature = (*, device, cache, save_models, overwrite, progress))]
    fn run(
        &self,
        py: Python<'_>,
        device: &str,
        cache: bool,
        save_models: bool,
        overwrite: bool,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<(PathBuf, usize, usize, usize, Option<PathBuf>)> {
        interruptible(py, progress.as_ref(), |progress: &dyn Progress| {
            experiment::require_data(&self.experiment, &self.project)?;
            let cache = if cache { runs::cache(&self.project) } else { Cache::disabled() };
            let settings = runs::settings(&self.project, device, "f32", cache)?;
            let invocation = Invocation::now(None, &self.overrides);
            let mut run = experiment::run(&self.experiment, &settings, progress)?;
            run.invocation = invocation;
            let folder = self.folder();
            let models = save_models.then_some((&settings, progress));
            let written = runs::write_results(&self.project, &run, &folder, &[], models, overwrite)?;
            let reused = run.rows.iter().filter(|row| row.reused).count();
            Ok((folder, run.rows.len(), reused, run.failures.len(), written.kept))
        })
    }
}
