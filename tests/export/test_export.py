"""Export: the same score, only known operators, an honest threshold, one whole file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch
from onnx import TensorProto, helper

from edgeflow.models import build
from edgeflow.models.glow import GlowSpec
from edgeflow.models.maf import MAFSpec
from edgeflow.models.model import Model
from edgeflow.models.spec import ModelSettings
from edgeflow.training.recipe import Recipe
from edgeflow.training.run import TrainedRun
from edgeflow.training.train import train_run
from edgeflow_export.bundle_from_run import ExportOptions, bundle_from_run
from edgeflow_export.onnx_from_model import ACCEPTED, check_operators, onnx_from_trained
from edgeflow_export.parity import check_parity
from edgeflow_export.precision import nll_tolerance
from edgeflow_runtime import Scorer
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.backends.tensorrt.build_process import prove
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import ExportError, OperatorError, ParityError, ProofError
from edgeflow_runtime.golden import replay
from edgeflow_runtime.manifest import Features

SPECS = [
    GlowSpec(frames=16, bands=32, blocks=2, steps=2, hidden=8),
    MAFSpec(frames=4, bands=32, blocks=3, hidden=48),
]


def trained(spec) -> Model:
    torch.manual_seed(0)
    flow = build(spec)
    for parameter in flow.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    flow.initialize(torch.randn(64, spec.frames, spec.bands))
    return flow


@pytest.fixture(params=SPECS, ids=lambda spec: spec.name)
def flow(request: pytest.FixtureRequest) -> Model:
    return trained(request.param)


@pytest.mark.parametrize("batch", [1, 2, 17])
def test_onnx_runtime_gives_torchs_nll_and_map(flow: Model, batch: int):
    backend = OnnxRuntimeBackend(onnx_from_trained(flow))
    windows = torch.randn(batch, flow.frames, flow.bands)
    with torch.no_grad():
        nll, nll_map = flow.score(windows).numpy(), flow.score_map(windows).numpy()
    np.testing.assert_allclose(backend.nll(windows.numpy()), nll, atol=1e-5)
    np.testing.assert_allclose(backend.nll_map(windows.numpy()), nll_map, atol=1e-5)


def test_the_graph_is_almost_minimal():
    model = onnx.load_from_string(onnx_from_trained(trained(SPECS[1])))
    kinds = {node.op_type for node in model.graph.node}
    assert kinds <= {"Gemm", "MatMul", "Relu", "Add", "Mul", "Pow", "Reshape", "ReduceSum"}
    assert sum(node.op_type in ("Gemm", "MatMul") for node in model.graph.node) == 2 * 3
    glow = onnx.load_from_string(onnx_from_trained(trained(SPECS[0])))
    assert {node.op_type for node in glow.graph.node} <= ACCEPTED
    assert sum(node.op_type == "Conv" for node in glow.graph.node) == 5 * 2 * 2


def graph_of(operator: str, **attributes: object) -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node(operator, ["x"], ["y"], name="culprit", **attributes)
    return helper.make_model(helper.make_graph([node], "g", [value], [out]))


@pytest.mark.parametrize("operator", ["Det", "DFT", "NonZero"])
def test_a_forbidden_operator_is_named_with_its_node(operator: str):
    with pytest.raises(OperatorError, match=f"operator {operator} \\(node 'culprit'\\)"):
        check_operators(graph_of(operator))
    check_operators(graph_of("Relu"))


def test_computed_reduction_axes_are_refused():
    model = graph_of("ReduceSum")
    model.graph.node[0].input.append("computed")
    with pytest.raises(OperatorError, match="axes of ReduceSum"):
        check_operators(model)


class Off:
    """A fake backend that is right but for one window."""

    name, device, batch, workers = "fake", "fake", 4, 1

    def __init__(self, flow: Model, error: float) -> None:
        self._flow, self._error, self._seen = flow, error, 0

    def nll(self, windows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found = self._flow.score(torch.from_numpy(windows)).numpy()
        if self._seen <= 5 < self._seen + len(windows):
            found[5 - self._seen] += self._error
        self._seen += len(windows)
        return found


@pytest.mark.parametrize("error", [2e-4, float("nan"), float("inf")])
def test_parity_refuses_and_names_the_worst_window(flow: Model, error: float):
    clips = {"a.wav": torch.randn(9, flow.frames, flow.bands).numpy()}
    with pytest.raises(ParityError, match=r"on window 5 of 'a\.wav'"):
        check_parity(flow, Off(flow, error), clips)
    assert check_parity(flow, Off(flow, 5e-5), clips).windows == 9


def test_a_run_becomes_a_bundle_that_verifies(bundle_path: Path, run_folder: Path):
    scorer = Scorer.load(bundle_path)
    assert replay(scorer.bundle, "flow", scorer.backend).passed
    manifest, record = scorer.bundle.manifest, TrainedRun.load(run_folder).record
    assert manifest.view == record.recipe.settings.view
    assert manifest.threshold.heldout_clips == len(record.heldout)
    assert manifest.training.target_clips == len(record.learn)
    assert manifest.precision == "fp32"


def test_export_is_reproducible(run_folder: Path, bundle_path: Path, tmp_path: Path):
    promised = Bundle.load(bundle_path).manifest.threshold.false_alarm_probability
    options = ExportOptions(false_alarm_probability=promised)
    bundle_from_run(TrainedRun.load(run_folder), tmp_path / "again.edgeflow", options)
    assert (tmp_path / "again.edgeflow").read_bytes() == bundle_path.read_bytes()


def test_a_data_set_that_moved_is_named(run_folder: Path, tmp_path: Path):
    with pytest.raises(ExportError, match="name the data set's place with --data"):
        bundle_from_run(
            TrainedRun.load(run_folder), tmp_path / "x.edgeflow", ExportOptions(tmp_path)
        )
    assert not list(tmp_path.iterdir())


def test_log_mel_arrays_train_export_and_score_like_sounds(
    sounds: Path, recipe: Recipe, maf_settings: ModelSettings, bundle_path: Path, tmp_path: Path
):
    from edgeflow.features import FeatureStore

    store = FeatureStore(Features(128, 0, None, recipe.logmel))
    unheard = recipe.logmel.beyond_passband(16000)  # of sounds; nobody knows what arrays are of
    for clip in sounds.rglob("*.wav"):
        array = tmp_path / "arrays" / clip.relative_to(sounds).with_suffix(".npy")
        array.parent.mkdir(parents=True, exist_ok=True)
        np.save(array, np.where(unheard, np.float32(-40), store.read(clip)))
    arrays = dataclasses.replace(recipe, data=str(tmp_path / "arrays"))
    train_run(arrays, tmp_path / "run", torch.device("cpu"))
    path = tmp_path / "arrays.edgeflow"
    bundle_from_run(TrainedRun.load(tmp_path / "run"), path)
    clips = sorted((tmp_path / "arrays" / "fan" / "test").iterdir())
    found = [result.score for result in Scorer.load(path).score_files(clips)]
    same = [sounds / clip.relative_to(tmp_path / "arrays").with_suffix(".wav") for clip in clips]
    expected = [result.score for result in Scorer.load(bundle_path).score_files(same)]
    assert found == pytest.approx(expected, abs=1e-5)
    (refused,) = Scorer.load(path).score_files(same[:1])
    assert "trained on log-Mel arrays" in str(refused.error)


@pytest.fixture(scope="module", params=["maf", "glow"])
def precise(
    request: pytest.FixtureRequest,
    recipe: Recipe,
    run_folder: Path,
    glow_settings: ModelSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> TrainedRun:
    """A finished run of each model."""
    if request.param == "maf":
        return TrainedRun.load(run_folder)
    folder = tmp_path_factory.mktemp("runs") / "glow"
    train_run(dataclasses.replace(recipe, settings=glow_settings), folder, torch.device("cpu"))
    return TrainedRun.load(folder)


@pytest.mark.parametrize("precision", ["fp16", "int8", "auto"])
def test_a_reduced_precision_scores_and_says_what_it_costs(
    precise: TrainedRun, sounds: Path, tmp_path: Path, precision: str
):
    clips = sorted((sounds / "fan" / "test").glob("*_id_00_*"))
    whole, typed = tmp_path / "whole.edgeflow", tmp_path / "typed.edgeflow"
    bundle_from_run(precise, whole)
    result = bundle_from_run(precise, typed, ExportOptions(precision=precision))
    scorer = Scorer.load(typed)
    manifest = scorer.bundle.manifest
    assert manifest.gate == result.graph.gate
    assert manifest.gate.anomalous == 5
    assert manifest.gate.clips == 5 + 5 + len(precise.record.heldout)
    assert manifest.gate.spearman >= 0.999
    assert manifest.tolerances.nll == nll_tolerance(manifest.gate)
    assert manifest.threshold == Scorer.load(whole).bundle.manifest.threshold
    assert typed.stat().st_size < whole.stat().st_size
    assert replay(scorer.bundle, "flow", scorer.backend).passed
    pairs = zip(scorer.score_files(clips), Scorer.load(whole).score_files(clips), strict=True)
    moved = []
    for found, expected in pairs:
        assert found.verdict == expected.verdict
        assert found.score == pytest.approx(expected.score, abs=1e-3)
        moved.append(found.score != expected.score)
    assert any(moved)  # it really is another graph


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("says", ["nothing", "the mean"])
def test_a_backend_that_says_always_the_same_proves_nothing(
    precise: TrainedRun, tmp_path: Path, precision: str, says: str
):
    """However much a precision may cost, its tolerance must tell an engine from a constant."""
    path = tmp_path / "fan.edgeflow"
    bundle_from_run(precise, path, ExportOptions(precision=precision))
    bundle = Bundle.load(path)
    value = 0.0 if says == "nothing" else float(bundle.golden["nll"].mean())

    class Constant:
        name, device, batch, workers = "constant", "none", 16, 1

        def nll(self, rows: np.ndarray) -> np.ndarray:
            return np.full(len(rows), value, np.float32)

    with pytest.raises(ProofError, match="it is not used"):
        prove(bundle, "flow", Constant(), (1, 16))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("encoding", ["float32", "int16"])
def test_one_graph_from_sound_to_score(
    precise: TrainedRun, sounds: Path, tmp_path: Path, precision: str, encoding: str
):
    clips = sorted((sounds / "fan" / "test").glob("*_id_00_*"))
    path = tmp_path / "fan.edgeflow"
    result = bundle_from_run(precise, path, ExportOptions(precision=precision, audio_in=encoding))
    assert result.audio.parity.worst <= 1e-3
    with Scorer.load(path, audio_in=True) as one, Scorer.load(path) as two:
        pairs = zip(
            one.score_files(clips, maps=True), two.score_files(clips, maps=True), strict=True
        )
        for found, expected in pairs:
            assert found.score == pytest.approx(expected.score, abs=1e-3)
            assert (found.verdict, found.windows) == (expected.verdict, expected.windows)
            assert found.nll_map.shape == expected.nll_map.shape
            assert found.logmel.shape == expected.logmel.shape


def test_a_clip_of_another_length_is_unknown_to_the_one_graph(
    precise: TrainedRun, sounds: Path, tmp_path: Path
):
    path = tmp_path / "fan.edgeflow"
    bundle_from_run(precise, path, ExportOptions(audio_in="float32"))
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 32000)
    soundfile.write(tmp_path / "short.wav", noise[:16000], 16000)
    with Scorer.load(path, audio_in=True) as scorer:
        (short,) = scorer.score_files([tmp_path / "short.wav"])
        assert short.verdict == "unknown"
        assert "takes clips of 32000" in short.error
        assert scorer.score(noise, 16000).windows > 1


def test_a_precision_that_costs_too_much_writes_nothing(
    precise: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import edgeflow_export.gate as gate
    from edgeflow_runtime.errors import PrecisionError

    monkeypatch.setattr(gate, "MIN_SPEARMAN", 1.1)
    path = tmp_path / "fan.edgeflow"
    with pytest.raises(
        PrecisionError, match=r"int8 costs too much on 12 clips: .* --precision auto"
    ):
        bundle_from_run(precise, path, ExportOptions(precision="int8"))
    assert not list(tmp_path.iterdir())


def test_auto_goes_back_to_float32_where_nothing_else_will_do(
    precise: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import edgeflow_export.gate as gate

    monkeypatch.setattr(gate, "MIN_SPEARMAN", 1.1)
    said: list[str] = []
    path = tmp_path / "fan.edgeflow"
    result = bundle_from_run(precise, path, ExportOptions(precision="auto"), say=said.append)
    assert (result.graph.precision, result.graph.overrides, result.graph.gate) == ("fp32", {}, None)
    assert any("ranks correlate" in line for line in said)


def test_a_monitor_of_arrays_has_no_graph_from_sound(recipe: Recipe, tmp_path: Path):
    rng = np.random.default_rng(0)
    for machine in ("00", "01"):
        for number in range(6):
            clip = tmp_path / f"data/fan/train/normal_id_{machine}_{number:08}.npy"
            clip.parent.mkdir(parents=True, exist_ok=True)
            np.save(clip, rng.normal(-40, 5, (64, 128)).astype(np.float32))
    arrays = dataclasses.replace(recipe, data=str(tmp_path / "data"))
    train_run(arrays, tmp_path / "run", torch.device("cpu"))
    run, path = TrainedRun.load(tmp_path / "run"), tmp_path / "fan.edgeflow"
    with pytest.raises(ExportError, match="needs a monitor that listens to sound"):
        bundle_from_run(run, path, ExportOptions(audio_in="int16"))
    assert not path.exists()
    result = bundle_from_run(run, path, ExportOptions(precision="fp16"))
    assert result.graph.gate.auc_change is None  # nothing there is labelled anomalous


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_bundle_tells_nothing_of_the_machine_that_made_it(
    precise: TrainedRun, tmp_path: Path, precision: str
):
    path = tmp_path / "fan.edgeflow"
    bundle_from_run(precise, path, ExportOptions(precision=precision, audio_in="int16"))
    content = path.read_bytes()
    for trace in (b".py", b"site-packages", b"stack_trace", str(Path.home()).encode() + b"/"):
        assert trace not in content
