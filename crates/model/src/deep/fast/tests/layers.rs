//! Checks every layer of convolutional networks against its definition in double precision: the forward pass directly,
//! and the gradients against central differences.

use super::super::backend::Trained;
use super::super::cpu::Cpu;
use super::super::layers::{
    Convolution2dShape, ConvolutionShape, Kernel, LayerBackend, Pool2dShape, Pooled, SMALLEST, WindowShape,
};

pub(super) fn numbers(count: usize, salt: u64) -> Vec<f32> {
    let bits = |index: u64| (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ (salt << 7)).rotate_left(29);
    (0..count as u64).map(|index| (bits(index) >> 40) as f32 / 8_388_608.0 - 1.0).collect()
}

pub(super) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Checks a gradient of `sum(weights * forward(x))` by central differences in double precision.
pub(super) fn check_gradient(what: &str, x: &[f32], found: &[f32], weighted: impl Fn(&[f64]) -> f64) {
    let x = wide(x);
    let largest = found.iter().fold(1e-3_f32, |largest, value| largest.max(value.abs()));
    for (index, &found) in found.iter().enumerate() {
        let at = |step: f64| {
            let mut moved = x.clone();
            moved[index] += step;
            weighted(&moved)
        };
        let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
        assert!((f64::from(found) - slope).abs() < 2e-5 * f64::from(largest), "{what} {index}: {found} {slope}");
    }
}

pub(super) fn check_values(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3_f64, |largest, value| largest.max(value.abs()));
    for (index, (&found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(found) - expected).abs() < 1e-5 * largest, "{what} {index}: {found} {expected}");
    }
}

pub(super) fn dot(left: &[f64], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * f64::from(*right)).sum()
}

pub(super) fn trained(value: Vec<f32>) -> Trained<Vec<f32>> {
    let gradient = vec![0.0; value.len()];
    Trained { value, gradient, ..Trained::default() }
}

fn convolve(shape: ConvolutionShape, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let ConvolutionShape { flows, steps, inputs, outputs, kernel, stride, padding } = shape;
    let mut y = Vec::new();
    for flow in 0..flows {
        for step in 0..shape.output_steps() {
            for output in 0..outputs {
                let mut sum = bias[output];
                for offset in 0..kernel {
                    let Some(read) = (step * stride + offset).checked_sub(padding[0]).filter(|&read| read < steps)
                    else {
                        continue;
                    };
                    for input in 0..inputs {
                        let weight = weight[(offset * inputs + input) * outputs + output];
                        sum += weight * x[(flow * steps + read) * inputs + input];
                    }
                }
                y.push(sum);
            }
        }
    }
    y
}

