"""Compares the classical models with scikit-learn and XGBoost: same arrays, same split, same parameters,
run alternately, each in a separate process.

    python benches/peers/classical.py --data PATH [--flows flows.parquet] [--models svm,knn] [--sets vpn15,bytes]
                                      [--rows 5000,20000] [--seeds 0,1,2] [--threads 2] [--limit 900]

PATH is the folder that contains `iscxvpn2016-time-features/`. The byte and statistics sets come from a Parquet file
written by `etcbench features` from captures named CLASS-NAME.pcap, such as USTC-TFC2016's:

    etcbench features ustc-tfc2016-sessions/*.pcap --idle-timeout 1e8 --active-timeout 1e8 --packets 6 --bytes 128 -o flows.parquet

If a set has fewer rows than requested, rows are drawn repeatedly with a small jitter: statistics are multiplied by
1 + N(0, 0.01), and 1 % of the non-padding bytes are replaced by random ones. A fifth of the rows, drawn per class after
the jitter, are the test rows. Both sides start from the same arrays (tokens in 16 bits, statistics as 32-bit floats);
preparing columns (bytes divided by 255 with a column per packet for the share of bytes present; the signed logarithm
of statistics) and standardising are part of the measured time.

The table has, per model, set and number of rows, medians over seeds: seconds to fit and predict of both sides, the ratio
of wall times (in parentheses that of CPU times, which are less affected by other load, except below a hundredth of a
second), the growth of each process, the mean macro F1 of both, and the largest |z| of McNemar's test (1.96 is the 5 %
level). A side that exceeds `--limit` seconds of CPU time is ended, which the table shows.

`--json FILE` appends every measurement to a file, and `--table FILE` prints the table of such a file, so that the table
can be measured in parts; later measurements of the same model, set, rows and seed replace earlier ones.

Needs numpy, scikit-learn, xgboost and pyarrow; tested with Python 3.11, numpy 2.4, scikit-learn 1.9, xgboost 3.2.
"""

import argparse
import json
import os
import pathlib
import resource
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAD = 256
#: etcbench's parameters (TOML) of every model; `make_peer` has the same for the peer.
PARAMETERS = {
    "svm": "cost = 10.0",
    "svm_linear": 'kernel = "linear"',
    "random_forest": "trees = 100",
    "knn": "k = 5",
    "gradient_boosting": "rounds = 50",
}


def read_arff(path):
    """Reads the numeric columns and the class, the last column, of an ARFF file without sparse rows."""
    values, labels, data = [], [], False
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        line = line.strip()
        if not line or line.startswith("%"):
            continue
        if data:
            *row, label = line.split(",")
            values.append([float(value) for value in row])
            labels.append(label.strip())
        elif line.lower().startswith("@data"):
            data = True
    names = sorted(set(labels))
    return np.array(values, dtype=np.float32), np.array([names.index(label) for label in labels], dtype=np.uint32)


def read_flows(path, packets=6, length=128):
    """Reads the tokens, statistics and classes of flows written by `etcbench features`."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(path)
    names = [pathlib.PurePath(capture).stem for capture in table["capture"].to_pylist()]
    classes = sorted(set(names))
    labels = np.array([classes.index(name) for name in names], dtype=np.uint32)
    columns = [name for name in table.schema.names if name.startswith("statistic_")]
    values = np.stack([table[name].to_numpy().astype(np.float32) for name in columns], axis=1)
    tokens = np.full((len(labels), packets, length), PAD, dtype=np.float32)
    for packet in range(packets):
        for row, content in enumerate(table[f"packet_{packet}_bytes"].to_pylist()):
            if content:
                kept = np.frombuffer(content[:length], dtype=np.uint8)
                tokens[row, packet, : len(kept)] = kept
    return tokens.reshape(len(labels), -1), values, labels


def sample(values, labels, rows, seed, tokens):
    """Draws `rows` rows: a subset, or all and then jittered repetitions."""
    generator = np.random.default_rng([seed, rows])
    order = generator.permutation(len(labels))
    if rows > len(labels):
        order = np.concatenate([order, generator.integers(0, len(labels), rows - len(labels))])
    order = order[:rows]
    result, labels = values[order], labels[order]
    again = slice(len(values), rows)
    if rows > len(values) and tokens:
        changed = generator.random(result[again].shape, dtype=np.float32) < 0.01
        noise = generator.integers(0, 256, changed.shape).astype(np.float32)
        result[again] = np.where(changed & (result[again] != PAD), noise, result[again])
    elif rows > len(values):
        result[again] *= 1 + 0.01 * generator.standard_normal(result[again].shape, dtype=np.float32)
    _, labels = np.unique(labels, return_inverse=True)
    test = np.zeros(rows, dtype=bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        test[members[: max(1, len(members) // 5)]] = True
    return result, labels.astype(np.uint32), np.flatnonzero(~test), np.flatnonzero(test)


def write_safetensors(path, arrays):
    """Writes the safetensors format: the header's length, a JSON header, then the arrays."""
    header, offset = {}, 0
    for name, array in arrays.items():
        kind = {np.dtype("<f4"): "F32", np.dtype("<u4"): "U32"}[array.dtype]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).data)


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        content = file.read()
    return {
        name: np.frombuffer(
            content[slice(*entry["data_offsets"])], dtype={"F32": "<f4", "U32": "<u4"}[entry["dtype"]]
        ).reshape(entry["shape"])
        for name, entry in header.items()
    }


