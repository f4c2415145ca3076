"""How much arithmetic a graph holds, and how fast this machine multiplies matrices."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, shape_inference

IR_VERSION = 8
"""Version of the ONNX file format, one that every supported ONNX Runtime reads."""


def multiply_adds(graph: bytes) -> int:
    r"""Multiply-adds of the convolutions and matrix products, for one window.

    A convolution takes :math:`|y| \cdot c k_h k_w / g`, a product :math:`|y| \cdot k`; |y| counts
    the output's elements with a batch of 1, which is also taken for every free dimension.

    Args:
        graph: a serialised ONNX model.
    """
    model = shape_inference.infer_shapes(onnx.load_from_string(graph))
    known = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    shapes = {value.name: _dims(value.type.tensor_type.shape) for value in known}
    shapes |= {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    return sum(_node_multiply_adds(node, shapes) for node in model.graph.node)


def _dims(shape: Any) -> list[int]:  # noqa: ANN401
    return [dim.dim_value or 1 for dim in shape.dim]


def _node_multiply_adds(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    if node.op_type == "Conv":  # weight (out, in / groups, k_h, k_w)
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":  # weight (in, out / groups, k_h, k_w)
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "MatMul":
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    if node.op_type == "Gemm":
        turned = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if turned else 1]
    return 0


def matrix_products(size: int) -> dict[str, Callable[[], object]]:
    """Square float32 products on all cores, by numpy's BLAS and by ONNX Runtime.

    There are two, as either library may not know a processor, or be told not to use what it has.

    Args:
        size: rows and columns; one product takes ``size ** 3`` multiply-adds.
    """
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, size, size), np.float32)
    session = _matmul_session(size)
    return {
        "numpy": lambda: a @ b,
        "ONNX Runtime": lambda: session.run(["y"], {"a": a, "b": b}),
    }


def _matmul_session(size: int) -> Any:  # noqa: ANN401
    square = [size, size]
    values = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, square) for n in "aby"}
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    graph = helper.make_graph([node], "product", [values["a"], values["b"]], [values["y"]])
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[opset])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
