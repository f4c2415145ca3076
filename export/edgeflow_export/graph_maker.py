"""An ONNX graph in the making, and the statistics over time that a pooled view adds to it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgeflow_runtime.pooling import MAX, MEAN, Ranked, Spread, Statistic
from edgeflow_runtime.views import PoolSpec


class GraphMaker:
    """Nodes and constants in the making, each under a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        """The name of a new constant."""
        name = f"audio/constant_{len(self.constants)}"
        array = np.array(values, dtype, order="C")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, outputs: tuple[str, ...] = (), **given: int) -> str:
        """Append a node; the name of its first output."""
        name = f"audio/{operator}_{len(self.nodes)}"
        node = helper.make_node(operator, list(inputs), list(outputs or (name,)), name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in given.items())
        self.nodes.append(node)
        return outputs[0] if outputs else name

    def cut(self, x: str, start: int, end: int, axis: int, step: int = 1) -> str:
        """``x[start:end:step]`` along ``axis``."""
        bounds = [self.constant([value], np.int64) for value in (start, end, axis, step)]
        return self.add("Slice", x, *bounds)

    def reshape(self, x: str, *shape: int, output: str = "") -> str:
        """``x`` in another shape; -1 stands for the free size."""
        outputs = (output,) if output else ()
        return self.add("Reshape", x, self.constant(shape, np.int64), outputs=outputs)

    def reduce(self, operator: str, x: str, axis: int, *, keep: bool = False) -> str:
        """A reduction of ``x`` along ``axis``."""
        return self.add(operator, x, self.constant([axis], np.int64), keepdims=int(keep))


def pooled(graph: GraphMaker, decibels: str, spec: PoolSpec, frames: int) -> str:
    """The statistics of each stretch: (clips, F, M) to (clips, W, T, M)."""
    length = spec.frames or frames
    stretches = []
    for start in spec.starts(frames):
        stretch = graph.cut(decibels, int(start), int(start) + length, 1)
        rows = [_statistic(graph, stretch, one, length) for one in spec.each()]
        joined = graph.add("Concat", *rows, axis=1) if len(rows) > 1 else rows[0]
        stretches.append(graph.add("Unsqueeze", joined, graph.constant([1], np.int64)))
    return graph.add("Concat", *stretches, axis=1) if len(stretches) > 1 else stretches[0]


def _statistic(graph: GraphMaker, x: str, one: Statistic, length: int) -> str:
    """(clips, length, M) to (clips, 1, M)."""
    if isinstance(one, Spread):
        return _spread(graph, x, one.stretch, length)
    if one == MEAN:
        return graph.reduce("ReduceMean", x, 1, keep=True)
    if one == MAX:
        return graph.reduce("ReduceMax", x, 1, keep=True)
    assert isinstance(one, Ranked)
    weights = one.weights(length)
    count = int(np.flatnonzero(weights)[-1]) + 1
    outputs = tuple(f"audio/{name}_{len(graph.nodes)}" for name in ("ranked", "places"))
    ranked = graph.add("TopK", x, graph.constant([count], np.int64), outputs=outputs, axis=1)
    return graph.add("MatMul", graph.constant(weights[None, :count]), ranked)


def _spread(graph: GraphMaker, x: str, stretch: int, length: int) -> str:
    """The standard deviation within stretches, averaged over them: (clips, 1, M)."""
    count = length // stretch
    parts = [graph.cut(x, k * stretch, (k + 1) * stretch, 1) for k in range(count)]
    deviations = []
    for part in parts:
        centred = graph.add("Sub", part, graph.reduce("ReduceMean", part, 1, keep=True))
        squares = graph.add("Mul", centred, centred)
        deviations.append(graph.add("Sqrt", graph.reduce("ReduceMean", squares, 1, keep=True)))
    every = graph.add("Concat", *deviations, axis=1) if count > 1 else deviations[0]
    return graph.reduce("ReduceMean", every, 1, keep=True)