def status(line):
    """Reads a line of this process's status, in bytes."""
    for text in pathlib.Path("/proc/self/status").read_text().splitlines():
        if text.startswith(line + ":"):
            return int(text.split()[1]) * 1024
    return 0


def prepared(arrays, model, rows):
    """Prepares rows for the peer, with the same columns as etcbench's models compute."""
    values = arrays["values"][rows]
    if model in ("random_forest", "gradient_boosting"):
        return values.astype(np.float32, copy=False)
    if "shape" not in arrays:
        return (np.sign(values) * np.log1p(np.abs(values))).astype(np.float32)
    packets, length = arrays["shape"]
    tokens = values.reshape(len(values), packets, length)
    there = tokens != PAD
    columns = np.zeros((len(values), packets, length + 1), dtype=np.float32)
    np.divide(tokens, np.float32(255), out=columns[:, :, :length], where=there)
    columns[:, :, length] = there.mean(axis=2)
    return columns.reshape(len(values), -1)


def make_peer(model, threads, standardise):
    import xgboost
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    estimator = {
        "svm": lambda: SVC(C=10.0),
        "svm_linear": lambda: SVC(kernel="linear"),
        "random_forest": lambda: RandomForestClassifier(100, random_state=0, n_jobs=threads),
        "knn": lambda: KNeighborsClassifier(5, algorithm="brute", n_jobs=threads),
        "gradient_boosting": lambda: xgboost.XGBClassifier(n_estimators=50, tree_method="hist", n_jobs=threads),
    }[model]()
    return make_pipeline(StandardScaler(), estimator) if standardise else estimator


def run_peer(path, model, predictions, threads):
    """Runs the peer's side, in a separate process."""
    arrays = read_safetensors(path)
    if "shape" in arrays:
        # Both sides store tokens in 16 bits before preparing columns.
        arrays["values"] = arrays["values"].astype(np.uint16)
    labels, training, test = arrays["labels"].astype(np.int64), arrays["training"], arrays["test"]
    standardise = model.startswith("svm") or (model == "knn" and "shape" not in arrays)
    estimator = make_peer(model, threads, standardise)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    started = time.perf_counter(), time.process_time()
    estimator.fit(prepared(arrays, model, training), labels[training])
    fitted = time.perf_counter(), time.process_time()
    times = {"fit": fitted[0] - started[0], "fit_cpu": fitted[1] - started[1]}
    # Printed now, in case the limit ends the process before the prediction is done.
    print(json.dumps({**times, "memory": max(0, status("VmHWM") - before)}), flush=True)
    predicted = estimator.predict(prepared(arrays, model, test))
    done = time.perf_counter(), time.process_time()
    grown = max(0, status("VmHWM") - before)
    predicted.astype("<u4").tofile(predictions)
    times |= {"predict": done[0] - fitted[0], "predict_cpu": done[1] - fitted[1]}
    print(json.dumps({**times, "memory": grown}))


def macro_f1(truth, predicted):
    scores = []
    for label in np.unique(truth):
        hits = np.sum((truth == label) & (predicted == label))
        scores.append(2 * hits / (np.sum(truth == label) + np.sum(predicted == label)))
    return float(np.mean(scores))


