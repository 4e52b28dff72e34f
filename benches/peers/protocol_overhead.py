#!/usr/bin/env python3
"""Measures what the protocol of external models costs: scikit-learn's forest as `models/sklearn-forest`, and by hand.

    pip install scikit-learn
    python benches/peers/protocol_overhead.py                  # 100,000 flows of 6 x 128 bytes
    python benches/peers/protocol_overhead.py --flows 20000 --trees 30 --repeat 5

Generates captures and exports their arrays once. Then in turn, `--repeat` times, on the same two cores: `etcbench run` with the
model, without a cache, and a separate Python process that calls scikit-learn on the exported arrays with the same keys, rows,
seed and number of threads. Both must give the same probabilities, bit by bit.

Times of the model are the records `fit_wall_seconds` and `predict_wall_seconds` (and their CPU time, of etcbench and the
program together): they include starting the program, its imports, writing and reading arrays, and checking answers. By hand,
fit and predict are timed alone; importing and loading are printed beside. The overhead compares with fit and predict alone.
Memory is what etcbench's own process holds when the program starts, with all features, and the most that it holds afterwards.
"""

import argparse
import csv
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKETS, BYTES, CLASSES = 6, 128, 38
EXPERIMENT = f"""title = "Overhead of the protocol"
seeds = [0]
models = ["sklearn-forest"]
[dataset]
names = ["synth"]
[selection]
label = "application"
[feature]
packets = {PACKETS}
bytes = {BYTES}
[split]
method = "stratified"
[model.sklearn-forest]
input = "bytes"
trees = %d
fit_seconds = 86400
"""


def cpu_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def by_hand(folder, trees, threads):
    """Calls scikit-learn on the exported arrays and prints times; writes the probabilities next to them."""
    start, cpu = time.perf_counter(), cpu_seconds()
    import numpy
    from sklearn.ensemble import RandomForestClassifier

    folder = Path(folder)
    tokens = numpy.load(folder / "bytes.npy", mmap_mode="r")
    tokens = tokens.reshape(len(tokens), -1)
    labels = numpy.load(folder / "labels.npy")
    training, test = (numpy.load(folder / f"splits/seed0/{part}.npy") for part in ("training", "test"))
    training, labels, test = tokens[training], labels[training], tokens[test]
    begun, cpu_begun = time.perf_counter(), cpu_seconds()
    forest = RandomForestClassifier(trees, max_features="sqrt", random_state=0, n_jobs=threads)
    forest.fit(training, labels)
    fitted, cpu_fitted = time.perf_counter(), cpu_seconds()
    probabilities = forest.predict_proba(test)
    end, cpu_end = time.perf_counter(), cpu_seconds()
    numpy.save(folder / "by_hand.npy", probabilities.astype("f4"))
    times = {"fit": fitted - begun, "predict": end - fitted, "load": begun - start}
    cpus = {"fit": cpu_fitted - cpu_begun, "predict": cpu_end - cpu_fitted, "load": cpu_begun - cpu}
    print(json.dumps({"wall": times, "cpu": cpus, "rows": [len(training), len(test)]}))


