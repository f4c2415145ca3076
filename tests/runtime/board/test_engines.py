"""What the doctor says of a bundle's engines, which it only looks at."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgeflow_runtime.backends.tensorrt.engine_record import EngineKey, EngineRecord
from edgeflow_runtime.backends.tensorrt.engine_store import EngineStore
from edgeflow_runtime.board.diagnosis import Finding
from edgeflow_runtime.board.engines import diagnose_engines
from edgeflow_runtime.board.facts import Board, read_board
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.golden import Replay
from edgeflow_runtime.storage import write_text


@pytest.fixture
def bundle(bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(bundle_path, tmp_path / "a fan.edgeflow"))


@pytest.fixture
def orin(plant: Callable[[str], Path]) -> Board:
    return read_board(plant("orin_nano_jetpack_6_2"))


@pytest.fixture
def record(bundle: Path) -> EngineRecord:
    """Of an engine of the bundle's flow that has proven itself."""
    onnx = hashlib.sha256(Bundle.load(bundle).onnx).hexdigest()
    return EngineRecord(
        record_version=1,
        key=EngineKey("tensorrt", "flow", onnx, "10.3.0", 26, "Orin", "8.7", 8, "12.6", "36.4.3"),
        buckets=(1, 16),
        precision="fp32",
        layers={"FLOAT": 1},
        workspace=1 << 29,
        seconds=1.0,
        file="flow-tensorrt-cdcdcdcdcdcd.engine",
        sha256="cd" * 32,
        proof=Replay(3, (1, 16), 1e-6, 1e-4),
    )


def put(bundle: Path, record: EngineRecord, *, file: bool = True) -> None:
    import json

    folder = EngineStore(bundle).folder
    write_text(folder / "flow-tensorrt.json", json.dumps(record.to_dict()))
    if file:
        (folder / record.file).touch()


def only(bundle: Path, board: Board) -> Finding:
    (finding,) = diagnose_engines(bundle, board)
    assert finding.subject == "engine of flow"
    return finding


def test_none_was_built(bundle: Path, orin: Board):
    finding = only(bundle, orin)
    assert finding.mend == f"edgeflow build '{bundle}'"
    assert finding.detail == "none: the CPU scores"


def test_building_mends_nothing_without_a_driver(bundle: Path, orin: Board):
    computer = replace(orin, driver=None, driver_library=None)
    assert only(bundle, computer) == Finding("note", "engine of flow", "none: the CPU scores")


def test_one_that_was_proven(bundle: Path, orin: Board, record: EngineRecord):
    put(bundle, record)
    finding = only(bundle, orin)
    assert (finding.level, finding.mend) == ("ok", None)
    assert finding.detail == "tensorrt for Orin, 1.0e-06 nats/dim off the golden recording"


def test_one_of_another_export(bundle: Path, orin: Board, record: EngineRecord):
    put(bundle, replace(record, key=replace(record.key, onnx="ab")))
    finding = only(bundle, orin)
    assert (finding.level, bool(finding.mend)) == ("note", True)
    assert "another export" in finding.detail


def test_one_whose_file_is_gone(bundle: Path, orin: Board, record: EngineRecord):
    put(bundle, record, file=False)
    finding = only(bundle, orin)
    assert (finding.level, bool(finding.mend)) == ("note", True)
    assert "file is missing" in finding.detail


def test_one_that_never_ran(bundle: Path, orin: Board, record: EngineRecord):
    put(bundle, replace(record, proof=None))
    finding = only(bundle, orin)
    assert (finding.level, finding.mend) == ("note", None)
    assert "compile check" in finding.detail


def test_a_damaged_record(bundle: Path, orin: Board):
    write_text(EngineStore(bundle).folder / "flow-tensorrt.json", "{")
    finding = only(bundle, orin)
    assert finding.level == "note"
    assert "cannot be read" in finding.detail
