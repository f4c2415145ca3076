"""How large every tensor of a graph becomes, and how much there is to compute, before it runs.

The sizes follow from the operators' definitions, https://onnx.ai/onnx/operators (operator set 18).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeflow_runtime.onnx_graph import INTEGERS, Constant, Graph, Node, Shape

MOST_HELD = 1 << 28
"""Elements in the tensors that are held at one time: 1 GiB in float32. The audio graph of the
paper's Glow takes a fourteenth of it for a clip of ten seconds."""

MOST_WORK = 1 << 40
"""Products of one call: a minute or two on one core. That graph takes a fortieth."""

ELEMENT_WORK = 16
"""Products that take as long as an element does which is only copied, added or squared."""

MOST_SIZES = 64
"""Numbers in a constant that says a size, axes or places."""


@dataclass(frozen=True)
class Operands:
    """What a node's size depends on."""

    node: Node
    """Its attributes."""
    shapes: list[Shape]
    """Of its inputs; () where one is left out."""
    constants: list[Constant | None]
    """Those of its inputs that are constants."""

    def setting(self, name: str, missing: int = 0) -> int:
        """An attribute that is an integer."""
        value = self.node.settings.get(name, missing)
        if not isinstance(value, int):
            raise ValueError(f"{name!r} of a {self.node.operator} is no integer")
        return value

    def several(self, name: str, missing: list[int]) -> list[int]:
        """An attribute that is a list of integers, as many as ``missing`` has."""
        value = self.node.settings.get(name, missing)
        if not isinstance(value, list) or len(value) != len(missing):
            raise ValueError(f"{name!r} of a {self.node.operator} is not {len(missing)} integers")
        return value

    def given(self, place: int) -> bool:
        """Whether the input at ``place`` is there."""
        return len(self.node.inputs) > place and self.node.inputs[place] != ""

    def values(self, place: int) -> list[int]:
        """The integers of the constant at ``place``, of which a size depends."""
        constant = self.constants[place] if len(self.constants) > place else None
        if constant is None or constant.element not in INTEGERS:
            raise ValueError(f"a {self.node.operator} computes sizes or axes: they are constants")
        if len(constant.shape) > 1 or math.prod(constant.shape) > MOST_SIZES:
            raise ValueError(f"a {self.node.operator} has sizes or axes of {constant.shape}")
        numbers: list[int] = np.frombuffer(constant.data, INTEGERS[constant.element]).tolist()
        return numbers

    def axis(self, axis: int, rank: int | None = None) -> int:
        """An axis counted from the front."""
        rank = len(self.shapes[0]) if rank is None else rank
        if not -rank <= axis < rank:
            raise ValueError(f"a {self.node.operator} has axis {axis} of {rank}")
        return axis % rank


Rule = Callable[[Operands], tuple[list[Shape], int]]
"""Gives the sizes of a node's outputs, and the multiplications for each element of the first."""


def sizes_of(graph: Graph, inputs: dict[str, Shape]) -> dict[str, Shape]:
    """The size of every tensor, given those of the inputs.

    Raises:
        ValueError: a tensor is made twice or of nothing, sizes do not fit, or there is too much.
    """
    sizes = {name: constant.shape for name, constant in graph.constants.items()} | inputs
    if len(sizes) != len(graph.constants) + len(inputs):
        raise ValueError("a constant has the name of an input")
    last = {name: k for k, node in enumerate(graph.nodes) for name in node.inputs}
    held, work = sum(map(math.prod, inputs.values())), 0
    for k, node in enumerate(graph.nodes):
        made, each = _outputs(node, graph, sizes)
        elements = sum(map(math.prod, made))
        held, work = held + elements, work + elements * max(each, ELEMENT_WORK)
        if held > MOST_HELD or work > MOST_WORK:
            raise ValueError(f"its tensors grow too large, at a {node.operator} of {made[0]}")
        for name, shape in zip(node.outputs, made, strict=True):
            if not name or name in sizes:
                raise ValueError(f"{name[:80]!r} is made twice, or without a name")
            sizes[name] = shape
        for name in {name for name in node.inputs if last[name] == k} - graph.constants.keys():
            held -= math.prod(sizes[name]) if name else 0
    return sizes


