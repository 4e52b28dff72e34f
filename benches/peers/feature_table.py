#!/usr/bin/env python3
"""Compares reading a CSV file of features with pandas, run alternately.

    pip install pandas
    cargo build --release
    python benches/peers/feature_table.py --rows 1000000

The file has 12 columns of integers, 12 of decimals with six places and a class. Ours is the whole process of
`etcbench data labels`, which reads every row and counts classes; pandas' time excludes the start of Python and imports. Prints
medians of wall time and of CPU time (user and system); the latter is less affected by other load on the machine."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEFINITION = """name = "table"
label_columns = ["kind"]
[files]
patterns = ["*.csv"]
[features]
format = "csv"
labels = { kind = "class" }
"""
PANDAS = """import os, sys, time
import pandas
begin, before = time.perf_counter(), os.times()
pandas.read_csv(sys.argv[1])
wall, after = time.perf_counter() - begin, os.times()
print(wall, after.user + after.system - before.user - before.system)
"""


def write(path, rows):
    import numpy
    import pandas
    random = numpy.random.default_rng(3)
    columns = {f"count_{place}": random.integers(0, 100_000, rows) for place in range(12)}
    columns |= {f"mean_{place}": numpy.round(random.uniform(0, 1500, rows), 6) for place in range(12)}
    columns["class"] = random.choice(["chat", "mail", "voip", "web"], rows)
    pandas.DataFrame(columns).to_csv(path, index=False)


def ours(program, project):
    import time
    begin, before = time.perf_counter(), os.times()
    subprocess.run([program, "data", "labels", "table"], cwd=project, check=True, capture_output=True)
    wall, after = time.perf_counter() - begin, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def pandas_of(path):
    output = subprocess.run([sys.executable, "-c", PANDAS, path], check=True, capture_output=True, text=True).stdout
    return tuple(map(float, output.split()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--program", default=ROOT / "target/release/etcbench", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "data/table").mkdir(parents=True)
        (folder / "experiments").mkdir()
        (folder / "data/table.toml").write_text(DEFINITION)
        path = folder / "data/table/rows.csv"
        write(path, arguments.rows)
        size = path.stat().st_size / 1e6
        times = {"etcbench": [], "pandas": []}
        for _ in range(arguments.repeats):
            times["etcbench"].append(ours(arguments.program.resolve(), folder))
            times["pandas"].append(pandas_of(path))
        print(f"{arguments.rows} rows, {size:.0f} MB")
        medians = {name: [statistics.median(values) for values in zip(*all_)] for name, all_ in times.items()}
        for name, (wall, cpu) in medians.items():
            print(f"{name}: {wall:.2f} s wall, {cpu:.2f} s of processor time")
        print(f"pandas / etcbench: {medians['pandas'][0] / medians['etcbench'][0]:.2f} wall, "
              f"{medians['pandas'][1] / medians['etcbench'][1]:.2f} processor time")


if __name__ == "__main__":
    main()
