//! Least, greatest, total, mean and standard deviation of numbers that pass by once.

/// Running statistics of whole numbers: nanoseconds or bytes.
///
/// The total is exact; the spread follows Welford (1962), which loses no digits when the deviation is small
/// against the mean. Both depend on the order of the numbers only, so results are the same bits everywhere.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Running {
    pub(super) count: u64,
    least: u64,
    greatest: u64,
    total: u128,
    mean: f64,
    squares: f64,
}

impl Running {
    pub(super) fn add(&mut self, value: u64) {
        self.least = if self.count == 0 { value } else { self.least.min(value) };
        self.greatest = self.greatest.max(value);
        self.count += 1;
        self.total += u128::from(value);
        let value = value as f64;
        let difference = value - self.mean;
        self.mean += difference / self.count as f64;
        self.squares += difference * (value - self.mean);
    }

    pub(super) fn least(&self) -> f64 {
        self.least as f64
    }

    pub(super) fn greatest(&self) -> f64 {
        self.greatest as f64
    }

    pub(super) fn total(&self) -> f64 {
        self.total as f64
    }

    /// 0 without numbers.
    pub(super) fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.total as f64 / self.count as f64 }
    }

    /// The standard deviation of a sample (divided by the count less one); 0 for fewer than two numbers.
    pub(super) fn standard_deviation(&self) -> f64 {
        if self.count < 2 { 0.0 } else { (self.squares / (self.count - 1) as f64).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_two_passes(values in prop::collection::vec(0u64..1_000_000_000_000, 0..50)) {
            let mut running = Running::default();
            values.iter().for_each(|value| running.add(*value));
            let count = values.len() as f64;
            prop_assert_eq!(running.least(), values.iter().min().copied().unwrap_or(0) as f64);
            prop_assert_eq!(running.greatest(), values.iter().max().copied().unwrap_or(0) as f64);
            prop_assert_eq!(running.total(), values.iter().sum::<u64>() as f64);
            if values.len() > 1 {
                let mean = values.iter().sum::<u64>() as f64 / count;
                let squares: f64 = values.iter().map(|value| (*value as f64 - mean).powi(2)).sum();
                let expected = (squares / (count - 1.0)).sqrt();
                prop_assert!((running.standard_deviation() - expected).abs() <= 1e-9 * expected.max(1.0));
            } else {
                prop_assert_eq!(running.standard_deviation(), 0.0);
            }
        }
    }
}
