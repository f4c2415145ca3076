"""An ONNX graph as the board reads it, without onnx: nodes, constants, what goes in and comes out.

Only what our exporter writes is read. Functions, subgraphs, tensors in attributes, sparse or
external data and texts in tensors are refused, so that nothing runs or is opened that is not here.

Source: onnx/onnx.proto of ONNX 1.20, whose field numbers stand below.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from edgeflow_runtime.protobuf import (
    BYTES,
    FIXED32,
    VARINT,
    Bytes,
    integer,
    integers,
    message,
    parts,
    texts,
)
from edgeflow_runtime.protobuf import text as text_of

OPSET = 18
"""ONNX operator set; TensorRT 10.3 to 11.4 take 17 to 20."""

# fmt: off
ACCEPTED = frozenset({
    "Add", "Cast", "Clip", "Concat", "Conv", "DequantizeLinear", "Div", "Exp", "Gather", "Gemm",
    "Log", "MatMul", "Max", "Mul", "Pad", "Pow", "QuantizeLinear", "ReduceL2", "ReduceMax",
    "ReduceMean", "ReduceSum", "Relu", "Reshape", "Sigmoid", "Slice", "Softplus", "Split", "Sqrt",
    "Sub", "Tanh", "TopK", "Transpose", "Unsqueeze",
})
# fmt: on
"""Operators that every supported TensorRT parses and builds, and that the board lets run."""

DOMAINS = ("", "ai.onnx")
"""Of these operators: two names of one thing."""

FLOAT, UINT8 = 1, 2
ITEM_BYTES = {FLOAT: 4, UINT8: 1, 3: 1, 6: 4, 7: 8, 10: 2}
"""Bytes of an element by ONNX's number of its type: float32, uint8, int8, int32, int64, float16."""

INTEGERS = {6: "<i4", 7: "<i8"}
"""Types of sizes, axes and places."""

MOST_DIMENSIONS = 8
MOST_PLACES = 64
"""Inputs, outputs and attributes of a node, and numbers in an attribute."""

Shape: TypeAlias = tuple[int, ...]

Setting: TypeAlias = "int | list[int] | str | None"

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Node:
    """One operation."""

    operator: str
    """One of :data:`ACCEPTED`."""
    inputs: list[str]
    """Names of tensors; empty where an optional one is left out."""
    outputs: list[str]
    """Names of tensors."""
    settings: dict[str, Setting]
    """Attributes by name; ``None`` stands for numbers that are no integers."""


@dataclass(frozen=True)
class Constant:
    """A tensor of the graph's own."""

    element: int
    """ONNX's number of its type."""
    shape: Shape
    """Its size."""
    data: Bytes
    """Its elements, little-endian."""


@dataclass(frozen=True)
class Port:
    """What goes into a graph, or comes out of it."""

    element: int
    """ONNX's number of its type."""
    shape: tuple[int | None, ...]
    """Its size, ``None`` where it is free."""


@dataclass(frozen=True)
class Graph:
    """A whole graph, each of whose tensors has one name and one source."""

    nodes: list[Node]
    """In the order in which they run."""
    constants: dict[str, Constant]
    """By name."""
    inputs: dict[str, Port]
    """By name."""
    outputs: dict[str, Port]
    """By name."""


def read_graph(content: bytes | bytearray) -> Graph:
    """Read a serialised ``ModelProto``.

    Raises:
        ValueError: it is none, or holds what a bundle's graph has not.
    """
    once = {1: VARINT, **dict.fromkeys((2, 3, 4, 6, 7), BYTES), 5: VARINT}
    model = message(memoryview(content), once, {8: BYTES, 14: BYTES})
    imports = [message(part, {1: BYTES, 2: VARINT}, {}) for part in parts(model, 8)]
    if [(text_of(i, 1) in DOMAINS, integer(i, 2)) for i in imports] != [(True, OPSET)]:
        raise ValueError(f"it is not of ONNX operator set {OPSET} alone")
    (graph,) = parts(model, 7) or [memoryview(b"")]
    found = message(graph, {2: BYTES, 10: BYTES}, dict.fromkeys((1, 5, 11, 12, 13, 16), BYTES))
    known: dict[bytes, tuple[str, Setting]] = {}
    return Graph(
        nodes=[_node(bytes(part), known) for part in parts(found, 1)],
        constants=_named("constant", map(_constant, parts(found, 5))),
        inputs=_named("input", map(_port, parts(found, 11))),
        outputs=_named("output", map(_port, parts(found, 12))),
    )


