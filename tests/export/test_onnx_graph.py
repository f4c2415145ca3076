"""Graphs are read without onnx: ours as ONNX Runtime sees them, and others not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeflow.models import build
from edgeflow.models.glow import GlowSpec
from edgeflow.models.maf import MAFSpec
from edgeflow_export.audio_onnx import audio_onnx
from edgeflow_export.conditioners import calibrate, conditioner_count
from edgeflow_export.onnx_from_model import model_from_trained
from edgeflow_export.typed_onnx import typed_onnx
from edgeflow_runtime.backends.protocol import rows_per_call
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import BundleError
from edgeflow_runtime.logmel import LogMel, LogMelSpec
from edgeflow_runtime.onnx_graph import read_graph
from edgeflow_runtime.onnx_sizes import sizes_of
from edgeflow_runtime.protobuf import BYTES, VARINT, integers, message
from edgeflow_runtime.signature import Signature
from edgeflow_runtime.views import View, WindowSpec
from edgeflow_runtime.whole_clips import AudioGraph

SPECS = {
    "glow": GlowSpec(frames=16, bands=32, blocks=2, steps=2, hidden=16),
    "maf": MAFSpec(frames=4, bands=32, blocks=4, hidden=48),
}
OLD = Path(__file__).parents[1] / "bundles"


def view_of(spec: GlowSpec | MAFSpec) -> View:
    mean, scale = np.zeros(spec.bands, np.float32), np.ones(spec.bands, np.float32)
    return View(WindowSpec(spec.frames, spec.frames // 2), mean, scale)


@pytest.fixture(scope="module")
def models() -> dict[str, onnx.ModelProto]:
    torch.manual_seed(0)
    made = {}
    for name, spec in SPECS.items():
        flow = build(spec)
        flow.initialize(torch.randn(64, flow.frames, flow.bands))
        made[name] = model_from_trained(flow)
    return made


def exported(
    model: onnx.ModelProto, name: str, precision: str, form: str
) -> tuple[bytes, Signature]:
    """A graph as an export writes it, and the signature that its bundle would ask for."""
    spec, view = SPECS[name], view_of(SPECS[name])
    if precision != "fp32":
        windows = np.random.default_rng(0).standard_normal((16, *view.shape), np.float32)
        model = typed_onnx(
            model, (precision,) * conditioner_count(model), calibrate(model, windows)
        )
    if form == "windows":
        return model.SerializeToString(), Signature.of_flow(view)
    logmel = LogMel(LogMelSpec(bands=spec.bands))
    graph = AudioGraph(16000, form, (1,), 1e-3)
    signature = Signature.of_audio(graph, view, logmel.spec.frames(16000))
    return audio_onnx(model, logmel, view, 16000, form).SerializeToString(), signature


@pytest.mark.parametrize("form", ["windows", "float32", "int16"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", SPECS)
def test_every_export_passes_and_its_sizes_are_those_that_it_has_when_it_runs(
    models: dict[str, onnx.ModelProto], name: str, precision: str, form: str
):
    content, signature = exported(models[name], name, precision, form)
    signature.check_graph(content)
    check_sizes(content, signature)


def check_sizes(content: bytes, signature: Signature, rows: int = 3) -> None:
    """Every tensor that ONNX Runtime makes has the size that was foretold."""
    foretold = sizes_of(read_graph(content), {signature.name: (rows, *signature.row)})
    model = onnx.load_from_string(content)
    model.graph.ClearField("value_info")
    inner = onnx.shape_inference.infer_shapes(model).graph.value_info
    model.graph.output.extend(inner)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    kind = np.float32 if signature.element == TensorProto.FLOAT else np.uint8
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {signature.name: np.zeros((rows, *signature.row), kind)})
    assert {name: array.shape for name, array in zip(names, found, strict=True)} == {
        name: foretold[name] for name in names
    }
    assert len(names) >= len(model.graph.node)


@pytest.mark.parametrize("name", ["maf_format_1", "maf_format_2"])
def test_bundles_of_old_formats_load(name: str):
    """Their graphs carry more beside the nodes."""
    bundle = Bundle.load(OLD / f"{name}.edgeflow")
    assert bundle.manifest.format_version == int(name[-1])
    for graph in ("flow", "audio") if bundle.audio_onnx else ("flow",):
        check_sizes(bundle.graph(graph), bundle.signature(graph))


Edit = Callable[[onnx.ModelProto], None]

FLOW = SPECS["maf"]
WANTED = Signature.of_flow(view_of(FLOW))


def edited(model: onnx.ModelProto, edit: Edit) -> bytes:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    edit(copy)
    return copy.SerializeToString()


def last(model: onnx.ModelProto) -> onnx.NodeProto:
    """The node that gives the NLL."""
    return next(node for node in model.graph.node if "nll" in node.output)


def constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> str:
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def put_before_the_nll(operator: str, *inputs: str, **attributes: object) -> Edit:
    """A node more, between what gave the NLL and the NLL."""

    def edit(model: onnx.ModelProto) -> None:
        last(model).output[0] = "before"
        node = helper.make_node(operator, ["before", *inputs], ["nll"], **attributes)
        model.graph.node.append(node)

    return edit


def loop(model: onnx.ModelProto) -> None:
    """One without end."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"])], "body",
        [helper.make_tensor_value_info(n, k, []) for n, k in (("i", 7), ("c", 9))],
        [helper.make_tensor_value_info("d", 9, [])],
    )  # fmt: skip
    constant(model, "true", np.array(True))
    model.graph.node.append(helper.make_node("Loop", ["", "true"], [], body=body))


