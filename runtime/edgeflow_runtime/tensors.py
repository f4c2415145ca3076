"""Reading a safetensors file whose header nobody vouches for: float32, bytes and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

KINDS = {"F32": "<f4", "U8": "u1"}
"""Element types that are read, by their names in the file. NumPy has none for some others."""

LONGEST_HEADER = 1 << 16
"""Bytes; each tensor takes about a hundred, and becomes objects that take far more."""


def read_tensors(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a file by name.

    Raises:
        ValueError: it is damaged, has too many tensors, or one of another type.

    Example:
        >>> from safetensors.numpy import save
        >>> read_tensors(save({"mean": np.zeros(2, np.float32)}))
        {'mean': array([0., 0.], dtype=float32)}
    """
    from safetensors import SafetensorError, deserialize

    header = int.from_bytes(content[:8], "little")
    if header > LONGEST_HEADER:
        raise ValueError(f"its header has {header} bytes, more than {LONGEST_HEADER}")
    tensors = {}
    try:
        entries = deserialize(content)  # type: ignore[no-untyped-call]  # in another order each time
        for name, tensor in sorted(entries, key=lambda entry: entry[0]):
            if tensor["dtype"] not in KINDS:
                raise ValueError(f"{name!r} is of type {tensor['dtype']}, not of float32 or uint8")
            tensors[name] = np.frombuffer(tensor["data"], KINDS[tensor["dtype"]]).reshape(
                tensor["shape"]
            )
    except (SafetensorError, OverflowError) as error:
        raise ValueError(str(error)) from error
    return tensors
