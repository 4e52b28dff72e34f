//! The bins of every column, computed here rather than by hessboost, whose sketch of all columns at once was the
//! largest allocation of a fit. hessboost receives bin numbers, which it splits exactly, and its split points are
//! converted back to values when the trees are laid out.
//!
//! Up to the maximum number of bins, every distinct value is its own bin, as in XGBoost. Beyond that, a value that
//! fills an even share of the rows is its own bin, and the other bins are filled with even shares of the other rows in
//! ascending order of values, so that a frequent value costs one bin rather than several (as in LightGBM's
//! `GreedyFindBin`; Ke et al., 2017).

use std::ops::Range;

use ndarray::Array2;
use rayon::prelude::*;

use super::super::{ModelArchive, ModelError, stored};

/// Number of columns that are read together: their values share cache lines.
const TOGETHER: usize = 16;

/// The bins of every column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bins {
    /// For each column, the smallest value of every bin except the first, ascending.
    bounds: Vec<Vec<f32>>,
}

impl Bins {
    /// Computes at most `most` bins for each column of a finite matrix.
    pub(super) fn new(matrix: &Array2<f32>, most: usize) -> Self {
        let (rows, columns) = matrix.dim();
        let starts: Vec<usize> = (0..columns).step_by(TOGETHER).collect();
        let of_columns = |start: usize| {
            let count = TOGETHER.min(columns - start);
            let mut values: Vec<Vec<f32>> = (0..count).map(|_| Vec::with_capacity(rows)).collect();
            for row in matrix.outer_iter() {
                for (column, values) in (start..).zip(&mut values) {
                    // Both zeros are the same value.
                    values.push(row[column] + 0.0);
                }
            }
            let bounds = values.into_iter().map(|mut values| {
                values.sort_unstable_by(f32::total_cmp);
                bounds(&values, most)
            });
            bounds.collect::<Vec<_>>()
        };
        let bounds: Vec<Vec<Vec<f32>>> = starts.into_par_iter().map(of_columns).collect();
        Self { bounds: bounds.into_iter().flatten().collect() }
    }

    /// Replaces each value with the number of its bin.
    pub(super) fn number(&self, matrix: &mut Array2<f32>) {
        matrix.outer_iter_mut().into_par_iter().for_each(|mut row| {
            for (value, bounds) in row.iter_mut().zip(&self.bounds) {
                *value = bounds.partition_point(|bound| bound <= value) as f32;
            }
        });
    }

    /// Returns the smallest value of the bin with this number.
    pub(super) fn bound(&self, column: usize, bin: f32) -> Option<f32> {
        let number = bin as usize;
        let bounds = self.bounds.get(column)?;
        (number as f32 == bin).then_some(())?;
        bounds.get(number.checked_sub(1)?).copied()
    }

    pub(super) fn store(&self, archive: &mut ModelArchive) {
        let counts: Vec<u32> = self.bounds.iter().map(|bounds| bounds.len() as u32).collect();
        stored::put_u32s(archive, "bin_counts", &counts);
        stored::put_f32s(archive, "bin_bounds", &self.bounds.concat());
    }

    /// Restores bins stored by [`Bins::store`].
    pub(super) fn restore(archive: &ModelArchive, columns: usize) -> Result<Self, ModelError> {
        if !archive.tensors.contains_key("bin_counts") {
            return Err(stored::broken("tensor bin_counts is missing: an older version saved the model; fit it again"));
        }
        let counts = stored::u32s(archive, "bin_counts")?;
        let mut rest = stored::f32s(archive, "bin_bounds")?;
        let mut bounds = Vec::with_capacity(counts.len());
        for &count in counts {
            let Some((own, others)) = rest.split_at_checked(count as usize) else {
                return Err(stored::broken("tensor bin_bounds is too short"));
            };
            rest = others;
            bounds.push(own.to_vec());
        }
        let ascending = bounds.iter().all(|bounds| bounds.is_sorted_by(|one, other| one < other));
        if bounds.len() != columns || !rest.is_empty() || !ascending || !bounds.iter().flatten().all(|b| b.is_finite())
        {
            return Err(stored::broken("tensors bin_counts and bin_bounds do not match the columns"));
        }
        Ok(Self { bounds })
    }
}

/// The bin numbers that [`Bins::number`] wrote to a matrix, in a quarter of its memory, or half if there are more than
/// 256 bins; row-major.
#[derive(Debug, PartialEq)]
pub(super) enum Numbers {
    Bytes(Vec<u8>),
    Words(Vec<u16>),
}

/// Number of values converted before their memory is released.
const TAKEN_TOGETHER: usize = 1 << 20;

impl Numbers {
    /// Converts the numbers of at most `most` bins, at most 65,536. The values are released from the end while they are
    /// converted, so that both are never in memory at once.
    pub(super) fn taking(values: Vec<f32>, most: usize) -> Self {
        fn take<T: Copy + Default>(mut values: Vec<f32>, number: impl Fn(f32) -> T) -> Vec<T> {
            // Zeroed memory is not allocated until it is written.
            let mut numbers = vec![T::default(); values.len()];
            while !values.is_empty() {
                let start = values.len().saturating_sub(TAKEN_TOGETHER);
                for (to, &value) in numbers[start..].iter_mut().zip(&values[start..]) {
                    *to = number(value);
                }
                values.truncate(start);
                values.shrink_to_fit();
            }
            numbers
        }
        match most {
            0..=256 => Self::Bytes(take(values, |value| value as u8)),
            _ => Self::Words(take(values, |value| value as u16)),
        }
    }

