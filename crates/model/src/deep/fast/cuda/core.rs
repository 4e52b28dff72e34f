//! The launcher with what all operations need around it: buffers that grow, and the first thing that went wrong. After
//! that nothing is launched any more, and whoever asks is told; so operations need not return errors.

use std::cell::RefCell;

use super::launcher::{Argument, Buffer, Grid, Kernel, Launcher, Problem, Product};

/// The launcher, until something goes wrong.
pub(super) struct Core {
    launcher: Box<dyn Launcher>,
    failure: RefCell<Option<Problem>>,
}

impl Core {
    pub(super) fn new(launcher: Box<dyn Launcher>) -> Self {
        Self { launcher, failure: RefCell::new(None) }
    }

    /// The first thing that went wrong.
    pub(super) fn failure(&self) -> Option<Problem> {
        self.failure.borrow().clone()
    }

    /// As if the device's memory were used up.
    #[cfg(test)]
    pub(super) fn exhaust(&mut self) {
        *self.failure.get_mut() = Some("no memory is left".to_owned());
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

    /// Makes a buffer large enough; its content is then unspecified. It grows by at least a quarter, so that batches of
    /// slowly growing length do not allocate each time.
    pub(super) fn reserve(&mut self, buffer: &mut Buffer, words: usize) {
        if buffer.words < words {
            let room = words.max(buffer.words + buffer.words / 4);
            self.attempt(|launcher| {
                // The old memory is given back first.
                *buffer = Buffer::default();
                *buffer = launcher.allocate(room)?;
                Ok(())
            });
        }
    }

    /// Copies numbers of 4 bytes to the device, growing the buffer where needed.
    pub(super) fn upload(&mut self, from: &[u32], to: &mut Buffer) {
        self.reserve(to, from.len());
        if !from.is_empty() {
            self.attempt(|launcher| launcher.copy_in(from, to));
        }
    }

    /// Copies from the device; all ones, which is not a number, after a failure.
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

    /// A thread for each of `count` values, which is the kernel's first argument.
    pub(super) fn each<const N: usize>(&mut self, kernel: Kernel, count: usize, arguments: [Argument; N]) {
        let mut all = [Argument::Long(count as u64); 16];
        all[1..=N].copy_from_slice(&arguments);
        self.launch(kernel, Grid::over(count), &all[..=N]);
    }

    pub(super) fn multiply(&mut self, product: Product) {
        self.attempt(|launcher| launcher.multiply(product));
    }
}
