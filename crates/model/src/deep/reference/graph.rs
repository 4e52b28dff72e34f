//! One computation from leaves to a loss, with or without recording for gradients.

use std::cell::RefCell;
use std::rc::Rc;

use dfdx::prelude::*;

use crate::ModelError;
use crate::deep::parameters::ParameterSet;

/// A tape shared by its clones, so that a tensor may be used any number of times without passing the tape from
/// operation to operation by hand. Without a tape it records nothing, as for constants and inference.
#[derive(Debug)]
pub(super) struct Recorder<D: Device<f32>>(Option<Rc<RefCell<OwnedTape<f32, D>>>>);

impl<D: Device<f32>> Clone for Recorder<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D: Device<f32>> Default for Recorder<D> {
    fn default() -> Self {
        Self(None)
    }
}

impl<D: Device<f32>> Merge<NoneTape> for Recorder<D> {
    fn merge(self, _: NoneTape) -> Self {
        self
    }
}

impl<D: Device<f32>> Merge<Self> for Recorder<D> {
    fn merge(self, other: Self) -> Self {
        if self.0.is_some() { self } else { other }
    }
}

impl<D: Device<f32>> Tape<f32, D> for Recorder<D> {
    const OWNS_TAPE: bool = true;

    fn add_backward_op<F>(&mut self, operation: F)
    where
        F: 'static + FnOnce(&mut Gradients<f32, D>) -> Result<(), D::Err>,
    {
        if let Some(tape) = &self.0 {
            tape.borrow_mut().add_backward_op(operation);
        }
    }
}

/// A tensor of a graph.
pub(super) type Node<S, D> = Tensor<S, f32, D, Recorder<D>>;

/// A tensor of rows, shape `[rows, features]`.
pub(super) type Matrix<D> = Node<(usize, usize), D>;

/// The gradients of a graph's parameters by name, in the order in which the parameters were first used.
pub(super) type NamedGradients = Vec<(String, Vec<f32>)>;

/// A parameter as a vector that receives gradients.
type Leaf<D> = Tensor<(usize,), f32, D>;

/// Creates the leaves of one computation, and runs the backward pass from its loss.
pub(super) struct Graph<'a, D: Device<f32>> {
    device: &'a D,
    recorder: Recorder<D>,
    parameters: &'a ParameterSet,
    leaves: Vec<(String, Leaf<D>)>,
}

impl<'a, D: Device<f32>> Graph<'a, D> {
    /// Creates a graph that records what [`Graph::backward`] needs.
    pub(super) fn recording(device: &'a D, parameters: &'a ParameterSet) -> Self {
        Self { recorder: Recorder(Some(Rc::default())), ..Self::inference(device, parameters) }
    }

    /// Creates a graph without recording.
    pub(super) fn inference(device: &'a D, parameters: &'a ParameterSet) -> Self {
        Self { device, recorder: Recorder(None), parameters, leaves: Vec::new() }
    }

    /// Adds a trained parameter; call this at most once per parameter and graph.
    pub(super) fn parameter<S: Shape>(&mut self, name: &str, shape: S) -> Result<Node<S, D>, ModelError> {
        let dimensions: Vec<usize> = shape.concrete().into_iter().collect();
        let values = self.parameters.get(name, &dimensions)?.to_vec();
        let count = values.len();
        let leaf = self.device.tensor_from_vec(values, (count,));
        self.leaves.push((name.to_owned(), leaf.clone()));
        Ok(leaf.reshape_like(&shape).put_tape(self.recorder.clone()))
    }

    /// Adds a parameter that is not trained.
    pub(super) fn buffer(&self, name: &str, length: usize) -> Result<Node<(usize,), D>, ModelError> {
        Ok(self.constant(self.parameters.get(name, &[length])?.to_vec(), (length,)))
    }

    /// Creates a tensor of row-major values without a gradient.
    pub(super) fn constant<S: Shape>(&self, values: Vec<f32>, shape: S) -> Node<S, D> {
        self.device.tensor_from_vec(values, shape).put_tape(Recorder(None))
    }

    /// Creates a tensor of row indices.
    pub(super) fn indices(&self, values: Vec<usize>) -> Tensor<(usize,), usize, D> {
        let count = values.len();
        self.device.tensor_from_vec(values, (count,))
    }

    /// Computes the gradients of every parameter.
    pub(super) fn backward(self, loss: Node<(), D>) -> NamedGradients {
        let (loss, _) = loss.split_tape();
        let recorder = self.recorder.0.expect("only recording graphs go back");
        let tape = std::mem::take(&mut *recorder.borrow_mut());
        let gradients = loss.put_tape(tape).backward();
        self.leaves.into_iter().map(|(name, leaf)| (name, gradients.get(&leaf).as_vec())).collect()
    }
}

/// Returns the same values without their history.
pub(super) fn detached<S: Shape, D: Device<f32>>(node: &Node<S, D>) -> Tensor<S, f32, D> {
    node.clone().split_tape().0
}
