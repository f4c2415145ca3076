"""Precision written into a graph, and its roundings carried out on a CPU as a GPU would."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeflow_export.conditioners import Conditioner, conditioners_of
from edgeflow_export.onnx_from_model import check_operators
from edgeflow_runtime.errors import ExportError, PrecisionError

PRECISIONS = ("int8", "fp16", "fp32")
"""What a conditioner can be computed in, cheapest first."""

FP16_LARGEST = float(np.finfo(np.float16).max)
"""65504; float16 knows nothing beyond but infinity."""

INT8_LARGEST = 127
"""int8 is symmetric: -128 is not used, as TensorRT wants it."""

ZERO = "int8_zero"
"""The zero point of every activation."""

Constants = Mapping[str, onnx.TensorProto]


@dataclass
class _Change:
    """What becomes of a graph."""

    nodes: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    """The nodes that replace a node, by its output."""
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    """New constants by name."""

    def constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        """Add a constant, once where several layers share it; return its name."""
        self.constants[name] = numpy_helper.from_array(np.array(value, order="C"), name)
        return name


def typed_onnx(
    model: onnx.ModelProto, precisions: Sequence[str], ranges: Mapping[str, float]
) -> onnx.ModelProto:
    """Give each conditioner of a float32 graph its precision.

    ``fp16``: its weights are float16 and a Cast stands at either end. ``int8``: the weights of its
    layers are int8, symmetric with a scale per output channel, the tensor before each layer is
    rounded to int8 with one scale (QuantizeLinear, DequantizeLinear), and biases and the grouped
    sum of a Glow's taps stay float32. Everything outside of conditioners is left as it is.

    Args:
        model: as ``onnx_from_folded`` gives it; not changed.
        precisions: one of :data:`PRECISIONS` per conditioner, in order.
        ranges: from :func:`~edgeflow_export.conditioners.calibrate`; only int8 needs them.

    Raises:
        ExportError: the graph is not understood, or a precision or a range is missing or unknown.
        PrecisionError: a weight is too large for float16.
    """
    conditioners = conditioners_of(model)
    if len(precisions) != len(conditioners) or not set(precisions) <= set(PRECISIONS):
        raise ExportError(
            f"{len(conditioners)} conditioners need a precision of {', '.join(PRECISIONS)} each, "
            f"found {list(precisions)}"
        )
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    change = _Change()
    for part, precision in zip(conditioners, precisions, strict=True):
        if precision == "fp16":
            _to_half(part, constants, change)
        elif precision == "int8":
            _to_int8(part, constants, ranges, change)
    typed = _changed(model, change)
    onnx.checker.check_model(typed, full_check=True)
    check_operators(typed)
    return typed


def _to_half(part: Conditioner, constants: Constants, change: _Change) -> None:
    entry, exit_ = f"{part.name}.input_fp16", f"{part.name}.output_fp16"
    renamed = {part.input: entry, part.output: exit_}
    for node in part.nodes:
        copy = _copy(node)
        for i, name in enumerate(node.input):
            if name in constants:
                half = _half(part, constants[name])
                renamed[name] = change.constant(f"{name}_fp16", half)
            copy.input[i] = renamed.get(name, name)
        copy.output[0] = renamed.get(node.output[0], node.output[0])
        change.nodes[node.output[0]] = [copy]
    first, last = change.nodes[part.nodes[0].output[0]], change.nodes[part.output]
    first.insert(0, _cast(part.input, entry, TensorProto.FLOAT16, f"{part.name}.to_fp16"))
    last.append(_cast(exit_, part.output, TensorProto.FLOAT, f"{part.name}.to_fp32"))


def _cast(source: str, target: str, kind: int, name: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=name, to=kind)


def _half(part: Conditioner, tensor: onnx.TensorProto) -> npt.NDArray[np.float16]:
    value = _float32(part, tensor)
    largest = float(np.abs(value).max(initial=0))
    if largest > FP16_LARGEST:
        raise PrecisionError(
            f"{part.name} has a weight of {largest:.3g} in '{tensor.name}', and float16 ends at "
            f"{FP16_LARGEST:.0f}: --precision auto keeps such couplings wider"
        )
    return value.astype(np.float16)


def _to_int8(
    part: Conditioner, constants: Constants, ranges: Mapping[str, float], change: _Change
) -> None:
    layers = {node.output[0] for node in part.layers()}
    for node in part.nodes:
        if node.output[0] in layers:
            copy = _copy(node)
            activation, before = _rounded_activation(node, ranges, change)
            weight, constant = _rounded_weight(part, node, constants, change)
            copy.input[0], copy.input[1] = activation, weight
            change.nodes[node.output[0]] = [*before, constant, copy]


def _rounded_activation(
    node: onnx.NodeProto, ranges: Mapping[str, float], change: _Change
) -> tuple[str, list[onnx.NodeProto]]:
    """The name of a layer's rounded input, and the two nodes that make it."""
    source = node.input[0]
    if not np.isfinite(ranges.get(source, np.nan)):
        raise ExportError(f"int8 needs the range of '{source}' (node '{node.name}'): calibrate it")
    scale = change.constant(f"{source}.scale", _scale(np.float32(ranges[source])))
    zero = change.constant(ZERO, np.zeros((), np.int8))
    rounded, restored = f"{node.name}.input_int8", f"{node.name}.input"
    return restored, [
        helper.make_node(
            "QuantizeLinear", [source, scale, zero], [rounded], name=f"{node.name}.quantize"
        ),
        helper.make_node(
            "DequantizeLinear", [rounded, scale, zero], [restored], name=f"{node.name}.dequantize"
        ),
    ]


