"""The folder of engines: stale, foreign, damaged and unproven ones are named and never loaded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys

import pytest

import edgeflow_runtime.backends.tensorrt.engine_store as module
from edgeflow_runtime.backends.tensorrt.engine_record import (
    COMPILE_CHECK,
    EngineKey,
    EngineRecord,
)
from edgeflow_runtime.backends.tensorrt.engine_store import EngineStore
from edgeflow_runtime.errors import EngineError, StorageError
from edgeflow_runtime.golden import Replay

KEY = EngineKey(
    backend="tensorrt",
    graph="flow",
    onnx="ab" * 32,
    version="10.3.0",
    build=26,
    gpu="Orin",
    compute_capability="8.7",
    multiprocessors=8,
    driver="12.6",
    l4t="36.4.3",
)


@pytest.fixture
def store(tmp_path):
    return EngineStore(tmp_path / "fan_id_00.edgeflow")


def keep(store, content=b"engine", key=KEY, proof=None):
    sha256 = hashlib.sha256(content).hexdigest()
    record = EngineRecord(
        record_version=1,
        key=key,
        buckets=(1, 16),
        precision="fp32",
        layers={"FLOAT": 3},
        workspace=1 << 29,
        seconds=1.5,
        file=store.name_for(key, sha256),
        sha256=sha256,
        proof=proof or Replay(16, (1, 16), 1e-6, 1e-4),
    )
    with store.building():
        candidate = store.folder / ".flow-tensorrt.building"
        candidate.write_bytes(content)
        store.keep(record, candidate)
    return record


def test_what_was_kept_is_loaded(store):
    record = keep(store)
    assert store.load(KEY) == (record, b"engine")
    assert not list(store.folder.glob("*.building"))


def test_nothing_was_ever_built(store):
    assert store.load(KEY) is None


def test_a_new_engine_replaces_the_old_file_of_its_kind_only(store):
    keep(store, b"old")
    keep(store, b"rtx", dataclasses.replace(KEY, backend="tensorrt-rtx"))
    keep(store, b"audio", dataclasses.replace(KEY, graph="audio"))
    keep(store, b"new")
    assert store.load(KEY)[1] == b"new"
    assert sorted(p.read_bytes() for p in store.folder.glob("*.engine")) == [
        b"audio",
        b"new",
        b"rtx",
    ]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("onnx", "cd" * 32, "another export"),
        ("version", "10.16.1", "TensorRT 10.3.0, here is 10.16.1"),
        ("build", 30, "build 26, here is 30"),
        ("gpu", "Thor", "the GPU Orin, here is Thor"),
        ("compute_capability", "11.0", "compute capability 8.7, here is 11.0"),
        ("multiprocessors", 16, "8 multiprocessors, here are 16"),
        ("driver", "13.2", "CUDA 12.6, here is 13.2"),
        ("l4t", None, "Jetson Linux 36.4.3, here is none"),
    ],
)
def test_stale_and_foreign_engines_are_named(store, field, value, said):
    record = keep(store)
    with pytest.raises(EngineError) as caught:
        store.load(dataclasses.replace(KEY, **{field: value}))
    assert record.file in str(caught.value)
    assert said in str(caught.value)
    assert "run edgeflow build" in str(caught.value)


def test_damage_is_found_before_anything_is_run(store):
    record = keep(store)
    (store.folder / record.file).write_bytes(b"enginf")
    with pytest.raises(EngineError, match="damaged: its hash differs"):
        store.load(KEY)
    (store.folder / record.file).unlink()
    with pytest.raises(EngineError, match="is missing"):
        store.load(KEY)


def test_an_engine_that_never_ran_is_not_loaded(store):
    record = keep(store)
    path = store.folder / "flow-tensorrt.json"
    path.write_text(json.dumps(dataclasses.replace(record, proof=None).to_dict()))
    with pytest.raises(EngineError, match=COMPILE_CHECK):
        store.load(KEY)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "version None"),
        ('{"record_version": 2}', "version 2, this edgeflow reads 1"),
        ('{"record_version": 1}', "missing key"),
        ('{"record_version": "1"}', "version '1'"),
        ("[" * 90_000, "cannot be read"),
        ("[" * 200_000, "cannot be read"),
    ],
)
def test_a_damaged_record_is_one_line(store, text, said):
    keep(store)
    (store.folder / "flow-tensorrt.json").write_text(text)
    with pytest.raises(EngineError, match=said):
        store.load(KEY)


HOLD = """
import sys
from edgeflow_runtime.backends.tensorrt.engine_store import EngineStore
with EngineStore(sys.argv[1]).building():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_build_at_once(store):
    command = [sys.executable, "-c", HOLD, store.bundle]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(EngineError, match=f"process {other.pid} is building"), store.building():
            pass
        other.communicate()
    with store.building():
        pass