def _outputs(node: Node, graph: Graph, sizes: dict[str, Shape]) -> tuple[list[Shape], int]:
    for name in node.inputs:
        if name and name not in sizes:
            raise ValueError(f"a {node.operator} takes {name[:80]!r}, which nothing has made")
    if not node.inputs or not node.inputs[0]:
        raise ValueError(f"a {node.operator} takes nothing")
    shapes = [sizes[name] if name else () for name in node.inputs]
    rule = RULES.get(node.operator, _same)
    made, each = rule(Operands(node, shapes, [graph.constants.get(name) for name in node.inputs]))
    if len(made) != len(node.outputs) or min(map(min, filter(None, made)), default=1) < 1:
        raise ValueError(f"a {node.operator} of {shapes} would give {made}")
    return made, each


def _same(it: Operands) -> tuple[list[Shape], int]:
    """One output as large as the first input: Cast, Clip, Relu, QuantizeLinear and the like."""
    return [it.shapes[0]], 1


def _broadcast(it: Operands) -> tuple[list[Shape], int]:
    """Add, Mul and the like, by NumPy's rules."""
    return [_together(*it.shapes)], 1


def _together(*shapes: Shape) -> Shape:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"sizes of {shapes} do not go together") from None


def _concat(it: Operands) -> tuple[list[Shape], int]:
    axis = it.axis(it.setting("axis"))
    rest = {(*shape[:axis], *shape[axis + 1 :], len(shape)) for shape in it.shapes}
    if len(rest) > 1:
        raise ValueError(f"sizes of {it.shapes} cannot be joined along axis {axis}")
    first = it.shapes[0]
    return [(*first[:axis], sum(shape[axis] for shape in it.shapes), *first[axis + 1 :])], 1


def _conv(it: Operands) -> tuple[list[Shape], int]:
    (count, channels, *size), (made, each, *kernel) = it.shapes[0], it.shapes[1]
    ones, group = [1] * len(size), it.setting("group", 1)
    if group < 1 or channels != each * group or made % group or len(kernel) != len(size):
        raise ValueError(f"a Conv of {it.shapes[:2]} in {group} groups does not fit")
    strides, dilations = it.several("strides", ones), it.several("dilations", ones)
    pads = it.several("pads", [0] * 2 * len(size))
    unusual = it.node.settings.get("auto_pad", "NOTSET") != "NOTSET"
    if unusual or it.several("kernel_shape", kernel) != kernel or min(pads, default=0) < 0:
        raise ValueError("a Conv has another kernel than its weights, or pads on its own")
    if min(strides + dilations, default=1) < 1:
        raise ValueError(f"a Conv has strides {strides} and dilations {dilations}")
    out = [
        (n + before + after - d * (k - 1) - 1) // s + 1
        for n, before, after, d, k, s in zip(
            size, pads[: len(size)], pads[len(size) :], dilations, kernel, strides, strict=True
        )
    ]
    return [(count, made, *out)], each * math.prod(kernel)


def _gather(it: Operands) -> tuple[list[Shape], int]:
    axis, shape = it.axis(it.setting("axis")), it.shapes[0]
    return [(*shape[:axis], *it.shapes[1], *shape[axis + 1 :])], 1


def _gemm(it: Operands) -> tuple[list[Shape], int]:
    a, b = (
        shape[::-1] if it.setting(f"trans{name}") else shape
        for name, shape in zip("AB", it.shapes, strict=False)
    )
    return [_together(_product(a, b), *it.shapes[2:])], a[-1]


def _matmul(it: Operands) -> tuple[list[Shape], int]:
    a, b = it.shapes
    return [(*_together(a[:-2], b[:-2]), *_product(a[-2:], b[-2:]))], a[-1]


