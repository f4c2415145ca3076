"""What does not give its golden scores here does not score: whoever asks, on any backend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

import edgeflow_runtime.scorer as scorer_module
from edgeflow.cli import cli
from edgeflow.evaluation import evaluate
from edgeflow.training.run import TrainedRun
from edgeflow_export.bundle_from_run import ExportOptions, bundle_from_run
from edgeflow_runtime import Scorer
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import BackendError, BundleError, ProofError
from edgeflow_runtime.golden import prove
from edgeflow_runtime.logmel import LogMel

Forge = Callable[..., Path]

REFUSED = (
    r"does not give its golden scores on this machine: NLL on onnxruntime is .* off the record"
)


def another_scale(bundle: Bundle) -> dict[str, bytes]:
    """Every sound becomes the mean of all, which is as normal as can be."""
    scale = np.full_like(bundle.frontend["scale"], 1e30)
    return {"frontend": save(bundle.frontend | {"scale": scale})}


def constant_graph(bundle: Bundle) -> dict[str, bytes]:
    """The mean of the golden scores, whatever it hears."""
    model = onnx.load_from_string(bundle.onnx)
    node = next(node for node in model.graph.node if "nll" in node.output)
    node.output[0] = "heard"
    for name, value in {"none": 0.0, "usual": float(bundle.golden["nll"].mean())}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.float32([value]), name))
    model.graph.node.append(helper.make_node("Mul", ["heard", "none"], ["nothing"]))
    model.graph.node.append(helper.make_node("Add", ["nothing", "usual"], ["nll"]))
    return {"flow": model.SerializeToString()}


def other_scores(bundle: Bundle) -> dict[str, bytes]:
    """A golden record of another flow."""
    return {"golden": save(bundle.golden | {"nll": bundle.golden["nll"] + np.float32(0.01)})}


FORGED = {"scale": another_scale, "constant": constant_graph, "record": other_scores}


@pytest.fixture
def frozen(bundle_path: Path, forge: Forge, request: pytest.FixtureRequest) -> Path:
    return forge(**FORGED[request.param](Bundle.load(bundle_path)))


@pytest.mark.parametrize("frozen", FORGED, indirect=True)
def test_a_forged_bundle_scores_nothing(frozen: Path, sounds: Path):
    clip = str(next((sounds / "fan" / "test").glob("*_id_00_*")))
    with pytest.raises(BackendError, match=REFUSED):
        Scorer.load(frozen)
    with pytest.raises(BackendError, match=REFUSED):
        evaluate(frozen, sounds)
    result = CliRunner().invoke(cli, ["score", str(frozen), clip])
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert "does not give its golden scores" in line
    asked = CliRunner().invoke(cli, ["score", "--no-proof", str(frozen), clip])
    assert asked.exit_code in (0, 1), asked.stderr
    assert Scorer.load(frozen, prove=False).score(clip).verdict in ("normal", "anomalous")


def test_one_window_of_each_end_tells_any_constant(bundle_path: Path):
    """The two windows that are run lie farther apart than any tolerance reaches."""
    bundle, ran = Bundle.load(bundle_path), []

    class Constant(OnnxRuntimeBackend):
        value = 0.0

        def nll(self, rows: np.ndarray) -> np.ndarray:
            ran.append(len(rows))
            return np.full(len(rows), self.value, np.float32)

    backend = Constant(bundle.onnx)
    for backend.value in (*bundle.golden["nll"], np.nan, np.inf):
        with pytest.raises(BackendError, match="does not give its golden scores"):
            prove(bundle, "flow", backend)
    assert set(ran) == {2}


def test_another_log_mel_scores_nothing(bundle_path: Path, monkeypatch: pytest.MonkeyPatch):
    right = LogMel.__call__
    monkeypatch.setattr(LogMel, "__call__", lambda self, samples: right(self, samples) + 0.01)
    with pytest.raises(BackendError, match=r"log-Mel is 1\.0e-02 dB off the record"):
        Scorer.load(bundle_path)


@pytest.mark.parametrize("audio_in", [False, True])
def test_the_backend_that_scores_is_the_one_that_is_proven(
    run_folder: Path, tmp_path: Path, audio_in: bool, monkeypatch: pytest.MonkeyPatch
):
    """A fake engine that is off, of either graph: its scores are refused, and its GPU let go."""
    path, closed = tmp_path / "fan.edgeflow", []
    bundle_from_run(
        TrainedRun.load(run_folder),
        path,
        ExportOptions(audio_in="float32", false_alarm_probability=0.4),
    )
    assert Scorer.load(path, audio_in=audio_in).backend.name == "onnxruntime"

    class FakeEngine(OnnxRuntimeBackend):
        name, device = "tensorrt", "a fake GPU"

        def nll(self, rows: np.ndarray) -> np.ndarray:
            return super().nll(rows) + np.float32(0.02)

        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr(
        scorer_module,
        "open_backend",
        lambda bundle, *_, graph, **__: FakeEngine(bundle.graph(graph)),
    )
    with pytest.raises(ProofError, match="NLL on tensorrt is"):
        Scorer.load(path, audio_in=audio_in)
    assert closed == [True]


def test_a_record_of_another_length_is_refused_when_it_is_loaded(bundle_path: Path, forge: Forge):
    golden = Bundle.load(bundle_path).golden
    path = forge(golden=save(golden | {"nll": golden["nll"][:-1]}))
    with pytest.raises(BundleError, match="NLLs for"):
        Scorer.load(path)


def graph_of(*nodes: onnx.NodeProto, sizes: tuple[object, ...] = ("N", 4)) -> bytes:
    """A graph of ``windows`` to ``nll``, as nobody exports it."""
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("windows", sizes), ("nll", None))
    ]
    ones = numpy_helper.from_array(np.ones(3, np.float32), "ones")
    axes = numpy_helper.from_array(np.array([1]), "axes")
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [ones, axes])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return made.SerializeToString()


MEAN = helper.make_node("ReduceMean", ["windows", "axes"], ["nll"], keepdims=0)


@pytest.mark.parametrize("sizes", [("N", "T"), ("N", 0)])
def test_a_backend_takes_rows_of_one_size_alone(sizes: tuple[object, ...]):
    with pytest.raises(BackendError, match="a free size"):
        OnnxRuntimeBackend(graph_of(MEAN, sizes=sizes))


def test_as_many_rows_come_back_as_went_in():
    backend = OnnxRuntimeBackend(graph_of(helper.make_node("Relu", ["ones"], ["nll"])))
    with pytest.raises(BackendError, match=r"the flow gives \[\(3,\)\] for 2 rows"):
        backend.nll(np.zeros((2, 4), np.float32))
    assert OnnxRuntimeBackend(graph_of(MEAN)).nll(np.zeros((2, 4), np.float32)).shape == (2,)


def test_what_onnx_runtime_loads_is_what_the_bundle_wants(bundle_path: Path):
    signature = Bundle.load(bundle_path).signature("flow")
    with pytest.raises(BackendError, match="ONNX Runtime makes another graph of the flow"):
        OnnxRuntimeBackend(graph_of(MEAN), signature=signature)


def test_a_name_within_a_graph_cannot_steer_the_terminal(capfd: pytest.CaptureFixture[str]):
    """What ONNX Runtime says of a graph that fails while it runs holds the names of its nodes."""
    far = helper.make_node("Gather", ["windows", "axes"], ["far"], "\x1b[2J\nverified", axis=1)
    mean = helper.make_node("ReduceMean", ["far", "axes"], ["nll"], keepdims=0)
    backend = OnnxRuntimeBackend(graph_of(far, mean, sizes=("N", 1)))
    with pytest.raises(BackendError, match="2J verified") as caught:
        backend.nll(np.zeros((2, 1), np.float32))
    assert str(caught.value).isprintable()
    assert capfd.readouterr().err == ""