@pytest.mark.parametrize(
    "name",
    [
        ".flow-tensorrt.building",
        "..flow-tensorrt.building.0a1b2c",  # as atomic_file names what it writes
        ".tensorrt.timing.0a1b2c",
        "flow-tensorrt-0123456789ab.engine",
    ],
)
def test_what_a_killed_build_left_is_swept(store, name):
    keep(store)
    left = store.folder / name
    left.write_bytes(b"half")
    with store.building():
        assert not left.exists()
    assert store.load(KEY) is not None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"file": "/etc/passwd"}, "not its own"),
        ({"file": "../outside.engine"}, "not its own"),
        ({"file": "a\0b"}, "not its own"),
        ({"sha256": "\0" + "a" * 63}, "'sha256' is none"),
        ({"sha256": "\ud800" + "a" * 63}, "'sha256' is none"),
        ({"sha256": "a\nb"}, "'sha256' is none"),
        ({"buckets": []}, "batch sizes ascend"),
        ({"buckets": [0, 4]}, "batch sizes ascend"),
        ({"buckets": [16, 1]}, "batch sizes ascend"),
        ({"proof": {"windows": 3, "buckets": [1, 16], "nll": 9.0, "allowed": 1e-4}}, "proves"),
        ({"proof": {"windows": 3, "buckets": [1], "nll": 0.0, "allowed": 1e-4}}, "proves"),
    ],
)
def test_a_record_that_makes_no_sense_is_refused(store, changes, said):
    record = keep(store)
    path = store.folder / "flow-tensorrt.json"
    path.write_text(json.dumps(record.to_dict() | changes))
    with pytest.raises(EngineError, match=said):
        store.load(KEY)


def test_a_sidecar_that_is_a_pipe_does_not_keep_anyone_waiting(store):
    keep(store)
    path = store.folder / "flow-tensorrt.json"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(EngineError, match="cannot be read"):
        store.load(KEY)


@pytest.mark.parametrize("what", [".", "*.engine", "*.json"])
def test_what_others_may_write_is_not_trusted(store, what):
    keep(store)
    (path,) = store.folder.glob(what) if what != "." else (store.folder,)
    path.chmod(path.stat().st_mode | 0o022)
    with pytest.raises(EngineError, match=r"others may write .*chmod go-w"):
        store.load(KEY)
    if what == ".":  # and no build is spent on it
        with pytest.raises(EngineError, match="others may write"), store.building():
            pass


def test_what_is_kept_is_ours_alone_whatever_the_umask(store):
    before = os.umask(0)
    try:
        record = keep(store)
    finally:
        os.umask(before)
    assert store.load(KEY) == (record, b"engine")


def test_the_sweep_leaves_what_it_does_not_understand(store):
    keep(store, b"audio", dataclasses.replace(KEY, graph="audio"))
    (store.folder / "audio-tensorrt.json").write_text('{"record_version": 2}')
    (store.folder / ".gitignore").write_text("*")
    keep(store)
    assert len(list(store.folder.glob("audio-tensorrt-*.engine"))) == 1
    assert (store.folder / ".gitignore").exists()


def test_an_engine_that_is_replaced_while_it_is_read_is_found(store, monkeypatch):
    old = keep(store, b"old")
    real, raced = module._read, []

    def read(path, most=None):
        if path.suffix == ".engine" and not raced:
            raced.append(path)
            keep(store, b"new")
        return real(path, most)

    monkeypatch.setattr(module, "_read", read)
    record, content = store.load(KEY)
    assert content == b"new"
    assert record.file != old.file


def test_a_sidecar_that_cannot_be_written_leaves_no_engine(store, monkeypatch):
    def full(*_):
        raise StorageError("the disk is full")

    monkeypatch.setattr(module, "write_text", full)
    with pytest.raises(StorageError, match="the disk is full"):
        keep(store)
    assert not list(store.folder.glob("*.engine"))


def test_bundles_whose_names_differ_after_a_dot_do_not_share_a_folder(tmp_path):
    folders = {EngineStore(tmp_path / n).folder for n in ("t.edgeflow", "t.v2", "t.v3")}
    assert len(folders) == 3


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "fan.engines").write_text("a file")
    store = EngineStore(tmp_path / "fan.edgeflow")
    with pytest.raises(StorageError, match="cannot be written"), store.building():
        pass


def test_what_a_record_says_stays_on_one_line(store):
    keep(store, key=dataclasses.replace(KEY, gpu="Orin\n\x1b[2J"))
    with pytest.raises(EngineError) as caught:
        store.load(KEY)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_names_say_which_graph_and_which_library(store):
    keep(store, b"a", dataclasses.replace(KEY, graph="audio", backend="tensorrt-rtx"))
    names = sorted(path.name for path in store.folder.iterdir() if path.name != ".lock")
    sha256 = hashlib.sha256(b"a").hexdigest()
    assert names == [f"audio-tensorrt-rtx-{sha256[:12]}.engine", "audio-tensorrt-rtx.json"]
    assert store.record("audio", "tensorrt-rtx") is not None
    assert store.record("flow", "tensorrt-rtx") is store.record("audio", "tensorrt") is None


@pytest.mark.parametrize("other", ["audio-tensorrt.json", "flow-tensorrt-rtx.json"])
def test_a_record_under_anothers_name_is_refused(store, other):
    keep(store)
    (store.folder / "flow-tensorrt.json").rename(store.folder / other)
    graph, _, backend = other.removesuffix(".json").partition("-")
    with pytest.raises(EngineError, match="is not its own"):
        store.record(graph, backend)


def test_only_tensorrt_keeps_a_timing_cache(store):
    assert store.timing("tensorrt") == store.folder / "tensorrt.timing"
    assert store.timing("tensorrt-rtx") is None


@pytest.mark.parametrize(("owner", "trusted"), [(0, True), (1, False), (1000, True), (1001, False)])
def test_only_roots_files_and_ones_own_are_trusted(monkeypatch, tmp_path, owner, trusted):
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    status = os.stat_result((0o100644, 0, 0, 1, owner, 0, 0, 0, 0, 0))
    if trusted:
        module._check_owner(tmp_path, status)
    else:
        with pytest.raises(EngineError, match="others may write"):
            module._check_owner(tmp_path, status)