#[test]
fn convolutions_are_those_of_the_definition() {
    let shape = |flows, steps, inputs, outputs, kernel, stride, padding| ConvolutionShape {
        flows,
        steps,
        inputs,
        outputs,
        kernel,
        stride,
        padding,
    };
    for shape in [
        shape(1, 5, 1, 1, 3, 1, [1, 1]),
        shape(3, 9, 3, 4, 5, 1, [2, 2]),
        shape(4, 7, 2, 70, 4, 2, [0, 0]),
        shape(2, 8, 5, 3, 4, 3, [1, 2]),
        // A linear layer over a whole flow; several tasks of flows, and more than one block of a product.
        shape(5, 6, 3, 7, 6, 1, [0, 0]),
        shape(70, 4, 2, 3, 2, 1, [1, 0]),
        shape(2, 3, 150, 66, 2, 1, [1, 0]),
    ] {
        let what = format!("{shape:?}");
        let x = numbers(shape.flows * shape.steps * shape.inputs, 1);
        let mut weight = trained(numbers(shape.window() * shape.outputs, 2));
        let mut bias = trained(numbers(shape.outputs, 3));
        let dy = numbers(shape.rows() * shape.outputs, 4);
        for mut device in [Cpu::new(), Cpu::portable()] {
            let mut y = vec![9.0; dy.len()];
            let kernel = Kernel { weight: &weight.value, bias: &bias.value };
            device.convolution(shape, &x, kernel, &mut y);
            check_values(&what, &y, &convolve(shape, &wide(&x), &wide(&weight.value), &wide(&bias.value)));
            let mut dx = vec![9.0; x.len()];
            weight.gradient.fill(0.0);
            bias.gradient.fill(0.0);
            let kernel = Kernel { weight: &mut weight, bias: &mut bias };
            device.convolution_backward(shape, &x, &dy, kernel, Some(&mut dx));
            let of_weight = weight.gradient.clone();
            // Gradients are added to the existing ones.
            let kernel = Kernel { weight: &mut weight, bias: &mut bias };
            device.convolution_backward(shape, &x, &dy, kernel, None);
            let twice = of_weight.iter().map(|value| 2.0 * f64::from(*value)).collect::<Vec<_>>();
            check_values(&what, &weight.gradient, &twice);
            let of_bias: Vec<f32> = bias.gradient.iter().map(|value| value / 2.0).collect();
            let (wx, ww, wb) = (wide(&x), wide(&weight.value), wide(&bias.value));
            // The loss is linear in each argument, so a sample of a large one suffices.
            check_some(&what, &x, &dx, |x| dot(&convolve(shape, x, &ww, &wb), &dy));
            check_some(&what, &weight.value, &of_weight, |weight| dot(&convolve(shape, &wx, weight, &wb), &dy));
            check_some(&what, &bias.value, &of_bias, |bias| dot(&convolve(shape, &wx, &ww, bias), &dy));
        }
    }
}

fn convolve2d(shape: Convolution2dShape, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let Convolution2dShape { flows, size: [height, width], inputs, outputs, kernel } = shape;
    let mut y = Vec::new();
    for flow in 0..flows {
        for row in 0..=height - kernel {
            for column in 0..=width - kernel {
                for (output, &bias) in bias.iter().enumerate() {
                    let mut sum = bias;
                    for (down, across) in (0..kernel).flat_map(|down| (0..kernel).map(move |across| (down, across))) {
                        let pixel = (flow * height + row + down) * width + column + across;
                        for input in 0..inputs {
                            let place = ((down * kernel + across) * inputs + input) * outputs + output;
                            sum += weight[place] * x[pixel * inputs + input];
                        }
                    }
                    y.push(sum);
                }
            }
        }
    }
    y
}

#[test]
fn convolutions_of_pictures_are_those_of_the_definition() {
    let shape = |flows, size, inputs, outputs, kernel| Convolution2dShape { flows, size, inputs, outputs, kernel };
    for shape in [
        shape(1, [3, 3], 1, 1, 3),
        shape(2, [5, 7], 3, 4, 3),
        shape(3, [6, 4], 2, 70, 1),
        // More flows than can have their windows in memory at once.
        shape(70, [4, 3], 2, 3, 2),
    ] {
        let what = format!("{shape:?}");
        let x = numbers(shape.flows * shape.size[0] * shape.size[1] * shape.inputs, 1);
        let mut weight = trained(numbers(shape.window() * shape.outputs, 2));
        let mut bias = trained(numbers(shape.outputs, 3));
        let dy = numbers(shape.flows * shape.output_steps() * shape.outputs, 4);
        for mut device in [Cpu::new(), Cpu::portable()] {
            let mut y = vec![9.0; dy.len()];
            let kernel = Kernel { weight: &weight.value, bias: &bias.value };
            device.convolution2d(shape, &x, kernel, &mut y);
            check_values(&what, &y, &convolve2d(shape, &wide(&x), &wide(&weight.value), &wide(&bias.value)));
            let mut dx = vec![9.0; x.len()];
            weight.gradient.fill(0.0);
            bias.gradient.fill(0.0);
            let kernel = Kernel { weight: &mut weight, bias: &mut bias };
            device.convolution2d_backward(shape, &x, &dy, kernel, Some(&mut dx));
            let (of_weight, of_bias) = (weight.gradient.clone(), bias.gradient.clone());
            // Gradients are added to the existing ones.
            let kernel = Kernel { weight: &mut weight, bias: &mut bias };
            device.convolution2d_backward(shape, &x, &dy, kernel, None);
            let twice = of_weight.iter().map(|value| 2.0 * f64::from(*value)).collect::<Vec<_>>();
            check_values(&what, &weight.gradient, &twice);
            let (wx, ww, wb) = (wide(&x), wide(&weight.value), wide(&bias.value));
            check_some(&what, &x, &dx, |x| dot(&convolve2d(shape, x, &ww, &wb), &dy));
            check_some(&what, &weight.value, &of_weight, |weight| dot(&convolve2d(shape, &wx, weight, &wb), &dy));
            check_some(&what, &bias.value, &of_bias, |bias| dot(&convolve2d(shape, &wx, &ww, bias), &dy));
        }
    }
}

