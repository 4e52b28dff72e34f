//! A training step allocates nothing once its buffers have grown. A separate program, because it counts every
//! allocation.

// An allocator that counts.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use etcbench::model::Device;
use etcbench::model::benchmark::{AttentionLstm, Elmo, FineTuned, Reading};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `dealloc`, and `alloc` is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(mut step: impl FnMut()) -> usize {
    // The first step allocates the buffers, the second the last ones of the optimiser.
    (0..2).for_each(|_| step());
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..3).for_each(|_| step());
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn steps_and_encoding_allocate_nothing() {
    // One thread: with more, it is chance which of them first sees the largest block of a product.
    rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| {
        let mut elmo = Elmo::new(40, 33, 32, 2, 257, Device::Cpu).unwrap();
        let mut classifier = AttentionLstm::new(150, 5, 160, 24, Reading::Mean, Device::Cpu).unwrap();
        let mut fine_tuned = FineTuned::new(15, 3, 33, 40, 32, Device::Cpu).unwrap();
        assert_eq!(allocations(|| assert!(elmo.train_step().unwrap().is_finite())), 0);
        assert_eq!(allocations(|| assert!(elmo.encode().unwrap().is_finite())), 0);
        assert_eq!(allocations(|| assert!(classifier.train_step().unwrap().is_finite())), 0);
        assert_eq!(allocations(|| assert!(fine_tuned.train_step().unwrap().is_finite())), 0);
        // Checks that the counter works.
        assert!(allocations(|| drop(vec![0u8; 100])) >= 3);
    });
}
