"""Which ONNX operators a deployed flow may hold: those that TensorRT 10.3 to 11.4 all take."""

from __future__ import annotations

import onnx

from edgeflow_runtime.errors import OperatorError

# fmt: off
ACCEPTED = frozenset({
    "Add", "Cast", "Clip", "Concat", "Conv", "DequantizeLinear", "Div", "Exp", "Gather", "Gemm",
    "Log", "MatMul", "Max", "Mul", "Pad", "Pow", "QuantizeLinear", "ReduceL2", "ReduceMean",
    "ReduceSum", "Relu", "Reshape", "Sigmoid", "Slice", "Softplus", "Split", "Sqrt", "Sub", "Tanh",
    "Transpose", "Unsqueeze",
})
# fmt: on
"""Operators that every supported TensorRT parses and builds."""


def check_operators(model: onnx.ModelProto) -> None:
    """Refuse graphs that TensorRT would refuse.

    Reduction axes must be constants of the graph, too.

    Raises:
        OperatorError: with the name of the first node at fault.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in ACCEPTED:
            operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise OperatorError(
                f"operator {operator} (node {node.name!r}) is not one that TensorRT takes"
            )
        if node.op_type.startswith("Reduce") and len(node.input) > 1:
            axes = node.input[1]
            if axes not in constants:
                raise OperatorError(
                    f"the axes of {node.op_type} (node {node.name!r}) are computed; TensorRT "
                    "wants constants"
                )