def resident(process):
    """Returns the resident bytes of a process; 0 when it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines.get("VmRSS", "0 kB").split()[0]) * 1024


def is_running(command):
    """Returns whether a process with this command line exists."""
    wanted = b"".join(word.encode() + b"\0" for word in command)
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path(f"/proc/{process}/cmdline").read_bytes() == wanted:
                return True
        except OSError:
            pass
    return False


def by_protocol(program, project, threads):
    """Runs the experiment; returns wall and CPU times of fit and predict, their parts, and memory before and after."""
    command = [program, "run", "overhead", "--no-cache", "--overwrite", "--threads", str(threads), "--quiet"]
    with open(project / "log", "w") as log:
        process = subprocess.Popen(command, cwd=project, stdout=log, stderr=log)
        before = most = 0
        begun = False
        while process.poll() is None:
            begun = begun or is_running(["python3", "forest.py"])
            seen = resident(process.pid)
            most, before = (max(most, seen), before) if begun else (most, seen)
            time.sleep(0.02)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: {(project / 'log').read_text()}")
    (folder,) = (path for path in (project / "results").iterdir() if (path / "run.json").is_file())
    with open(folder / "records.csv", newline="") as file:
        records = {row["metric"]: float(row["value"]) for row in csv.DictReader(file) if row["value"]}
    found = {
        kind: {stage: records[f"{stage}_{kind}_seconds"] for stage in ("fit", "predict")} for kind in ("wall", "cpu")
    }
    found["parts"] = {stage: records[f"{stage}_wall_seconds"] for stage in ("start", "arrays")}
    return found, before, most, folder


def same_probabilities(folder, arrays):
    """Returns whether the stored predictions are the bits of those by hand; needs numpy."""
    import numpy

    flow_ids = (arrays / "flow_ids.txt").read_text().splitlines()
    expected = numpy.load(arrays / "by_hand.npy")
    of_flow = dict(zip((flow_ids[row] for row in numpy.load(arrays / "splits/seed0/test.npy")), expected))
    (predictions,) = (folder / "predictions").glob("*sklearn-forest*.csv")
    with open(predictions, newline="") as file:
        lines = csv.reader(file)
        head = next(lines)
        first = next(place for place, name in enumerate(head) if name.startswith("probability_"))
        rows = [(line[0], numpy.array(line[first:], dtype="f4")) for line in lines]
    return len(rows) == len(expected) and all((of_flow[flow] == row).all() for flow, row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--etcbench", default=str(ROOT / "target/release/etcbench"))
    parser.add_argument("--flows", type=int, default=100_000)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", help="for captures and arrays; a temporary folder by default")
    parser.add_argument("--by-hand", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.by_hand:
        folder, trees, threads = arguments.by_hand
        return by_hand(folder, int(trees), int(threads))
    program = os.path.abspath(arguments.etcbench)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    # The model runs the Python that runs this script.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        project = Path(folder)
        (project / "experiments").mkdir()
        (project / "experiments/overhead.toml").write_text(EXPERIMENT % arguments.trees)
        shutil.copytree(ROOT / "models/sklearn-forest", project / "models/sklearn-forest")

        def prepare(*words):
            subprocess.run([program, *words], cwd=project, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        each = -(-arguments.flows // CLASSES)
        prepare("data", "synth", "--flows-per-class", str(each), "--captures-per-class", "5", "-o", "data/synth")
        prepare("export", "overhead", "-o", "arrays")
        arrays = project / "arrays/default"
        size = (arrays / "bytes.npy").stat().st_size
        hand, protocol, memory = [], [], []
        for turn in range(arguments.repeat):
            command = [sys.executable, __file__, "--by-hand", str(arrays), str(arguments.trees), str(arguments.threads)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            hand.append(json.loads(output))
            found, *held, results = by_protocol(program, project, arguments.threads)
            protocol.append(found)
            memory.append(held)
            if not same_probabilities(results, arrays):
                sys.exit("the probabilities differ: the two have not done the same work")
            both = [sum(one[-1]["wall"][stage] for stage in ("fit", "predict")) for one in (hand, protocol)]
            print(f"turn {turn + 1}: by hand {both[0]:.2f} s, as a model {both[1]:.2f} s", file=sys.stderr, flush=True)
        rows = hand[0]["rows"]
        print(f"\n{rows[0]} training and {rows[1]} test rows of {PACKETS} x {BYTES} bytes, {arguments.trees} trees, "
              f"{arguments.threads} threads; medians of {arguments.repeat}\n")
        print("| | fit s | predict s | both s | overhead |\n|---|---:|---:|---:|---:|")

        def median(runs, kind, stage):
            return statistics.median(run[kind][stage] for run in runs)

        for kind in ("wall", "cpu"):
            own = [statistics.median(run[kind]["fit"] + run[kind]["predict"] for run in runs) for runs in (hand, protocol)]
            for name, runs, both in (("by hand", hand, own[0]), ("as a model", protocol, own[1])):
                overhead = f"{100 * (both / own[0] - 1):.1f} %" if runs is protocol else ""
                print(f"| {name}, {kind} | {median(runs, kind, 'fit'):.2f} | {median(runs, kind, 'predict'):.2f} | {both:.2f} | {overhead} |")
        parts = ", ".join(f"{stage} {median(protocol, 'parts', stage):.2f} s" for stage in ("start", "arrays"))
        load = median(hand, "wall", "load")
        print(f"\nIn its fit: {parts}. By hand, importing and loading take {load:.2f} s more.")
        before, most = (statistics.median(column) for column in zip(*memory))
        print(f"Memory of etcbench: {before / 1e6:.0f} MB before the program starts, at most {most / 1e6:.0f} MB afterwards; "
              f"the array of bytes has {size / 1e6:.0f} MB.")


if __name__ == "__main__":
    main()
