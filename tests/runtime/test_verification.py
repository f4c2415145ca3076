"""The stage in which a machine leaves the record, and what the doctor says of a board."""

from __future__ import annotations

import hashlib
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

import edgeflow_runtime.verification as verification
from edgeflow.cli import cli
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.bundle_writer import write_bundle
from edgeflow_runtime.errors import EngineError
from edgeflow_runtime.logmel import LogMel
from edgeflow_runtime.verification import first_difference, replay_stages


def run(path):
    return list(replay_stages(Bundle.load(path), every=True))


def test_a_whole_bundle_passes_every_stage(bundle_path):
    stages = run(bundle_path)
    assert [s.name for s in stages][:4] == ["samples", "log-Mel", "windows", "NLL on onnxruntime"]
    assert [s.level for s in stages][:4] == ["ok"] * 4
    assert first_difference(stages) is None


@pytest.fixture
def altered(bundle_path, tmp_path):
    """Writes the bundle again with a part of its golden record changed, its hashes right."""

    def alter(**changes):
        whole = Bundle.load(bundle_path)
        golden = {**whole.golden, **{k: f(whole.golden[k].copy()) for k, f in changes.items()}}
        path = tmp_path / "altered.edgeflow"
        write_bundle(path, whole.manifest, whole.onnx, whole.frontend, golden)
        return path

    return alter


def raised(by):
    def change(array):
        array.flat[len(array) // 2] += by
        return array

    return change


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"samples": raised(0.01)}, "log-Mel"),
        ({"logmel": raised(0.01)}, "log-Mel"),
        ({"nll": lambda nll: nll[:-1]}, "windows"),
        ({"logmel": raised(np.nan)}, "log-Mel"),
        ({"nll": raised(1e-3)}, "NLL on onnxruntime"),
    ],
)
def test_the_first_stage_that_differs_is_named(altered, changes, first):
    assert first_difference(run(altered(**changes))).name == first


def test_a_broken_log_mel_shows_in_its_stage_alone(bundle_path, monkeypatch):
    right = LogMel.__call__
    monkeypatch.setattr(LogMel, "__call__", lambda self, samples: right(self, samples) + 0.01)
    assert [s.name for s in run(bundle_path) if s.level == "differs"] == ["log-Mel"]


def test_a_broken_backend_shows_in_its_stage_alone(bundle_path, monkeypatch):
    right = OnnxRuntimeBackend.nll
    monkeypatch.setattr(OnnxRuntimeBackend, "nll", lambda self, rows: right(self, rows) * 1.01)
    assert [s.name for s in run(bundle_path) if s.level == "differs"] == ["NLL on onnxruntime"]


def test_libraries_that_lose_samples_show_first(bundle_path, monkeypatch):
    import soundfile

    right = soundfile.read
    monkeypatch.setattr(soundfile, "read", lambda *a, **k: (right(*a, **k)[0] * 0.5, 0))
    assert first_difference(run(bundle_path)).name == "samples"


def test_the_command_ends_with_2_where_a_stage_differs(altered):
    result = CliRunner().invoke(cli, ["verify", str(altered(nll=raised(1e-3)))])
    assert result.exit_code == 2, result.output
    assert "the first difference is in: NLL on onnxruntime" in result.stderr


@pytest.mark.parametrize("by", [0, 1e-3])
def test_the_stages_as_a_document(altered, by):
    path = altered(nll=raised(by))
    result = CliRunner().invoke(cli, ["verify", str(path), "--stages", "--json"])
    assert result.exit_code == (2 if by else 0), result.output
    document = json.loads(result.stdout)
    keys = ["schema", "bundle_sha256", "verified", "stages", "proves", "does_not_prove"]
    assert list(document) == keys
    assert any("signature" in text for text in document["does_not_prove"])
    assert document["schema"] == "edgeflow.verification.v1"
    assert document["bundle_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert document["verified"] == (not by)
    assert [stage["name"] for stage in document["stages"]][:2] == ["hashes", "samples"]


def test_nothing_is_changed_by_looking(bundle_path, tmp_path):
    path = shutil.copy(bundle_path, tmp_path / "fan.edgeflow")
    for command in (["doctor", path], ["verify", path, "--stages"]):
        assert CliRunner().invoke(cli, list(map(str, command))).exit_code == 0
        assert list(tmp_path.iterdir()) == [path]


def test_the_command_reads_another_root(plant):
    result = CliRunner().invoke(cli, ["doctor", "--root", str(plant("orin_nano_jetpack_6_2"))])
    assert result.exit_code == 0, result.output
    assert "Orin Nano" in result.output
    assert "36.4.3" in result.output


def test_what_is_missing_ends_with_1_and_the_mend(plant):
    root = plant("orin_nano_jetpack_6_2")
    for library in root.rglob("libnvinfer.so*"):
        library.unlink()
    for folder in root.rglob("tensorrt*"):
        shutil.rmtree(folder, ignore_errors=True)
    status = root / "var/lib/dpkg/status"
    entries = status.read_text().split("\n\n")
    status.write_text("\n\n".join(e for e in entries if "nvinfer" not in e and "ensorrt" not in e))
    result = CliRunner().invoke(cli, ["doctor", "--root", str(root)])
    assert result.exit_code == 1, result.output
    assert "apt-get install" in result.output


def test_json_holds_all_of_it(bundle_path):
    result = CliRunner().invoke(cli, ["doctor", str(bundle_path), "--json"])
    document = json.loads(result.stdout)
    assert list(document) == ["schema", "board", "python", "findings"]
    assert document["schema"] == "edgeflow.diagnosis.v1"
    assert document["findings"][-1]["subject"] == "engine of flow"
    assert list(document["findings"][-1]) == ["level", "subject", "detail", "mend"]


class Store:
    """Stands in for the engines beside a bundle: there is one of the flow, for TensorRT."""

    def __init__(self, path):
        pass

    def record(self, graph, name):
        return SimpleNamespace(proof=True) if name == "tensorrt" else None


def test_an_engine_that_was_built_here_is_replayed(bundle_path, monkeypatch):
    """What verify asks of the engine rooms, over stand-ins for them."""
    cpu = OnnxRuntimeBackend(Bundle.load(bundle_path).onnx)
    cpu.name = "tensorrt"
    monkeypatch.setattr(verification, "EngineStore", Store)
    monkeypatch.setattr(verification, "open_backend", lambda *_, **__: cpu)
    levels = {stage.name: stage.level for stage in run(bundle_path)}
    assert levels["NLL on tensorrt"] == "ok"
    assert levels["NLL on tensorrt-rtx"] == "note"


def test_an_engine_that_does_not_open_is_missing(bundle_path, monkeypatch):
    def refuse(*_, **__):
        raise EngineError("it was built for another GPU")

    monkeypatch.setattr(verification, "EngineStore", Store)
    monkeypatch.setattr(verification, "open_backend", refuse)
    levels = {stage.name: stage.level for stage in run(bundle_path)}
    assert levels["NLL on tensorrt"] == "missing"


def test_a_bundle_that_is_none_is_one_line(tmp_path):
    result = CliRunner().invoke(cli, ["doctor", str(tmp_path / "none.edgeflow")])
    assert result.exit_code == 2
    assert result.stderr.strip().endswith("is missing")
