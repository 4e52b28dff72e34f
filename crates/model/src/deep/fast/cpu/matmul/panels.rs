//! The right factor of a product, repacked into panels.

use super::{DEPTH, WIDTH};
use rayon::prelude::*;

/// Memory layout of a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As used by the product: row-major `[inner, columns]`.
    Plain,
    /// Transposed: row-major `[columns, inner]`.
    Transposed,
}

/// A right factor in panels; its buffer is reused.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    pub(super) values: Vec<f32>,
    pub(super) inner: usize,
    pub(super) columns: usize,
}

impl Panels {
    /// Repacks `source` (`inner * columns` values).
    pub(crate) fn pack(&mut self, source: &[f32], inner: usize, columns: usize, layout: Layout) {
        self.resize(inner, columns);
        let padded = columns.next_multiple_of(WIDTH);
        for (block, values) in self.values[..inner * padded].chunks_mut(DEPTH * padded).enumerate() {
            let depth = values.len() / padded;
            for (panel, values) in values.chunks_exact_mut(depth * WIDTH).enumerate() {
                pack_panel(source, [inner, columns], [block * DEPTH, panel * WIDTH], layout, values);
            }
        }
    }

    /// Same as [`Panels::pack`], with the panels distributed over threads.
    pub(crate) fn pack_parallel(&mut self, source: &[f32], inner: usize, columns: usize, layout: Layout) {
        self.resize(inner, columns);
        let padded = columns.next_multiple_of(WIDTH);
        let blocks = self.values[..inner * padded].par_chunks_mut(DEPTH * padded).enumerate();
        blocks.for_each(|(block, values)| {
            let depth = values.len() / padded;
            values.par_chunks_mut(depth * WIDTH).enumerate().for_each(|(panel, values)| {
                pack_panel(source, [inner, columns], [block * DEPTH, panel * WIDTH], layout, values);
            });
        });
    }

    fn resize(&mut self, inner: usize, columns: usize) {
        (self.inner, self.columns) = (inner, columns);
        let length = inner * columns.next_multiple_of(WIDTH);
        if self.values.len() < length {
            self.values.resize(length, 0.0);
        }
    }

    /// Iterates over blocks of depth: first inner row, depth, and values of the panels.
    #[inline]
    pub(super) fn blocks(&self) -> impl Iterator<Item = (usize, usize, &[f32])> {
        let padded = self.columns.next_multiple_of(WIDTH);
        (0..self.inner).step_by(DEPTH).map(move |start| {
            let depth = DEPTH.min(self.inner - start);
            (start, depth, &self.values[start * padded..(start + depth) * padded])
        })
    }
}

/// Fills one panel from `source` of size `[inner, columns]`; `first` is the panel's first row and column.
fn pack_panel(source: &[f32], size: [usize; 2], first: [usize; 2], layout: Layout, panel: &mut [f32]) {
    let ([inner, columns], [row, column]) = (size, first);
    let width = WIDTH.min(columns - column);
    let (panel, _) = panel.as_chunks_mut::<WIDTH>();
    if width < WIDTH {
        panel.fill([0.0; WIDTH]);
    }
    match layout {
        Layout::Plain => {
            for (panel, source) in panel.iter_mut().zip(source[row * columns..].chunks(columns)) {
                if width == WIDTH {
                    // A copy of constant length; a copy of variable length would be a function call.
                    panel.copy_from_slice(&source[column..column + WIDTH]);
                } else {
                    panel[..width].copy_from_slice(&source[column..column + width]);
                }
            }
        }
        Layout::Transposed => {
            let depth = panel.len();
            for (lane, source) in source[column * inner..].chunks(inner).take(width).enumerate() {
                for (panel, &value) in panel.iter_mut().zip(&source[row..row + depth]) {
                    panel[lane] = value;
                }
            }
        }
    }
}
