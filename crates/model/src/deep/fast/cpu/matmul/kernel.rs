//! The product of one tile and one panel, with AVX2 or in portable code.

use super::super::simd::{Level, with_avx2};
use super::tiles::of_height;
use super::{Update, WIDTH};

/// Destination of a tile's sums.
pub(super) struct Target<'a> {
    pub result: &'a mut [f32],
    pub columns: usize,
    pub column: usize,
    pub update: Update<'a>,
}

impl Target<'_> {
    /// Writes one row of sums.
    #[inline(always)]
    fn write(&mut self, row: usize, sums: [f32; WIDTH]) {
        let start = row * self.columns + self.column;
        if self.column + WIDTH <= self.columns {
            let place: &mut [f32; WIDTH] =
                (&mut self.result[start..start + WIDTH]).try_into().expect("the slice has this width");
            match self.update {
                Update::Replace => *place = sums,
                Update::Add => {
                    for lane in 0..WIDTH {
                        place[lane] += sums[lane];
                    }
                }
                Update::Bias(bias) => {
                    let bias: &[f32; WIDTH] =
                        bias[self.column..self.column + WIDTH].try_into().expect("the slice has this width");
                    for lane in 0..WIDTH {
                        place[lane] = sums[lane] + bias[lane];
                    }
                }
            }
        } else {
            let width = self.columns - self.column;
            let place = self.result[start..start + width].iter_mut().zip(&sums);
            match self.update {
                Update::Replace => place.for_each(|(place, sum)| *place = *sum),
                Update::Add => place.for_each(|(place, sum)| *place += sum),
                Update::Bias(bias) => {
                    place.zip(&bias[self.column..]).for_each(|((place, sum), bias)| *place = sum + bias);
                }
            }
        }
    }
}

#[inline]
pub(super) fn rows_tile(
    level: Level,
    count: usize,
    left: &[f32],
    stride: usize,
    depth: usize,
    panel: &[f32],
    target: Target<'_>,
) {
    of_height!(count, rows_tile_of(level, left, stride, depth, panel, target))
}

#[inline(always)]
fn rows_tile_of<const R: usize>(
    level: Level,
    left: &[f32],
    stride: usize,
    depth: usize,
    panel: &[f32],
    target: Target<'_>,
) {
    let (panel, _) = panel.as_chunks::<WIDTH>();
    let panel = &panel[..depth];
    with_avx2!(level, avx2::rows::<R>(left, stride, panel, target), portable_rows::<R>(left, stride, panel, target));
}

#[inline]
pub(super) fn packed_tile(level: Level, count: usize, left: &[f32], panel: &[f32], target: Target<'_>) {
    of_height!(count, packed_tile_of(level, left, panel, target))
}

#[inline(always)]
fn packed_tile_of<const R: usize>(level: Level, left: &[f32], panel: &[f32], target: Target<'_>) {
    let (left, _) = left.as_chunks::<R>();
    let (panel, _) = panel.as_chunks::<WIDTH>();
    with_avx2!(level, avx2::packed::<R>(left, panel, target), portable_packed::<R>(left, panel, target));
}

fn portable_rows<const R: usize>(left: &[f32], stride: usize, panel: &[[f32; WIDTH]], mut target: Target<'_>) {
    for row in 0..R {
        let mut sums = [0.0; WIDTH];
        for (&left, panel) in left[row * stride..].iter().zip(panel) {
            sums.iter_mut().zip(panel).for_each(|(sum, right)| *sum += left * right);
        }
        target.write(row, sums);
    }
}

fn portable_packed<const R: usize>(left: &[[f32; R]], panel: &[[f32; WIDTH]], mut target: Target<'_>) {
    for row in 0..R {
        let mut sums = [0.0; WIDTH];
        for (left, panel) in left.iter().zip(panel) {
            sums.iter_mut().zip(panel).for_each(|(sum, right)| *sum += left[row] * right);
        }
        target.write(row, sums);
    }
}

/// Tiles with AVX2 and FMA; loads and stores are casts of arrays, so nothing here is unsafe.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{__m256, _mm256_fmadd_ps, _mm256_set1_ps, _mm256_setzero_ps};

    use super::{Target, WIDTH};

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn rows<const R: usize>(left: &[f32], stride: usize, panel: &[[f32; WIDTH]], mut target: Target<'_>) {
        let depth = panel.len();
        // Slices of exactly the panel's length, so that the loop needs no bounds checks.
        let mut rows: [&[f32]; R] = [&[]; R];
        for row in 0..R {
            rows[row] = &left[row * stride..][..depth];
        }
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        for k in 0..depth {
            let right: [__m256; 2] = bytemuck::cast(panel[k]);
            for row in 0..R {
                let value = _mm256_set1_ps(rows[row][k]);
                sums[row][0] = _mm256_fmadd_ps(value, right[0], sums[row][0]);
                sums[row][1] = _mm256_fmadd_ps(value, right[1], sums[row][1]);
            }
        }
        for row in 0..R {
            target.write(row, bytemuck::cast(sums[row]));
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn packed<const R: usize>(left: &[[f32; R]], panel: &[[f32; WIDTH]], mut target: Target<'_>) {
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        for (left, panel) in left.iter().zip(panel) {
            let right: [__m256; 2] = bytemuck::cast(*panel);
            for row in 0..R {
                let value = _mm256_set1_ps(left[row]);
                sums[row][0] = _mm256_fmadd_ps(value, right[0], sums[row][0]);
                sums[row][1] = _mm256_fmadd_ps(value, right[1], sums[row][1]);
            }
        }
        for row in 0..R {
            target.write(row, bytemuck::cast(sums[row]));
        }
    }
}
