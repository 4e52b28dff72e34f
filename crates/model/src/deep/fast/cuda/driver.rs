//! Access to the GPU through NVIDIA's driver. Everything runs in one stream, so kernels execute in launch order; matrix
//! products are configured to be bitwise reproducible from run to run.

#![allow(unsafe_code)]

use std::ffi::{CString, c_void};
use std::sync::Arc;

use cudarc::cublas::{result as cublas, sys as cublas_sys};
use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};

use super::launcher::{Argument, Buffer, Grid, Kernel, Launcher, Problem, Product};
use super::libraries::{Library, find};
use super::source;
use crate::Precision;

/// Size of cuBLAS's workspace in bytes, as recommended by NVIDIA for the largest GPUs; fixed, because cuBLAS's choice
/// of algorithm depends on it.
const WORKSPACE: usize = 32 << 20;

/// Name and driver of a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GpuInfo {
    /// Name of the GPU.
    pub name: String,
    /// Version of the driver, if the system provides it, and the CUDA version that it supports.
    pub driver: String,
}

/// Returns a function that turns a CUDA error into a message with the driver's description.
fn failed(what: &str) -> impl Fn(DriverError) -> Problem {
    move |error| {
        let text = error.error_string().ok().and_then(|text| text.to_str().ok()).unwrap_or("no description");
        format!("{what}: {text}")
    }
}

/// Opens the GPU with this number.
///
/// # Errors
/// There is no driver, or no GPU with this number.
fn context(number: usize) -> Result<Arc<CudaContext>, Problem> {
    find(Library::Driver)?;
    result::init().map_err(failed("the NVIDIA driver cannot be initialised"))?;
    let count = result::device::get_count().map_err(failed("the NVIDIA driver cannot count the GPUs"))?;
    match usize::try_from(count).unwrap_or(0) {
        0 => return Err("the NVIDIA driver found no GPU".to_owned()),
        count if number >= count => {
            return Err(format!("there is no GPU {number}; this machine has {count}, numbered from 0"));
        }
        _ => {}
    }
    CudaContext::new(number).map_err(failed("the GPU cannot be used"))
}

/// Returns name and driver of a GPU.
///
/// # Errors
/// There is no driver, or no GPU with this number.
pub(super) fn info(number: usize) -> Result<GpuInfo, Problem> {
    let context = context(number)?;
    let name = context.name().map_err(failed("cannot read the GPU's name"))?;
    let mut version = 0;
    // SAFETY: writes one number.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }
        .result()
        .map_err(failed("cannot read the driver's version"))?;
    let cuda = format!("CUDA {}.{}", version / 1000, version % 1000 / 10);
    let driver = std::fs::read_to_string("/sys/module/nvidia/version").ok();
    let driver = driver.map_or(cuda.clone(), |driver| format!("{}, {cuda}", driver.trim()));
    Ok(GpuInfo { name, driver })
}

/// GPU memory, freed when dropped.
struct Allocation {
    address: u64,
    context: Arc<CudaContext>,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: the address came from `malloc_sync` in this context and is freed once; the driver waits for
            // kernels that use it.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}

/// A cuBLAS handle.
struct Handle(cublas_sys::cublasHandle_t);

// SAFETY: cuBLAS allows a handle to be used from any thread, one at a time, which `&mut` ensures.
unsafe impl Send for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: created once in `Driver::new` and destroyed once.
        let _ = unsafe { cublas::destroy_handle(self.0) };
    }
}

/// A kernel of the loaded program, which stays loaded for as long as the context lives.
struct Function(sys::CUfunction);

// SAFETY: a function's handle is an address that the driver allows all threads to use.
unsafe impl Send for Function {}

/// A GPU that is ready to compute.
pub(super) struct Driver {
    // Fields are dropped in this order: the handle before its workspace, the context last.
    handle: Handle,
    _workspace: Buffer,
    functions: Vec<Function>,
    stream: Arc<CudaStream>,
    precision: cublas_sys::cublasComputeType_t,
    processors: usize,
    context: Arc<CudaContext>,
}

