//! Runs the kernels on the CPU: their sources, compiled as C++ with `shim.h`, through the same launcher interface as a
//! GPU. Memory is initialised to NaN and followed by a guard, and threads run in either order.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use super::super::launcher::{Argument, Buffer, Grid, Kernel, Launcher, Problem, Product};
use super::super::source;

type Emulate = unsafe extern "C" fn(u32, u32, u32, u32, u32, usize, i32, i32, *const *const c_void, u32) -> i32;

/// Returns the compiled kernels, or the reason why they cannot be compiled, such as a missing C++ compiler.
fn library() -> Result<&'static Mutex<Emulate>, &'static str> {
    static LIBRARY: OnceLock<Result<Mutex<Emulate>, String>> = OnceLock::new();
    LIBRARY.get_or_init(|| compile().map(Mutex::new)).as_ref().map_err(String::as_str)
}

fn compile() -> Result<Emulate, String> {
    if cfg!(not(target_os = "linux")) {
        return Err("the emulator requires Linux".to_owned());
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let entries: String =
        Kernel::ALL.iter().map(|kernel| format!("{{Call<{0}>::run, Call<{0}>::count}},", kernel.name())).collect();
    let program = format!("{}\n{}\nconst Entry entries[] = {{{entries}}};\n", include_str!("shim.h"), source::whole());
    let (text, shared) = (folder.path().join("kernels.cpp"), folder.path().join("kernels.so"));
    std::fs::write(&text, program).map_err(|error| error.to_string())?;
    let options = ["-std=c++17", "-O2", "-shared", "-fPIC", "-w", "-U_FORTIFY_SOURCE", "-fno-strict-aliasing", "-o"];
    let output = Command::new("g++").args(options).arg(&shared).arg(&text).output();
    let output = output.map_err(|error| format!("cannot run g++: {error}"))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // SAFETY: the library was just built from our own sources, its initialisers have no requirements, and it stays
    // loaded; the symbol has the type declared in `shim.h`.
    unsafe {
        let library = libloading::Library::new(&shared).map_err(|error| error.to_string())?;
        let emulate = *library.get::<Emulate>(b"emulate").map_err(|error| error.to_string())?;
        std::mem::forget(library);
        Ok(emulate)
    }
}

/// Guard words after every buffer, and their content.
const GUARD: usize = 64;
const GUARD_WORD: u32 = 0x5afe_5afe;

struct Memory(Vec<u32>);

impl Drop for Memory {
    fn drop(&mut self) {
        let guard = &self.0[self.0.len() - GUARD..];
        assert!(std::thread::panicking() || guard.iter().all(|&word| word == GUARD_WORD), "written past a buffer");
    }
}

/// The CPU in place of a GPU.
pub(super) struct Emulator {
    /// Maximum number of blocks that can wait for each other.
    pub resident: usize,
    /// Whether the last thread runs first.
    pub backwards: bool,
}

impl Emulator {
    /// Creates an emulator, or prints the reason and returns `None` if the kernels cannot be compiled.
    pub(super) fn new(resident: usize, backwards: bool) -> Option<Self> {
        match library() {
            Ok(_) => Some(Self { resident, backwards }),
            Err(reason) => {
                println!("skipped: {reason}");
                None
            }
        }
    }
}

impl Launcher for Emulator {
    fn allocate(&mut self, words: usize) -> Result<Buffer, Problem> {
        let mut memory = Memory(vec![u32::MAX; words]);
        memory.0.resize(words + GUARD, GUARD_WORD);
        let address = memory.0.as_mut_ptr() as u64;
        Ok(Buffer::new(address, words, Box::new(memory)))
    }

    fn copy_in(&mut self, from: &[u32], to: &Buffer) -> Result<(), Problem> {
        assert!(from.len() <= to.words);
        // SAFETY: the buffer's memory comes from `allocate` and is large enough; nothing else runs.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.address as *mut u32, from.len()) };
        Ok(())
    }

    fn copy_out(&self, from: &Buffer, to: &mut [u32]) -> Result<(), Problem> {
        assert!(to.len() <= from.words);
        // SAFETY: as in `copy_in`.
        unsafe { std::ptr::copy_nonoverlapping(from.address as *const u32, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn zero(&mut self, buffer: &Buffer, words: usize) -> Result<(), Problem> {
        self.copy_in(&vec![0; words], buffer)
    }

    fn launch(&mut self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<(), Problem> {
        let [x, y, z] = grid.blocks;
        assert!(!grid.together || x * y * z <= self.resident, "{kernel:?}: more blocks than can be resident");
        assert!(y <= 65_535 && z <= 65_535 && grid.threads <= 1024 && grid.shared <= 48 << 10, "{kernel:?} {grid:?}");
        let pointers: Vec<*const c_void> = arguments.iter().map(|argument| argument.bytes().cast()).collect();
        let emulate = library().expect("checked by `new`").lock().unwrap();
        // SAFETY: the callee checks the number of arguments, the tests check their types, and the lock restricts the
        // fibers to one launch at a time.
        let code = unsafe {
            emulate(
                kernel as u32,
                x as u32,
                y as u32,
                z as u32,
                grid.threads as u32,
                grid.shared,
                i32::from(grid.together),
                i32::from(self.backwards),
                pointers.as_ptr(),
                pointers.len() as u32,
            )
        };
        match code {
            0 => Ok(()),
            1 => Err(format!("{} does not accept {} arguments", kernel.name(), arguments.len())),
            _ => Err(format!("the threads of {} are deadlocked", kernel.name())),
        }
    }

    fn multiply(&mut self, product: Product) -> Result<(), Problem> {
        let Product { rows, columns, depth, left, left_transposed, right, right_transposed, out, accumulate } = product;
        // SAFETY: the operations pass the sizes of buffers they allocated; `out` overlaps neither factor.
        let (left, right, out) = unsafe {
            (
                std::slice::from_raw_parts(left as *const f32, rows * depth),
                std::slice::from_raw_parts(right as *const f32, depth * columns),
                std::slice::from_raw_parts_mut(out as *mut f32, rows * columns),
            )
        };
        for (row, out) in out.chunks_exact_mut(columns).enumerate() {
            for (column, out) in out.iter_mut().enumerate() {
                let left = |k: usize| left[if left_transposed { k * rows + row } else { row * depth + k }];
                let right = |k: usize| right[if right_transposed { column * depth + k } else { k * columns + column }];
                let sum = (0..depth).map(|k| f64::from(left(k)) * f64::from(right(k))).sum::<f64>() as f32;
                *out = if accumulate { *out + sum } else { sum };
            }
        }
        Ok(())
    }

    fn resident_blocks(&self) -> usize {
        self.resident
    }

    fn free_words(&self) -> usize {
        1 << 20
    }
}
