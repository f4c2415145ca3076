"""The contract of a backend: rows of a graph in, negative log-likelihoods out."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Nll, NllMap, Rows, Windows

CPU_BATCH_CELLS = 9 * 32 * 128
"""Cells (frames x bands) per call on a CPU: large enough to amortise the call, small enough for the
caches. It makes 9 windows of 32 frames, 8 calls for a 10 s clip, or 72 windows of 4 frames."""


class Backend(Protocol):
    """Runs one of a bundle's graphs. Its methods may be called from several threads at once.

    Rows are what that graph takes: windows (N, T, M), or the samples of whole clips. Each row of
    windows gives one NLL and one map, each clip gives those of all its windows.
    """

    name: str
    """For example ``onnxruntime``."""
    device: str
    """Where it runs, for example ``cpu``."""
    batch: int
    """Rows per call that it runs best."""
    workers: int
    """Calls that it runs best at the same time."""

    def nll(self, rows: Rows) -> Nll:
        """(N, T, M) float32 standardised windows to (N,) NLL in nats per dimension.

        Clips (N, ...) to (N, windows).
        """
        ...

    def nll_map(self, rows: Rows) -> NllMap:
        """(N, T, M) float32 to (N, time cells, mel cells), which sums to ``nll``.

        Clips (N, ...) to (N, windows, time cells, mel cells).
        """
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


def processors() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def nll_of(backend: Backend, windows: Windows) -> Nll:
    """The NLL (N,) of any number of windows (N, T, M), batch by batch."""
    starts = range(0, len(windows), backend.batch)
    parts = [np.ascontiguousarray(windows[i : i + backend.batch]) for i in starts]
    none: Nll = np.empty(0, np.float32)
    return np.concatenate([backend.nll(part) for part in parts]) if parts else none


def filled(count: int, bucket: int) -> npt.NDArray[np.int64]:
    """Row numbers (batches, bucket) that take every one of ``count`` rows; the first fill up.

    Example:
        >>> filled(5, 3).tolist()
        [[0, 1, 2], [3, 4, 0]]
    """
    whole = -(-count // bucket) * bucket
    return (np.arange(whole) % count).reshape(-1, bucket)


def rows_per_call(row: Sequence[int]) -> int:
    """How many rows of this size a call on a CPU takes.

    Example:
        >>> rows_per_call((32, 128)), rows_per_call((160000,))
        (9, 1)
    """
    return max(1, CPU_BATCH_CELLS // math.prod(row))
