"""Every graph that is exported compiles with NVIDIA's parser: each model, precision and form.

A compile check, not a Jetson engine: TensorRT-RTX builds here, without a GPU, for compute
capabilities 8.0, 8.6 and 8.9; an Orin has 8.7 and a Thor 11.0, which it does not build for.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from onnx import helper

from edgeflow.models import build
from edgeflow.models.glow import GlowSpec
from edgeflow.models.linear import LinearSpec
from edgeflow.models.maf import MAFSpec
from edgeflow_export.audio_onnx import audio_onnx
from edgeflow_export.conditioners import calibrate, conditioner_count
from edgeflow_export.onnx_from_model import model_from_trained
from edgeflow_export.typed_onnx import typed_onnx
from edgeflow_runtime.backends.tensorrt.build import AHEAD_OF_TIME
from edgeflow_runtime.backends.tensorrt.engine_from_onnx import compile_engine
from edgeflow_runtime.backends.tensorrt.engine_record import BuildOrder
from edgeflow_runtime.backends.tensorrt.tensorrt_module import is_installed
from edgeflow_runtime.errors import EngineError
from edgeflow_runtime.logmel import LogMel, LogMelSpec
from edgeflow_runtime.views import PoolSpec, View, ViewSpec, WindowSpec

pytestmark = pytest.mark.skipif(
    not is_installed("tensorrt-rtx"),
    reason="TensorRT-RTX is not installed: pip install -c constraints.txt '.[rtx]'",
)

SPECS = {
    "glow": GlowSpec(frames=16, bands=32, blocks=2, steps=2, hidden=16),
    "maf": MAFSpec(frames=4, bands=32, blocks=4, hidden=48),
    "linear": LinearSpec(frames=5, bands=32),
}
PRECISIONS = ["fp32", "fp16", "int8", "mixed"]
FORMS = ["windows", "float32", "int16"]
SECONDS = 1


def model_of(spec):
    torch.manual_seed(0)
    flow = build(spec)
    for parameter in flow.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    flow.initialize(torch.randn(64, flow.frames, flow.bands))
    return model_from_trained(flow)


@pytest.fixture(scope="module")
def models():
    return {name: model_of(spec) for name, spec in SPECS.items()}


def typed(model, precision, spec):
    count = conditioner_count(model)
    mixed = ["int8", "fp16", "fp32", "int8"]
    chosen = [mixed[k % 4] if precision == "mixed" else precision for k in range(count)]
    windows = np.random.default_rng(0).standard_normal((16, spec.frames, spec.bands), np.float32)
    return typed_onnx(model, chosen, calibrate(model, windows))


def in_form(model, form, spec):
    if form == "windows":
        return model
    logmel = LogMel(LogMelSpec(bands=spec.bands))
    view: ViewSpec = WindowSpec(spec.frames, spec.frames // 2)
    if isinstance(spec, LinearSpec):
        view = PoolSpec(("mean", "max", "gwrp:0.9", "ranks:0.01-0.1", "spread:8"))
    zero = np.zeros(view.standard_shape(spec.bands), np.float32)
    return audio_onnx(model, logmel, View(view, zero, zero + 1), SECONDS * 16000, form)


def order_of(model, form, precision, capabilities):
    order = BuildOrder(
        bundle="",
        graph="flow" if form == "windows" else "audio",
        workspace=256 * 2**20,
        compute_capabilities=capabilities,
    )
    return model.SerializeToString(), "int8" if precision == "mixed" else precision, order


@pytest.fixture
def compiled(tmp_path):
    """Compiles an order: the size of the engine, and the parsed layers by type."""
    import tensorrt_rtx as trt

    def compile_one(order):
        target = tmp_path / "engine"
        layers = compile_engine(trt, *order, target, None, lambda *_: None)
        return target.stat().st_size, layers

    return compile_one


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", SPECS)
def test_every_graph_compiles(compiled, models, name, precision, form):
    spec = SPECS[name]
    model = in_form(typed(models[name], precision, spec), form, spec)
    size, layers = compiled(order_of(model, form, precision, AHEAD_OF_TIME))
    assert size > 10_000
    wide = {"fp16": "HALF", "int8": "INT8"}
    given = set(PRECISIONS[1:3] if precision == "mixed" else [precision])
    if name == "linear" and precision == "mixed":  # it has one conditioner
        given = {"int8"}
    assert {kind for kind, layer in wide.items() if layer in layers} == given - {"fp32"}
    assert layers["FLOAT"] > layers.get(wide.get(precision, ""), 0) / 2
    assert layers.get("UINT8", 0) == 0  # inputs are no layers


@pytest.mark.parametrize("capability", AHEAD_OF_TIME)
def test_each_capability_compiles_alone(compiled, models, capability):
    order = order_of(models["glow"], "windows", "fp32", (capability,))
    assert compiled(order)[0] > 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "precision", "form"),
    [
        (GlowSpec(), "fp16", "windows"),
        (GlowSpec(), "int8", "int16"),
        (MAFSpec(), "int8", "windows"),
    ],
    ids=lambda value: getattr(value, "model", value),
)
def test_the_papers_sizes_compile(compiled, spec, precision, form):
    model = in_form(typed(model_of(spec), precision, spec), form, spec)
    assert compiled(order_of(model, form, precision, ("8.6",)))[0] > 1_000_000


def test_a_graph_of_another_precision_than_it_says_is_refused(compiled, models):
    order = order_of(models["maf"], "windows", "fp16", ("8.6",))
    with pytest.raises(EngineError, match="says fp16, but TensorRT reads no HALF layer"):
        compiled(order)


def test_an_operator_outside_the_list_is_named(compiled, models, tmp_path):
    model = deepcopy(models["maf"])
    (nll,) = [node for node in model.graph.node if "nll" in node.output]
    nll.output[0] = "before"
    model.graph.node.append(helper.make_node("Erf", ["before"], ["after"], name="fine"))
    model.graph.node.append(helper.make_node("Det", ["after"], ["nll"], name="slogdet"))
    with pytest.raises(EngineError, match=r"operator Det \(node 'slogdet'\)"):
        compiled(order_of(model, "windows", "fp32", ("8.6",)))
    assert not (tmp_path / "engine").exists()


def test_half_the_bytes_are_in_the_file(models):
    """The precision is in the ONNX: weights take half, or a quarter, of float32's bytes."""
    sizes = {p: len(typed(models["maf"], p, SPECS["maf"]).SerializeToString()) for p in PRECISIONS}
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    assert sizes["int8"] < 0.4 * sizes["fp32"]