#[test]
fn pooling_keeps_the_largest_of_a_square_and_drops_incomplete_squares() {
    let mut device = Cpu::new();
    let shape = Pool2dShape { flows: 2, size: [3, 5], channels: 1, pool: 2 };
    let first = [[1, 5, 2, 2, 9], [4, 5, 0, 3, 9], [9, 9, 9, 9, 9]];
    let second = [[0, 0, 7, 6, 9], [0, 0, 6, 8, 9], [9, 9, 9, 9, 9]];
    let mut x: Vec<f32> = first.iter().chain(&second).flatten().map(|&value: &u8| f32::from(value)).collect();
    let (mut y, mut chosen, mut dx) = (vec![7.0; 4], Vec::new(), vec![7.0; 30]);
    device.max_pool2d(shape, &x, &mut y, &mut chosen);
    assert_eq!(y, [5.0, 3.0, 0.0, 8.0]);
    assert_eq!(chosen, [1, 8, 0, 8]);
    device.max_pool2d_backward(shape, &chosen, &vec![1.0, 2.0, 3.0, 4.0], &mut dx);
    let mut expected = vec![0.0; 30];
    (expected[1], expected[8], expected[15], expected[23]) = (1.0, 2.0, 3.0, 4.0);
    assert_eq!(dx, expected);
    x[0] = f32::NAN;
    device.max_pool2d(shape, &x, &mut y, &mut chosen);
    assert!(y[0].is_nan());
}

/// Same as [`check_gradient`], for about twenty of many values.
pub(super) fn check_some(what: &str, x: &[f32], found: &[f32], weighted: impl Fn(&[f64]) -> f64) {
    let chosen: Vec<usize> = (0..x.len()).step_by((x.len() / 20).max(1)).collect();
    let some = |values: &[f32]| chosen.iter().map(|&index| values[index]).collect::<Vec<_>>();
    check_gradient(what, &some(x), &some(found), |moved| {
        let mut all = wide(x);
        chosen.iter().zip(moved).for_each(|(&index, &value)| all[index] = value);
        weighted(&all)
    });
}

#[test]
fn pooling_takes_the_first_of_equal_values_and_gives_it_the_gradient() {
    let mut device = Cpu::new();
    // Windows of three steps with stride 2, from one step before the start to one after the end.
    let shape = WindowShape { flows: 2, steps: 5, channels: 2, size: 3, stride: 2, before: 1, output_steps: 3 };
    let x: Vec<f32> = [[1, 5], [1, 4], [0, 6], [2, 6], [2, 0], [9, 1], [0, 2], [3, 3], [3, 2], [1, 1]]
        .as_flattened()
        .iter()
        .map(|&value: &u8| f32::from(value))
        .collect();
    let (mut y, mut chosen, mut dx) = (vec![7.0; 12], Vec::new(), vec![7.0; 20]);
    device.max_pool(shape, &x, &mut y, &mut chosen);
    assert_eq!(y, [1.0, 5.0, 2.0, 6.0, 2.0, 6.0, 9.0, 2.0, 3.0, 3.0, 3.0, 2.0]);
    assert_eq!(chosen, [0, 0, 3, 2, 3, 3, 0, 1, 2, 2, 3, 3]);
    device.max_pool_backward(shape, &chosen, &(1..=12).map(|value| value as f32).collect(), &mut dx);
    let expected = [1, 2, 0, 0, 0, 4, 3 + 5, 6, 0, 0, 7, 0, 0, 8, 9, 10, 11, 12, 0, 0].map(|value| value as f32);
    assert_eq!(dx, expected);
    let mut diverged = x;
    diverged[0] = f32::NAN;
    device.max_pool(shape, &diverged, &mut y, &mut chosen);
    assert!(y[0].is_nan());
}

