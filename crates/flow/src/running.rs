//! Minimum, maximum, total, mean and standard deviation of numbers in a single pass.

/// Running statistics of integers: nanoseconds or bytes. The caller counts the numbers, because several of these share
/// one count, and a flow's memory limits the speed with many flows.
///
/// Total and sum of squares are exact, so results depend neither on the order of the numbers nor on their grouping, and
/// no digits are lost if the deviation is small compared with the mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    least: u64,
    greatest: u64,
    total: u64,
    /// Low and high half of the sum of squares: a `u128` would be aligned to 16 bytes, and a flow has many of these.
    squares: [u64; 2],
}

impl Default for Running {
    fn default() -> Running {
        Running { least: u64::MAX, greatest: 0, total: 0, squares: [0; 2] }
    }
}

fn halves(number: u128) -> [u64; 2] {
    [number as u64, (number >> 64) as u64]
}

impl Running {
    pub(super) fn add(&mut self, value: u64) {
        self.least = self.least.min(value);
        self.greatest = self.greatest.max(value);
        // Saturates at 584 years of nanoseconds, which only absurd times can reach.
        self.total = self.total.saturating_add(value);
        self.squares = halves(self.squares().saturating_add(u128::from(value) * u128::from(value)));
    }

    /// Reads a field, to bring it into the CPU cache.
    pub(super) fn touch(&self) -> u64 {
        self.least
    }

    fn squares(&self) -> u128 {
        (u128::from(self.squares[1]) << 64) | u128::from(self.squares[0])
    }

    /// Converts statistics of lengths that were computed in fewer bits.
    pub(super) fn of_lengths(least: u32, greatest: u32, total: u64, squares: u64) -> Running {
        Running { least: u64::from(least), greatest: u64::from(greatest), total, squares: [squares, 0] }
    }

    /// Returns the statistics of both sets of numbers together.
    pub(super) fn merged(&self, other: &Running) -> Running {
        Running {
            least: self.least.min(other.least),
            greatest: self.greatest.max(other.greatest),
            total: self.total.saturating_add(other.total),
            squares: halves(self.squares().saturating_add(other.squares())),
        }
    }

    pub(super) fn total(&self) -> f64 {
        self.total as f64
    }

    /// Returns minimum, mean, maximum and sample standard deviation (divided by n - 1): all 0 without numbers, and a
    /// deviation of 0 for fewer than two.
    pub(super) fn spread(&self, count: u64) -> [f64; 4] {
        if count == 0 {
            return [0.0; 4];
        }
        let mean = self.total as f64 / count as f64;
        [self.least as f64, mean, self.greatest as f64, self.standard_deviation(count)]
    }

    fn standard_deviation(&self, count: u64) -> f64 {
        if count < 2 {
            return 0.0;
        }
        // The sum of squared differences from the mean is the sum of squares minus total^2 / count; the integer part of
        // the latter is subtracted exactly. A saturated total or sum can only be too small.
        let square = u128::from(self.total) * u128::from(self.total);
        let (whole, rest) = (square / u128::from(count), square % u128::from(count));
        let differences = self.squares().saturating_sub(whole) as f64 - rest as f64 / count as f64;
        (differences.max(0.0) / (count - 1) as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_two_passes(
            values in prop::collection::vec(0u64..1_000_000_000_000, 0..50),
            split in any::<prop::sample::Index>(),
        ) {
            let (mut running, mut rest) = (Running::default(), Running::default());
            let split = split.index(values.len() + 1);
            values[..split].iter().for_each(|value| running.add(*value));
            values[split..].iter().for_each(|value| rest.add(*value));
            let running = running.merged(&rest);
            let count = values.len() as f64;
            let [least, mean, greatest, deviation] = running.spread(values.len() as u64);
            prop_assert_eq!(least, values.iter().min().copied().unwrap_or(0) as f64);
            prop_assert_eq!(greatest, values.iter().max().copied().unwrap_or(0) as f64);
            prop_assert_eq!(running.total(), values.iter().sum::<u64>() as f64);
            prop_assert_eq!(mean, running.total() / count.max(1.0));
            if values.len() > 1 {
                let mean = values.iter().sum::<u64>() as f64 / count;
                let squares: f64 = values.iter().map(|value| (*value as f64 - mean).powi(2)).sum();
                let expected = (squares / (count - 1.0)).sqrt();
                prop_assert!((deviation - expected).abs() <= 1e-9 * expected.max(1.0));
            } else {
                prop_assert_eq!(deviation, 0.0);
            }
        }
    }
}
