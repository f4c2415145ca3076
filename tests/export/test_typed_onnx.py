"""Typed precision: only conditioners change, as TensorRT wants it, at a known price."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from edgeflow.models import build
from edgeflow.models.glow import GlowSpec
from edgeflow.models.maf import MAFSpec
from edgeflow.models.model import Model
from edgeflow_export.conditioners import calibrate, conditioner_count, conditioners_of
from edgeflow_export.onnx_from_model import onnx_from_trained
from edgeflow_export.typed_onnx import INT8_LARGEST, PRECISIONS, emulated, output_axis, typed_onnx
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.backends.protocol import nll_of
from edgeflow_runtime.errors import ExportError, PrecisionError

SPECS = {
    "glow": GlowSpec(frames=16, bands=32, blocks=2, steps=2, hidden=16),
    "maf": MAFSpec(frames=4, bands=32, blocks=3, hidden=48),
}
NLL_BOUNDS = {"int8": 0.02, "fp16": 5e-4}
"""Nats per dimension that a window's NLL may move in these flows of random weights."""


def windows_of(flow: Model | str, count: int = 40) -> np.ndarray:
    spec = SPECS[flow] if isinstance(flow, str) else flow
    rng = np.random.default_rng(1)
    return rng.standard_normal((count, spec.frames, spec.bands)).astype(np.float32)


@functools.cache
def exported(model: str) -> bytes:
    torch.manual_seed(0)
    flow = build(SPECS[model])
    for parameter in flow.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    flow.initialize(torch.randn(64, flow.frames, flow.bands))
    return onnx_from_trained(flow)


def graph_of(model: str) -> onnx.ModelProto:
    return onnx.load_from_string(exported(model))


@functools.cache
def ranges_of(model: str) -> dict[str, float]:
    return calibrate(graph_of(model), windows_of(model))


def typed(model: str, precision: str) -> onnx.ModelProto:
    graph = graph_of(model)
    return typed_onnx(graph, [precision] * conditioner_count(graph), ranges_of(model))


def nll(model: onnx.ModelProto, windows: np.ndarray) -> np.ndarray:
    return nll_of(OnnxRuntimeBackend(model.SerializeToString()), windows)