def _product(a: Shape, b: Shape) -> Shape:
    if len(a) != 2 or len(b) != 2 or a[1] != b[0]:
        raise ValueError(f"matrices of {a} and {b} cannot be multiplied")
    return a[0], b[1]


def _pad(it: Operands) -> tuple[list[Shape], int]:
    pads, rank = it.values(1), len(it.shapes[0])
    if it.given(3) or len(pads) != 2 * rank:
        raise ValueError(f"a Pad of {it.shapes[0]} has pads {pads}, or axes of its own")
    sums = zip(it.shapes[0], pads[:rank], pads[rank:], strict=True)
    return [tuple(map(sum, sums))], 1


def _reduce(it: Operands) -> tuple[list[Shape], int]:
    shape = it.shapes[0]
    every = [] if it.setting("noop_with_empty_axes") else list(range(len(shape)))
    axes = {it.axis(axis) for axis in (it.values(1) if it.given(1) else [])} or set(every)
    kept = (1,) if it.setting("keepdims", 1) else ()
    parts = [kept if axis in axes else (size,) for axis, size in enumerate(shape)]
    return [sum(parts, ())], math.prod(shape[axis] for axis in axes)


def _reshape(it: Operands) -> tuple[list[Shape], int]:
    shape, wanted = it.shapes[0], it.values(1)
    copied = [shape[k] if n == 0 and k < len(shape) else n for k, n in enumerate(wanted)]
    known = math.prod(n for n in copied if n != -1)
    literal = it.setting("allowzero") and 0 in wanted
    if literal or min(copied, default=1) < -1 or copied.count(-1) > 1:
        raise ValueError(f"a Reshape to {wanted}")
    whole = [math.prod(shape) // known if n == -1 and known else n for n in copied]
    if math.prod(whole) != math.prod(shape):
        raise ValueError(f"{shape} cannot become {wanted}")
    return [tuple(whole)], 1


def _slice(it: Operands) -> tuple[list[Shape], int]:
    starts, ends = it.values(1), it.values(2)
    axes = it.values(3) if it.given(3) else list(range(len(starts)))
    steps = it.values(4) if it.given(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise ValueError(f"a Slice from {starts} to {ends} along {axes} in steps of {steps}")
    sizes = list(it.shapes[0])
    for start, end, axis, step in zip(starts, ends, map(it.axis, axes), steps, strict=True):
        sizes[axis] = len(range(*slice(start, end, step).indices(sizes[axis])))
    return [tuple(sizes)], 1


def _split(it: Operands) -> tuple[list[Shape], int]:
    axis, shape, count = it.axis(it.setting("axis")), it.shapes[0], len(it.node.outputs)
    if it.given(1):
        sizes = it.values(1)
    else:
        each = -(-shape[axis] // max(1, count))
        sizes = [min(each, shape[axis] - k * each) for k in range(count)]
    if sum(sizes) != shape[axis] or it.setting("num_outputs", count) != count:
        raise ValueError(f"a Split of {shape} into {sizes} along axis {axis}")
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes], 1


def _transpose(it: Operands) -> tuple[list[Shape], int]:
    shape = it.shapes[0]
    order = it.several("perm", list(range(len(shape)))[::-1])
    if sorted(order) != list(range(len(shape))):
        raise ValueError(f"a Transpose of {shape} by {order}")
    return [tuple(shape[axis] for axis in order)], 1


def _unsqueeze(it: Operands) -> tuple[list[Shape], int]:
    rank = len(it.shapes[0]) + len(it.values(1))
    sizes = list(it.shapes[0])
    for axis in sorted(it.axis(axis, rank) for axis in it.values(1)):
        sizes.insert(axis, 1)
    return [tuple(sizes)], 1


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Max"), _broadcast),
    **dict.fromkeys(("ReduceL2", "ReduceMean", "ReduceSum"), _reduce),
    "Concat": _concat,
    "Conv": _conv,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""By operator; the others give a tensor like the first they take."""
