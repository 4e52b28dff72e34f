//! A sequence of layers as described by [`crate::deep::network`], over the operations of a device: their parameters,
//! buffers, and forward and backward passes.

mod node;
mod pass;

use super::backend::Backend;
use super::layers::LayerBackend;
use super::weights::Weight;
use crate::ModelError;
use crate::deep::network::{Branch, Layer, Network, Size};
use crate::deep::parameters::{MODEL, ParameterSet};
use node::Node;

pub(super) use pass::{Gradients, Pass};

/// A layer of a chain with the buffers it reads and writes, which may be the same.
struct Placed<B: Backend> {
    name: String,
    node: Node<B>,
    from: usize,
    to: usize,
    /// Steps and channels of a flow after the layer.
    output: Size,
}

/// A sequence of layers and their values.
pub(super) struct Chain<B: Backend> {
    nodes: Vec<Placed<B>>,
    /// Buffers of values, starting with the input, `[flows * steps, channels]`.
    pub values: Vec<B::Values>,
    /// Size of each buffer.
    pub sizes: Vec<Size>,
    /// Marks of present and hidden input steps, `[flows * steps]`; as many as the branch has.
    pub marks: Vec<B::Values>,
}

/// Returns the number of values that a training step of a network holds for each flow.
pub(in crate::deep::fast) fn values_of_flow(network: &Network) -> usize {
    let chains = network.chains().unwrap_or_default();
    let (mut held, mut largest) = (network.columns(), 0);
    for branch in &chains {
        let sizes = branch.sizes().unwrap_or_default();
        held += branch.input.values() + branch.marks * branch.input.steps;
        for (layer, pair) in branch.layers.iter().zip(sizes.windows(2)) {
            let [input, output] = [pair[0], pair[1]];
            if !layer.is_in_place() {
                held += output.values();
            }
            largest = largest.max(input.values()).max(output.values());
            held += match layer {
                // The values of `Node` besides its parameters.
                Layer::Heads { heads } => heads * input.steps * input.steps,
                Layer::MaxPool { .. } | Layer::MaxPool2d { .. } => output.values(),
                Layer::StepNorm { .. } => 2 * output.steps,
                _ => 0,
            };
        }
    }
    // `Gradients`: of a layer's output, of its input, and around it.
    let forks = chains.iter().flat_map(|branch| &branch.layers).any(|layer| matches!(layer, Layer::Fork));
    held + largest * if forks { 3 } else { 2 }
}

fn invalid(problem: &str) -> ModelError {
    ModelError::Data { model: MODEL.to_owned(), problem: problem.to_owned() }
}

impl<B: LayerBackend> Chain<B> {
    pub(super) fn new(device: &mut B, set: &ParameterSet, branch: &Branch) -> Result<Self, ModelError> {
        let problem = || invalid("the network has too few steps for its layers");
        let sizes = branch.sizes().ok_or_else(problem)?;
        let (mut nodes, mut last, mut buffers, mut fork) = (Vec::new(), String::new(), vec![branch.input], 0);
        for (layer, pair) in branch.layers.iter().zip(sizes.windows(2)) {
            let (input, output) = (pair[0], pair[1]);
            let mut node = Node::new(device, set, layer, input)?;
            if let Layer::Convolution { name, .. }
            | Layer::Convolution2d { name, .. }
            | Layer::StepLinear { name, .. }
            | Layer::Linear { name, .. } = layer
            {
                last.clone_from(name);
            }
            let from = buffers.len() - 1;
            match &mut node {
                Node::Fork => fork = from,
                Node::Join { of } => *of = fork,
                _ => {}
            }
            if !layer.is_in_place() {
                buffers.push(output);
            }
            nodes.push(Placed { name: last.clone(), node, from, to: buffers.len() - 1, output });
        }
        let values = buffers.iter().map(|_| B::Values::default()).collect();
        let marks = (0..branch.marks).map(|_| B::Values::default()).collect();
        Ok(Self { nodes, values, sizes: buffers, marks })
    }

    pub(super) fn reserve(&mut self, device: &mut B, flows: usize) {
        for (values, size) in self.values.iter_mut().zip(&self.sizes) {
            device.reserve(values, flows * size.values());
        }
        for placed in &mut self.nodes {
            match &mut placed.node {
                Node::Convolution { shape, .. } => shape.flows = flows,
                Node::Convolution2d { shape, .. } => shape.flows = flows,
                Node::MaxPool2d { shape, .. } => shape.flows = flows,
                Node::Heads { shape, .. } => shape.output.flows = flows,
                Node::ChannelDropout { flows: of_rows, rows, .. } if *rows < flows * placed.output.steps => {
                    let steps = placed.output.steps;
                    *rows = flows * steps;
                    let numbers: Vec<u32> = (0..*rows).map(|row| (row / steps) as u32).collect();
                    device.upload_indices(&numbers, of_rows);
                }
                Node::MaxPool { shape, .. } | Node::GeneralisedMean { shape, .. } => shape.flows = flows,
                _ => {}
            }
        }
    }

    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(&mut Weight<B>)) {
        self.nodes.iter_mut().for_each(|placed| placed.node.visit(visit));
    }

    /// Stores parameters and running statistics in a set.
    pub(super) fn store(&self, device: &B, set: &mut ParameterSet) {
        self.nodes.iter().for_each(|placed| placed.node.store(device, set));
    }

    pub(super) fn load_statistics(&mut self, device: &mut B, set: &ParameterSet) -> Result<(), ModelError> {
        for placed in &mut self.nodes {
            if let Node::Norm(norm) = &mut placed.node {
                norm.load_statistics(device, set)?;
            }
        }
        Ok(())
    }

    pub(super) fn output(&self) -> (&B::Values, Size) {
        (&self.values[self.values.len() - 1], self.sizes[self.sizes.len() - 1])
    }

    /// Iterates over all layers except the last: name, output, and number of output values per flow.
    pub(super) fn given(&self) -> impl Iterator<Item = (&str, &B::Values, usize)> {
        let placed = self.nodes.iter().filter(|placed| placed.to + 1 < self.values.len());
        placed.map(|placed| (placed.name.as_str(), &self.values[placed.to], self.sizes[placed.to].values()))
    }

    /// Iterates over all rectifiers: name of the layer before, output, and number of output values per flow.
    pub(super) fn rectified(&self) -> impl Iterator<Item = (&str, &B::Values, usize)> {
        let placed = self.nodes.iter().filter(|placed| matches!(placed.node, Node::Relu));
        placed.map(|placed| (placed.name.as_str(), &self.values[placed.to], placed.output.values()))
    }
}
