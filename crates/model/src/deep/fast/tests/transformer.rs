//! Checks every layer of transformers against its definition in double precision: the forward pass directly, and the
//! gradients against central differences.

use super::super::backend::{MatrixShape, NormWeights};
use super::super::cpu::Cpu;
use super::super::transformer::{HeadsShape, Projected, StepsShape, TransformerBackend};
use super::layers::{check_gradient, check_some, check_values, dot, numbers, trained, wide};

fn marks(shape: StepsShape, present: impl Fn(usize, usize) -> bool) -> Vec<f32> {
    let all = (0..shape.flows).flat_map(|flow| (0..shape.steps).map(move |step| (flow, step)));
    all.map(|(flow, step)| if present(flow, step) { 1.0 } else { 0.0 }).collect()
}

fn normalise(columns: usize, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let of_row = |row: &[f64]| -> Vec<f64> {
        let mean = row.iter().sum::<f64>() / columns as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / columns as f64;
        let scaled = row.iter().map(|x| (x - mean) / (variance + 1e-5).sqrt());
        scaled.zip(weight).zip(bias).map(|((x, weight), bias)| x * weight + bias).collect()
    };
    x.chunks_exact(columns).flat_map(of_row).collect()
}

#[test]
fn rows_are_normalised_by_their_own_moments() {
    // More rows than one task processes, and columns that fill neither lanes nor blocks.
    for [rows, columns] in [[3, 5], [130, 41], [2, 64]] {
        let shape = MatrixShape { rows, columns };
        let x = numbers(shape.values(), 1);
        let (mut weight, mut bias) = (trained(numbers(columns, 2)), trained(numbers(columns, 3)));
        let dy = numbers(rows * columns, 4);
        for mut device in [Cpu::new(), Cpu::portable()] {
            let (mut moments, mut y) = (Vec::new(), vec![9.0; dy.len()]);
            let weights = NormWeights { weight: &weight.value, bias: &bias.value };
            device.layer_norm(shape, &x, weights, &mut moments, &mut y);
            let (wx, ww, wb) = (wide(&x), wide(&weight.value), wide(&bias.value));
            check_values("layer norm", &y, &normalise(columns, &wx, &ww, &wb));
            weight.gradient.fill(0.0);
            bias.gradient.fill(0.0);
            let mut gradient = dy.clone();
            let weights = NormWeights { weight: &mut weight, bias: &mut bias };
            device.layer_norm_backward(shape, &x, weights, &moments, &mut gradient);
            check_some("x", &x, &gradient, |x| dot(&normalise(columns, x, &ww, &wb), &dy));
            check_some("weight", &weight.value, &weight.gradient, |w| dot(&normalise(columns, &wx, w, &wb), &dy));
            check_some("bias", &bias.value, &bias.gradient, |b| dot(&normalise(columns, &wx, &ww, b), &dy));
        }
    }
}

#[test]
fn gaussian_units_are_those_of_the_definition() {
    let x: Vec<f32> = numbers(100, 8).into_iter().map(|value| 6.0 * value).collect();
    let dy = numbers(100, 9);
    let unit = |x: &[f64]| -> Vec<f64> {
        let root = (2.0 / std::f64::consts::PI).sqrt();
        x.iter().map(|x| 0.5 * x * (1.0 + (root * (x + 0.044715 * x.powi(3))).tanh())).collect()
    };
    for mut device in [Cpu::new(), Cpu::portable()] {
        let (mut y, mut gradient) = (vec![9.0; 100], dy.clone());
        device.gelu(100, &x, &mut y);
        check_values("gelu", &y, &unit(&wide(&x)));
        device.gelu_backward(100, &x, &mut gradient);
        check_gradient("gelu", &x, &gradient, |x| dot(&unit(x), &dy));
    }
}

/// Attention with a mask over all steps.
fn attend(shape: HeadsShape, x: &[f64], present: &[f32]) -> Vec<f64> {
    let StepsShape { flows, steps, channels } = shape.output;
    let width = channels / shape.heads;
    let mut y = vec![0.0; flows * steps * channels];
    for (flow, head) in (0..flows).flat_map(|flow| (0..shape.heads).map(move |head| (flow, head))) {
        let occupied: Vec<usize> = (0..steps).filter(|step| present[flow * steps + step] > 0.0).collect();
        let row = |part: usize, step: usize| {
            let first = (flow * steps + step) * 3 * channels + part * channels + head * width;
            &x[first..first + width]
        };
        for &step in &occupied {
            let product = |other: &usize| -> f64 {
                row(0, step).iter().zip(row(1, *other)).map(|(query, key)| query * key).sum()
            };
            let scores: Vec<f64> =
                occupied.iter().map(|other| (product(other) / (width as f64).sqrt()).exp()).collect();
            let sum = scores.iter().sum::<f64>();
            let y = &mut y[(flow * steps + step) * channels + head * width..][..width];
            for (score, &other) in scores.iter().zip(&occupied) {
                y.iter_mut().zip(row(2, other)).for_each(|(y, value)| *y += score / sum * value);
            }
        }
    }
    y
}

