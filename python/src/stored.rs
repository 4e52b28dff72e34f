//! Stored runs: reading, comparing and ranking.

use std::path::PathBuf;

use etcbench::experiment::Record;
use etcbench::report::{self, Cell, StoredRun, Table};
use etcbench::storage;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::raised;

/// Converts a table to its title, its notes, and its columns by name, each a list of strings, numbers and `None`.
pub(crate) fn told<'py>(py: Python<'py>, table: &Table) -> PyResult<(String, Vec<String>, Bound<'py, PyDict>)> {
    let columns = PyDict::new(py);
    for (index, column) in table.columns.iter().enumerate() {
        let values = PyList::empty(py);
        for row in &table.rows {
            match &row[index] {
                Cell::Text(text) => values.append(text)?,
                Cell::Number { value, .. } | Cell::PValue(value) => values.append(value)?,
                Cell::Undefined(_) | Cell::Absent => values.append(py.None())?,
            }
        }
        columns.set_item(&column.name, values)?;
    }
    Ok((table.title.clone(), table.notes.clone(), columns))
}

/// Returns the folder of a run, given its name under `results` or its folder.
#[pyfunction]
pub(crate) fn find_run(results: PathBuf, run: PathBuf) -> PyResult<PathBuf> {
    etcbench::runs::find_run(&results, &run).map_err(raised)
}

/// Converts records to columns by name.
fn columns<'py>(py: Python<'py>, records: &[Record]) -> PyResult<Bound<'py, PyDict>> {
    let columns = PyDict::new(py);
    macro_rules! column {
        ($name:literal, $($field:ident).+) => {
            columns.set_item($name, PyList::new(py, records.iter().map(|record| &record.$($field).+))?)?;
        };
    }
    column!("experiment", key.experiment);
    column!("dataset", key.dataset);
    column!("size", key.size);
    column!("variant", key.variant);
    column!("model", key.model);
    column!("input", key.input);
    column!("implementation", key.implementation);
    column!("seed", key.seed);
    column!("fold", key.fold);
    column!("class", class);
    column!("predicted", predicted);
    column!("setting", setting);
    column!("epoch", epoch);
    column!("metric", metric);
    column!("value", value);
    Ok(columns)
}

/// Reads a stored run: `run.json` and `leaks.json` as JSON text, `experiment.toml`, the records as columns, and what
/// was changed since it was written.
#[pyfunction]
pub(crate) fn read_run<'py>(py: Python<'py>, folder: PathBuf) -> PyResult<Bound<'py, PyDict>> {
    let (run, changes) = py
        .detach(|| -> anyhow::Result<_> {
            let run = StoredRun::read(&folder)?;
            let changes = storage::read_folder(&folder, || report::integrity(&run))?;
            Ok((run, changes))
        })
        .map_err(raised)?;
    let told = PyDict::new(py);
    told.set_item("information", serde_json::to_string(&run.information).map_err(raised)?)?;
    told.set_item("leaks", serde_json::to_string(&run.leaks).map_err(raised)?)?;
    told.set_item("experiment", &run.experiment_file)?;
    told.set_item("records", columns(py, &run.records)?)?;
    told.set_item("changes", changes)?;
    Ok(told)
}

/// Compares two runs: returns whether they have the same results, and tables of the differences.
#[pyfunction]
pub(crate) fn compare<'py>(py: Python<'py>, first: PathBuf, second: PathBuf) -> PyResult<(bool, Bound<'py, PyList>)> {
    let compared = py
        .detach(|| -> anyhow::Result<_> {
            Ok(report::compare_runs(&StoredRun::read(&first)?, &StoredRun::read(&second)?)?)
        })
        .map_err(raised)?;
    let tables = PyList::empty(py);
    for table in &compared.tables {
        tables.append(told(py, table)?)?;
    }
    Ok((compared.same_results, tables))
}

/// Ranks the models of several runs; returns a dictionary per variant.
#[pyfunction]
pub(crate) fn rank<'py>(py: Python<'py>, folders: Vec<PathBuf>, metric: &str) -> PyResult<Bound<'py, PyList>> {
    let rankings = py
        .detach(|| -> anyhow::Result<_> {
            let mut records = Vec::new();
            for folder in &folders {
                let path = folder.join("records.jsonl");
                records.extend(storage::read_folder(folder, || report::read_records(&path))?);
            }
            Ok(report::rankings(&records, metric)?)
        })
        .map_err(raised)?;
    let all = PyList::empty(py);
    for ranking in rankings {
        let one = PyDict::new(py);
        let order = ranking.test.order();
        one.set_item("variant", &ranking.variant)?;
        one.set_item("metric", &ranking.metric)?;
        one.set_item("tables", &ranking.tables)?;
        let models: Vec<(&str, &str, &str, f64)> = order
            .iter()
            .map(|&place| {
                let model = &ranking.models[place];
                let rank = ranking.test.mean_ranks[place];
                (model.model.as_str(), model.input.as_str(), model.implementation.as_str(), rank)
            })
            .collect();
        one.set_item("models", models)?;
        let name =
            |model: &report::RankedModel| [model.model.clone(), model.input.clone(), model.implementation.clone()];
        one.set_item("left_out", ranking.left_out.iter().map(name).collect::<Vec<_>>())?;
        let failed = ranking.failed.iter().map(|(model, tables)| {
            let [model, input, implementation] = name(model);
            (model, input, implementation, *tables)
        });
        one.set_item("failed", failed.collect::<Vec<_>>())?;
        one.set_item("statistic", ranking.test.statistic)?;
        one.set_item("p_value", ranking.test.p_value)?;
        one.set_item("critical_difference", ranking.test.critical_difference)?;
        all.append(one)?;
    }
    Ok(all)
}
