"""Compares the deep model in PyTorch with etcbench's fast engine: the same weights, data, loss, clipping and Adam.

    cargo build --release --bench deep
    python benches/peers/deep.py                    # medians of times in alternating runs
    python benches/peers/deep.py --verify           # forward, loss and every gradient, to 1e-4
    python benches/peers/deep.py --memory           # growth of the resident set, or of a GPU's memory, in a training step
    python benches/peers/deep.py --device cuda --precision tf32 --batch 1024

PyTorch uses the fastest of its settings: one thread or all, oneDNN on or off, separate layers or layers stacked in one
`nn.LSTM`; --threads sets the threads of both sides. --batch replaces the 64 packets of the ELMo (also in fine-tuning,
with a classifier over a sixth as many flows) and the 256 flows of the classifier. Needs torch and safetensors; build the
program first, as above.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2]
# How the classifier reads a packet: as one mean, or as eight normalised segments, which are concatenated (as in the
# tables), pooled by attention, or read as separate steps.
READINGS = ["attention_lstm", "segments", "attention", "states"]
TRAINING_STEPS = ["elmo_training_step", *(f"{reading}_training_step" for reading in READINGS), "fine_tuning_step"]
KINDS = {"elmo_training_step": "elmo", "elmo_encoding": "elmo", "fine_tuning_step": "fine_tuned",
         **{f"{reading}_training_step": reading for reading in READINGS}}
SEGMENTS = 8
WORKLOADS = [*TRAINING_STEPS, "elmo_encoding"]
TOLERANCE = 1e-4


def load_lstm(lstm, weights, names):
    """Loads LSTM weights. The file has one bias; PyTorch has two, of which the second is zero and not trained."""
    for layer, name in enumerate(names):
        with torch.no_grad():
            getattr(lstm, f"weight_ih_l{layer}").copy_(weights[f"{name}.weight_ih"])
            getattr(lstm, f"weight_hh_l{layer}").copy_(weights[f"{name}.weight_hh"])
            getattr(lstm, f"bias_ih_l{layer}").copy_(weights[f"{name}.bias"])
            getattr(lstm, f"bias_hh_l{layer}").zero_()
        getattr(lstm, f"bias_hh_l{layer}").requires_grad_(False)


class Elmo(nn.Module):
    """`stacked`: all layers of a direction in one nn.LSTM, which returns only the last layer's states."""

    def __init__(self, weights, stacked):
        super().__init__()
        vocabulary, hidden = weights["elmo.embedding.weight"].shape
        self.stacked = stacked
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.head = nn.Linear(hidden, vocabulary) if "elmo.head.weight" in weights else None
        self.layers = sum(name.startswith("elmo.forward.") for name in weights) // 3
        self.directions = nn.ModuleDict()
        for direction in ("forward", "backward"):
            names = [f"elmo.{direction}.{layer}" for layer in range(self.layers)]
            groups = [names] if stacked else [[name] for name in names]
            stack = nn.ModuleList(nn.LSTM(hidden, hidden, len(group), batch_first=True) for group in groups)
            for lstm, group in zip(stack, groups):
                load_lstm(lstm, weights, group)
            self.directions["left" if direction == "forward" else "right"] = stack
        with torch.no_grad():
            self.embedding.weight.copy_(weights["elmo.embedding.weight"])
            if self.head:
                self.head.weight.copy_(weights["elmo.head.weight"])
                self.head.bias.copy_(weights["elmo.head.bias"])

    def named(self):
        """Returns the parameters under etcbench's names."""
        found = {"elmo.embedding.weight": self.embedding.weight}
        if self.head:
            found |= {"elmo.head.weight": self.head.weight, "elmo.head.bias": self.head.bias}
        for name, direction in (("left", "forward"), ("right", "backward")):
            for layer in range(self.layers):
                lstm, at = (self.directions[name][0], layer) if self.stacked else (self.directions[name][layer], 0)
                for ours, theirs in (("weight_ih", "weight_ih"), ("weight_hh", "weight_hh"), ("bias", "bias_ih")):
                    found[f"elmo.{direction}.{layer}.{ours}"] = getattr(lstm, f"{theirs}_l{at}")
        return found

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

    def encodings(self, tokens):
        x, (left, right) = self.states(tokens)
        means = [torch.cat([x.mean(1)] * 2, -1)]
        means += [torch.cat([a.mean(1), b.mean(1)], -1) for a, b in zip(left, right)]
        return torch.stack(means, 1)

    @torch.inference_mode()
    def output(self, tokens):
        return self.encodings(tokens)


