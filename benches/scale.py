#!/usr/bin/env python3
"""Measures a run over more flows than fit into memory: published packet sequences, streamed and sampled per class.

    pip install numpy pyarrow
    python benches/scale.py --rows 50000000 --folder /var/tmp/scale

Generates files in tcbench's Parquet layout (20 classes of different sizes, 10 packets per flow, one file per five million rows),
unless the folder has them, and runs these steps in processes of their own: reading with sampling and building the features and
splits (`--dry-run`), then the same again from the cache of flows with gradient boosting on the sampled flows. Prints wall time,
processor time and peak memory of each. The generated flows are not a benchmark of any model: classes differ by construction.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLASSES, PACKETS, FILE_ROWS, GROUP_ROWS = 20, 10, 5_000_000, 250_000
DEFINITION = """name = "scale"
title = "Generated packet sequences in tcbench's layout"
label_columns = ["application"]
[files]
patterns = {files}
[published]
layout = "tcbench"
labels = {{ application = "app" }}
most_flows_per_class = {most}
"""
EXPERIMENT = """title = "Scale"
seeds = [0]
models = ["gradient_boosting"]
[dataset]
names = ["scale"]
[selection]
label = "application"
[feature.sequences]
packets = 10
[split]
method = "stratified"
[model.gradient_boosting]
input = "sequences"
rounds = {rounds}
"""


def generate(path, number, rows):
    import numpy
    import pyarrow
    import pyarrow.parquet

    generator = numpy.random.default_rng(number)
    # Class sizes differ by a factor of 20.
    shares = numpy.arange(1, CLASSES + 1) / (CLASSES * (CLASSES + 1) / 2)
    typical = numpy.random.default_rng(0).integers(60, 1400, (CLASSES, PACKETS))
    inbound = numpy.random.default_rng(1).random((CLASSES, PACKETS))
    partial = path.with_suffix(".partial")
    writer = None
    for _ in range(0, rows, GROUP_ROWS):
        count = min(GROUP_ROWS, rows)
        rows -= count
        classes = generator.choice(CLASSES, count, p=shares)
        sizes = (typical[classes] + generator.normal(0, 200, (count, PACKETS))).clip(40, 1500).astype("int16")
        ways = (generator.random((count, PACKETS)) < inbound[classes]).astype("int8")
        times = numpy.cumsum(generator.exponential(0.02 * (1 + classes[:, None] % 5), (count, PACKETS)), axis=1)
        offsets = pyarrow.array(numpy.arange(count + 1) * PACKETS, pyarrow.int32())
        lists = lambda values: pyarrow.ListArray.from_arrays(offsets, pyarrow.array(values.ravel()))
        table = pyarrow.table({
            "app": pyarrow.array([f"application-{one:02}" for one in classes]),
            "pkts_size": lists(sizes),
            "pkts_dir": lists(ways),
            "timetofirst": lists((times - times[:, :1]).round(6)),
        })
        writer = writer or pyarrow.parquet.ParquetWriter(partial, table.schema, compression="zstd")
        writer.write_table(table)
    writer.close()
    partial.rename(path)


def measured(name, command, environment, folder):
    start = time.perf_counter()
    with open(folder / f"{name}.log", "wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name}: exit status {os.waitstatus_to_exitcode(status)}; see {folder / f'{name}.log'}")
    wall, cpu = time.perf_counter() - start, used.ru_utime + used.ru_stime
    print(f"{name:28} {wall:8.1f} s wall {cpu:8.1f} s processor {used.ru_maxrss / 1024:8.0f} MiB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--most", type=int, default=2_000, help="flows per class and file (default 2,000)")
    parser.add_argument("--rounds", type=int, default=20, help="of gradient boosting")
    parser.add_argument("--folder", type=Path, required=True, help="where to put 4 GB of files, in etcbench-scale")
    parser.add_argument("--etcbench", type=Path, default=ROOT / "target/release/etcbench")
    options = parser.parse_args()
    # A folder of its own, since the results in it are replaced.
    folder = options.folder.resolve() / "etcbench-scale"
    captures = folder / "captures/scale"
    captures.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, first in enumerate(range(0, options.rows, FILE_ROWS)):
        count = min(FILE_ROWS, options.rows - first)
        path = captures / f"part-{number:02}-{count}.parquet"
        if not path.exists():
            generate(path, number, count)
        paths.append(path)
    size = sum(path.stat().st_size for path in paths)
    print(f"{options.rows} flows of {PACKETS} packets in {size / 1e9:.2f} GB")
    for name, text in {
        "data/scale.toml": DEFINITION.format(most=options.most, files=json.dumps([path.name for path in paths])),
        "experiments/scale.toml": EXPERIMENT.format(rounds=options.rounds),
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    shutil.rmtree(folder / "results", ignore_errors=True)
    environment = dict(os.environ, ETCBENCH_DATA=str(folder / "captures"))
    run = [str(options.etcbench), "run", "scale"]
    measured("reading, features, splits", [*run, "--dry-run"], environment, folder)
    measured("the whole run from the cache", run, environment, folder)
    (results,) = (folder / "results").glob("scale*")
    records = [json.loads(line) for line in (results / "records.jsonl").read_text().splitlines()]
    for wanted in ("training_flows", "test_flows", "fit_wall_seconds", "predict_wall_seconds", "macro_f1"):
        for record in records:
            if record["metric"] == wanted and record.get("class") is None:
                print(f"{wanted} {record['value']:.6g}")


if __name__ == "__main__":
    main()
