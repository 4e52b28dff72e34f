//! Exponential, logistic function and hyperbolic tangent as polynomials that the compiler vectorises: no table, no
//! branch, no call.
//!
//! All use `e^x - 1 = 2^n (e^r - 1) + (2^n - 1)` with `n` the nearest integer to `x / ln 2` and `|r| <= ln 2 / 2` (Cody
//! and Waite 1980), where `e^r - 1` is its Taylor polynomial of degree 7: the first omitted term is below `2^-27` of
//! the result. The relative errors measured in the test below, over all signs and magnitudes, are under 3e-7 for `exp`,
//! `tanh` and `sigmoid` (a unit in the last place is 1.2e-7). NaN is propagated, so that a diverging training is
//! detected.

use super::simd::fused;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// The upper part of ln 2, with enough zero bits for `n * LN2_HIGH` to be exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Adding this leaves the nearest integer in the low bits of the mantissa.
const ROUND: f32 = 12_582_912.0;

/// Returns `(e^r - 1, 2^n)` for `x`, which must be between -87 and 88 (or NaN).
#[inline(always)]
fn exponential_parts<const FUSED: bool>(x: f32) -> (f32, f32) {
    let shifted = fused::<FUSED>(x, LOG2_E, ROUND);
    let n = shifted - ROUND;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    let r = fused::<FUSED>(n, -LN2_LOW, fused::<FUSED>(n, -LN2_HIGH, x));
    let mut polynomial = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        polynomial = fused::<FUSED>(polynomial, r, coefficient);
    }
    (fused::<FUSED>(polynomial, r * r, r), power)
}

/// `e^x`; `x` is clamped to between -87 and 88.
#[inline(always)]
pub(crate) fn exp<const FUSED: bool>(x: f32) -> f32 {
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let (less_one, power) = exponential_parts::<FUSED>(x);
    fused::<FUSED>(power, less_one, power)
}

/// `e^x - 1` for `x <= 0`; -1 below -20.
#[inline(always)]
pub(crate) fn expm1<const FUSED: bool>(x: f32) -> f32 {
    let x = if x < -20.0 { -20.0 } else { x };
    let (less_one, power) = exponential_parts::<FUSED>(x);
    fused::<FUSED>(power, less_one, power - 1.0)
}

/// Natural logarithm of a positive, normal number: that of its mantissa m, scaled to between `sqrt(1/2)` and `sqrt(2)`,
/// is the series of `2 artanh((m - 1) / (m + 1))` up to the ninth power, whose first omitted term is below `2^-28`.
#[inline(always)]
pub(crate) fn ln<const FUSED: bool>(x: f32) -> f32 {
    // The bits of `sqrt(1/2)`.
    let shifted = (x.to_bits() as i32).wrapping_sub(0x3f35_04f3);
    let exponent = (shifted >> 23) as f32;
    let mantissa = f32::from_bits((x.to_bits() as i32).wrapping_sub(shifted & !0x007f_ffff) as u32);
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut series = 2.0 / 9.0;
    for coefficient in [2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0] {
        series = fused::<FUSED>(series, square, coefficient);
    }
    let of_mantissa = fused::<FUSED>(series * square, s, 2.0 * s);
    let result = fused::<FUSED>(exponent, LN2_HIGH, fused::<FUSED>(exponent, LN2_LOW, of_mantissa));
    if x.is_nan() { x } else { result }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<const FUSED: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FUSED>(-x))
}

/// The hyperbolic tangent, `(e^2|x| - 1) / (e^2|x| + 1)` with the sign of `x`.
#[inline(always)]
pub(crate) fn tanh<const FUSED: bool>(x: f32) -> f32 {
    let double = 2.0 * x.abs();
    // Beyond this the result rounds to 1.
    let double = if double > 20.0 { 20.0 } else { double };
    let (less_one, power) = exponential_parts::<FUSED>(double);
    let expm1 = fused::<FUSED>(power, less_one, power - 1.0);
    (expm1 / (expm1 + 2.0)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Level, vectorised};
    use super::*;

    vectorised! {
        fn all(values: &[f32], out: &mut [[f32; 3]]) {
            for (out, &value) in out.iter_mut().zip(values) {
                *out = [exp::<FUSED>(value), sigmoid::<FUSED>(value), tanh::<FUSED>(value)];
            }
        }
    }

    vectorised! {
        fn both(values: &[f32], out: &mut [[f32; 2]]) {
            for (out, &value) in out.iter_mut().zip(values) {
                *out = [ln::<FUSED>(value), expm1::<FUSED>(-value)];
            }
        }
    }

    #[test]
    fn logarithms_and_exponentials_are_exact_to_a_few_units() {
        let values: Vec<f32> = (0..400_000).map(|index| 1e-6 * 1.00008f32.powi(index)).collect();
        for level in [Level::detect(), Level::portable()] {
            let mut out = vec![[0.0; 2]; values.len()];
            both(level, &values, &mut out);
            for (&value, [logarithm, less_one]) in values.iter().zip(&out) {
                let exact = f64::from(value).ln();
                assert!(
                    (f64::from(*logarithm) - exact).abs() <= 3e-7 * exact.abs().max(1e-3),
                    "{value}: {logarithm} {exact}"
                );
                let exact = (-f64::from(value)).exp_m1();
                assert!((f64::from(*less_one) - exact).abs() <= 3e-7 * exact.abs(), "{value}: {less_one} {exact}");
            }
            both(level, &[f32::NAN, 1.0, f32::MAX], &mut out);
            assert!(out[0].iter().all(|value| value.is_nan()));
            assert_eq!((out[1][0], out[2][1]), (0.0, -1.0));
        }
    }

    #[test]
    fn errors_are_as_documented() {
        let mut values: Vec<f32> = (-400_000..400_000).map(|index| index as f32 * 2.1e-4).collect();
        for exponent in -30..4 {
            values.extend((0..64).flat_map(|step| {
                let value = 2f32.powi(exponent) * (1.0 + step as f32 / 64.0);
                [value, -value]
            }));
        }
        for level in [Level::detect(), Level::portable()] {
            let mut out = vec![[0.0; 3]; values.len()];
            all(level, &values, &mut out);
            let mut worst = [0f64; 3];
            for (&value, out) in values.iter().zip(&out) {
                let x = f64::from(value);
                for (slot, (exact, got)) in
                    [x.exp(), 1.0 / (1.0 + (-x).exp()), x.tanh()].into_iter().zip(out).enumerate()
                {
                    if exact != 0.0 {
                        worst[slot] = worst[slot].max(((f64::from(*got) - exact) / exact).abs());
                    }
                }
            }
            assert!(worst.iter().all(|&worst| worst < 3e-7), "{worst:?}");
            all(level, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0], &mut out);
            assert!(out[0].iter().all(|value| value.is_nan()));
            assert_eq!(out[1][1..], [1.0, 1.0]);
            assert_eq!(out[2][2], -1.0);
            assert_eq!(out[3], [1.0, 0.5, 0.0]);
        }
    }
}
