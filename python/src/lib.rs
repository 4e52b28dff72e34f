//! The native half of the Python package `etcbench`. It checks arguments and computes in Rust; the arguments are
//! documented in the Python modules (`python/etcbench`). It is not a public API; `etcbench/_native.pyi` contains the
//! signatures.
//!
//! Long work runs on a separate thread without the interpreter lock ([`work`]). Tables are returned as Arrow streams
//! ([`table`]), arrays as numpy arrays.

mod captures;
mod classical;
mod experiments;
mod flows;
mod measures;
mod packets;
mod stored;
mod table;
mod weights;
mod work;

use std::ffi::OsString;
use std::path::PathBuf;

use pyo3::prelude::*;

pyo3::create_exception!(
    etcbench,
    EtcbenchError,
    pyo3::exceptions::PyValueError,
    "An argument or file cannot be used; the message says what, where, and what to do, in one line."
);

/// Converts an error of the library to a Python exception.
fn raised(error: impl Into<anyhow::Error>) -> PyErr {
    EtcbenchError::new_err(etcbench::cli::in_lines(&error.into()))
}

/// Runs the command line; `arguments` begins with the program's name, `program` is the command that starts it again.
#[pyfunction]
fn main(py: Python<'_>, arguments: Vec<OsString>, program: Vec<OsString>) -> u8 {
    etcbench::storage::set_program(program);
    py.detach(|| etcbench::cli::main_with(arguments))
}

/// Returns the project's folder: the given one, or the nearest one from the current folder upwards.
#[pyfunction]
#[pyo3(signature = (folder))]
fn project(folder: Option<PathBuf>) -> PathBuf {
    etcbench::project::open(folder)
}

/// The module.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("EtcbenchError", module.py().get_type::<EtcbenchError>())?;
    module.add("PAD", etcbench::feature::PAD)?;
    module.add_class::<table::Stream>()?;
    module.add_class::<experiments::Experiment>()?;
    module.add_class::<classical::Classical>()?;
    module.add_function(wrap_pyfunction!(main, module)?)?;
    module.add_function(wrap_pyfunction!(project, module)?)?;
    module.add_function(wrap_pyfunction!(table::arrow_stream, module)?)?;
    module.add_function(wrap_pyfunction!(flows::flows, module)?)?;
    module.add_function(wrap_pyfunction!(flows::classify, module)?)?;
    module.add_function(wrap_pyfunction!(packets::packets, module)?)?;
    module.add_function(wrap_pyfunction!(measures::metrics, module)?)?;
    module.add_function(wrap_pyfunction!(measures::audit, module)?)?;
    module.add_function(wrap_pyfunction!(stored::find_run, module)?)?;
    module.add_function(wrap_pyfunction!(stored::read_run, module)?)?;
    module.add_function(wrap_pyfunction!(stored::compare, module)?)?;
    module.add_function(wrap_pyfunction!(stored::rank, module)?)?;
    module.add_function(wrap_pyfunction!(weights::weights, module)?)?;
    Ok(())
}