def subgraph_in_a_known_operator(model: onnx.ModelProto) -> None:
    last(model).attribute.append(helper.make_attribute("body", helper.make_graph([], "g", [], [])))


def tensor_in_an_attribute(model: onnx.ModelProto) -> None:
    value = numpy_helper.from_array(np.zeros(2, np.float32))
    last(model).attribute.append(helper.make_attribute("value", value))


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def huge_constant(model: onnx.ModelProto) -> None:
    """6 GiB that the file does not hold."""
    tensor = model.graph.initializer[0]
    del tensor.dims[:]
    tensor.dims.extend([1 << 20, 1 << 11])


def constant_of_texts(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("texts", TensorProto.STRING, [1], [b"x"]))


def sparse(model: onnx.ModelProto) -> None:
    values = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    places = helper.make_tensor("i", TensorProto.INT64, [1], [1])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [1 << 40]))


def function(model: onnx.ModelProto) -> None:
    made = helper.make_function(
        "",
        "Relu",
        ["x"],
        ["y"],
        [helper.make_node("Tanh", ["x"], ["y"])],
        [helper.make_opsetid("", 18)],
    )
    model.functions.append(made)


def grown(times: int) -> Edit:
    """A tensor joined with itself again and again: each time it has twice the size."""

    def edit(model: onnx.ModelProto) -> None:
        name = model.graph.input[0].name
        for k in range(times):
            joined = helper.make_node("Concat", [name, name], [f"grown{k}"], axis=1)
            model.graph.node.append(joined)
            name = f"grown{k}"

    return edit


def padded(model: onnx.ModelProto) -> None:
    pads = constant(model, "pads", np.array([0, 0, 0, 0, 1 << 40, 0]))
    model.graph.node.append(helper.make_node("Pad", [WANTED.name, pads], ["padded"]))


def outer_product(model: onnx.ModelProto) -> None:
    column = constant(model, "column", np.ones((1 << 16, 1), np.float32))
    row = constant(model, "row", np.ones((1, 1 << 16), np.float32))
    model.graph.node.append(helper.make_node("MatMul", [column, row], ["product"]))


def gathered(model: onnx.ModelProto) -> None:
    many = constant(model, "many", np.zeros(1 << 16, np.int64))
    model.graph.node.append(helper.make_node("Gather", [WANTED.name, many], ["g"], axis=1))
    model.graph.node.append(helper.make_node("Gather", ["g", many], ["gg"], axis=2))