def constants_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.fixture(params=list(SPECS))
def model(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_conditioner_is_found_with_its_layers(model: str):
    found = conditioners_of(graph_of(model))
    assert [part.name for part in found] == [f"conditioners.{k}" for k in range(len(found))]
    assert len(found) == {"glow": 4, "maf": 3}[model]
    assert {len(part.layers()) for part in found} == {{"glow": 3, "maf": 2}[model]}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_conditioners_change_and_the_input_is_untouched(model: str, precision: str):
    graph = graph_of(model)
    inside = {node.output[0] for part in conditioners_of(graph) for node in part.nodes}
    result = typed_onnx(graph, [precision] * conditioner_count(graph), ranges_of(model))
    assert graph == graph_of(model)
    latent = [node for node in graph.graph.node if node.output[0] not in inside]
    kept = {node.SerializeToString() for node in result.graph.node}
    assert all(node.SerializeToString() in kept for node in latent)
    outside = {name for node in latent for name in node.input}
    before, after = constants_of(graph), constants_of(result)
    for name in outside & set(before):
        np.testing.assert_array_equal(after[name], before[name])
        assert after[name].dtype == before[name].dtype
    assert list(result.graph.input) == list(graph.graph.input)
    assert list(result.graph.output) == list(graph.graph.output)
    assert (result == graph) == (precision == "fp32")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_names_are_unique_constants_used_and_types_consistent(model: str, precision: str):
    graph = typed(model, precision).graph
    names = [node.name for node in graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    used = {name for node in graph.node for name in node.input}
    constants = [tensor.name for tensor in graph.initializer]
    assert len(set(constants)) == len(constants)
    assert set(constants) <= used
    made = {name for node in graph.node for name in node.output}
    assert {info.name for info in graph.value_info} <= made | set(constants)
    onnx.shape_inference.infer_shapes(typed(model, precision), strict_mode=True, check_type=True)


def test_float16_conditioners_are_half_between_two_casts(model: str):
    result = typed(model, "fp16")
    constants = constants_of(result)
    for part in conditioners_of(graph_of(model)):
        nodes = {node.name: node for node in result.graph.node}
        enter, leave = nodes[f"{part.name}.to_fp16"], nodes[f"{part.name}.to_fp32"]
        assert enter.input[0] == part.input
        assert leave.output[0] == part.output
        for node in part.nodes:
            weights = [constants[name] for name in nodes[node.name].input if name in constants]
            assert {weight.dtype for weight in weights} <= {np.dtype(np.float16)}
    casts = [node for node in result.graph.node if node.op_type == "Cast"]
    assert len(casts) == 2 * conditioner_count(graph_of(model))
    assert not any(name.startswith("conditioners") for name in constants if "fp16" not in name)


def test_int8_is_symmetric_with_a_scale_per_output_channel(model: str):
    graph, result = graph_of(model), typed(model, "int8")
    before, constants = constants_of(graph), constants_of(result)
    maker = {node.output[0]: node for node in result.graph.node}
    for part in conditioners_of(graph):
        for layer in part.layers():
            rounded = maker[layer.output[0]]
            dequantize = maker[rounded.input[1]]
            weight, scale, zero = (constants[name] for name in dequantize.input)
            axis = helper.get_attribute_value(dequantize.attribute[0])
            exact = before[layer.input[1]]
            assert axis == output_axis(layer)
            assert scale.shape == zero.shape == (exact.shape[axis],)
            assert (weight.dtype, scale.dtype, zero.dtype) == (np.int8, np.float32, np.int8)
            assert not zero.any()
            assert np.abs(weight.astype(int)).max() <= INT8_LARGEST
            shape = [-1 if i == axis else 1 for i in range(exact.ndim)]
            off = np.abs(weight * scale.reshape(shape) - exact)
            assert (off <= 0.5001 * scale.reshape(shape)).all()
            restore = maker[rounded.input[0]]
            quantize = maker[restore.input[0]]
            assert (quantize.op_type, quantize.input[0]) == ("QuantizeLinear", layer.input[0])
            assert list(quantize.input[1:]) == list(restore.input[1:])
            step, origin = (constants[name] for name in quantize.input[1:])
            assert step == pytest.approx(ranges_of(model)[layer.input[0]] / INT8_LARGEST)
            assert (origin.dtype, origin.shape, int(origin)) == (np.int8, (), 0)
            assert list(rounded.input[2:]) == list(layer.input[2:])
            assert all(constants[name].dtype == np.float32 for name in rounded.input[2:])


def test_the_grouped_sum_of_taps_stays_float32_in_int8():
    graph, result = graph_of("glow"), typed("glow", "int8")
    kept = {node.SerializeToString() for node in result.graph.node}
    for part in conditioners_of(graph):
        assert part.nodes[-1].SerializeToString() in kept
        assert any(a.name == "group" and a.i > 1 for a in part.nodes[-1].attribute)


def test_weights_shrink_to_a_half_and_a_quarter():
    flow = build(MAFSpec(frames=4, bands=64, blocks=2, hidden=256))
    graph = onnx.load_from_string(onnx_from_trained(flow))
    ranges = calibrate(graph, windows_of(flow))
    size = graph.ByteSize()
    assert typed_onnx(graph, ["fp16"] * 2, {}).ByteSize() / size == pytest.approx(0.5, abs=0.02)
    assert typed_onnx(graph, ["int8"] * 2, ranges).ByteSize() / size == pytest.approx(
        0.25, abs=0.03
    )


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_the_score_moves_but_little(model: str, precision: str):
    windows = windows_of(model)
    exact, result = nll(graph_of(model), windows), typed(model, precision)
    for graph in (result, emulated(result)):
        moved = np.abs(nll(graph, windows) - exact)
        assert 0 < moved.max() < NLL_BOUNDS[precision]


def test_mixed_precisions_with_constants_that_conditioners_share():
    flow = build(SPECS["glow"])  # untrained: equal last convolutions, stored once for two steps
    flow.initialize(torch.from_numpy(windows_of("glow")))
    graph = onnx.load_from_string(onnx_from_trained(flow))
    parts = conditioners_of(graph)
    assert parts[0].nodes[-1].input[1] == parts[1].nodes[-1].input[1]
    ranges = calibrate(graph, windows_of("glow"))
    exact = nll(graph, windows_of("glow"))
    for precisions in [("int8", "fp16", "fp32", "fp16"), ("fp16", "fp32", "int8", "int8")]:
        result = typed_onnx(graph, precisions, ranges)
        onnx.shape_inference.infer_shapes(result, strict_mode=True, check_type=True)
        np.testing.assert_allclose(nll(result, windows_of("glow")), exact, atol=0.02)
        shared = {tensor.name for tensor in result.graph.initializer}
        name = parts[0].nodes[-1].input[1]
        assert {name, f"{name}_fp16"} <= shared


def test_what_cannot_be_typed_is_named(model: str):
    graph, ranges = graph_of(model), ranges_of(model)
    count = conditioner_count(graph)
    for wrong in (["fp16"] * (count - 1), ["fp8"] * count):
        with pytest.raises(ExportError, match=f"{count} conditioners need a precision"):
            typed_onnx(graph, wrong, ranges)
    with pytest.raises(ExportError, match="int8 needs the range of"):
        typed_onnx(graph, ["int8"] * count, {})
    half = typed(model, "fp16")
    with pytest.raises(ExportError, match="is FLOAT16; a float32 graph is expected"):
        typed_onnx(half, ["fp16"] * count, ranges)


def test_conditioners_that_are_not_understood_are_refused(model: str):
    graph = graph_of(model)
    next(node for node in graph.graph.node if node.op_type == "Relu").op_type = "Erf"
    with pytest.raises(ExportError, match=r"conditioners\.0 holds a Erf \(node 'node_relu'\)"):
        conditioners_of(graph)
    for lost in (1, "every"):
        graph = graph_of(model)
        for node in graph.graph.node:
            if lost == "every" or f"conditioners.{lost}" in str(node.metadata_props):
                del node.metadata_props[:]
        number = 0 if lost == "every" else lost
        with pytest.raises(ExportError, match=f"no node of conditioners.{number}"):
            conditioners_of(graph)
    graph = graph_of(model)
    part = conditioners_of(graph)[1]
    del part.nodes[1].metadata_props[:]  # a node in the middle is nobody's
    with pytest.raises(ExportError, match=r"conditioners\.1 reads .* and leaves"):
        conditioners_of(graph)


def scaled(graph: onnx.ModelProto, factors: dict[str, float]) -> onnx.ModelProto:
    """The graph with some constants multiplied."""
    for tensor in graph.graph.initializer:
        if tensor.name in factors:
            value = numpy_helper.to_array(tensor) * np.float32(factors[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return graph


def test_a_weight_beyond_float16_is_named(model: str):
    graph = scaled(graph_of(model), {"conditioners.1.0.weight": 1e7})
    count = conditioner_count(graph)
    named = r"conditioners\.1 has a weight of .* in 'conditioners\.1\.0\.weight'.*65504"
    with pytest.raises(PrecisionError, match=named):
        typed_onnx(graph, ["fp16"] * count, {})
    typed_onnx(graph, ["fp16", "fp32", *["fp16"] * (count - 2)], {})


def test_an_overflow_between_layers_shows_in_the_emulation(model: str):
    names = [f"conditioners.1.0.{kind}" for kind in ("weight", "bias")]
    graph = scaled(graph_of(model), {**dict.fromkeys(names, 4e4), "conditioners.1.2.weight": 1e-5})
    windows = windows_of(model)
    result = typed_onnx(graph, ["fp16"] * conditioner_count(graph), {})
    assert np.isfinite(nll(graph, windows)).all()
    assert not np.isfinite(nll(emulated(result), windows)).all()


def test_the_emulation_of_float32_is_the_graph_itself(model: str):
    assert emulated(graph_of(model)) == graph_of(model)