def _rounded_weight(
    part: Conditioner, node: onnx.NodeProto, constants: Constants, change: _Change
) -> tuple[str, onnx.NodeProto]:
    """The name of a layer's weight as it comes out of int8, and the node that makes it."""
    name, axis = node.input[1], output_axis(node)
    if name not in constants:
        raise ExportError(f"the weight of node '{node.name}' ({part.name}) is not a constant")
    value = _float32(part, constants[name])
    others = tuple(i for i in range(value.ndim) if i != axis)
    scale = _scale(np.abs(value).max(axis=others, keepdims=True))
    rounded = np.rint(value / scale).astype(np.int8)
    names = [
        change.constant(f"{name}_int8", rounded),
        change.constant(f"{name}.scale", scale.reshape(-1)),
        change.constant(f"{name}.zero", np.zeros(scale.size, np.int8)),
    ]
    restored = f"{node.name}.weight"
    dequantize = f"{node.name}.dequantize_weight"
    return restored, helper.make_node(
        "DequantizeLinear", names, [restored], name=dequantize, axis=axis
    )


def _scale(largest: npt.NDArray[np.float32] | np.float32) -> npt.NDArray[np.float32]:
    """The step that brings ``largest`` to 127; 1 where all is zero."""
    smallest = INT8_LARGEST * np.finfo(np.float32).tiny
    scale: npt.NDArray[np.float32] = np.where(
        largest > smallest, np.asarray(largest, np.float32) / INT8_LARGEST, np.float32(1)
    )
    return scale


def output_axis(node: onnx.NodeProto) -> int:
    """The axis of a layer's weight that its output channels lie along."""
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if node.op_type == "Conv" or transposed else 1


def _float32(part: Conditioner, tensor: onnx.TensorProto) -> npt.NDArray[np.float32]:
    if tensor.data_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(tensor.data_type)
        raise ExportError(f"'{tensor.name}' of {part.name} is {kind}; a float32 graph is expected")
    value: npt.NDArray[np.float32] = numpy_helper.to_array(tensor)
    return value


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _changed(model: onnx.ModelProto, change: _Change) -> onnx.ModelProto:
    """A new model: nodes replaced, constants added, those that nothing reads left out."""
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    graph = typed.graph
    nodes = [change.nodes.get(node.output[0], [node]) for node in model.graph.node]
    del graph.node[:]
    graph.node.extend(itertools.chain.from_iterable(nodes))
    used = {name for node in graph.node for name in node.input}
    constants = [*model.graph.initializer, *change.constants.values()]
    del graph.initializer[:]
    graph.initializer.extend(tensor for tensor in constants if tensor.name in used)
    stale = set(change.nodes) | {t.name for t in model.graph.initializer if t.name not in used}
    infos = [info for info in model.graph.value_info if info.name not in stale]
    del graph.value_info[:]
    graph.value_info.extend(infos)
    return typed


def emulated(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in float32, with every rounding to float16 and int8 that ``model`` makes.

    Sums within a node are float32, as on tensor cores. A float32 graph comes out equal.

    Args:
        model: from :func:`~edgeflow_export.typed_onnx.typed_onnx`; not changed.
    """
    constants = {t.name: t for t in model.graph.initializer}
    half = {t.name for t in constants.values() if t.data_type == TensorProto.FLOAT16}
    nodes: list[onnx.NodeProto] = []
    restored: list[onnx.TensorProto] = []
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            restored.append(_restored(node, constants))
        else:
            nodes += _rounded(node, half)
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    del rounded.graph.node[:], rounded.graph.initializer[:]
    rounded.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [_widened(tensor) for tensor in constants.values() if tensor.name in used]
    rounded.graph.initializer.extend(kept + restored)
    return rounded


def _restored(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> onnx.TensorProto:
    """What a DequantizeLinear with zero point 0 makes of constants."""
    weight, scale = (numpy_helper.to_array(constants[name]) for name in node.input[:2])
    shape = [1] * weight.ndim
    shape[next(a.i for a in node.attribute if a.name == "axis")] = -1
    return numpy_helper.from_array(weight.astype(np.float32) * scale.reshape(shape), node.output[0])


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type != TensorProto.FLOAT16:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _rounded(node: onnx.NodeProto, half: set[str]) -> list[onnx.NodeProto]:
    """What stands for ``node``; the names of float16 tensors gather in ``half``."""
    target = next((a.i for a in node.attribute if a.name == "to"), None)
    enters = node.op_type == "Cast" and target == TensorProto.FLOAT16
    leaves = node.op_type == "Cast" and target == TensorProto.FLOAT
    if not enters and (leaves or half.isdisjoint(node.input)):
        return [node]
    output = node.output[0]
    half.add(output)
    if enters:
        return _rounding(node.input[0], output)
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.output[0] = f"{output}.exact"
    return [copy, *_rounding(copy.output[0], output)]


def _rounding(source: str, target: str) -> list[onnx.NodeProto]:
    rounded = f"{target}.rounded"
    return [
        helper.make_node("Cast", [source], [rounded], to=TensorProto.FLOAT16),
        helper.make_node("Cast", [rounded], [target], to=TensorProto.FLOAT),
    ]