#[test]
fn heads_attend_to_present_steps_only() {
    let shape = |flows, steps, channels, heads| HeadsShape { output: StepsShape { flows, steps, channels }, heads };
    // One shape with more steps and channels than a panel has, and one with more steps than a task of a product.
    for shape in [shape(4, 5, 6, 2), shape(1, 1, 3, 3), shape(2, 70, 132, 2), shape(1, 150, 4, 1)] {
        let what = format!("{shape:?}");
        let rows = shape.output.rows();
        let x: Vec<f32> = numbers(rows * 3 * shape.output.channels, 1).iter().map(|value| 2.0 * value).collect();
        // The third flow has no present step.
        let present = marks(shape.output, |flow, step| flow != 2 && (flow == 0 || step % 3 != 1));
        let dy = numbers(shape.output.values(), 2);
        for mut device in [Cpu::new(), Cpu::portable()] {
            let (mut shares, mut y, mut dx) = (Vec::new(), vec![9.0; dy.len()], vec![9.0; x.len()]);
            let input = || Projected { x: &x, present: &present };
            device.heads(shape, input(), &mut shares, &mut y);
            check_values(&what, &y, &attend(shape, &wide(&x), &present));
            device.heads_backward(shape, input(), &shares, &dy, &mut dx);
            check_some(&what, &x, &dx, |x| dot(&attend(shape, x, &present), &dy));
        }
    }
}

#[test]
fn positions_are_added_to_every_flow() {
    let shape = StepsShape { flows: 3, steps: 2, channels: 2 };
    let mut table = trained(vec![1.0, 2.0, 3.0, 4.0]);
    let mut x = vec![0.5; 12];
    let mut device = Cpu::new();
    device.add_positions(shape, &table.value, &mut x);
    assert_eq!(x, [1.5, 2.5, 3.5, 4.5].repeat(3));
    table.gradient = vec![1.0; 4];
    device.add_positions_backward(shape, &(0..12).map(|value| value as f32).collect(), &mut table);
    assert_eq!(table.gradient, [13.0, 16.0, 19.0, 22.0]);
}

#[test]
fn hidden_steps_become_the_token_and_give_it_their_gradients() {
    let shape = StepsShape { flows: 2, steps: 2, channels: 2 };
    let hidden = vec![0.0, 1.0, 1.0, 0.0];
    let mut token = trained(vec![7.0, 8.0]);
    let mut device = Cpu::new();
    let mut x = vec![1.0; 8];
    device.hide(shape, &hidden, &token.value, &mut x);
    assert_eq!(x, [1.0, 1.0, 7.0, 8.0, 7.0, 8.0, 1.0, 1.0]);
    let mut gradient: Vec<f32> = (1..=8).map(|value| value as f32).collect();
    device.hide_backward(shape, &hidden, &mut token, &mut gradient);
    assert_eq!(token.gradient, [8.0, 10.0]);
    assert_eq!(gradient, [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 7.0, 8.0]);
}

#[test]
fn means_and_errors_count_marked_steps_only() {
    let shape = StepsShape { flows: 2, steps: 3, channels: 2 };
    let present = vec![1.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    let x: Vec<f32> = (1..=12).map(|value| value as f32).collect();
    let mut device = Cpu::new();
    let (mut y, mut dx) = (vec![9.0; 4], vec![9.0; 12]);
    device.present_mean(shape, &x, &present, &mut y);
    assert_eq!(y, [3.0, 4.0, 0.0, 0.0]);
    device.present_mean_backward(shape, &present, &vec![2.0, 4.0, 6.0, 8.0], &mut dx);
    assert_eq!(dx, [1.0, 2.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);

    let mut predicted = vec![0.0; 12];
    predicted[4] = 7.0;
    let sum = device.squared_error(shape, &present, &x, &mut predicted, 0.5);
    assert_eq!(sum, 1.0 + 4.0 + 4.0 + 36.0);
    assert_eq!(predicted, [-1.0, -2.0, 0.0, 0.0, 2.0, -6.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}