#[test]
fn generalised_means_and_their_gradients_are_those_of_the_definition() {
    let shape = WindowShape { flows: 3, steps: 5, channels: 11, size: 5, stride: 1, before: 0, output_steps: 1 };
    let mean = |x: &[f64], exponent: f64| -> Vec<f64> {
        let place = |flow: usize, step: usize, channel: usize| (flow * 5 + step) * 11 + channel;
        let generalised_mean = |flow: usize, channel: usize| {
            let powers = (0..5).map(|step| x[place(flow, step, channel)].max(f64::from(SMALLEST)).powf(exponent));
            (powers.sum::<f64>() / 5.0).powf(1.0 / exponent)
        };
        (0..3)
            .flat_map(|flow| (0..11).map(move |channel| (flow, channel)))
            .map(|(f, c)| generalised_mean(f, c))
            .collect()
    };
    // As after a rectifier: many zeros, and one channel of only zeros.
    let mut x: Vec<f32> =
        numbers(165, 5).into_iter().map(|value| if value < 0.0 { 0.0 } else { 3.0 * value }).collect();
    x.iter_mut().step_by(11).for_each(|value| *value = 0.0);
    let dy = numbers(33, 6);
    for value in [3.0_f32, 1.0, 4.7] {
        for mut device in [Cpu::new(), Cpu::portable()] {
            let mut exponent = trained(vec![value]);
            let (mut y, mut dx) = (vec![9.0; 33], vec![9.0; 165]);
            device.generalised_mean(shape, &x, &exponent.value, &mut y);
            check_values("mean", &y, &mean(&wide(&x), f64::from(value)));
            device.generalised_mean_backward(shape, Pooled { x: &x, y: &y }, &mut exponent, &dy, &mut dx);
            // At 0, where the definition has a corner, the gradient is 0.
            assert!(x.iter().zip(&dx).all(|(&x, &dx)| x > 0.0 || dx == 0.0));
            let positive: Vec<usize> = (0..165).filter(|&index| x[index] > 0.01).collect();
            let some = |values: &[f32]| positive.iter().map(|&index| values[index]).collect::<Vec<_>>();
            check_gradient("mean", &some(&x), &some(&dx), |moved| {
                let mut all = wide(&x);
                positive.iter().zip(moved).for_each(|(&index, &value)| all[index] = value);
                dot(&mean(&all, f64::from(value)), &dy)
            });
            check_gradient("exponent", &[value], &exponent.gradient, |p| dot(&mean(&wide(&x), p[0]), &dy));
        }
    }
}

#[test]
fn exponential_linear_units_are_those_of_the_definition() {
    let x: Vec<f32> = numbers(100, 8).into_iter().map(|value| 8.0 * value).collect();
    let dy = numbers(100, 9);
    let unit = |x: &[f64]| x.iter().map(|&x| if x > 0.0 { x } else { x.exp_m1() }).collect::<Vec<_>>();
    for mut device in [Cpu::new(), Cpu::portable()] {
        let (mut y, mut gradient) = (x.clone(), dy.clone());
        device.elu(100, &mut y);
        check_values("elu", &y, &unit(&wide(&x)));
        device.elu_backward(100, &y, &mut gradient);
        check_gradient("elu", &x, &gradient, |x| dot(&unit(x), &dy));
    }
}