def _node(content: bytes, known: dict[bytes, tuple[str, Setting]]) -> Node:
    """One node; ``known`` are attributes that were read before, as most are like another's."""
    found = message(content, dict.fromkeys((3, 4, 6, 7), BYTES), dict.fromkeys((1, 2, 5, 9), BYTES))
    operator, domain = text_of(found, 4), text_of(found, 7)
    if domain not in DOMAINS or operator not in ACCEPTED:
        named = f"{domain}::{operator}" if domain else operator
        raise ValueError(f"the operator {named[:80]!r} is not one that a board runs")
    if max(len(parts(found, number)) for number in (1, 2, 5)) > MOST_PLACES:
        raise ValueError(f"a {operator} has more than {MOST_PLACES} inputs, outputs or attributes")
    for part in map(bytes, parts(found, 5)):
        if part not in known:
            known[part] = _setting(part)
    settings = _named("attribute", (known[bytes(part)] for part in parts(found, 5)))
    return Node(operator, texts(found, 1), texts(found, 2), settings)


def _setting(content: bytes) -> tuple[str, Setting]:
    """An attribute: a number, several, or a text; no tensor, graph or parameter of a function."""
    once = {1: BYTES, 2: FIXED32, 3: VARINT, 4: BYTES, 13: BYTES, 20: VARINT}
    found = message(content, once, {7: FIXED32, 8: VARINT})
    name, kind = text_of(found, 1), integer(found, 20)
    if kind == 2:
        return name, integer(found, 3)
    if kind == 7 and len(found.get(8, ())) <= MOST_PLACES:
        return name, integers(found, 8)
    if kind == 3:
        return name, text_of(found, 4)
    if kind in (1, 6):
        return name, None
    raise ValueError(f"the attribute {name[:80]!r} is of a type that is not read here")


def _constant(content: Bytes) -> tuple[str, Constant]:
    once = {2: VARINT, 8: BYTES, 9: BYTES, 12: BYTES, 14: VARINT}
    found = message(content, once, {1: VARINT, 16: BYTES})
    name, element = text_of(found, 8), integer(found, 2)
    shape = _sized(name, integers(found, 1))
    if integer(found, 14) or element not in ITEM_BYTES:
        raise ValueError(f"the constant {name[:80]!r} lies elsewhere, or is of type {element}")
    (data,) = parts(found, 9) or [memoryview(b"")]
    if len(data) != math.prod(shape) * ITEM_BYTES[element]:
        raise ValueError(f"the constant {name[:80]!r} has {len(data)} bytes for a size of {shape}")
    return name, Constant(element, shape, data)


def _port(content: Bytes) -> tuple[str, Port]:
    """A value and its type, which must be a tensor's."""
    found = message(content, dict.fromkeys((1, 2, 3), BYTES), {4: BYTES})
    name, element, sizes = text_of(found, 1), 0, []
    for kind in parts(found, 2):
        for tensor in parts(message(kind, {1: BYTES, 6: BYTES}, {}), 1):
            inner = message(tensor, {1: VARINT, 2: BYTES}, {})
            element = integer(inner, 1)
            for shape in parts(inner, 2):
                sizes = [_size(part) for part in parts(message(shape, {}, {1: BYTES}), 1)]
    known = _sized(name, [size for size in sizes if size is not None])
    left = iter(known)
    return name, Port(element, tuple(None if size is None else next(left) for size in sizes))


def _size(content: Bytes) -> int | None:
    """One dimension; ``None`` where it is free, with or without a name."""
    found = message(content, {1: VARINT, 2: BYTES, 3: BYTES}, {})
    text_of(found, 2)  # the name of a free size, which others decode as well
    return integer(found, 1) if 1 in found else None


def _sized(name: str, sizes: list[int]) -> Shape:
    if len(sizes) > MOST_DIMENSIONS or min(sizes, default=0) < 0:
        raise ValueError(f"{name[:80]!r} has a size of {sizes[:MOST_DIMENSIONS]}")
    return tuple(sizes)


def _named(what: str, pairs: Iterable[tuple[str, Thing]]) -> dict[str, Thing]:
    named: dict[str, Thing] = {}
    for name, thing in pairs:
        if not name or name in named:
            raise ValueError(f"two {what}s are called {name[:80]!r}, or one has no name")
        named[name] = thing
    return named
