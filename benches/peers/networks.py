"""Compares the networks in PyTorch with etcbench's: published sizes, the same numbers of flows, AdamW.

    cargo build --release --bench networks
    python benches/peers/networks.py --threads 2

PyTorch uses the fastest of its settings: one thread or the given number, oneDNN on or off. The networks are those of
tests/fixtures/deep/make_networks.py, with which the tests compare etcbench. Needs torch, numpy and safetensors.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/fixtures/deep"))
import make_networks  # noqa: E402

CLASSES = 12
NETWORKS = {
    "sequence_cnn": (lambda: make_networks.Multimodal(43, CLASSES), 133),
    "byte_cnn": (lambda: make_networks.Bytes(CLASSES), 784),
    "byte_transformer": (lambda: make_networks.Transformer(48, 16, CLASSES), 816),
    "deep_fingerprinting": (lambda: make_networks.Fingerprinting(CLASSES), 5000),
}


def with_own_dropout(model):
    """Replaces the counter-based dropout, which the golden values need, by PyTorch's."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, make_networks.Dropout):
                setattr(module, name, nn.Dropout(child.rate))
    return model


class Peer:
    def __init__(self, name, flows):
        make, columns = NETWORKS[name]
        self.model = with_own_dropout(make())
        self.rows, self.labels = torch.rand(flows, columns) * 2 - 1, torch.randint(0, CLASSES, (flows,))
        if isinstance(self.model, make_networks.Transformer):
            # No step is padding.
            self.rows[:, self.model.steps * self.model.patch :] = 1.0
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=0.001, weight_decay=0.01, fused=True)

    def training_step(self):
        self.model.train()
        self.optimiser.zero_grad()
        functional.cross_entropy(self.model(self.rows), self.labels).backward()
        self.optimiser.step()

    @torch.inference_mode()
    def prediction(self):
        self.model.eval()
        self.model(self.rows).softmax(1)


def timed(work, runs):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def newest_program():
    folder = ROOT / "target/release/deps"
    found = [path for path in folder.glob("networks-*") if not path.suffix and os.access(path, os.X_OK)]
    if not found:
        raise SystemExit("build the benchmark first: cargo build --release --bench networks")
    return str(max(found, key=lambda path: path.stat().st_mtime))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3, help="runs of each side per round")
    parser.add_argument("--program", help="the built benchmark; by default the newest in target/release/deps")
    parser.add_argument("--only", choices=NETWORKS, help="run only this network")
    arguments = parser.parse_args()
    command = [arguments.program or newest_program(), "serve", str(arguments.flows)]
    environment = os.environ | {"RAYON_NUM_THREADS": str(arguments.threads)}
    ours = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    ours.stdout.readline()

    def of_ours(workload, runs):
        ours.stdin.write(f"{workload} {runs}\n")
        ours.stdin.flush()
        return [float(value) for value in ours.stdout.readline().split()]

    print(f"{'workload':36} {'PyTorch ms':>11} {'etcbench ms':>11} {'ratio':>6}  PyTorch's setting")
    for name, kind in itertools.product(NETWORKS, ["training_step", "prediction"]):
        if arguments.only not in (None, name):
            continue
        peer, workload = Peer(name, arguments.flows), f"{name}_{kind}"
        work, settings = getattr(peer, kind), list(itertools.product({1, arguments.threads}, [True, False]))
        theirs, times = {setting: [] for setting in settings}, []
        of_ours(workload, 2)
        for _ in range(arguments.rounds):
            times += of_ours(workload, arguments.runs)
            for threads, onednn in settings:
                torch.set_num_threads(threads)
                with torch.backends.mkldnn.flags(enabled=onednn):
                    timed(work, 1)
                    theirs[threads, onednn] += timed(work, arguments.runs)
        best = min(settings, key=lambda setting: statistics.median(theirs[setting]))
        mine, other = statistics.median(times), statistics.median(theirs[best])
        setting = f"threads {best[0]}, oneDNN {'on' if best[1] else 'off'}"
        print(f"{workload:36} {other:11.1f} {mine:11.1f} {mine / other:6.2f}  {setting}", flush=True)
    ours.stdin.close()
    ours.wait()


if __name__ == "__main__":
    main()
