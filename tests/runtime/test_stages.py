"""The doctor: what a board is and lacks, and the stage in which a machine leaves the record."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

import edgeflow_runtime.stages as stages
from edgeflow.cli import cli
from edgeflow_export.bundle_writer import write_bundle
from edgeflow_runtime.backend import OnnxRuntimeBackend
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.logmel import LogMel
from edgeflow_runtime.stages import first_difference, replay_stages


def quiet(*_):
    """Progress that nobody watches."""


def run(path):
    return list(replay_stages(path, quiet))


def test_a_whole_bundle_passes_every_stage(bundle_path):
    found = run(bundle_path)
    assert [s.name for s in found][:4] == ["samples", "log-Mel", "windows", "NLL on onnxruntime"]
    assert [s.level for s in found][:4] == ["ok"] * 4
    assert first_difference(found) is None


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
    result = CliRunner().invoke(cli, ["doctor", str(altered(nll=raised(1e-3)))])
    assert result.exit_code == 2, result.output
    assert "the first difference is in: NLL on onnxruntime" in result.output


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
    assert list(document) == ["board", "python", "findings", "stages"]
    assert document["stages"][0]["name"] == "samples"


def test_an_engine_is_built_where_a_gpu_is(bundle_path, monkeypatch):
    """What doctor asks of the engine rooms, over stand-ins for them."""
    import edgeflow_runtime.engines.backend as backend
    from edgeflow_runtime.errors import EngineError

    built = []
    cpu = OnnxRuntimeBackend(Bundle.load(bundle_path).onnx)
    cpu.name = "tensorrt"

    def load(bundle, name, graph):
        if not built:
            raise EngineError("there is no engine yet")
        return cpu

    monkeypatch.setattr(stages, "is_installed", lambda name: name == "tensorrt")
    monkeypatch.setattr(stages, "probe_gpu", lambda: None)
    monkeypatch.setattr(stages, "build_engine", lambda *order: built.append(order))
    monkeypatch.setattr(backend.TensorRtBackend, "load", load)
    found = {stage.name: stage.level for stage in run(bundle_path)}
    assert found["NLL on tensorrt"] == "ok"
    assert found["NLL on tensorrt-rtx"] == "note"
    assert len(built) == 1


@pytest.mark.parametrize(
    ("error", "level"), [("EngineError", "missing"), ("ProofError", "differs")]
)
def test_only_scores_that_were_compared_can_differ(bundle_path, monkeypatch, error, level):
    import edgeflow_runtime.engines.backend as backend
    import edgeflow_runtime.errors as errors

    def fail(*_):
        raise getattr(errors, error)("building takes more memory than there is")

    monkeypatch.setattr(stages, "is_installed", lambda name: name == "tensorrt")
    monkeypatch.setattr(stages, "probe_gpu", lambda: None)
    monkeypatch.setattr(stages, "build_engine", fail)
    monkeypatch.setattr(backend.TensorRtBackend, "load", fail)
    found = {stage.name: stage.level for stage in run(bundle_path)}
    assert found["NLL on tensorrt"] == level


def test_a_bundle_that_is_none_is_one_line(tmp_path):
    result = CliRunner().invoke(cli, ["doctor", str(tmp_path / "none.edgeflow")])
    assert result.exit_code == 2
    assert result.stderr.strip().endswith("is missing")
