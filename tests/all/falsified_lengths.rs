//! No length field causes large allocations: every four bytes of every fuzzer seed are replaced by a length of two to
//! four gigabytes, in either byte order, and the allocated memory stays far below that.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use etcbench::fuzz_targets::TARGETS;

/// More than the largest allowed xz window (128 MiB) and everything else.
const MAXIMUM_BYTES: usize = 160 << 20;

/// Counts allocated bytes.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[allow(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn falsified_lengths_allocate_little_memory() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        PEAK.store(0, Ordering::Relaxed);
        let mut tried = 0;
        for path in paths {
            let seed = std::fs::read(&path).unwrap();
            // About a hundred positions of a long file.
            let step = (seed.len() / 600).max(1);
            for start in (0..seed.len().saturating_sub(4)).step_by(step) {
                for length in [[0xff, 0xff, 0xff, 0x7f], [0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0xf0]] {
                    let mut bytes = seed.clone();
                    bytes[start..start + 4].copy_from_slice(&length);
                    target(&bytes);
                    tried += 1;
                }
            }
            let peak = PEAK.load(Ordering::Relaxed);
            assert!(peak < MAXIMUM_BYTES, "{}: {} MiB", path.display(), peak >> 20);
        }
        println!("{name}: {tried} files, at most {} KiB", PEAK.load(Ordering::Relaxed) >> 10);
    }
}
