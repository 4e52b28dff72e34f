//! The kernels' sources, and their compilation at run time for the graphics card that is there.

#![allow(unsafe_code)]

use std::ffi::CString;

use cudarc::nvrtc::{result, sys};

use super::launcher::Problem;
use super::libraries::{Library, find};

/// All sources, in the order in which they need each other.
const SOURCES: [&str; 7] = [
    include_str!("kernels/common.cu"),
    include_str!("kernels/layout.cu"),
    include_str!("kernels/lstm.cu"),
    include_str!("kernels/rows.cu"),
    include_str!("kernels/normalise.cu"),
    include_str!("kernels/attention.cu"),
    include_str!("kernels/optimiser.cu"),
];

/// The program's text.
pub(super) fn whole() -> String {
    SOURCES.concat()
}

/// A compiled program.
pub(super) struct Compiled {
    /// What the driver loads.
    pub image: Vec<u8>,
    /// What the compiler said: registers and spilled bytes of every kernel.
    #[cfg_attr(not(test), allow(dead_code))]
    pub log: String,
}

/// Compiles the kernels for an architecture, such as 90 for compute capability 9.0.
///
/// # Errors
/// The compiler's library is missing, or does not know the architecture.
pub(super) fn compile(architecture: u32) -> Result<Compiled, Problem> {
    find(Library::RuntimeCompiler)?;
    let source = CString::new(whole()).map_err(|error| error.to_string())?;
    let program = result::create_program(&source, Some(c"etcbench.cu"))
        .map_err(|error| format!("the runtime compiler (NVRTC) does not start: {error}"))?;
    let options =
        [format!("--gpu-architecture=sm_{architecture}"), "--std=c++17".to_owned(), "--ptxas-options=-v".to_owned()];
    // SAFETY: the program was created above and is destroyed below, after its last use; `source` outlives it, and the
    // image's buffer has the size that the compiler named.
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
                let first = log.lines().find(|line| line.contains("error")).unwrap_or("no further word");
                Err(format!("the kernels do not compile for sm_{architecture}: {error}; {first}"))
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
