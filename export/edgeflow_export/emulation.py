"""A typed graph's roundings carried out in float32, to judge on a CPU what a GPU will compute.

On x86, ONNX Runtime computes float16 nodes in float32 and leaves out every rounding between them,
and with it every overflow: a graph that is ruined on a GPU looks perfect. Here each
rounding is written out as a pair of Casts in a float32 graph, which it does carry out. And it
restores int8 weights anew in every call; here they are restored once, which is much faster.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


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
    found = onnx.ModelProto()
    found.CopyFrom(model)
    del found.graph.node[:], found.graph.initializer[:]
    found.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [_widened(tensor) for tensor in constants.values() if tensor.name in used]
    found.graph.initializer.extend(kept + restored)
    return found


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
