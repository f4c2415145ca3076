"""What of a graph may be made smaller: its conditioners, and how large their activations become."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from edgeflow_export.onnx_from_model import INPUT, SCOPES
from edgeflow_runtime.arrays import Array
from edgeflow_runtime.errors import ExportError

UNDERSTOOD = frozenset({"Add", "Conv", "Gemm", "MatMul", "Relu"})
"""Operators that a conditioner may consist of."""

_SCOPE = re.compile(r"conditioners\.(\d+)")


@dataclass(frozen=True)
class Conditioner:
    """The network of one coupling: one tensor in, one tensor out."""

    number: int
    """Its place among the couplings, from 0."""
    nodes: tuple[onnx.NodeProto, ...]
    """Its nodes, in the graph's order."""
    input: str
    """The tensor it reads."""
    output: str
    """The tensor that the latent path takes from it."""

    @property
    def name(self) -> str:
        """For example ``conditioners.3``, as torch has it."""
        return f"conditioners.{self.number}"

    def layers(self) -> list[onnx.NodeProto]:
        """The nodes that multiply by weights: what int8 is worth its rounding for.

        Grouped convolutions are not among them: in a folded Glow they only add the taps.
        """
        return [node for node in self.nodes if node.op_type in LAYERS and group_of(node) == 1]


LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators with a weight."""


def group_of(node: onnx.NodeProto) -> int:
    """Groups of a convolution; 1 for everything else."""
    return next((int(a.i) for a in node.attribute if a.name == "group"), 1)


def conditioners_of(model: onnx.ModelProto) -> tuple[Conditioner, ...]:
    """Every conditioner of a graph that torch exported from a folded flow, in order.

    Raises:
        ExportError: there is none, one is missing, or one is not understood.
    """
    nodes: dict[int, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        number = _number_of(node)
        if number is not None:
            nodes.setdefault(number, []).append(node)
    constants = {tensor.name for tensor in model.graph.initializer}
    named = {int(match[1]) for name in constants if (match := _SCOPE.match(name))}
    wanted = max(named | set(nodes), default=-1) + 1
    for number in range(max(wanted, 1)):
        if number not in nodes:
            raise ExportError(f"the exported graph holds no node of conditioners.{number}")
    return tuple(_conditioner(model.graph, k, nodes[k], constants) for k in range(wanted))


def conditioner_count(model: onnx.ModelProto) -> int:
    """How many conditioners a graph has.

    Raises:
        ExportError: as :func:`conditioners_of`.
    """
    return len(conditioners_of(model))


def _number_of(node: onnx.NodeProto) -> int | None:
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            for scope in ast.literal_eval(entry.value):
                if match := _SCOPE.match(scope):
                    return int(match[1])
    return None


def _conditioner(
    graph: onnx.GraphProto, number: int, nodes: Sequence[onnx.NodeProto], constants: set[str]
) -> Conditioner:
    name = f"conditioners.{number}"
    for node in nodes:
        if node.op_type not in UNDERSTOOD:
            raise ExportError(
                f"{name} holds a {node.op_type} (node '{node.name}'); only "
                f"{', '.join(sorted(UNDERSTOOD))} can be given another precision"
            )
    made = {output for node in nodes for output in node.output}
    read = {source for node in nodes for source in node.input} - made - constants - {""}
    ids = {id(node) for node in nodes}
    outside = {source for node in graph.node if id(node) not in ids for source in node.input}
    left = made & (outside | {output.name for output in graph.output})
    if len(read) != 1 or len(left) != 1:
        raise ExportError(
            f"{name} reads {sorted(read)} and leaves {sorted(left)}; one tensor each is understood"
        )
    conditioner = Conditioner(number, tuple(nodes), read.pop(), left.pop())
    if not conditioner.layers():
        raise ExportError(f"{name} has no layer with weights")
    return conditioner


HEADROOM = 2.0
"""int8 reaches this many times as far as the largest activation that was seen. Normal clips are
calibrated on, anomalous ones go beyond them, and what is cut off is what would have told them
apart: cutting costs more than the coarser step does."""

BATCH_CELLS = 9 * 32 * 128
"""Cells (frames x bands) that are measured at a time, whatever the number of windows."""


def calibrate(model: onnx.ModelProto, windows: Array) -> dict[str, float]:
    """The range of each tensor that int8 would round: the largest magnitude with its headroom.

    The largest magnitude is taken inside of the graph, so memory does not grow with the windows.

    Args:
        model: a float32 graph, as ``onnx_from_folded`` gives it.
        windows: (N, T, M) standardised windows of normal clips.

    Raises:
        ExportError: there are no windows, the graph is not understood, or an activation is not
            finite.
    """
    if not len(windows):
        raise ExportError("int8 is calibrated on windows of real clips, found none")
    names = _rounded_tensors(model)
    session = _session(_measured(model, names))
    batch = max(1, BATCH_CELLS // windows[0].size)
    largest = np.zeros(len(names), np.float32)
    for start in range(0, len(windows), batch):
        part = np.ascontiguousarray(windows[start : start + batch], np.float32)
        nll, *magnitudes = session.run(
            ["nll", *(f"{name}.largest" for name in names)], {INPUT: part}
        )
        largest = np.maximum(largest, magnitudes)
        if not (np.isfinite(nll).all() and np.isfinite(largest).all()):
            raise ExportError(
                f"the float32 graph gives a number that is not finite on windows {start} to "
                f"{start + len(part) - 1} of those that int8 is calibrated on"
            )
    return {name: HEADROOM * float(value) for name, value in zip(names, largest, strict=True)}


def _rounded_tensors(model: onnx.ModelProto) -> list[str]:
    layers = [layer for part in conditioners_of(model) for layer in part.layers()]
    return list(dict.fromkeys(layer.input[0] for layer in layers))


def _measured(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The graph with the largest magnitude () of each named tensor as further outputs.

    ONNX Runtime's ReduceMax loses a NaN, so the NLL must be looked at as well.
    """
    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    graph = measured.graph
    for name in names:
        magnitude, largest = f"{name}.magnitude", f"{name}.largest"
        graph.node.append(helper.make_node("Abs", [name], [magnitude]))
        graph.node.append(helper.make_node("ReduceMax", [magnitude], [largest], keepdims=0))
        graph.output.append(helper.make_tensor_value_info(largest, TensorProto.FLOAT, []))
    return measured


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
