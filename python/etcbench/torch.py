"""etcbench's networks as PyTorch modules that load the weights of model files.

`AttentionLstm` is the network of the model `attention_lstm`: a trained one reproduces the probabilities of `etcbench classify`
to 1e-5, and one with an ELMo from ``etcbench pretrain`` can be trained further, as `models/attention-lstm-torch` does. The
docstring of `AttentionLstm` lists the names, shapes and layouts of all weights.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from . import _native
from .weights import Weights, weights

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["AttentionLstm", "Elmo"]

PAD = _native.PAD
VOCABULARY = PAD + 1


def _take(target: Tensor, name: str, values: numpy.ndarray) -> None:
    if tuple(target.shape) != values.shape:
        raise _native.EtcbenchError(f"{name} has shape {values.shape}, but the module needs {tuple(target.shape)}")
    with torch.no_grad():
        target.copy_(torch.from_numpy(values))


def _take_lstm(layer: nn.LSTM, name: str, arrays: dict[str, numpy.ndarray]) -> None:
    """Load the weights of an LSTM. PyTorch has two biases and etcbench one, so the second becomes 0."""
    _take(layer.weight_ih_l0, f"{name}.weight_ih", arrays[f"{name}.weight_ih"])
    _take(layer.weight_hh_l0, f"{name}.weight_hh", arrays[f"{name}.weight_hh"])
    _take(layer.bias_ih_l0, f"{name}.bias", arrays[f"{name}.bias"])
    nn.init.zeros_(layer.bias_hh_l0)


def _reversed(values: Tensor, lengths: Tensor) -> Tensor:
    """Reverse the first `length` steps of each sequence."""
    steps = torch.arange(values.shape[1], device=values.device)
    back = lengths[:, None] - 1 - steps
    index = torch.where(back >= 0, back, steps)
    return values.gather(1, index[:, :, None].expand(-1, -1, values.shape[2]))


def _run(layer: nn.LSTM, values: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(values, lengths.cpu(), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=values.shape[1])[0]


class Elmo(nn.Module):
    """The language model over packet bytes, as an encoder: embedding, and stacks of LSTMs in both directions.

    Parameters
    ----------
    embedding, hidden, layers : int
        Sizes; `embedding` and `hidden` are equal.
    bytes : int
        M, the largest number of bytes of a packet.
    positions : bool
        Whether to add an embedding of each byte's position.
    pooling : {'mean', 'maximum', 'last', 'segments'}
        How the states of a packet's bytes are combined into its vector.
    segments : int
        Number of segments of ``pooling="segments"``.
    """

    def __init__(
        self,
        embedding: int,
        hidden: int,
        layers: int,
        *,
        bytes: int,
        positions: bool = False,
        pooling: str = "mean",
        segments: int = 8,
    ) -> None:
        super().__init__()
        if pooling not in ("mean", "maximum", "last", "segments"):
            raise _native.EtcbenchError(f"pooling = {pooling!r}: this module supports mean, maximum, last and segments")
        self.bytes, self.pooling = bytes, pooling
        self.slots = segments if pooling == "segments" else 1
        self.size = 2 * hidden * self.slots
        self.embedding = nn.Embedding(VOCABULARY, embedding)
        self.positions = nn.Embedding(bytes, embedding) if positions else None
        sizes = [embedding] + [hidden] * (layers - 1)
        self.onward, self.backward = (
            nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes) for _ in range(2)
        )

    def load(self, arrays: dict[str, numpy.ndarray]) -> None:
        """Load the weights of a model file or a pre-trained ELMo (``etcbench.weights(path).arrays``)."""
        _take(self.embedding.weight, "elmo.embedding.weight", arrays["elmo.embedding.weight"])
        if self.positions is not None:
            _take(self.positions.weight, "elmo.positions.weight", arrays["elmo.positions.weight"])
        for direction, stack in [("forward", self.onward), ("backward", self.backward)]:
            for number, layer in enumerate(stack):
                _take_lstm(layer, f"elmo.{direction}.{number}", arrays)

    def _pooled(self, left: Tensor, right: Tensor, lengths: Tensor) -> Tensor:
        """Compute the vectors of packets from the states of both directions at their bytes."""
        steps = torch.arange(left.shape[1], device=left.device)
        true = (steps < lengths[:, None])[:, :, None]
        states = torch.cat([left, right], dim=2)
        if self.pooling == "maximum":
            return states.masked_fill(~true, -torch.inf).amax(dim=1)
        if self.pooling == "last":
            return torch.cat([left[torch.arange(len(left)), lengths - 1], right[:, 0]], dim=1)
        size = -(-self.bytes // self.slots)
        parts = []
        for part in (left, right):
            for slot in range(self.slots):
                inside = true & (steps // size == slot)[None, :, None]
                parts.append((part * inside).sum(dim=1) / inside.sum(dim=1).clamp(min=1))
        return torch.cat(parts, dim=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode packets with at least one byte.

        Parameters
        ----------
        tokens : Tensor of int64, shape (packets, M)
            Padded with 256 at the end.

        Returns
        -------
        Tensor of shape (packets, layers + 1, size)
            The embedding's encoding (twice, once per direction), then those of the layers.
        """
        lengths = (tokens != PAD).sum(dim=1)
        tokens = tokens[:, : int(lengths.max())]
        embedded = self.embedding(tokens)
        if self.positions is not None:
            embedded = embedded + self.positions.weight[: tokens.shape[1]]
        encodings = [self._pooled(embedded, embedded, lengths)]
        left, right = embedded, _reversed(embedded, lengths)
        for onward, backward in zip(self.onward, self.backward):
            left, right = _run(onward, left, lengths), _run(backward, right, lengths)
            encodings.append(self._pooled(left, _reversed(right, lengths), lengths))
        return torch.stack(encodings, dim=1)


