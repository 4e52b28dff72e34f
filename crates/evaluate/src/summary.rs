//! Summary of several runs: mean, standard deviation and a confidence interval of the mean.

/// Several values of one metric, such as one for each seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Number of values.
    pub count: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation (divisor n - 1); `None` for one value.
    pub standard_deviation: Option<f64>,
    /// Half the width of the 95 % confidence interval of the mean by Student's t distribution, which assumes that the
    /// values are independent and normal; `None` for one value.
    pub interval: Option<f64>,
}

impl Summary {
    /// Summarises `values` in order; returns `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let standard_deviation = (count > 1).then(|| {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            (squares / (count - 1) as f64).sqrt()
        });
        let interval = standard_deviation
            .map(|deviation| student_t_quantile(0.975, count - 1) * deviation / (count as f64).sqrt());
        Some(Self { count, mean, standard_deviation, interval })
    }
}

/// Returns the value that Student's t with `degrees` (at least 1) degrees of freedom stays below with probability
/// `probability`, which must be between 0 and 1, exclusive. The distribution function has a closed form for integer
/// degrees (Abramowitz and Stegun, 26.7.3 and 26.7.4); it is inverted by bisection to the last bits.
pub fn student_t_quantile(probability: f64, degrees: usize) -> f64 {
    assert!(degrees > 0 && probability > 0.0 && probability < 1.0, "invalid probability or degrees of freedom");
    if probability < 0.5 {
        return -student_t_quantile(1.0 - probability, degrees);
    }
    let inside = 2.0 * probability - 1.0;
    let mut high = 1.0;
    while student_t_inside(high, degrees) < inside {
        high *= 2.0;
    }
    let mut low = 0.0;
    loop {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            return middle;
        }
        if student_t_inside(middle, degrees) < inside {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// Returns the probability that Student's t is between `-t` and `t`.
pub(super) fn student_t_inside(t: f64, degrees: usize) -> f64 {
    let angle = (t / (degrees as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let square = cosine * cosine;
    // Terms of the finite series: each is the previous one times cos^2 and a ratio of integers.
    let series = |first: usize, start: f64| {
        let (mut term, mut sum) = (start, 0.0);
        let mut step = first;
        while step < degrees {
            sum += term;
            term *= square * step as f64 / (step + 1) as f64;
            step += 2;
        }
        sum
    };
    if degrees.is_multiple_of(2) {
        sine * series(1, 1.0)
    } else {
        // 26.7.3: cos + (2/3) cos^3 + ... up to cos^(degrees - 2).
        std::f64::consts::FRAC_2_PI * (angle + sine * series(2, cosine))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_equals_that_of_scipy() {
        // scipy.stats.t.ppf(probability, degrees), computed by tests/fixtures/metrics/make.py.
        let cases: Vec<(f64, usize, f64)> =
            serde_json::from_str(include_str!("../../../tests/fixtures/metrics/student_t.json")).unwrap();
        assert!(cases.len() > 20);
        for (probability, degrees, expected) in cases {
            let found = student_t_quantile(probability, degrees);
            let difference = (found - expected).abs() / expected.abs().max(1.0);
            assert!(difference < 1e-10, "t({probability}, {degrees}) = {found}, expected {expected}");
        }
    }

    #[test]
    fn one_value_has_no_deviation_and_none_no_summary() {
        assert_eq!(Summary::of(&[]), None);
        let one = Summary::of(&[0.5]).unwrap();
        assert_eq!((one.mean, one.standard_deviation, one.interval), (0.5, None, None));
        let same = Summary::of(&[0.25; 4]).unwrap();
        assert_eq!((same.mean, same.standard_deviation, same.interval), (0.25, Some(0.0), Some(0.0)));
        let two = Summary::of(&[1.0, 3.0]).unwrap();
        assert!((two.standard_deviation.unwrap() - 2f64.sqrt()).abs() < 1e-15);
        assert!((two.interval.unwrap() - 12.706_204_736_432_1).abs() < 1e-9);
    }
}