def mcnemar(truth, ours, peer):
    """Returns the z of McNemar's test with continuity correction; positive if etcbench is right more often."""
    only_ours = int(np.sum((ours == truth) & (peer != truth)))
    only_peer = int(np.sum((ours != truth) & (peer == truth)))
    if only_ours + only_peer == 0:
        return 0.0
    difference = only_ours - only_peer
    return float(np.sign(difference) * max(0, abs(difference) - 1) / np.sqrt(only_ours + only_peer))


def bench_program():
    """Builds etcbench's side and returns its path."""
    command = ["cargo", "build", "--release", "--locked", "--bench", "classical", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    messages = [json.loads(line) for line in lines if line.startswith("{")]
    return [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "classical"][-1]


def run(command, threads, limit):
    """Runs one side within the CPU time limit; returns what it measured, and whether it was ended."""
    environment = dict(os.environ)
    for name in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]:
        environment[name] = str(threads)
    # Waiting threads must not take CPU time from working ones on a loaded machine.
    environment["OMP_WAIT_POLICY"] = "PASSIVE"

    def limited():
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 10))

    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=limited)
    lines = done.stdout.strip().splitlines()
    measured = json.loads(lines[-1]) if lines else {}
    if done.returncode == -signal.SIGXCPU:
        return {**measured, "ended": limit}
    if done.returncode != 0:
        sys.exit(f"{command}: exit code {done.returncode}")
    return measured


