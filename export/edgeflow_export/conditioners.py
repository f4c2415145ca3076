"""The networks of the couplings, found again in an exported graph."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from edgeflow_export.onnx_from_flow import SCOPES
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
    found = Conditioner(number, tuple(nodes), read.pop(), left.pop())
    if not found.layers():
        raise ExportError(f"{name} has no layer with weights")
    return found
