"""Times the deep model in PyTorch on the processor, on the workloads that `cargo bench --bench deep` wrote, and
prints the medians of both beside each other. The first loss must agree, so both compute the same.

    python benches/peers/deep.py [--seconds S] [--folder target/deep]

PyTorch runs with the number of threads that is fastest for the workload. Needs torch and safetensors.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional


def load_lstm(lstm, weights, name):
    """The file has one bias; PyTorch has two, of which the second is zero and not trained."""
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(weights[f"{name}.weight_ih"])
        lstm.weight_hh_l0.copy_(weights[f"{name}.weight_hh"])
        lstm.bias_ih_l0.copy_(weights[f"{name}.bias"])
        lstm.bias_hh_l0.zero_()
    lstm.bias_hh_l0.requires_grad_(False)


class Elmo(nn.Module):
    def __init__(self, weights):
        super().__init__()
        vocabulary, hidden = weights["elmo.embedding.weight"].shape
        self.embedding = nn.Embedding(vocabulary, hidden)
        layers = sum(name.startswith("elmo.forward.") for name in weights) // 3
        self.directions = nn.ModuleDict()
        for direction in ("forward", "backward"):
            stack = nn.ModuleList(nn.LSTM(hidden, hidden, batch_first=True) for _ in range(layers))
            for layer, lstm in enumerate(stack):
                load_lstm(lstm, weights, f"elmo.{direction}.{layer}")
            self.directions["left" if direction == "forward" else "right"] = stack
        self.head = nn.Linear(hidden, vocabulary)
        with torch.no_grad():
            self.embedding.weight.copy_(weights["elmo.embedding.weight"])
            self.head.weight.copy_(weights["elmo.head.weight"])
            self.head.bias.copy_(weights["elmo.head.bias"])

    def states(self, tokens):
        x = self.embedding(tokens)
        directions = []
        for name, stack in self.directions.items():
            states = x if name == "left" else x.flip(1)
            outputs = []
            for lstm in stack:
                states, _ = lstm(states)
                outputs.append(states)
            directions.append(outputs)
        return x, directions

    def loss(self, tokens):
        _, directions = self.states(tokens)
        total = 0.0
        for states, sequence in zip(directions, (tokens, tokens.flip(1))):
            logits = self.head(states[-1][:, :-1])
            total = total + functional.cross_entropy(logits.flatten(0, 1), sequence[:, 1:].flatten())
        return total / 2

    @torch.inference_mode()
    def encode(self, tokens):
        x, (left, right) = self.states(tokens)
        means = [torch.cat([x.mean(1)] * 2, -1)]
        means += [torch.cat([a.mean(1), b.mean(1)], -1) for a, b in zip(left, right)]
        return torch.stack(means, 1)


class AttentionLstm(nn.Module):
    """With relu cells PyTorch's fused LSTM does not apply, so the steps are written out, the input product hoisted."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.ParameterDict({name.replace(".", "/"): nn.Parameter(value.clone())
                                         for name, value in weights.items()
                                         if name.startswith("classifier.") and "running_" not in name})

    def weight(self, name):
        return self.weights[f"classifier/{name.replace('.', '/')}"]

    def linear(self, name, x):
        return functional.linear(x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))

    def norm(self, name, x):
        flat = x.flatten(0, 1)
        flat = functional.batch_norm(flat, None, None, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), True)
        return flat.view_as(x)

    def loss(self, layers, labels):
        share = torch.softmax(self.weight("mix.weight"), 0) * self.weight("mix.gamma")
        x = torch.einsum("bnls,l->bns", layers, share)
        gates = functional.linear(x, self.weight("lstm.weight_ih"), self.weight("lstm.bias"))
        recurrent = self.weight("lstm.weight_hh")
        cell, outputs = None, []
        for step in range(x.shape[1]):
            now = gates[:, step]
            if outputs:
                now = now + outputs[-1] @ recurrent.t()
            i, f, g, o = now.chunk(4, 1)
            i, f, g, o = i.sigmoid(), f.sigmoid(), g.relu(), o.sigmoid()
            cell = i * g if cell is None else f * cell + i * g
            outputs.append(o * cell.relu())
        x = self.norm("norm_1", torch.stack(outputs, 1))
        query, key, value = (self.linear(f"attention.{part}", x) for part in ("query", "key", "value"))
        x = self.norm("norm_2", functional.scaled_dot_product_attention(query, key, value))
        x = self.linear("dense", x.mean(1)).relu()
        return functional.cross_entropy(self.linear("output", x), labels)


def training_step(model, loss):
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=0.001, fused=True)

    def step():
        optimiser.zero_grad()
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        return value.item()

    return step


def median(run, seconds):
    run()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("target/deep"))
    parser.add_argument("--criterion", type=Path, default=Path("target/criterion"))
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()

    elmo_file = load_file(arguments.folder / "elmo.safetensors")
    tokens = elmo_file["data.tokens"].long()
    elmo = Elmo(elmo_file)
    lstm_file = load_file(arguments.folder / "attention_lstm.safetensors")
    layers, labels = lstm_file["data.layers"], lstm_file["data.labels"].long()
    attention_lstm = AttentionLstm(lstm_file)
    for name, found, file in [("elmo", elmo.loss(tokens), elmo_file),
                              ("attention_lstm", attention_lstm.loss(layers, labels), lstm_file)]:
        expected = file["data.loss"].item()
        if abs(found.item() - expected) > 1e-5 * expected:
            raise SystemExit(f"{name}: PyTorch's first loss {found.item()} is not {expected}")

    workloads = {
        "elmo_training_step": training_step(elmo, lambda: elmo.loss(tokens)),
        "attention_lstm_training_step": training_step(attention_lstm, lambda: attention_lstm.loss(layers, labels)),
        "elmo_encoding": lambda: elmo.encode(tokens),
    }
    print(f"{'workload':32} {'PyTorch ms':>11} {'threads':>7} {'etcbench ms':>11} {'ratio':>6}")
    for name, run in workloads.items():
        found = {}
        for threads in sorted({1, os.cpu_count()}):
            torch.set_num_threads(threads)
            found[threads] = median(run, arguments.seconds)
        threads = min(found, key=found.get)
        estimates = arguments.criterion / "deep" / name / "new" / "estimates.json"
        ours = json.loads(estimates.read_text())["median"]["point_estimate"] / 1e9
        theirs = found[threads]
        print(f"{name:32} {theirs * 1e3:11.1f} {threads:7} {ours * 1e3:11.1f} {ours / theirs:6.2f}")


if __name__ == "__main__":
    main()
