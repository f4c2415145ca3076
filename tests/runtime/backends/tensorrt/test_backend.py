"""Scoring through the GPU worker, a fake device running the real graph; choosing a backend."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
import time

import numpy as np
import pytest
from click.testing import CliRunner

import edgeflow_runtime.backends.select as choice
import edgeflow_runtime.scorer as scoring
from edgeflow.cli import cli
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.backends.select import open_backend
from edgeflow_runtime.backends.tensorrt.backend import TensorRtBackend
from edgeflow_runtime.backends.tensorrt.build_process import prove
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import BackendError, ConfigError, DeviceError, EngineError
from edgeflow_runtime.golden import Replay
from edgeflow_runtime.scorer import Scorer


@pytest.fixture
def bundle(bundle_path):
    return Bundle.load(bundle_path)


@pytest.fixture
def gpu(fake_gpu, bundle):
    """A fake GPU that runs the bundle's graph."""
    cpu = OnnxRuntimeBackend(bundle.onnx, workers=1)
    window = (bundle.manifest.view.frames, bundle.manifest.features.bands)
    return fake_gpu(
        lambda rows: {"nll": cpu.nll(rows), "nll_map": cpu.nll_map(rows)},
        window,
        buckets=(1, 7, 16),
        outputs={"nll": (), "nll_map": window},
    )


@pytest.fixture
def backend(gpu):
    backend = TensorRtBackend("tensorrt", gpu)
    yield backend
    backend.close()


def test_clips_score_as_on_the_cpu_and_say_what_ran(bundle, backend, sounds):
    clips = sorted((sounds / "fan" / "test").glob("*.wav"))
    with Scorer(bundle, OnnxRuntimeBackend(bundle.onnx)) as scorer:
        expected = list(scorer.score_files(clips, maps=True))
    with Scorer(bundle, backend) as scorer:
        found = list(scorer.score_files(clips, maps=True))
    assert [r.clip for r in found] == [r.clip for r in expected] == [str(c) for c in clips]
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-6)
        assert one.verdict == other.verdict
        np.testing.assert_allclose(one.nll_map, other.nll_map, atol=1e-6)
        assert (one.backend, one.device) == ("tensorrt", "fake GPU")


def test_while_the_gpu_works_the_next_batches_are_made_ready(bundle, backend, gpu, sounds):
    clips = sorted((sounds / "fan").rglob("*.wav")) * 5
    with Scorer(bundle, backend) as scorer:
        assert len(list(scorer.score_files(clips))) == len(clips)
    assert gpu.most_flying == 2
    assert len(gpu.slots) == 2


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_in_a_forked_child_a_scorer_says_that_the_gpu_is_lost(bundle, backend):
    samples = bundle.golden["samples"]
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def score():
        try:
            scorer.score(samples, 16000)
        except DeviceError as error:
            sender.send(str(error))
        scorer.close()

    with Scorer(bundle, backend) as scorer:
        scorer.score(samples, 16000)  # its threads are there
        child = multiprocessing.get_context("fork").Process(target=score)
        child.start()
        child.join(30)
        child.kill()
        assert (child.exitcode, receiver.poll()) == (0, True)
        assert "open the monitor in the child, or start it with spawn" in receiver.recv()
        assert scorer.score(samples, 16000).backend == "tensorrt"


def test_scorers_that_nobody_holds_give_the_gpu_back(bundle, gpu):
    threads = set(threading.enumerate())
    scored = Scorer(bundle, TensorRtBackend("tensorrt", gpu)).score(bundle.golden["samples"], 16000)
    assert scored.backend == "tensorrt"
    deadline = time.monotonic() + 5  # the scorer's threads may let go last
    while set(threading.enumerate()) - threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) - threads == set()
    assert gpu.closed == 1


def test_a_threshold_that_tells_nothing_is_refused_before_the_gpu_is_taken(
    bundle_path, monkeypatch
):
    opened = []
    monkeypatch.setattr(scoring, "open_backend", lambda *_, **__: opened.append(1))
    with pytest.raises(ConfigError, match="threshold of nan"):
        Scorer.load(bundle_path, threshold=float("nan"))
    assert opened == []


def test_the_proof_runs_every_batch_size(bundle, backend, gpu):
    proof = prove(bundle, "flow", backend, gpu.buckets)
    assert proof.nll < 1e-5
    assert set(gpu.batches) == set(gpu.buckets)