impl Driver {
    /// Opens a GPU and compiles the kernels for it.
    ///
    /// # Errors
    /// There is no driver or GPU, or a library is missing.
    pub(super) fn new(number: usize, precision: Precision) -> Result<Self, Problem> {
        let context = context(number)?;
        find(Library::MatrixProducts)?;
        let (major, minor) = context.compute_capability().map_err(failed("cannot read the compute capability"))?;
        let compiled = source::compile(u32::try_from(10 * major + minor).unwrap_or(0))?;
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let processors = context.attribute(attribute).map_err(failed("cannot read the number of multiprocessors"))?;
        let stream = context.new_stream().map_err(failed("cannot create a stream"))?;
        let mut functions = Vec::new();
        // SAFETY: the image is a complete program from the compiler, and the module is never unloaded.
        unsafe {
            let module = result::module::load_data(compiled.image.as_ptr().cast::<c_void>())
                .map_err(failed("the driver cannot load the kernels"))?;
            for kernel in Kernel::ALL {
                let name = CString::new(kernel.name()).map_err(|error| error.to_string())?;
                let function = result::module::get_function(module, name).map_err(failed(kernel.name()))?;
                functions.push(Function(function));
            }
        }
        let workspace = allocate(&context, WORKSPACE / 4)?;
        let handle = Handle(cublas::create_handle().map_err(|error| format!("cuBLAS cannot be initialised: {error}"))?);
        // SAFETY: the handle was just created; stream and workspace live as long as it does.
        unsafe {
            let set = |status: cublas_sys::cublasStatus_t| {
                status.result().map_err(|error| format!("cuBLAS cannot be set up: {error}"))
            };
            set(cublas_sys::cublasSetStream_v2(handle.0, stream.cu_stream().cast()))?;
            set(cublas_sys::cublasSetAtomicsMode(
                handle.0,
                cublas_sys::cublasAtomicsMode_t::CUBLAS_ATOMICS_NOT_ALLOWED,
            ))?;
            let place = workspace.address as *mut c_void;
            set(cublas_sys::cublasSetWorkspace_v2(handle.0, place, WORKSPACE))?;
        }
        let precision = match precision {
            Precision::F32 => cublas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            Precision::Tf32 => cublas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            Precision::Bf16 => cublas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_16BF,
        };
        let processors = usize::try_from(processors).unwrap_or(1);
        Ok(Self { handle, _workspace: workspace, functions, stream, precision, processors, context })
    }

    fn bind(&self) -> Result<(), Problem> {
        self.context.bind_to_thread().map_err(failed("the GPU cannot be used from this thread"))
    }
}

fn allocate(context: &Arc<CudaContext>, words: usize) -> Result<Buffer, Problem> {
    context.bind_to_thread().map_err(failed("the GPU cannot be used from this thread"))?;
    let bytes = 4 * words.max(1);
    // SAFETY: the memory's content is unspecified, as documented for `Launcher::allocate`.
    let address = unsafe { result::malloc_sync(bytes) }
        .map_err(failed(&format!("cannot allocate {} MiB of GPU memory", bytes.div_ceil(1 << 20))))?;
    Ok(Buffer::new(address, words, Box::new(Allocation { address, context: context.clone() })))
}

impl Launcher for Driver {
    fn allocate(&mut self, words: usize) -> Result<Buffer, Problem> {
        allocate(&self.context, words)
    }

    fn copy_in(&mut self, from: &[u32], to: &Buffer) -> Result<(), Problem> {
        assert!(from.len() <= to.words, "the buffer was made large enough");
        self.bind()?;
        // SAFETY: the buffer is large enough. The source is pageable memory, which the driver copies before it returns.
        unsafe { result::memcpy_htod_async(to.address, from, self.stream.cu_stream()) }
            .map_err(failed("copying to the GPU failed"))
    }

