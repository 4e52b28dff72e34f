"""The command line in the wheel: exit codes, pipes, signals, child processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import etcbench
from conftest import command

PROGRAM = Path(sys.executable).with_name("etcbench")


def test_exit_codes_are_those_of_the_program(checkout, project):
    version = command("--version")
    assert (version.returncode, version.stdout) == (0, f"etcbench {etcbench.__version__}\n")
    assert command("frobnicate").returncode == 2
    bad = command("--project", project, "run", "experiments/no-such.toml")
    assert bad.returncode == 2 and bad.stderr.startswith("etcbench: ") and bad.stderr.count("\n") == 1
    impossible = command("--project", checkout, "audit", checkout / "paper/published/table3.csv")
    assert impossible.returncode == 1
    module = subprocess.run([sys.executable, "-m", "etcbench", "--version"], capture_output=True, text=True)
    assert module.stdout == version.stdout


def test_a_reader_that_goes_away_ends_it_quietly(captures):
    files = " ".join(map(str, captures))
    shell = f"'{PROGRAM}' features {files} --format csv -o - | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", shell], capture_output=True, text=True)
    assert done.stdout.startswith("dataset,capture,number") and "panic" not in done.stderr


def test_an_interrupt_ends_it_with_its_code_and_the_run_goes_on_from_there(project):
    arguments = ["run", "experiments/table2.toml", "--data", "lab", "--size", "demo", "--models", "attention_lstm"]
    run = subprocess.Popen([PROGRAM, "--project", project, *arguments], stderr=subprocess.PIPE, text=True, cwd=project)
    # The cache exists once the flows do.
    deadline = time.monotonic() + 120
    while not list(project.glob("results/cache/flows/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGINT, told
    assert "stopped by SIGINT" in told
    assert not list(project.glob("results/table2*"))


def test_runs_in_several_processes_start_the_interpreter_again(project):
    arguments = ["run", "experiments/table2.toml", "--data", "lab", "--size", "demo", "--models", "knn", "--jobs", "2"]
    done = command("--project", project, *arguments, "--set", "selection.maximum_flows_per_class=20", cwd=project)
    assert done.returncode == 0, done.stderr
    (folder,) = project.glob("results/table2*")
    units = json.loads((folder / "units.json").read_text())
    assert len(units) == 2 and all(unit["process"] != os.getpid() for unit in units)