class AttentionLstm(nn.Module):
    """`states`: the LSTM steps over the segments of all packets. PyTorch's fused LSTM has no ReLU cells, so the steps are
    written out, with the input product hoisted."""

    def __init__(self, weights, states=False):
        super().__init__()
        self.states = states
        self.weights = nn.ParameterDict({name.replace(".", "/"): nn.Parameter(value.clone())
                                         for name, value in weights.items()
                                         if name.startswith("classifier.") and "running_" not in name})
        for name, value in weights.items():
            if "running_" in name and name.startswith("classifier."):
                self.register_buffer(name.replace(".", "_"), value.clone())

    def named(self):
        return {name.replace("/", "."): value for name, value in self.weights.items()}

    def weight(self, name):
        return self.weights[f"classifier/{name.replace('.', '/')}"]

    def linear(self, name, x):
        return functional.linear(x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))

    def norm(self, name, x, training):
        running = [None, None] if training else [getattr(self, f"classifier_{name}_running_{part}") for part in ("mean", "var")]
        flat = functional.batch_norm(x.flatten(0, 1), *running, self.weight(f"{name}.weight"),
                                     self.weight(f"{name}.bias"), training)
        return flat.view_as(x)

    def logits(self, layers, training=True):
        share = torch.softmax(self.weight("mix.weight"), 0) * self.weight("mix.gamma")
        x = torch.einsum("bnls,l->bns", layers, share)
        if self.states or "classifier/pooling/weight" in self.weights:
            flows, packets = x.shape[:2]
            x = x.view(flows, packets, 2, SEGMENTS, -1).transpose(2, 3).reshape(flows, packets, SEGMENTS, -1)
            if self.states:
                x = x.flatten(1, 2)
            else:
                shares = (x @ self.weight("pooling.weight")).softmax(2)
                x = torch.einsum("bns,bnsd->bnd", shares, x)
        if "classifier/norm_0/weight" in self.weights:
            x = self.norm("norm_0", x, training)
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
        x = self.norm("norm_1", torch.stack(outputs, 1), training)
        query, key, value = (self.linear(f"attention.{part}", x) for part in ("query", "key", "value"))
        x = self.norm("norm_2", functional.scaled_dot_product_attention(query, key, value), training)
        x = self.linear("dense", x.mean(1)).relu()
        return self.linear("output", x)

    def loss(self, layers, labels):
        return functional.cross_entropy(self.logits(layers), labels)

    @torch.inference_mode()
    def output(self, layers, _labels):
        return self.logits(layers, training=False).softmax(1)


class FineTuned(nn.Module):
    """ELMo and classifier together, trained on the classifier's loss."""

    def __init__(self, weights, _stacked):
        super().__init__()
        self.elmo, self.classifier = Elmo(weights, False), AttentionLstm(weights)

    def named(self):
        return self.classifier.named() | self.elmo.named()

    def loss(self, tokens, labels):
        layers = self.elmo.encodings(tokens.flatten(0, 1))
        return self.classifier.loss(layers.view(*tokens.shape[:2], *layers.shape[1:]), labels)


class Peer:
    """One of the models, with the data of its file, on a device."""

    def __init__(self, folder, kind, device, stacked=False):
        self.file = load_file(folder / f"{kind}.safetensors")
        if kind == "elmo":
            self.data = (self.file["data.tokens"].long().to(device),)
            self.model = Elmo(self.file, stacked).to(device)
        elif kind == "fine_tuned":
            self.data = (self.file["data.tokens"].long().to(device), self.file["data.labels"].long().to(device))
            self.model = FineTuned(self.file, stacked).to(device)
        else:
            self.data = (self.file["data.layers"].to(device), self.file["data.labels"].long().to(device))
            self.model = AttentionLstm(self.file, kind == "states").to(device)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(self.parameters, lr=0.001, fused=True)

    def step(self):
        self.optimiser.zero_grad()
        loss = self.model.loss(*self.data)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 5.0)
        self.optimiser.step()
        return loss.item()

    def encode(self):
        return self.model.output(*self.data).cpu()


