//! Mapping from values to positions: linear and logarithmic axes with round ticks.

/// An axis.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    /// The values at its ends.
    pub domain: (f64, f64),
    /// The positions of its ends.
    pub range: (f64, f64),
    logarithmic: bool,
    ticks: Vec<f64>,
}

impl Scale {
    /// Returns a linear axis over the values, with its ends rounded outwards to ticks.
    pub(super) fn linear(values: impl IntoIterator<Item = f64>, range: (f64, f64), most_ticks: usize) -> Self {
        Self::with_steps(values, range, most_ticks, 0.0)
    }

    /// Returns a linear axis over counts, with integer ticks.
    pub(super) fn whole(values: impl IntoIterator<Item = f64>, range: (f64, f64), most_ticks: usize) -> Self {
        Self::with_steps(values, range, most_ticks, 1.0)
    }

    /// Returns a linear axis; if `whole` is above 0, its steps are multiples of `whole`.
    fn with_steps(values: impl IntoIterator<Item = f64>, range: (f64, f64), most_ticks: usize, whole: f64) -> Self {
        let (mut low, mut high) = extent(values).unwrap_or((0.0, 1.0));
        if high - low < 1e-9 {
            (low, high) = (low - 0.5, high + 0.5);
        }
        let mut step = round_step((high - low) / most_ticks.max(1) as f64).max(whole);
        if whole > 0.0 && step % whole != 0.0 {
            step *= 2.0;
        }
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let ticks = (0..=(last - first) as usize).map(|index| (first + index as f64) * step).collect();
        Self { domain: (first * step, last * step), range, logarithmic: false, ticks }
    }

    /// Returns an axis up to 1 that starts at the largest tick below the values.
    pub(super) fn shares(values: impl IntoIterator<Item = f64>, range: (f64, f64), most_ticks: usize) -> Self {
        let low = extent(values).map_or(0.0, |(low, _)| low);
        Self::linear([low.clamp(0.0, 0.98), 1.0], range, most_ticks)
    }

    /// Returns a logarithmic axis over the positive values, with powers of ten as ends.
    pub(super) fn logarithmic(values: impl IntoIterator<Item = f64>, range: (f64, f64)) -> Self {
        let (low, high) = extent(values.into_iter().filter(|value| *value > 0.0)).unwrap_or((1.0, 10.0));
        let (first, mut last) = ((low.log10() + 1e-9).floor() as i32, (high.log10() - 1e-9).ceil() as i32);
        if last == first {
            last += 1;
        }
        let every = ((last - first) as usize).div_ceil(6).max(1);
        let ticks = (first..=last).step_by(every).map(|power| 10f64.powi(power)).collect();
        Self { domain: (10f64.powi(first), 10f64.powi(last)), range, logarithmic: true, ticks }
    }

    /// Returns an axis whose ticks are the values themselves; logarithmic if they span a factor of 8 or more.
    pub(super) fn of_points(values: &[f64], range: (f64, f64)) -> Self {
        let (low, high) = extent(values.iter().copied()).unwrap_or((0.0, 1.0));
        let mut ticks = values.to_vec();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        let logarithmic = low > 0.0 && high / low >= 8.0;
        let domain = if low < high { (low, high) } else { (low - 0.5, high + 0.5) };
        Self { domain, range, logarithmic, ticks }
    }

    /// Returns the position of a value, clamped to the ends.
    pub(super) fn place(&self, value: f64) -> f64 {
        let to = |value: f64| if self.logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let (low, high) = (to(self.domain.0), to(self.domain.1));
        let share = ((to(value) - low) / (high - low)).clamp(0.0, 1.0);
        self.range.0 + share * (self.range.1 - self.range.0)
    }

    /// Returns the ticks: position and text.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let decimals = if self.logarithmic || self.ticks.len() < 2 {
            None
        } else {
            let closest = self.ticks.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
            let apart = (-closest.log10() - 1e-9).ceil().clamp(0.0, 6.0) as usize;
            // Enough decimals to distinguish the ticks, and then up to two more to show them exactly, so that 0.25 is
            // not shown as 0.2.
            let exact = |decimals: &usize| {
                self.ticks
                    .iter()
                    .map(|tick| tick * 10f64.powi(*decimals as i32))
                    .all(|scaled| (scaled - scaled.round()).abs() <= 1e-9 * scaled.abs().max(1.0))
            };
            Some((apart..=apart + 2).find(exact).unwrap_or(apart))
        };
        let text = |value: f64| match decimals {
            Some(decimals) => format!("{value:.decimals$}"),
            None => short(value),
        };
        self.ticks.iter().map(|&value| (self.place(value), text(value))).collect()
    }
}

/// Formats a number compactly.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{}M", value / 1e6),
        size if size >= 1e4 => format!("{}k", value / 1e3),
        size if size > 0.0 && size < 1e-3 => format!("{value:.0e}"),
        _ => format!("{}", (value * 1e6).round() / 1e6),
    }
}

fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |extent, value| match extent {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

/// Returns the smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0].into_iter().find(|factor| factor * power >= step * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ticks_are_round() {
        let texts = |scale: Scale| scale.ticks().into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(Scale::linear([0.03, 0.97], (0.0, 100.0), 5)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(
            texts(Scale::shares([0.91, 0.99], (0.0, 100.0), 5)),
            ["0.90", "0.92", "0.94", "0.96", "0.98", "1.00"]
        );
        assert_eq!(texts(Scale::linear([0.0, 1.0], (0.0, 100.0), 4)), ["0.00", "0.25", "0.50", "0.75", "1.00"]);
        assert_eq!(texts(Scale::whole([1.0, 3.0], (0.0, 100.0), 8)), ["1", "2", "3"]);
        assert_eq!(texts(Scale::whole([1.0], (0.0, 100.0), 8)), ["0", "1", "2"]);
        assert_eq!(texts(Scale::whole([1.0, 20.0], (0.0, 100.0), 8)), ["0", "5", "10", "15", "20"]);
        assert_eq!(texts(Scale::logarithmic([0.02, 30.0], (0.0, 100.0))), ["0.01", "0.1", "1", "10", "100"]);
        assert_eq!(texts(Scale::of_points(&[1.0, 2.0, 16.0], (0.0, 100.0))), ["1", "2", "16"]);
    }

    proptest! {
        #[test]
        fn every_value_has_a_place_within_the_axis(
            values in prop::collection::vec(-1e6f64..1e6, 0..8), positive in prop::collection::vec(1e-9f64..1e9, 0..8),
        ) {
            let scales = [
                (Scale::linear(values.clone(), (10.0, 90.0), 5), &values),
                (Scale::shares(values.clone(), (10.0, 90.0), 5), &values),
                (Scale::of_points(&values, (10.0, 90.0)), &values),
                (Scale::logarithmic(positive.clone(), (10.0, 90.0)), &positive),
            ];
            for (scale, values) in scales {
                for &value in values.iter() {
                    let place = scale.place(value);
                    prop_assert!((10.0..=90.0).contains(&place), "{scale:?} {value} {place}");
                }
                prop_assert!(scale.ticks().len() < 40, "{scale:?}");
            }
        }
    }
}