    fn copy_out(&self, from: &Buffer, to: &mut [u32]) -> Result<(), Problem> {
        assert!(to.len() <= from.words, "the buffer is large enough");
        self.bind()?;
        // SAFETY: the buffer is large enough, and the copy completes while `to` is borrowed.
        unsafe { result::memcpy_dtoh_async(to, from.address, self.stream.cu_stream()) }
            .and_then(|()| self.stream.synchronize())
            .map_err(failed("the computation on the GPU failed"))
    }

    fn zero(&mut self, buffer: &Buffer, words: usize) -> Result<(), Problem> {
        assert!(words <= buffer.words, "the buffer was made large enough");
        self.bind()?;
        // SAFETY: within the buffer.
        unsafe { result::memset_d8_async(buffer.address, 0, 4 * words, self.stream.cu_stream()) }
            .map_err(failed("zeroing GPU memory failed"))
    }

    fn launch(&mut self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<(), Problem> {
        self.bind()?;
        let mut pointers = [std::ptr::null_mut::<c_void>(); 16];
        for (pointer, argument) in pointers.iter_mut().zip(arguments) {
            *pointer = argument.bytes().cast_mut().cast();
        }
        let pointers = &mut pointers[..arguments.len()];
        let size = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let blocks = (size(grid.blocks[0]), size(grid.blocks[1]), size(grid.blocks[2]));
        let (threads, shared) = ((size(grid.threads), 1, 1), size(grid.shared));
        let function = self.functions[kernel as usize].0;
        let stream = self.stream.cu_stream();
        // SAFETY: the function belongs to the loaded program, the arguments match its source (the emulated tests run
        // all of these launches), and buffers outlive the stream's work because freeing waits for it.
        let launched = unsafe {
            if grid.together {
                result::launch_cooperative_kernel(function, blocks, threads, shared, stream, pointers)
            } else {
                result::launch_kernel(function, blocks, threads, shared, stream, pointers)
            }
        };
        launched.map_err(failed(kernel.name()))
    }

    fn multiply(&mut self, product: Product) -> Result<(), Problem> {
        self.bind()?;
        let Product { rows, columns, depth, left, left_transposed, right, right_transposed, out, accumulate } = product;
        let size = |count: usize| i32::try_from(count).map_err(|_| format!("a matrix of {count} rows is too large"));
        let operation = |transposed| match transposed {
            true => cublas_sys::cublasOperation_t::CUBLAS_OP_T,
            false => cublas_sys::cublasOperation_t::CUBLAS_OP_N,
        };
        let (one, keep) = (1f32, if accumulate { 1f32 } else { 0f32 });
        let float = cublas_sys::cudaDataType_t::CUDA_R_32F;
        // cuBLAS is column-major: C^T = op(B)^T op(A)^T.
        let (left_stride, right_stride) =
            (if left_transposed { rows } else { depth }, if right_transposed { depth } else { columns });
        // SAFETY: the handle is valid, the call reads the scalar factors before it returns, and the sizes given by the
        // operations match their buffers.
        let multiplied = unsafe {
            cublas::gemm_ex(
                self.handle.0,
                operation(right_transposed),
                operation(left_transposed),
                size(columns)?,
                size(rows)?,
                size(depth)?,
                (&raw const one).cast(),
                right as *const c_void,
                float,
                size(right_stride)?,
                left as *const c_void,
                float,
                size(left_stride)?,
                (&raw const keep).cast(),
                out as *mut c_void,
                float,
                size(columns)?,
                self.precision,
                cublas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        multiplied.map_err(|error| format!("a matrix product failed: {error}"))
    }

    fn resident_blocks(&self) -> usize {
        // The LSTM's kernels are compiled for at least two blocks per multiprocessor.
        2 * self.processors
    }

    fn free_words(&self) -> usize {
        // If the driver does not report it, nothing is kept on the device.
        self.bind().ok().and_then(|()| result::mem_get_info().ok()).map_or(0, |(free, _)| free / 4)
    }
}
