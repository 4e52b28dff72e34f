"""Measures how many packets per second `etcbench classify MODEL -` reads from a pipe, and the latency of its decisions.

    etcbench run ustc-traffic --data synth --size ci --models random_forest --seeds 1 --save-models
    python benches/peers/live.py results/.../models/MODEL.safetensors

Writes a generated capture to the pipe at rising rates, a millisecond of packets at a time, with current timestamps. A rate is
sustained if the writer is never more than --lag seconds behind, so that a recorder with a buffer of that length loses nothing.
The program itself reports the latency: from when a flow could be decided to when its line was written, for flows that could be
decided before the replay ended.
"""

import argparse
import re
import struct
import subprocess
import threading
import time

RATES = [10_000, 30_000, 100_000, 200_000, 300_000, 400_000, 600_000]


def packets(program, count):
    """Returns the header and the packets of a generated capture."""
    made = [program, "data", "synth", "--packets", str(count), "-o", "-"]
    data = subprocess.run(made, check=True, capture_output=True).stdout
    records, place = [], 24
    while place < len(data):
        length = struct.unpack_from("<I", data, place + 8)[0]
        records.append(data[place + 8 : place + 16 + length])
        place += 16 + length
    return data[:24], records


def replay(program, model, header, records, rate):
    child = subprocess.Popen(
        [program, "classify", model, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(child.stdout))
    told = []
    errors = threading.Thread(target=lambda: told.append(child.stderr.read().decode()))
    reader.start()
    errors.start()
    child.stdin.write(header)
    start, sent, lag = time.time(), 0, 0.0
    while sent < len(records):
        passed = time.time() - start
        due = min(len(records), int(passed * rate) + 1)
        if due > sent:
            seconds, micros = divmod(int(time.time() * 1e6), 1_000_000)
            now = struct.pack("<II", seconds, micros)
            child.stdin.write(b"".join(now + record for record in records[sent:due]))
            child.stdin.flush()
            sent = due
            lag = max(lag, time.time() - start - due / rate)
        time.sleep(0.001)
    child.stdin.close()
    child.wait()
    reader.join()
    errors.join()
    waits = re.search(r"(\d+) answers .*?median ([\d.]+) ms, 99 % within ([\d.]+) ms", told[0])
    return lag, waits.groups() if waits else (0, "-", "-"), sum(line.startswith(b"decision") for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--program", default="etcbench")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--lag", type=float, default=0.5)
    arguments = parser.parse_args()
    print(f"{'packets/s':>10} {'writer behind':>14} {'answers':>8} {'median ms':>10} {'99 % ms':>8}")
    header, records = packets(arguments.program, int(RATES[-1] * arguments.seconds))
    for rate in RATES:
        some = records[: int(rate * arguments.seconds)]
        lag, (answers, median, most), _ = replay(arguments.program, arguments.model, header, some, rate)
        kept = "" if lag <= arguments.lag else "  not sustained"
        print(f"{rate:10} {lag:12.3f} s {answers:>8} {median:>10} {most:>8}{kept}", flush=True)


if __name__ == "__main__":
    main()
