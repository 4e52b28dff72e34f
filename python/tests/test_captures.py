"""Flows, packets and classifications as tables, compared with the files that the command line writes."""

import os
import subprocess
import sys
import threading
import time

import numpy
import pandas
import polars
import pyarrow
import pyarrow.parquet
import pytest

import etcbench
from conftest import command


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, []),
        (
            {"direction": "unidirectional", "idle_timeout": 15, "packets": 2, "bytes": 64, "statistics": False},
            ["--direction", "unidirectional", "--idle-timeout", "15", "--packets", "2", "--bytes", "64", "--no-statistics"],
        ),
        (
            {"masks": ["ports", "ip_addresses"], "mask_method": "randomise", "seed": 3},
            ["--masks", "ports,ip_addresses", "--mask-method", "randomise", "--seed", "3"],
        ),
    ],
)
def test_flows_are_those_of_the_command_line(captures, tmp_path, options, words):
    file = tmp_path / "flows.parquet"
    assert command("features", *captures, *words, "-o", file).returncode == 0
    expected = pyarrow.parquet.read_table(file).drop_columns("dataset")
    table = etcbench.flows(captures, **options)
    found = pyarrow.table(table)
    assert found.num_rows > 50 and table.columns == found.column_names == expected.column_names
    for name in found.column_names:
        assert found[name].combine_chunks().equals(expected[name].combine_chunks()), name
    assert set(table.summaries) == set(map(str, captures))
    assert all("packets" in summary for summary in table.summaries.values())


def test_libraries_of_data_frames_take_them(captures):
    expected = pyarrow.table(etcbench.flows(captures[0]))
    assert polars.DataFrame(etcbench.flows(captures[0])).shape == (expected.num_rows, expected.num_columns)
    assert etcbench.flows(str(captures[0])).to_polars()["number"].to_list() == expected["number"].to_pylist()
    frame = etcbench.flows(captures[0]).to_pandas()
    assert isinstance(frame, pandas.DataFrame) and frame.shape == (expected.num_rows, expected.num_columns)
    reader = pyarrow.RecordBatchReader.from_stream(etcbench.flows(captures[0]))
    assert reader.schema == expected.schema == pyarrow.schema(etcbench.flows(captures[0]))


def test_packets_have_what_the_capture_has(captures):
    table = etcbench.packets(captures[0], bytes=20)
    found = polars.DataFrame(table)
    (summary,) = table.summaries.values()
    assert summary == f"{len(found)} packets, {len(found)} of TCP or UDP"
    assert found["number"].to_list() == list(range(1, len(found) + 1))
    assert found["bytes"].bin.size().max() == 20
    # The first byte of an IPv4 header, and its total length at the right offset.
    first = found.row(0, named=True)
    assert first["bytes"][0] == 0x45 and int.from_bytes(first["bytes"][2:4], "big") == first["network_length"]
    flows = polars.DataFrame(etcbench.flows(captures[0]))
    assert int(flows["statistic_packets"].sum()) == len(found)
    assert int(flows["statistic_payload_bytes"].sum()) == found["payload_length"].sum()


def test_a_table_is_read_once(captures):
    table = etcbench.flows(captures[0])
    pyarrow.table(table)
    with pytest.raises(etcbench.EtcbenchError, match="already read"):
        pyarrow.table(table)


def test_what_cannot_be_is_told_where_it_was_given(captures, tmp_path):
    missing = tmp_path / "no.pcap"
    for call in (
        lambda: etcbench.flows(missing),
        lambda: etcbench.flows([captures[0], missing]),
        lambda: etcbench.packets(missing),
    ):
        with pytest.raises(etcbench.EtcbenchError, match="no.pcap: .*No such file"):
            call()
    with pytest.raises(ValueError, match="did you mean `ports`"):
        etcbench.flows(captures, masks=["port"])
    with pytest.raises(etcbench.EtcbenchError, match="idle_timeout"):
        etcbench.flows(captures, idle_timeout=-1)
    with pytest.raises(etcbench.EtcbenchError, match="no capture"):
        etcbench.flows([])
    text = tmp_path / "text.pcap"
    text.write_text("no capture at all, only text that goes on for a while")
    # The second capture is only opened after the first was read, so the reader gets the error.
    with pytest.raises(Exception, match="text.pcap"):
        pyarrow.table(etcbench.flows([captures[0], text]))


def test_damage_is_told_and_what_is_before_it_is_there(captures, tmp_path):
    whole = subprocess.run(["zstd", "-dc", str(captures[0])], capture_output=True)
    if whole.returncode:
        pytest.skip("zstd is not here")
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(whole.stdout[: len(whole.stdout) // 2])
    table = etcbench.packets(cut)
    assert 0 < pyarrow.table(table).num_rows < pyarrow.table(etcbench.packets(captures[0])).num_rows
    assert "damaged at byte" in table.summaries[str(cut)]


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_reading_stops_where_nobody_reads_any_longer(captures):
    pyarrow.table(etcbench.flows(captures[0]))  # Starts the permanent threads.
    threads = len(os.listdir("/proc/self/task"))
    # Many more captures than are read ahead.
    for read in (etcbench.packets, etcbench.flows):
        reader = pyarrow.RecordBatchReader.from_stream(read([captures[0]] * 5000))
        assert reader.read_next_batch().num_rows > 0
        assert len(os.listdir("/proc/self/task")) == threads + 1
        del reader
        deadline = time.monotonic() + 10
        while len(os.listdir("/proc/self/task")) > threads and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(os.listdir("/proc/self/task")) == threads


def test_other_threads_go_on_while_flows_are_read(captures):
    counted = 0
    done = threading.Event()

    def count():
        nonlocal counted
        while not done.is_set():
            counted += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        polars.DataFrame(etcbench.flows(captures * 20))
    finally:
        done.set()
        thread.join()
    assert counted > 5


def test_classify_says_what_the_command_line_says(run, captures, tmp_path):
    model = run.models["random_split-random_forest-statistics-seed0"]
    file = tmp_path / "classes.csv"
    assert command("classify", model, *captures, "--probabilities", "-o", file).returncode == 0
    expected = pandas.read_csv(file)
    found = etcbench.classify(model, captures, probabilities=True).to_pandas()
    assert list(found) == list(expected) and len(found) == len(expected)
    for name in ("flow_id", "source", "destination", "transport", "class", "packets", "bytes", "start", "end"):
        assert found[name].tolist() == expected[name].tolist(), name
    numpy.testing.assert_array_equal(found["probability"].astype("f4"), expected["probability"].astype("f4"))
    with pytest.raises(etcbench.EtcbenchError, match="nothing.safetensors"):
        etcbench.classify(tmp_path / "nothing.safetensors", captures)