def verify(folder, device):
    """Compares with etcbench's loss, output and gradients; prints the largest differences relative to the largest value."""
    worst, failed = {}, []
    for kind in ("elmo", *READINGS, "fine_tuned"):
        peer = Peer(folder, kind, device)
        loss = peer.model.loss(*peer.data)
        loss.backward()
        pairs = {"loss": (loss.detach(), peer.file["data.loss"])}
        if "data.output" in peer.file:
            pairs["output"] = (peer.model.output(*peer.data), peer.file["data.output"])
        gradients = {name: parameter.grad for name, parameter in peer.model.named().items()}
        expected = {name.removeprefix("gradient."): value for name, value in peer.file.items() if name.startswith("gradient.")}
        if set(gradients) != set(expected):
            raise SystemExit(f"{kind}: parameters differ: {sorted(set(gradients) ^ set(expected))}")
        largest = max(value.abs().max().item() for value in expected.values())
        pairs |= {f"gradient of {name}": (gradients[name], expected[name]) for name in sorted(expected)}
        for name, (found, value) in pairs.items():
            # A gradient that is zero in exact arithmetic, such as that of a key's bias, is scaled by the largest of
            # all.
            scale = value.abs().max().item()
            # Before a normalisation, the gradients of the mix's scale and of shifts are also only rounding errors.
            floor = 1e-1 if kind in READINGS[1:] else 1e-2
            scale = max(scale, floor * largest) if name.startswith("gradient") else scale
            error = (found.cpu().double().reshape(-1) - value.double().reshape(-1)).abs().max().item() / scale
            group = f"{kind} {name.split(' ')[0]}"
            worst[group] = max(worst.get(group, 0.0), error)
            if not error < TOLERANCE:
                failed.append(f"{kind}: {name} differs by {error:.1e}")
    for name, error in worst.items():
        print(f"{name:28} largest relative difference {error:.1e}")
    if failed:
        raise SystemExit("\n".join(failed))
    print(f"PyTorch {torch.__version__} and etcbench agree to {TOLERANCE}")


class Ours:
    """The benchmark program, which runs workloads on request."""

    def __init__(self, program, folder, sizes, device, threads):
        environment = os.environ | ({"RAYON_NUM_THREADS": str(threads)} if threads else {})
        command = [program, "serve", str(folder), *map(str, sizes), device]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"{program} did not start")

    def times(self, workload, runs):
        self.process.stdin.write(f"{workload} {runs}\n")
        self.process.stdin.flush()
        return [float(text) for text in self.process.stdout.readline().split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def timed(run, runs, device):
    times = []
    for _ in range(runs):
        if device != "cpu":
            torch.cuda.synchronize()
        before = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - before) * 1e3)
    return times


def settings(workload, arguments):
    """Returns the settings of PyTorch that might be the fastest."""
    threads = [arguments.threads] if arguments.threads else sorted({1, os.cpu_count()})
    stacked = [False, True] if workload == "elmo_training_step" else [False]
    onednn = [True] if arguments.device != "cpu" else [True, False]
    return [dict(threads=t, stacked=s, onednn=o) for t, s, o in itertools.product(threads, stacked, onednn)]


def compare(arguments, folder, ours):
    """Runs etcbench and PyTorch's best settings in alternating rounds; returns medians."""
    rows = []
    for workload in WORKLOADS:
        kind = KINDS[workload]
        peers = {stacked: Peer(folder, kind, arguments.device, stacked) for stacked in (False, True)}

        def run(setting, runs):
            peer = peers[setting["stacked"]]
            torch.set_num_threads(setting["threads"])
            torch.backends.mkldnn.enabled = setting["onednn"]
            return timed(peer.encode if workload == "elmo_encoding" else peer.step, runs, arguments.device)

        ours.times(workload, 2)
        candidates = settings(workload, arguments)
        first = [(statistics.median(run(setting, 4)[1:]), index) for index, setting in enumerate(candidates)]
        finalists = [candidates[index] for _, index in sorted(first)[:2]]
        our_times, their_times = [], [[] for _ in finalists]
        for _ in range(arguments.rounds):
            our_times += ours.times(workload, arguments.runs)
            for times, setting in zip(their_times, finalists):
                times += run(setting, arguments.runs)
        medians = [statistics.median(times) for times in their_times]
        best = min(range(len(finalists)), key=medians.__getitem__)
        rows.append(dict(workload=workload, etcbench_ms=statistics.median(our_times), pytorch_ms=medians[best],
                         ratio=statistics.median(our_times) / medians[best], pytorch_setting=finalists[best]))
    return rows


