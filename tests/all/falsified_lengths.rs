//! No length field makes memory: every four bytes of every fuzzer's seed are made a length of two to four gigabytes,
//! in either byte order, and what is allocated at any time stays far below.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use etcbench::fuzz_targets::TARGETS;

/// Above the windows of xz that are allowed (128 MiB), and what else is there.
const MOST: usize = 160 << 20;

/// Counts what is allocated; a test of its own binary, so that nobody else allocates.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[allow(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn falsified_lengths_make_no_memory() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        PEAK.store(0, Ordering::Relaxed);
        let mut tried = 0;
        for path in paths {
            let seed = std::fs::read(&path).unwrap();
            // Some hundred places of a long file.
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
            assert!(peak < MOST, "{}: {} MiB", path.display(), peak >> 20);
        }
        println!("{name}: {tried} files, at most {} KiB", PEAK.load(Ordering::Relaxed) >> 10);
    }
}