    /// Returns a range of the numbers as floats.
    pub(super) fn values(&self, range: Range<usize>) -> Vec<f32> {
        match self {
            Self::Bytes(numbers) => numbers[range].iter().map(|&number| f32::from(number)).collect(),
            Self::Words(numbers) => numbers[range].iter().map(|&number| f32::from(number)).collect(),
        }
    }
}

/// Returns the smallest value of every bin except the first, given sorted values.
fn bounds(values: &[f32], most: usize) -> Vec<f32> {
    let distinct = || values.chunk_by(|one, other| one == other);
    if distinct().count() <= most {
        return distinct().skip(1).map(|equal| equal[0]).collect();
    }
    // A value that fills a whole share of the rows has its own bin; the others share the remaining bins.
    let is_heavy = |equal: &[f32]| equal.len() * most >= values.len();
    let heavy = || distinct().filter(|equal| is_heavy(equal));
    let mut light_rows = values.len() - heavy().map(<[f32]>::len).sum::<usize>();
    let mut light_bins = most - heavy().count();
    let (mut bounds, mut filled, mut after_heavy) = (Vec::with_capacity(most), 0, false);
    for equal in distinct() {
        let share = light_rows as f64 / light_bins.max(1) as f64;
        let lacks = share - filled as f64;
        let full = match is_heavy(equal) {
            true => lacks <= 0.5 * share,
            // Including the value would overshoot the share by more than the bin falls short of it now.
            false => equal.len() as f64 - lacks > lacks,
        };
        if !after_heavy && (full || is_heavy(equal)) {
            // The light values so far have their own bin, or join that of the heavy value.
            light_rows -= filled;
        }
        if filled > 0 && (after_heavy || full) {
            if bounds.len() + 1 < most {
                bounds.push(equal[0]);
            }
            light_bins = light_bins.saturating_sub(usize::from(!after_heavy));
            filled = 0;
        }
        after_heavy = is_heavy(equal);
        filled += equal.len();
    }
    bounds
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_values_have_a_bin_each_and_many_share_bins() {
        assert_eq!(bounds(&[1.0, 1.0, 2.0, 5.0], 4), [2.0, 5.0]);
        assert_eq!(bounds(&[1.0, 1.0, 2.0, 5.0], 3), [2.0, 5.0]);
        assert!(bounds(&[3.0; 4], 256).is_empty() && bounds(&[], 256).is_empty());
        let even: Vec<f32> = (0..12).map(|value| value as f32).collect();
        assert_eq!(bounds(&even, 4), [3.0, 6.0, 9.0]);
        // Half of the rows have the same value: it uses one of the four bins.
        let mut heavy = vec![0.0; 12];
        heavy.extend((1..13).map(|value| value as f32));
        assert_eq!(bounds(&heavy, 4), [1.0, 5.0, 9.0]);
        let last: Vec<f32> = heavy.iter().rev().map(|value| -value).collect();
        assert_eq!(bounds(&last, 4), [-8.0, -4.0, 0.0]);
        // A few rows below a frequent value are in its bin.
        let mut beside = vec![-1.0];
        beside.extend(heavy);
        assert_eq!(bounds(&beside, 4), [1.0, 5.0, 9.0]);
    }

    #[test]
    fn numbers_keep_their_order() {
        let values: Vec<f32> = (0..2 * TAKEN_TOGETHER + 5).map(|place| (place % 251) as f32).collect();
        let numbers = Numbers::taking(values.clone(), 256);
        assert!(matches!(&numbers, Numbers::Bytes(all) if all.len() == values.len()));
        assert_eq!(
            numbers.values(TAKEN_TOGETHER - 3..TAKEN_TOGETHER + 3),
            values[TAKEN_TOGETHER - 3..TAKEN_TOGETHER + 3]
        );
        assert_eq!(numbers.values(0..values.len()), values);
        assert_eq!(Numbers::taking(vec![300.0, 0.0], 1000), Numbers::Words(vec![300, 0]));
        assert_eq!(Numbers::taking(Vec::new(), 2), Numbers::Bytes(Vec::new()));
    }

    proptest! {
        #[test]
        fn a_value_is_below_a_bound_if_its_bin_is_before_the_bounds(
            values in prop::collection::vec((-4_i8..4).prop_map(f32::from), 1..80), most in 2_usize..12,
        ) {
            let matrix = Array2::from_shape_vec((values.len(), 1), values.clone()).unwrap();
            let bins = Bins::new(&matrix, most);
            let mut numbers = matrix.clone();
            bins.number(&mut numbers);
            let mut distinct = values.clone();
            distinct.sort_by(f32::total_cmp);
            distinct.dedup();
            let count = bins.bounds[0].len() + 1;
            let expected = if distinct.len() <= most { distinct.len()..=distinct.len() } else { 2..=most };
            prop_assert!(expected.contains(&count), "{} bins", count);
            for number in 0..=count {
                let bound = bins.bound(0, number as f32);
                prop_assert_eq!(bound.is_some(), number > 0 && number < count);
                let Some(bound) = bound else { continue };
                for (&value, &own) in values.iter().zip(&numbers) {
                    prop_assert_eq!(value < bound, own < number as f32);
                }
            }
            prop_assert_eq!(bins.bound(0, 0.5), None);
            for most in [256, 257] {
                prop_assert_eq!(&Numbers::taking(numbers.as_slice().unwrap().to_vec(), most).values(0..values.len()), numbers.as_slice().unwrap());
            }
            let mut archive = ModelArchive::default();
            bins.store(&mut archive);
            prop_assert_eq!(&Bins::restore(&archive, 1).unwrap(), &bins);
            prop_assert!(Bins::restore(&archive, 2).is_err());
            archive.tensors.clear();
            let problem = Bins::restore(&archive, 1).unwrap_err().to_string();
            prop_assert!(problem.contains("fit it again"), "{}", problem);
        }
    }
}
