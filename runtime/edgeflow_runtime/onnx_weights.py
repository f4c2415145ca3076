"""Other constants in a graph that stays as it is: their bytes are written in place, without onnx.

Names, types and sizes do not change, so nothing else in the file does either.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeflow_runtime.arrays import Array
from edgeflow_runtime.errors import BundleError
from edgeflow_runtime.onnx_graph import FLOAT, read_graph


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
        constants = read_graph(content).constants
    except ValueError as error:
        raise BundleError(f"the graph cannot be read: {error}") from error
    for name, value in values.items():
        constant = constants.get(name)
        shape = constant.shape if constant and constant.element == FLOAT else None
        if constant is None or shape != value.shape or not isinstance(constant.data, memoryview):
            there = "there is none" if shape is None else f"it has {shape}"
            raise BundleError(
                f"the graph needs a float32 constant {name!r} of size {value.shape}; {there}"
            )
        constant.data[:] = np.ascontiguousarray(value, "<f4").tobytes()
    return bytes(content)