def resident(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return float(line.split()[1]) / 1024


def memory_here(workload, folder, device):
    """Prints the growth of this process in MiB with the model and three steps, excluding data and a small first step."""
    kind = KINDS[workload]
    layer = nn.LSTM(8, 8)
    layer(torch.zeros(2, 2, 8))[0].sum().backward()
    torch.optim.Adam(layer.parameters(), fused=True).step()
    before = resident("VmRSS")
    peer = Peer(folder, kind, device)
    for _ in range(3):
        peer.step()
    print(f"{resident('VmHWM') - before:.1f}", flush=True)
    if device != "cpu":
        sys.stdin.read()


def used_on_card():
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return float(subprocess.check_output(query, text=True).split()[0])


def memory_of(command, device):
    """Returns the memory that a process reports; on a GPU, the increase of the memory in use there, including its context.
    The process waits for the end of its input, so that it still has all of its memory when this is measured."""
    if device == "cpu":
        return float(subprocess.check_output(command, text=True))
    before = used_on_card()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if not process.stdout.readline():
            raise SystemExit(f"{command[0]} did not run")
        return used_on_card() - before


def memory(arguments, program, folder, sizes, device):
    print(f"{'workload':32} {'PyTorch MiB':>12} {'etcbench MiB':>12} {'ratio':>6}")
    rows = []
    for workload in TRAINING_STEPS:
        theirs = memory_of([sys.executable, __file__, "--memory-of", workload, "--folder", str(folder), "--device",
                            arguments.device, "--precision", arguments.precision], arguments.device)
        ours = memory_of([program, "memory", workload, *map(str, sizes), device], arguments.device)
        rows.append(dict(workload=workload, pytorch_mib=theirs, etcbench_mib=ours))
        print(f"{workload:32} {theirs:12.1f} {ours:12.1f} {ours / theirs:6.2f}")
    return rows


def newest_program():
    found = [path for path in (ROOT / "target/release/deps").glob("deep-*") if not path.suffix and os.access(path, os.X_OK)]
    if not found:
        raise SystemExit("build the benchmark first: cargo build --release --bench deep")
    return str(max(found, key=lambda path: path.stat().st_mtime))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["f32", "tf32"], default="f32", help="of matrix products of both sides on CUDA")
    parser.add_argument("--batch", type=int, help="packets and flows per step")
    parser.add_argument("--threads", type=int, help="of both sides; by default PyTorch uses one or all, whichever is faster")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3, help="runs of each side per round")
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the times to this file")
    parser.add_argument("--program", help="the built benchmark; by default the newest in target/release/deps")
    parser.add_argument("--folder", type=Path, default=ROOT / "target/deep")
    parser.add_argument("--memory-of", choices=TRAINING_STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = arguments.precision == "tf32"

    if arguments.memory_of:
        return memory_here(arguments.memory_of, arguments.folder, arguments.device)
    # Verify with few flows: one of the 16,384 rectified values of 256 flows may be within rounding of 0, where it has a
    # gradient on one side but not on the other (with this data one is, at 4e-7).
    sizes = (arguments.batch or 64, arguments.batch or (32 if arguments.verify else 256))
    program = arguments.program or newest_program()
    device = "cpu" if arguments.device == "cpu" else f"cuda-{arguments.precision}"
    ours = Ours(program, arguments.folder, sizes, device, arguments.threads)
    if arguments.verify or arguments.memory:
        ours.close()
        if arguments.verify:
            verify(arguments.folder, arguments.device)
        if arguments.memory:
            rows = memory(arguments, program, arguments.folder, sizes, device)
            if arguments.json:
                arguments.json.write_text(json.dumps(dict(precision=arguments.precision, rows=rows), indent=2) + "\n")
        return
    rows = compare(arguments, arguments.folder, ours)
    ours.close()
    print(f"{'workload':32} {'PyTorch ms':>11} {'etcbench ms':>11} {'ratio':>6}  PyTorch's setting")
    for row in rows:
        words = ", ".join(f"{key} {value}" for key, value in row["pytorch_setting"].items())
        print(f"{row['workload']:32} {row['pytorch_ms']:11.1f} {row['etcbench_ms']:11.1f} {row['ratio']:6.2f}  {words}")
    if arguments.json:
        machine = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor() or platform.machine()
        content = dict(machine=machine, pytorch=torch.__version__, device=arguments.device, rows=rows,
                       precision=arguments.precision, packets=sizes[0], flows=sizes[1])
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