class AttentionLstm(nn.Module):
    """The paper's network: ELMo over the bytes of packets, LSTM over packets, self-attention, and dense layers.

    The weights of a model file, by name. Sizes: E of the embedding, H of the ELMo's hidden state, S = 2 H x segments of a
    packet's vector, L of the LSTM's state, D of the dense layer, C classes. Matrices are as in a PyTorch state dict,
    `(outputs, inputs)`, row-major; gates are in the order input, forget, candidate, output.

    ==================================================  =================  ==========================================
    name                                                shape              in this module
    ==================================================  =================  ==========================================
    elmo.embedding.weight                               257, E             elmo.embedding.weight
    elmo.positions.weight (with `positions`)            M, E               elmo.positions.weight
    elmo.{forward,backward}.K.weight_ih                 4 H, E or H        elmo.{onward,backward}.K.weight_ih_l0
    elmo.{forward,backward}.K.weight_hh                 4 H, H             elmo.{onward,backward}.K.weight_hh_l0
    elmo.{forward,backward}.K.bias                      4 H                ... bias_ih_l0, with bias_hh_l0 = 0
    elmo.head.{weight,bias}                             257, H; 257        not here: of pre-training alone
    classifier.mix.{weight,gamma}                       layers + 1; 1      mix, gamma: softmax(mix) weighs the layers
    classifier.norm_0.* (``normalisation = "batch"``)   S                  norm_0
    classifier.lstm.{weight_ih,weight_hh,bias}          4 L, S; 4 L, L     lstm; with ReLU in both places of tanh
    classifier.norm_1.*, classifier.norm_2.*            L                  norm_1, norm_2
    classifier.attention.{query,key,value}.*            L, L; L            query, key, value
    classifier.dense.*, classifier.output.*             D, L; C, D         dense, output
    ==================================================  =================  ==========================================

    A norm has `weight`, `bias`, `running_mean` and `running_var` of batch normalisation over non-padding packets.

    Parameters
    ----------
    options : dict
        The keys of ``[model.attention_lstm]``: `lstm`, `dense`, `attention`, `activation`, `pooling`, `segments`, `normalisation`,
        `dropout`, and the `elmo` table. Missing keys have the defaults of `experiments/README.md`.
    bytes : int
        M, the bytes of a packet.
    classes : int

    Examples
    --------
    >>> network = AttentionLstm.from_file("results/.../models/random_split-attention_lstm-bytes-seed0.safetensors")  # doctest: +SKIP
    >>> network.eval()(torch.from_numpy(features.bytes.astype("int64"))).softmax(1)  # doctest: +SKIP
    """

    def __init__(self, options: dict[str, Any], *, bytes: int, classes: int) -> None:
        super().__init__()
        elmo = {"embedding": 128, "hidden": 128, "layers": 2, "positions": False, **options.get("elmo", {})}
        if options.get("packet_metadata"):
            raise _native.EtcbenchError("packet_metadata: this module only reads bytes")
        self.elmo = Elmo(
            elmo["embedding"],
            elmo["hidden"],
            elmo["layers"],
            bytes=bytes,
            positions=elmo["positions"],
            pooling=options.get("pooling", "mean"),
            segments=options.get("segments", 8),
        )
        size, hidden = self.elmo.size, options.get("lstm", 256)
        self.relu = options.get("activation", "relu") == "relu"
        self.mix = nn.Parameter(torch.zeros(elmo["layers"] + 1))
        self.gamma = nn.Parameter(torch.ones(1))
        self.norm_0 = nn.BatchNorm1d(size) if options.get("normalisation", "none") == "batch" else None
        self.lstm = nn.LSTM(size, hidden, batch_first=True)
        self.norm_1 = nn.BatchNorm1d(hidden)
        self.attention = options.get("attention", True)
        if self.attention:
            self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
            self.norm_2 = nn.BatchNorm1d(hidden)
        self.dense = nn.Linear(hidden, options.get("dense", 64))
        self.output = nn.Linear(options.get("dense", 64), classes)
        self.dropout = nn.Dropout(options.get("dropout", 0.0))

    @classmethod
    def from_file(cls, model: str | os.PathLike[str] | Weights) -> AttentionLstm:
        """Create the network of a trained model's file, with its weights.

        Parameters
        ----------
        model : path or Weights
            A file of the model `attention_lstm`, written by ``etcbench run --save-models``, or what `etcbench.weights` returns
            for it.

        Raises
        ------
        EtcbenchError
            If the file is of another model, or has a pooling that this module does not support.
        """
        read = model if isinstance(model, Weights) else weights(model)
        if read.metadata.get("model") != "attention_lstm":
            raise _native.EtcbenchError(f"the file is of the model {read.metadata.get('model')!r}, not 'attention_lstm'")
        options = tomllib.loads(read.metadata["parameters"])
        network = cls(options, bytes=int(read.metadata["bytes"]), classes=int(read.metadata["classes"]))
        network.load(read.arrays)
        return network

    def load(self, arrays: dict[str, numpy.ndarray]) -> None:
        """Load all weights of a model file; ``self.elmo.load`` loads only those of a pre-trained ELMo."""
        self.elmo.load(arrays)
        _take(self.mix, "classifier.mix.weight", arrays["classifier.mix.weight"])
        _take(self.gamma, "classifier.mix.gamma", arrays["classifier.mix.gamma"])
        _take_lstm(self.lstm, "classifier.lstm", arrays)
        layers: dict[str, nn.Module | None] = {"norm_0": self.norm_0, "norm_1": self.norm_1}
        layers |= {"dense": self.dense, "output": self.output}
        if self.attention:
            parts = {"query": self.query, "key": self.key, "value": self.value}
            layers |= {"norm_2": self.norm_2, **{f"attention.{name}": layer for name, layer in parts.items()}}
        for name, layer in layers.items():
            if layer is not None:
                for part, target in layer.state_dict().items():
                    if part != "num_batches_tracked":
                        _take(target, f"classifier.{name}.{part}", arrays[f"classifier.{name}.{part}"])

    def _states(self, values: Tensor, counts: Tensor) -> Tensor:
        """Compute the LSTM's states at every packet."""
        if not self.relu:
            return _run(self.lstm, values, counts)
        inputs = F.linear(values, self.lstm.weight_ih_l0, self.lstm.bias_ih_l0 + self.lstm.bias_hh_l0)
        state = cell = values.new_zeros(len(values), self.lstm.hidden_size)
        states = []
        for step in range(values.shape[1]):
            gates = inputs[:, step] + F.linear(state, self.lstm.weight_hh_l0)
            i, f, g, o = gates.chunk(4, dim=1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.relu()
            state = o.sigmoid() * cell.relu()
            states.append(state)
        return torch.stack(states, dim=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute the logits.

        Parameters
        ----------
        tokens : Tensor of int64, shape (flows, N, M)
            `Features.bytes`, padded with 256.

        Returns
        -------
        Tensor of shape (flows, classes)
        """
        flows = len(tokens)
        there = tokens[:, :, 0] != PAD
        layers = self.mix.shape[0]
        # Packets with bytes come first. A flow without any is treated as one packet with a zero vector.
        counts = there.sum(dim=1)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        filled = places < counts[:, None]
        encodings = torch.zeros(flows, tokens.shape[1], layers, self.elmo.size, device=tokens.device)
        if bool(there.any()):
            encodings[filled] = self.elmo(tokens[there])
        counts = counts.clamp(min=1)
        true = places < counts[:, None]
        values = self.gamma * torch.einsum("j,bnjd->bnd", self.mix.softmax(0), encodings)

        def normalised(norm: nn.Module, values: Tensor) -> Tensor:
            return torch.zeros_like(values).masked_scatter(true[:, :, None], norm(values[true]))

        if self.norm_0 is not None:
            values = normalised(self.norm_0, values)
        values = normalised(self.norm_1, self._states(self.dropout(values), counts))
        if self.attention:
            mask = true[:, None, :].expand(-1, values.shape[1], -1)
            query, key, value = self.query(values), self.key(values), self.value(values)
            values = normalised(self.norm_2, F.scaled_dot_product_attention(query, key, value, attn_mask=mask))
        pooled = (values * true[:, :, None]).sum(dim=1) / counts[:, None]
        return self.output(self.dropout(self.dense(pooled).relu()))
