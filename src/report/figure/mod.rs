//! Figures as SVG: plain functions of numbers that are there already, for files and for pages. Text and axes are drawn
//! in `currentColor`, so that a page decides whether it is dark or light.

mod curve;

pub use curve::{Curve, CurvePoint, Position, Series, curve_svg};

/// Colours that people with any colour vision can tell apart (Okabe and Ito 2008), without the two that are faint on
/// white or black.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// Text as it may stand in SVG.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Round numbers from `low` to `high` (low < high), about `count` of them, and the decimals that tell them apart.
fn ticks(low: f64, high: f64, count: usize) -> (Vec<f64>, usize) {
    let rough = (high - low) / count.max(1) as f64;
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * magnitude);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
    ((first..=last).map(|index| index as f64 * step).collect(), decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let (values, decimals) = ticks(0.81, 0.99, 5);
        assert_eq!(decimals, 2);
        let shown: Vec<String> = values.iter().map(|value| format!("{value:.decimals$}")).collect();
        assert_eq!(shown, ["0.85", "0.90", "0.95"]);
        assert_eq!(ticks(0.0, 1.0, 5).0.len(), 6);
        assert_eq!(ticks(0.0, 100.0, 5), (vec![0.0, 20.0, 40.0, 60.0, 80.0, 100.0], 0));
    }
}
