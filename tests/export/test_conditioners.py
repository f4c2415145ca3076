"""Calibration: the ranges that were seen, with headroom that anomalies need, on real sound."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from edgeflow.features import FeatureStore
from edgeflow.models import build
from edgeflow.models.glow import GlowSpec
from edgeflow.models.maf import MAFSpec
from edgeflow.models.model import Model
from edgeflow_export import conditioners
from edgeflow_export.conditioners import HEADROOM, calibrate, conditioner_count, conditioners_of
from edgeflow_export.gate import ClipWindows, Reference, refusals
from edgeflow_export.onnx_from_model import onnx_from_trained
from edgeflow_export.typed_onnx import emulated, typed_onnx
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.backends.protocol import nll_of
from edgeflow_runtime.errors import ExportError
from edgeflow_runtime.logmel import LogMelSpec
from edgeflow_runtime.manifest import Features, Gate

SPECS = {
    "glow": GlowSpec(frames=16, bands=32, blocks=2, steps=2, hidden=8),
    "maf": MAFSpec(frames=4, bands=32, blocks=3, hidden=48),
}


@functools.cache
def exported(model: str) -> bytes:
    torch.manual_seed(0)
    flow = build(SPECS[model])
    for parameter in flow.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return onnx_from_trained(flow)


def graph_of(model: str) -> onnx.ModelProto:
    return onnx.load_from_string(exported(model))


def windows_of(model: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.standard_normal((40, SPECS[model].frames, SPECS[model].bands)).astype(np.float32)


@pytest.fixture(params=list(SPECS))
def model(request: pytest.FixtureRequest) -> str:
    return request.param


def test_ranges_are_the_largest_magnitudes_with_headroom(model: str, monkeypatch):
    graph, windows = graph_of(model), windows_of(model)
    ranges = calibrate(graph, windows)
    names = list(ranges)
    for name in names:
        graph.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    found = session.run(names, {"windows": windows})
    largest = {k: HEADROOM * np.abs(v).max() for k, v in zip(names, found, strict=True)}
    assert ranges == pytest.approx(largest, rel=1e-5)
    monkeypatch.setattr(conditioners, "BATCH_CELLS", 1)  # window by window
    assert calibrate(graph_of(model), windows) == pytest.approx(largest, rel=1e-5)
    parts = conditioners_of(graph_of(model))
    assert set(names) == {layer.input[0] for part in parts for layer in part.layers()}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_ranges_are_not_taken_from_what_is_not_finite(model: str, bad: float):
    windows = windows_of(model)
    windows[7, 1, 2] = bad
    with pytest.raises(ExportError, match="not finite on windows 0 to"):
        calibrate(graph_of(model), windows)
    with pytest.raises(ExportError, match="found none"):
        calibrate(graph_of(model), windows[:0])


@pytest.fixture(scope="module")
def fan(mimii: Path) -> tuple[Model, np.ndarray, list[ClipWindows]]:
    """A small Glow of a real fan: the flow, its training windows and its test clips."""
    store = FeatureStore(Features(128, 0, None, LogMelSpec()))

    def read(split: str, kind: str) -> list[np.ndarray]:
        paths = sorted((mimii / "fan" / split).glob(f"{kind}_id_00_*.flac"))
        return [store.read(path) for path in paths[:4]]

    learned = read("train", "normal")
    mean, scale = np.mean(np.concatenate(learned), 0), np.std(np.concatenate(learned), 0)

    def windows(logmel: np.ndarray) -> np.ndarray:
        views = np.lib.stride_tricks.sliding_window_view((logmel - mean) / scale, 16, axis=0)
        return np.ascontiguousarray(views[::8].transpose(0, 2, 1), np.float32)

    training = np.concatenate([windows(logmel) for logmel in learned])
    torch.manual_seed(0)
    flow = build(GlowSpec(frames=16, steps=3, hidden=32))
    flow.initialize(torch.from_numpy(training[::4]))
    optimiser = torch.optim.Adam(flow.parameters(), 1e-3)
    for step in range(40):
        loss = flow.score(torch.from_numpy(training[step % 9 :: 9])).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    tests = [
        (logmel, kind == "anomaly")
        for kind in ("normal", "anomaly")
        for logmel in read("test", kind)
    ]
    return flow.eval(), training, [ClipWindows(windows(x), label) for x, label in tests]


def test_real_recordings_pass_the_gate_in_every_precision(fan):
    flow, training, clips = fan
    graph = onnx.load_from_string(onnx_from_trained(flow))
    ranges = calibrate(graph, training)
    exact = OnnxRuntimeBackend(graph.SerializeToString())
    scores = [nll_of(exact, clip.windows).mean() for clip in clips]
    reference = Reference(exact, clips, float(np.mean(scores)))
    count = conditioner_count(graph)

    def gate(precision: str, headroom: float = 1.0) -> Gate:
        narrower = {name: headroom * value for name, value in ranges.items()}
        result = emulated(typed_onnx(graph, [precision] * count, narrower))
        return reference.compare(OnnxRuntimeBackend(result.SerializeToString()))

    for precision, bound in (("int8", 0.02), ("fp16", 5e-4), ("fp32", 0.0)):
        found = gate(precision)
        assert refusals(found) == []
        assert found.nll_change <= bound
        assert found.anomalous == 4
    # Anomalies go beyond what normal clips reach: without headroom they are cut off.
    assert gate("int8", 1 / HEADROOM).nll_change > 2 * gate("int8").nll_change
