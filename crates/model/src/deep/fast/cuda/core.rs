//! The launcher with the functionality shared by all operations: buffers that grow, and the first failure. After a
//! failure nothing more is launched and queries report it, so operations need not return errors.

use std::cell::RefCell;

use super::launcher::{Argument, Buffer, Grid, Kernel, Launcher, Problem, Product};

/// The launcher, used until the first failure.
pub(super) struct Core {
    launcher: Box<dyn Launcher>,
    failure: RefCell<Option<Problem>>,
}

impl Core {
    pub(super) fn new(launcher: Box<dyn Launcher>) -> Self {
        Self { launcher, failure: RefCell::new(None) }
    }

    /// Returns the first failure.
    pub(super) fn failure(&self) -> Option<Problem> {
        self.failure.borrow().clone()
    }

    /// Simulates exhausted device memory.
    #[cfg(test)]
    pub(super) fn exhaust(&mut self) {
        *self.failure.get_mut() = Some("out of memory".to_owned());
    }

    /// See [`Launcher::resident_blocks`].
    pub(super) fn resident_blocks(&self) -> usize {
        self.launcher.resident_blocks()
    }

    /// See [`Launcher::free_words`].
    pub(super) fn free_words(&self) -> usize {
        self.launcher.free_words()
    }

    fn attempt(&mut self, attempt: impl FnOnce(&mut dyn Launcher) -> Result<(), Problem>) {
        if self.failure.get_mut().is_none()
            && let Err(problem) = attempt(&mut *self.launcher)
        {
            *self.failure.get_mut() = Some(problem);
        }
    }

    /// Makes a buffer large enough; its content is then unspecified. It grows by at least a quarter, so that slowly
    /// growing batches do not allocate every time.
    pub(super) fn reserve(&mut self, buffer: &mut Buffer, words: usize) {
        if buffer.words < words {
            let room = words.max(buffer.words + buffer.words / 4);
            self.attempt(|launcher| {
                // Free the old memory first.
                *buffer = Buffer::default();
                *buffer = launcher.allocate(room)?;
                Ok(())
            });
        }
    }

    /// Copies 4-byte words to the device, growing the buffer if needed.
    pub(super) fn upload(&mut self, from: &[u32], to: &mut Buffer) {
        self.reserve(to, from.len());
        if !from.is_empty() {
            self.attempt(|launcher| launcher.copy_in(from, to));
        }
    }

    /// Copies from the device. After a failure, fills `to` with ones in all bits, which is NaN as a float.
    pub(super) fn download(&self, from: &Buffer, to: &mut [u32]) {
        let mut failure = self.failure.borrow_mut();
        if failure.is_none() {
            *failure = self.launcher.copy_out(from, to).err();
        }
        if failure.is_some() {
            to.fill(u32::MAX);
        }
    }

    pub(super) fn zero(&mut self, buffer: &Buffer, words: usize) {
        self.attempt(|launcher| launcher.zero(buffer, words));
    }

    pub(super) fn launch(&mut self, kernel: Kernel, grid: Grid, arguments: &[Argument]) {
        if grid.blocks.iter().all(|&blocks| blocks > 0) {
            self.attempt(|launcher| launcher.launch(kernel, grid, arguments));
        }
    }

    /// Launches a thread for each of `count` values; `count` becomes the kernel's first argument.
    pub(super) fn each<const N: usize>(&mut self, kernel: Kernel, count: usize, arguments: [Argument; N]) {
        let mut all = [Argument::Long(count as u64); 16];
        all[1..=N].copy_from_slice(&arguments);
        self.launch(kernel, Grid::over(count), &all[..=N]);
    }

    pub(super) fn multiply(&mut self, product: Product) {
        self.attempt(|launcher| launcher.multiply(product));
    }
}