def computed_size(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Cast", [WANTED.name], ["size"], to=TensorProto.INT64))
    model.graph.node.append(helper.make_node("Reshape", [WANTED.name, "size"], ["reshaped"]))


def reshaped(model: onnx.ModelProto) -> None:
    size = constant(model, "size", np.array([1 << 62, 1 << 62]))
    model.graph.node.append(helper.make_node("Reshape", [WANTED.name, size], ["reshaped"]))


def dimension(
    port: Callable[[onnx.GraphProto], onnx.ValueInfoProto], axis: int, value: int | str
) -> Edit:
    """Another size of an input or output; a text makes it free."""

    def edit(model: onnx.ModelProto) -> None:
        size = port(model.graph).type.tensor_type.shape.dim[axis]
        size.Clear()
        if isinstance(value, int):
            size.dim_value = value
        else:
            size.dim_param = value

    return edit


def source(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    return graph.input[0]


def map_of(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    return next(output for output in graph.output if output.name == "nll_map")


def constant_nll(model: onnx.ModelProto) -> None:
    """An output that does not depend on the sound, nor on how much there is of it."""
    last(model).output[0] = "before"
    constant(model, "nll", np.zeros(rows_per_call(WANTED.row), np.float32))


def two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N", 1]))


def renamed(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for k, name in enumerate(node.input):
            if name == WANTED.name:
                node.input[k] = "frames"
    model.graph.input[0].name = "frames"


def opset(version: int, domain: str = "") -> Edit:
    return lambda model: model.opset_import.append(helper.make_opsetid(domain, version))


def half_precision_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def shadowed(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", [WANTED.name], ["nll_map"]))


def foreign(model: onnx.ModelProto) -> None:
    last(model).domain = "com.microsoft"


REFUSED: dict[str, tuple[Edit, str]] = {
    "loop": (loop, "the operator 'Loop' is not one"),
    "unknown operator": (put_before_the_nll("Identity"), "the operator 'Identity' is not one"),
    "amplifier": (put_before_the_nll("Expand", "nll_map"), "the operator 'Expand' is not one"),
    "foreign operator": (foreign, "the operator 'com.microsoft::"),
    "subgraph": (subgraph_in_a_known_operator, "field 6 is there twice, or not one"),
    "tensor": (tensor_in_an_attribute, "field 5 is there twice, or not one"),
    "external data": (external, "field 13 is there twice, or not one"),
    "huge constant": (huge_constant, r"bytes for a size of \(1048576, 2048\)"),
    "texts": (constant_of_texts, "field 6 is there twice, or not one"),
    "sparse": (sparse, "field 15 is there twice, or not one"),
    "function": (function, "field 25 is there twice, or not one"),
    "concat": (grown(40), "its tensors grow too large, at a Concat"),
    "pad": (padded, "its tensors grow too large, at a Pad"),
    "matmul": (outer_product, "its tensors grow too large, at a MatMul"),
    "gather": (gathered, "its tensors grow too large, at a Gather"),
    "computed size": (computed_size, "a Reshape computes sizes or axes"),
    "absurd size": (reshaped, r"cannot become \[46116"),
    "free size": (dimension(source, 1, "T"), r"it takes 'windows' \(N, N, 32\), the bundle wants"),
    "size zero": (dimension(source, 1, 0), r"it takes 'windows' \(N, 0, 32\), the bundle wants"),
    "fixed batch": (dimension(source, 0, 4), r"it takes 'windows' \(4, 4, 32\), the bundle wants"),
    "another window": (dimension(source, 1, 5), r"it takes 'windows' \(N, 5, 32\)"),
    "another type": (half_precision_input, "of type 11, the bundle wants"),
    "two inputs": (two_inputs, "it takes 'more'"),
    "another name": (renamed, "it takes 'frames'"),
    "maps that do not divide": (dimension(map_of, 1, 3), r"map of \(3, 32\) cells does not divide"),
    "another map": (dimension(map_of, 1, 2), r"says that 'nll_map' is \(None, 2, 32\), and makes"),
    "no map": (lambda m: m.graph.output.remove(map_of(m.graph)), "it gives 'nll'"),
    "constant": (constant_nll, "'nll' is no result but a constant"),
    "made twice": (shadowed, "'nll_map' is made twice"),
    "another operator set": (opset(7), "not of ONNX operator set 18 alone"),
    "foreign operator set": (opset(1, "com.microsoft"), "not of ONNX operator set 18 alone"),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_a_graph_that_is_none_of_ours_is_refused_before_it_is_loaded(
    models: dict[str, onnx.ModelProto], fault: str
):
    edit, expected = REFUSED[fault]
    content = edited(models["maf"], edit)
    with pytest.raises(ValueError, match=expected):
        WANTED.check_graph(content)


def test_a_bundle_names_the_graph_at_fault(bundle_path: Path, forge: Callable[..., Path]):
    content = edited(onnx.load_from_string(Bundle.load(bundle_path).onnx), loop)
    with pytest.raises(
        BundleError, match=r"flow\.onnx: the operator 'Loop' is not one that a board"
    ):
        Bundle.load(forge(flow=content))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_bytes_it_has_a_graph_passes_or_is_refused(
    models: dict[str, onnx.ModelProto], data: st.DataObject
):
    content = bytearray(models["glow"].SerializeToString())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    with suppress(ValueError):
        Signature.of_flow(view_of(SPECS["glow"])).check_graph(bytes(content))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_none(content: bytes):
    once, often = {k: k % 3 for k in range(1, 9)}, dict.fromkeys(range(9, 15), BYTES)
    try:
        found = message(content, once, often)
    except ValueError:
        return
    assert set(found) <= {*once, *often}


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=20), st.booleans())
def test_integers_are_read_one_by_one_or_packed(numbers: list[int], packed: bool):
    attribute = onnx.AttributeProto(ints=numbers)
    tensor = onnx.TensorProto(int64_data=numbers)
    content, field = (tensor, 7) if packed else (attribute, 8)
    found = message(content.SerializeToString(), {}, {field: VARINT})
    assert integers(found, field) == numbers


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\x08", "cut off"),
        (b"\x08" + b"\xff" * 10, "more than 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "more than 64 bits"),
        (b"\x0a\x05abc", "cut off"),
        (b"\x08\x01\x08\x01", "there twice"),
        (b"\x0b\x0c", "there is no wire type 3"),
        (b"\x00\x01", "field 0"),
        (b"\x0d\x01\x02\x03\x04", "has wire type 5"),
        (b"\x12\x01a" * ((1 << 16) + 1), "more than 65536 fields"),
    ],
)  # fmt: skip
def test_messages_that_readers_could_read_in_two_ways(content: bytes, expected: str):
    with pytest.raises(ValueError, match=expected):
        message(content, {1: VARINT}, {2: BYTES})


def test_names_that_are_no_text_are_refused(models: dict[str, onnx.ModelProto]):
    """ONNX Runtime hands them on as they are, and what decodes them raises."""
    content = models["maf"].SerializeToString()
    for name in (b"\x12\x01N", b"\x0a\x07windows"):
        assert name in content
        with pytest.raises(ValueError, match="codec can't decode"):
            WANTED.check_graph(content.replace(name, name[:-1] + b"\xae"))
