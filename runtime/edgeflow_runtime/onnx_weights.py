"""Other constants in a graph that stays as it is: their bytes are written in place, without onnx.

Names, types and sizes do not change, so nothing else in the file does either.

Source: onnx/onnx.proto of ONNX 1.20, whose field numbers stand below.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeflow_runtime.arrays import Array
from edgeflow_runtime.errors import BundleError
from edgeflow_runtime.protobuf import BYTES, VARINT, integer, integers, message, parts, text

MODEL = dict.fromkeys((1, 5), VARINT) | dict.fromkeys((2, 3, 4, 6, 7), BYTES)
MODEL_OFTEN = {8: BYTES, 14: BYTES}
GRAPH, GRAPH_OFTEN = {2: BYTES, 10: BYTES}, dict.fromkeys((1, 5, 11, 12, 13, 16), BYTES)
TENSOR, TENSOR_OFTEN = {2: VARINT, 8: BYTES, 9: BYTES, 12: BYTES}, {1: VARINT, 16: BYTES}
"""Fields of ``ModelProto``, ``GraphProto`` and ``TensorProto`` that may be there, by number."""

FLOAT = 1
"""ONNX's number of float32."""


def replace_initializers(onnx: bytes, values: Mapping[str, Array]) -> bytes:
    """The graph with other constants.

    Args:
        onnx: a serialised ``ModelProto``.
        values: new ones by name, each of the size that is there; they become float32.

    Raises:
        BundleError: it is no such model, or has no float32 constant of that name and size.
    """
    content = bytearray(onnx)
    try:
        places = _places(memoryview(content))
    except ValueError as error:
        raise BundleError(f"the graph cannot be read: {error}") from error
    for name, value in values.items():
        shape, data = places.get(name, (None, None))
        if data is None or shape != value.shape:
            there = "there is none" if data is None else f"it has {shape}"
            raise BundleError(
                f"the graph needs a float32 constant {name!r} of size {value.shape}; {there}"
            )
        data[:] = np.ascontiguousarray(value, "<f4").tobytes()
    return bytes(content)


def _places(content: memoryview) -> dict[str, tuple[tuple[int, ...], memoryview]]:
    """Size and bytes, in place, of each float32 constant by name."""
    (graph,) = parts(message(content, MODEL, MODEL_OFTEN), 7) or [memoryview(b"")]
    places: dict[str, tuple[tuple[int, ...], memoryview]] = {}
    for part in parts(message(graph, GRAPH, GRAPH_OFTEN), 5):
        tensor = message(part, TENSOR, TENSOR_OFTEN)
        name, shape = text(tensor, 8), tuple(integers(tensor, 1))
        (data,) = parts(tensor, 9) or [memoryview(b"")]
        if name in places:
            raise ValueError(f"two constants are called {name!r}")
        if integer(tensor, 2) == FLOAT and isinstance(data, memoryview):
            if len(data) != 4 * int(np.prod(shape, dtype=np.int64)):
                raise ValueError(f"the constant {name!r} has {len(data)} bytes for {shape}")
            places[name] = shape, data
    return places
