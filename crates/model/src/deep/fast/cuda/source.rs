//! The kernels' sources, and their compilation at run time for the GPU at hand.

#![allow(unsafe_code)]

use std::ffi::CString;

use cudarc::nvrtc::{result, sys};

use super::launcher::Problem;
use super::libraries::{Library, find};

/// All sources in order of dependency.
const SOURCES: [&str; 7] = [
    include_str!("kernels/common.cu"),
    include_str!("kernels/layout.cu"),
    include_str!("kernels/lstm.cu"),
    include_str!("kernels/rows.cu"),
    include_str!("kernels/normalise.cu"),
    include_str!("kernels/attention.cu"),
    include_str!("kernels/optimiser.cu"),
];

/// Returns the complete program.
pub(super) fn whole() -> String {
    SOURCES.concat()
}

/// A compiled program.
pub(super) struct Compiled {
    /// The image that the driver loads.
    pub image: Vec<u8>,
    /// The compiler's output: registers and spilled bytes of every kernel.
    #[cfg_attr(not(test), allow(dead_code))]
    pub log: String,
}

/// Compiles the kernels for an architecture, such as 90 for compute capability 9.0.
///
/// # Errors
/// The compiler's library is missing or does not support the architecture.
pub(super) fn compile(architecture: u32) -> Result<Compiled, Problem> {
    find(Library::RuntimeCompiler)?;
    let source = CString::new(whole()).map_err(|error| error.to_string())?;
    let program = result::create_program(&source, Some(c"etcbench.cu"))
        .map_err(|error| format!("the runtime compiler (NVRTC) cannot be initialised: {error}"))?;
    let options =
        [format!("--gpu-architecture=sm_{architecture}"), "--std=c++17".to_owned(), "--ptxas-options=-v".to_owned()];
    // SAFETY: the program was created above and is destroyed below, after its last use; `source` outlives it, and the
    // image's buffer has the size reported by the compiler.
    unsafe {
        let compiled = result::compile_program(program, &options);
        let log = result::get_program_log(program).unwrap_or_default();
        let log = String::from_utf8_lossy(&log.iter().map(|&byte| byte as u8).collect::<Vec<_>>())
            .trim_end_matches('\0')
            .to_owned();
        let image = compiled.and_then(|()| {
            let mut size = 0;
            sys::nvrtcGetCUBINSize(program, &raw mut size).result()?;
            let mut image = vec![0u8; size];
            sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast()).result()?;
            Ok(image)
        });
        let _ = result::destroy_program(program);
        match image {
            Ok(image) => Ok(Compiled { image, log }),
            Err(error) => {
                let first = log.lines().find(|line| line.contains("error")).unwrap_or("no error message");
                Err(format!("the kernels cannot be compiled for sm_{architecture}: {error}; {first}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_compile_and_the_lstm_keeps_its_weights_in_registers() {
        if let Err(problem) = find(Library::RuntimeCompiler) {
            println!("skipped: {problem}");
            return;
        }
        for architecture in [80, 90] {
            let compiled = compile(architecture).unwrap();
            assert!(compiled.image.starts_with(b"\x7fELF"));
            for name in ["lstm_forward_128", "lstm_forward_256", "lstm_backward_128", "lstm_backward_256"] {
                let entry = format!("Compiling entry function '{name}'");
                let of_kernel = compiled.log.split(&entry).nth(1).expect(&compiled.log);
                let of_kernel = of_kernel.split("Compiling entry function").next().unwrap();
                assert!(of_kernel.contains("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"));
            }
            println!("compiled for sm_{architecture}");
        }
    }
}