def main():
    parser = argparse.ArgumentParser(description="The classical models against scikit-learn and XGBoost.")
    parser.add_argument("--data", type=pathlib.Path, help="folder that contains iscxvpn2016-time-features/")
    parser.add_argument("--flows", type=pathlib.Path, help="Parquet file of `etcbench features`")
    parser.add_argument("--models", default="svm,random_forest,knn,gradient_boosting")
    parser.add_argument("--sets", default="vpn15,vpn60,bytes,statistics")
    parser.add_argument("--rows", default="5000,20000")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, default=900, help="CPU seconds after which a side is ended")
    parser.add_argument("--json", type=pathlib.Path, help="append every measurement to this file")
    parser.add_argument("--table", type=pathlib.Path, help="print the table of such a file without measuring")
    parser.add_argument("--program", help="etcbench's side, if already built")
    parser.add_argument("--implementation", default="fast", choices=["fast", "reference"], help="of etcbench's side")
    parser.add_argument("--only", choices=["ours", "peer"], help="leave the other side out")
    parser.add_argument("--peer", nargs=3, metavar=("FILE", "MODEL", "PREDICTIONS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        return run_peer(*options.peer, options.threads)
    if options.table:
        return print_table(options.table)
    sets = {}
    wanted = options.sets.split(",")
    for name, seconds in [("vpn15", 15), ("vpn60", 60)]:
        if name in wanted:
            folder = options.data / "iscxvpn2016-time-features"
            sets[name] = (*read_arff(folder / f"TimeBasedFeatures-Dataset-{seconds}s-VPN.arff"), False)
    if "bytes" in wanted or "statistics" in wanted:
        tokens, values, labels = read_flows(options.flows)
        sets.update(bytes=(tokens, labels, True), statistics=(values, labels, False))
    program = options.program or bench_program()
    print(f"load before: {os.getloadavg()[0]:.2f}, threads: {options.threads}, seeds: {options.seeds}")
    print(HEADER)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for rows in map(int, options.rows.split(",")):
            for name in wanted:
                for model in options.models.split(","):
                    compare(options, program, folder, sets[name], name, model, rows)
    print(f"load after: {os.getloadavg()[0]:.2f}")


def compare(options, program, folder, data, name, model, rows):
    """Measures one row of the table and prints it."""
    values, labels, tokens = data
    records = []
    for seed in map(int, options.seeds.split(",")):
        arrays = dict(zip(["values", "labels", "training", "test"], sample(values, labels, rows, seed, tokens)))
        arrays["training"], arrays["test"] = (arrays[part].astype(np.uint32) for part in ("training", "test"))
        if tokens:
            arrays["shape"] = np.array([6, 128], dtype=np.uint32)
        path = folder / "data.safetensors"
        write_safetensors(path, arrays)
        truth = arrays["labels"][arrays["test"]]
        sides, predicted = {}, {}
        for side in [options.only] if options.only else ["ours", "peer"]:
            output = folder / side
            if side == "ours":
                kind = model.removesuffix("_linear")
                command = [program, path, kind, options.implementation, PARAMETERS[model], output]
            else:
                command = [sys.executable, __file__, "--threads", str(options.threads), "--peer", path, model, output]
            sides[side] = run([str(part) for part in command], options.threads, options.limit)
            if "ended" not in sides[side]:
                predicted[side] = np.fromfile(output, dtype="<u4")
        scores = {side: macro_f1(truth, predicted[side]) for side in predicted}
        z = mcnemar(truth, predicted["ours"], predicted["peer"]) if len(predicted) == 2 else None
        record = {"model": model, "data": name, "rows": rows, "seed": seed, **sides, "macro_f1": scores, "z": z}
        records.append({**record, "load": os.getloadavg()[0]})
        if options.json:
            with open(options.json, "a") as file:
                file.write(json.dumps(records[-1]) + "\n")
    print(table_row(records), flush=True)


HEADER = """\
| model | data | rows | seeds | fit ours / peer (s) | ratio (cpu) | predict ours / peer (s) | ratio (cpu) \
| growth ours / peer (MiB) | macro F1 ours / peer | largest McNemar z |
|---|---|---|---|---|---|---|---|---|---|---|"""


#: etcbench's CPU time is counted by the scheduler and may lag by a tick; below this many seconds it is not meaningful.
LAG = 0.01


def print_table(path):
    """Prints the table of earlier measurements."""
    kept = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        kept[record["model"], record["data"], record["rows"], record["seed"]] = record
    print(HEADER)
    groups = {}
    for (model, data, rows, _), record in sorted(kept.items(), key=lambda item: item[0][3]):
        groups.setdefault((model, rows, data), []).append(record)
    models, sets = list(PARAMETERS), ["vpn15", "vpn60", "bytes", "statistics"]
    for key in sorted(groups, key=lambda key: (models.index(key[0]), key[1], sets.index(key[2]))):
        print(table_row(groups[key]))


def table_row(records):
    """Formats a row of the table from the records of its seeds."""
    limits = [record[side]["ended"] for record in records for side in ("ours", "peer") if "ended" in record.get(side, {})]

    def median(side, key, form):
        found = [record[side][key] for record in records if key in record.get(side, {})]
        if len(found) == len(records):
            return form.format(statistics.median(found))
        return f"ended at {limits[0]} s cpu" if limits else "-"

    def ratio(key, clock):
        found = []
        for record in records:
            ours, peer = record.get("ours", {}), record.get("peer", {})
            if clock and ours.get(key + clock, 0) < LAG:
                continue
            if key + clock in ours and key + clock in peer:
                found.append((ours[key + clock] / max(peer[key + clock], 1e-6), ""))
            elif clock and key + clock in ours and "ended" in peer:
                # The peer needed more than its remaining CPU time.
                left = peer["ended"] - (peer.get("fit_cpu", 0) if key == "predict" else 0)
                found.append((ours[key + clock] / left, "< "))
        if len(found) < len(records):
            return "-"
        mark = max(mark for _, mark in found)
        return f"{mark}{statistics.median([value for value, _ in found]):.2f}"

    def score(side):
        found = [record["macro_f1"][side] for record in records if side in record["macro_f1"]]
        return f"{statistics.mean(found):.4f}" if found else "-"

    times = [f"{median('ours', key, '{:.3f}')} / {median('peer', key, '{:.3f}')} | {ratio(key, '')} ({ratio(key, '_cpu')})"
             for key in ("fit", "predict")]
    def memory_of(side):
        found = [record[side]["memory"] for record in records if "memory" in record.get(side, {})]
        return f"{statistics.median(found) / 2**20:.0f}" if len(found) == len(records) else "-"

    memory = f"{memory_of('ours')} / {memory_of('peer')}"
    zs = [record["z"] for record in records if record["z"] is not None]
    worst = f"{max(zs, key=abs):.2f}" if zs else "-"
    first = records[0]
    return (f"| {first['model']} | {first['data']} | {first['rows']} | {len(records)} | {times[0]} | {times[1]} | {memory} "
            f"| {score('ours')} / {score('peer')} | {worst} |")


main()
