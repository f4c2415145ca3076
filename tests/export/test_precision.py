"""``auto``: it finds exactly the conditioners that cannot bear a precision, in few trials."""

from __future__ import annotations

import functools
import math

import numpy as np
import onnx
import pytest
import torch

from edgeflow.models import build
from edgeflow.models.glow import Glow, GlowSpec
from edgeflow.models.maf import MAF, MAFSpec
from edgeflow.models.model import Model
from edgeflow_export.conditioners import calibrate, conditioner_count
from edgeflow_export.gate import ClipWindows, Reference, refusals
from edgeflow_export.onnx_from_model import onnx_from_trained
from edgeflow_export.precision import (
    TypedGraph,
    emulating_backend,
    ordered_widenings,
    search_precisions,
)
from edgeflow_export.typed_onnx import PRECISIONS
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend

SPECS = {
    "glow": GlowSpec(frames=16, bands=32, blocks=2, steps=2, hidden=16),
    "maf": MAFSpec(frames=4, bands=32, blocks=4, hidden=48),
}


def flow_of(model: str) -> Model:
    torch.manual_seed(0)
    flow = build(SPECS[model])
    for parameter in flow.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    flow.initialize(torch.randn(64, flow.frames, flow.bands))
    return flow


@torch.no_grad()
def stretch(flow: Model, number: int, factor: float) -> None:
    """Let one hidden channel of a conditioner be large, and the next layer make up for it.

    In float32 the flow stays what it is; with one scale for the whole tensor, int8 has nothing left
    for the other channels, and float16 overflows if ``factor`` is large enough.
    """
    if isinstance(flow, MAF):
        block = flow.pairs()[number][0]
        first, second = block.hidden, block.shift
    else:
        assert isinstance(flow, Glow)
        step = [step for steps, _ in flow.scales() for step in steps][number]
        first, second = step.coupling.conditioner[0], step.coupling.conditioner[2]
    channel = int(first.bias.argmax())
    first.weight[channel] *= factor
    first.bias[channel] = factor * first.bias[channel].abs().clamp(min=0.5)
    second.weight[:, channel] /= factor


def clips_of(flow: Model) -> list[ClipWindows]:
    """Clips whose scores lie apart by more than healthy int8 moves them, but not by much more."""
    rng = np.random.default_rng(2)
    shape = (6, flow.frames, flow.bands)
    spread = 0.08 if isinstance(flow, Glow) else 0.2
    return [
        ClipWindows(loudness * rng.standard_normal(shape).astype(np.float32), anomalous=False)
        for loudness in np.linspace(1 - spread, 1 + spread, 40, dtype=np.float32)
    ]


def searched(flow: Model, said: list[str]) -> tuple[onnx.ModelProto, TypedGraph]:
    graph = onnx.load_from_string(onnx_from_trained(flow))
    clips = clips_of(flow)
    ranges = calibrate(graph, np.concatenate([clip.windows for clip in clips]))
    reference = Reference(OnnxRuntimeBackend(graph.SerializeToString()), clips, 100.0)
    found = search_precisions(graph, ranges, reference, say=said.append)
    if found.gate is not None:
        assert refusals(found.gate) == []
        assert reference.compare(emulating_backend(found.model)) == found.gate
    return graph, found


@pytest.mark.parametrize("model", SPECS)
def test_a_flow_that_bears_int8_gets_it_at_once(model: str):
    said: list[str] = []
    _, found = searched(flow_of(model), said)
    assert set(found.precisions) == {"int8"}
    assert (found.precision, found.overrides, found.trials) == ("int8", {}, 1)
    assert said == ["4 int8: passes the gate"]


