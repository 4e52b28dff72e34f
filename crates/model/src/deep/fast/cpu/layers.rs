//! Layers of convolutional networks on the CPU.

use rayon::prelude::*;

use super::simd::vectorised;
use super::windows::Flows;
use super::{Cpu, TASK, activation, convolution, grow, optimiser, picture, windows};
use crate::deep::fast::backend::{AdamStep, Trained};
use crate::deep::fast::layers::{
    Convolution2dShape, ConvolutionShape, Kernel, LayerBackend, Pool2dShape, Pooled, WindowShape,
};

vectorised! {
    fn elu(x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x = if *x > 0.0 { *x } else { activation::expm1::<FUSED>(*x) });
    }
}

impl Cpu {
    fn working(&mut self) -> convolution::Working<'_> {
        let Self { level, input_panels, table, .. } = self;
        convolution::Working { level: *level, panels: input_panels, padded: table }
    }
}

impl LayerBackend for Cpu {
    fn convolution(&mut self, shape: ConvolutionShape, x: &Vec<f32>, kernel: Kernel<&Vec<f32>>, y: &mut Vec<f32>) {
        let x = &x[..shape.flows * shape.steps * shape.inputs];
        let kernel = (kernel.weight.as_slice(), &kernel.bias[..shape.outputs]);
        convolution::forward(self.working(), shape, x, kernel, &mut y[..shape.rows() * shape.outputs]);
    }

    fn convolution_backward(
        &mut self,
        shape: ConvolutionShape,
        x: &Vec<f32>,
        dy: &Vec<f32>,
        kernel: Kernel<&mut Trained<Vec<f32>>>,
        dx: Option<&mut Vec<f32>>,
    ) {
        let input = shape.flows * shape.steps * shape.inputs;
        let dy = &dy[..shape.rows() * shape.outputs];
        let Kernel { weight, bias } = kernel;
        let gradients = (weight.gradient.as_mut_slice(), &mut bias.gradient[..shape.outputs]);
        convolution::kernel_gradient(self.working(), shape, &x[..input], dy, gradients);
        if let Some(dx) = dx {
            convolution::input_gradient(self.working(), shape, dy, &weight.value, &mut dx[..input]);
        }
    }

    fn convolution2d(&mut self, shape: Convolution2dShape, x: &Vec<f32>, kernel: Kernel<&Vec<f32>>, y: &mut Vec<f32>) {
        let kernel = (kernel.weight.as_slice(), &kernel.bias[..shape.outputs]);
        picture::forward(self.working(), shape, x, kernel, y);
    }

    fn convolution2d_backward(
        &mut self,
        shape: Convolution2dShape,
        x: &Vec<f32>,
        dy: &Vec<f32>,
        kernel: Kernel<&mut Trained<Vec<f32>>>,
        dx: Option<&mut Vec<f32>>,
    ) {
        let input = shape.flows * shape.size[0] * shape.size[1] * shape.inputs;
        let dy = &dy[..shape.flows * shape.output_steps() * shape.outputs];
        let Kernel { weight, bias } = kernel;
        let gradients = (weight.gradient.as_mut_slice(), &mut bias.gradient[..shape.outputs]);
        picture::kernel_gradient(self.working(), shape, &x[..input], dy, gradients);
        if let Some(dx) = dx {
            picture::input_gradient(self.working(), shape, dy, &weight.value, &mut dx[..input]);
        }
    }

    fn max_pool2d(&mut self, shape: Pool2dShape, x: &Vec<f32>, y: &mut Vec<f32>, chosen: &mut Vec<u32>) {
        let length = shape.flows * shape.output_steps() * shape.channels;
        if chosen.len() < length {
            chosen.resize(length, 0);
        }
        picture::maximum(self.level, shape, x, &mut y[..length], &mut chosen[..length]);
    }

    fn max_pool2d_backward(&mut self, shape: Pool2dShape, chosen: &Vec<u32>, dy: &Vec<f32>, dx: &mut Vec<f32>) {
        let Pool2dShape { flows, size: [height, width], channels, .. } = shape;
        windows::maximum_backward(
            Flows { flows, channels, steps: height * width, outputs: shape.output_steps() },
            chosen,
            dy,
            dx,
        );
    }

    fn elu(&mut self, count: usize, x: &mut Vec<f32>) {
        let level = self.level;
        x[..count].par_chunks_mut(TASK).for_each(|x| elu(level, x));
    }

    fn elu_backward(&mut self, count: usize, y: &Vec<f32>, dy: &mut Vec<f32>) {
        dy[..count].par_chunks_mut(TASK).zip(y[..count].par_chunks(TASK)).for_each(|(dy, y)| {
            dy.iter_mut().zip(y).for_each(|(dy, &y)| *dy *= if y > 0.0 { 1.0 } else { y + 1.0 });
        });
    }

    fn max_pool(&mut self, shape: WindowShape, x: &Vec<f32>, y: &mut Vec<f32>, chosen: &mut Vec<u32>) {
        let length = shape.flows * shape.output_steps * shape.channels;
        if chosen.len() < length {
            chosen.resize(length, 0);
        }
        windows::maximum(self.level, shape, x, &mut y[..length], &mut chosen[..length]);
    }

    fn max_pool_backward(&mut self, shape: WindowShape, chosen: &Vec<u32>, dy: &Vec<f32>, dx: &mut Vec<f32>) {
        let WindowShape { flows, channels, steps, output_steps: outputs, .. } = shape;
        windows::maximum_backward(Flows { flows, channels, steps, outputs }, chosen, dy, dx);
    }

    fn generalised_mean(&mut self, shape: WindowShape, x: &Vec<f32>, exponent: &Vec<f32>, y: &mut Vec<f32>) {
        windows::mean(self.level, shape, x, exponent[0], y);
    }

    fn generalised_mean_backward(
        &mut self,
        shape: WindowShape,
        pooled: Pooled<'_, Vec<f32>>,
        exponent: &mut Trained<Vec<f32>>,
        dy: &Vec<f32>,
        dx: &mut Vec<f32>,
    ) {
        let working = shape.flows * (2 * shape.channels + 2);
        grow(&mut self.table, working);
        let Pooled { x, y } = pooled;
        let input = (x.as_slice(), exponent.value[0], y.as_slice());
        let slope = windows::mean_backward(self.level, shape, input, dy, dx, &mut self.table[..working]);
        exponent.gradient[0] += slope;
    }

    fn adamax(&mut self, trained: &mut Trained<Vec<f32>>, length: usize, step: AdamStep) {
        optimiser::adamax(self.level, trained, length, step);
    }
}