@pytest.mark.parametrize("damage", [1e-3, np.nan])
def test_an_engine_wrong_in_one_batch_size_is_not_used(bundle, backend, gpu, damage):
    right = gpu.graph

    def wrong_in_sixteens(rows):
        found = right(rows)
        if len(rows) == 16:
            found["nll"] = found["nll"] + np.where(np.arange(16) == 13, damage, 0)
        return found

    gpu.graph = wrong_in_sixteens
    with pytest.raises(EngineError, match=r"in batches of 16 the new engine is .* not used"):
        prove(bundle, "flow", backend, gpu.buckets)


def test_no_rows_are_no_batch(backend):
    with pytest.raises(BackendError, match="nothing to run"):
        backend.nll(np.empty((0, 4, 32), np.float32))


@pytest.fixture
def no_gpu(monkeypatch):
    def refuse(*_):
        raise DeviceError("there is no NVIDIA driver here")

    monkeypatch.setattr(choice, "probe_gpu", refuse)


def test_auto_takes_the_cpu_in_silence_where_nothing_was_ever_built(bundle):
    said = []
    assert open_backend(bundle, warn=said.append).name == "onnxruntime"
    assert said == []


def test_requiring_a_gpu_refuses_the_cpu(bundle, no_gpu):
    with pytest.raises(DeviceError, match="no NVIDIA driver"):
        open_backend(bundle, require_gpu=True)
    with pytest.raises(ConfigError, match="exclude"):
        open_backend(bundle, "onnxruntime", require_gpu=True)


def test_requiring_a_gpu_asks_for_an_engine(bundle, monkeypatch):
    monkeypatch.setattr(choice, "probe_gpu", lambda: None)
    with pytest.raises(DeviceError, match=r"no engine .* run edgeflow build"):
        open_backend(bundle, require_gpu=True)


def test_an_unknown_backend_is_named(bundle):
    with pytest.raises(ConfigError, match="no backend 'gpu': choose one of auto"):
        open_backend(bundle, "gpu")


@pytest.fixture
def with_record(bundle_path, tmp_path):
    """A copy of the bundle with a proven record beside it, of an engine built elsewhere."""
    from edgeflow_runtime.backends.tensorrt.engine_record import EngineKey, EngineRecord
    from edgeflow_runtime.backends.tensorrt.engine_store import EngineStore

    path = shutil.copy(bundle_path, tmp_path / "fan.edgeflow")
    key = EngineKey("tensorrt", "flow", "ab", "10.3.0", 26, "Orin", "8.7", 8, "12.6", "36.4.3")
    record = EngineRecord(
        1, key, (1, 16), "fp32", {"FLOAT": 1}, 1 << 29, 1.0, "flow-tensorrt-cdcdcdcdcdcd.engine",
        "cd" * 32, Replay(3, (1, 16), 1e-6, 1e-4),
    )  # fmt: skip
    store = EngineStore(path)
    store.folder.mkdir()
    (store.folder / "flow-tensorrt.json").write_text(json.dumps(record.to_dict()))
    return path


def test_an_engine_that_cannot_be_used_is_said_and_the_cpu_scores(with_record, sounds):
    clip = next((sounds / "fan" / "test").glob("*_id_00_*.wav"))
    result = CliRunner().invoke(cli, ["score", str(with_record), str(clip), "--json"])
    assert "scoring on the CPU: " in result.stderr
    assert json.loads(result.stdout)["backend"] == "onnxruntime"
    refused = CliRunner().invoke(cli, ["score", str(with_record), str(clip), "--require-gpu"])
    assert refused.exit_code == 2
    assert refused.stdout == ""


def test_python_is_warned_where_an_engine_cannot_be_used(with_record):
    with pytest.warns(RuntimeWarning, match="scoring on the CPU: ") as warned:
        scorer = Scorer.load(with_record)
    assert scorer.backend.name == "onnxruntime"
    assert warned[0].filename == __file__


def test_a_damaged_record_does_not_stop_the_cpu(with_record, sounds):
    (with_record.with_suffix(".engines") / "flow-tensorrt.json").write_text("{")
    said = []
    backend = open_backend(Bundle.load(with_record), warn=said.append)
    assert backend.name == "onnxruntime"
    assert "cannot be read" in said[0]


def test_a_bundle_without_an_audio_graph_says_how_to_get_one(bundle_path, sounds):
    clip = next((sounds / "fan" / "test").glob("*_id_00_*.wav"))
    result = CliRunner().invoke(cli, ["score", str(bundle_path), str(clip), "--audio-in"])
    assert result.exit_code == 2
    assert "export it with --audio-in" in result.stderr