@pytest.mark.parametrize("model", SPECS)
@pytest.mark.parametrize(
    ("planted", "wider"),
    [
        ({2: 1e3}, {"2": "fp16"}),
        ({1: 1e7}, {"1": "fp32"}),
        ({0: 1e3, 3: 1e5}, {"0": "fp16", "3": "fp32"}),
    ],
    ids=["cannot bear int8", "a weight overflows float16", "and an activation does"],
)
def test_exactly_what_was_planted_stays_wider(model: str, planted: dict, wider: dict):
    flow = flow_of(model)
    for number, factor in planted.items():
        stretch(flow, number, factor)
    said: list[str] = []
    _, found = searched(flow, said)
    assert (found.precision, found.overrides) == ("int8", wider)
    assert found.trials <= 2 + math.ceil(math.log2(2 * 4))
    assert sum("measuring" not in line for line in said) == found.trials


class Judge(OnnxRuntimeBackend):
    """A fake that scores as float32 does, but for graphs that ``allowed`` rejects."""

    def __init__(self, exact: onnx.ModelProto, damaged: bool) -> None:
        super().__init__(exact.SerializeToString())
        self._damaged = damaged

    def nll(self, windows: np.ndarray) -> np.ndarray:
        found = super().nll(windows)
        return -found if self._damaged else found


def judged(found_by: str, model: onnx.ModelProto, allowed) -> TypedGraph:
    clips = clips_of(flow_of(found_by))
    ranges = calibrate(model, clips[0].windows)
    reference = Reference(OnnxRuntimeBackend(model.SerializeToString()), clips, 100.0)
    return search_precisions(
        model, ranges, reference, load=lambda typed: Judge(model, not allowed(typed))
    )


@functools.cache
def maf() -> bytes:
    return onnx_from_trained(flow_of("maf"))


def kinds(model: onnx.ModelProto) -> list[str]:
    """What each conditioner of a typed graph is computed in."""
    names = " ".join(node.name for node in model.graph.node)
    weights = " ".join(tensor.name for tensor in model.graph.initializer)
    return [
        "fp16"
        if f"conditioners.{k}.to_fp16" in names
        else "int8"
        if f"conditioners.{k}.0.weight_int8" in weights
        else "fp32"
        for k in range(4)
    ]


def test_float32_is_the_last_resort():
    model = onnx.load_from_string(maf())
    found = judged("maf", model, lambda typed: typed == model)
    assert found.precisions == ("fp32",) * conditioner_count(model)
    assert (found.model == model, found.gate) == (True, None)
    assert (found.precision, found.overrides) == ("fp32", {})
    assert found.trials <= 2 + math.ceil(math.log2(2 * 4))


def test_float16_for_all_if_no_int8_is_borne():
    model = onnx.load_from_string(maf())
    found = judged("maf", model, lambda typed: "int8" not in kinds(typed))
    assert set(found.precisions) == {"fp16"}
    assert kinds(found.model) == list(found.precisions)
    assert (found.precision, found.overrides) == ("fp16", {})


@pytest.mark.parametrize("borne", [1, 2, 3])
def test_as_few_as_possible_are_widened(borne: int):
    model = onnx.load_from_string(maf())
    found = judged("maf", model, lambda typed: kinds(typed).count("int8") <= borne)
    assert sorted(found.precisions) == ["fp16"] * (4 - borne) + ["int8"] * borne
    assert kinds(found.model) == list(found.precisions)
    assert set(found.overrides.values()) == {"fp16"}


def test_widenings_come_in_the_order_of_what_they_save():
    int8 = np.array([1.0, np.inf, 8.0, np.inf, 3.0])
    fp16 = np.array([0.1, 0.2, 6.0, np.inf, 0.0])
    assert ordered_widenings(int8, fp16) == [
        (1, "fp16"),
        (3, "fp32"),
        (2, "fp32"),
        (4, "fp16"),
        (0, "fp16"),
        (1, "fp32"),
        (0, "fp32"),
        (4, "fp32"),
    ]


def test_every_conditioner_ends_in_float32_and_never_narrows():
    rng = np.random.default_rng(0)
    for _ in range(50):
        costs = rng.choice([0.0, 0.5, 1.0, 7.0, np.inf], (2, 6))
        last: dict[int, str] = dict.fromkeys(range(6), "int8")
        for number, precision in ordered_widenings(*costs):
            assert PRECISIONS.index(precision) > PRECISIONS.index(last[number])
            last[number] = precision
        assert set(last.values()) == {"fp32"}
