//! The native half of the Python package `etcbench`: what Rust computes, with arguments that are checked here and documented
//! in the Python modules beside it (`python/etcbench`). Nothing here is for users: `etcbench/_native.pyi` has the signatures.
//!
//! Long work runs on a thread of its own without the interpreter lock ([`work`]), tables leave as Arrow streams
//! ([`table`]), arrays as numpy's.

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

use pyo3::prelude::*;

pyo3::create_exception!(
    etcbench,
    EtcbenchError,
    pyo3::exceptions::PyValueError,
    "Something that etcbench was given cannot be used: what, where, and what to do, in one line."
);

/// An error of the library as Python's.
fn raised(error: impl Into<anyhow::Error>) -> PyErr {
    EtcbenchError::new_err(etcbench::cli::in_lines(&error.into()))
}

/// Runs the command line; `arguments` begin with the program's name, `program` are the words that start it again.
#[pyfunction]
fn main(py: Python<'_>, arguments: Vec<OsString>, program: Vec<OsString>) -> u8 {
    etcbench::storage::set_program(program);
    py.detach(|| etcbench::cli::main_with(arguments))
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
