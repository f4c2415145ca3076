"""Rows of many clips share a batch, several batches run at once, and clips keep their order."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.backend import Rows

Array = npt.NDArray[np.float32]


@dataclass
class Pending:
    """A clip on its way: its rows may lie in several batches."""

    file: str
    """Its name."""
    seconds: float = math.nan
    """Its length; NaN where an array does not tell."""
    error: str | None = None
    """Why it cannot be judged."""
    logmel: Array | None = None
    """(frames, bands) dB."""
    samples: Array | None = None
    """(n,), for a graph that starts there."""
    results: list[Array] = field(default_factory=list)
    """What came back of its rows, in order."""
    missing: int = 0
    """Rows that are still to come back."""


Share = tuple[Pending, int]
"""A clip, and how many rows of a batch are its own."""


def run_in_batches(
    clips: Iterable[Pending],
    rows_of: Callable[[Pending], Rows],
    run: Callable[[Rows], Array],
    pool: ThreadPoolExecutor,
    batch: int,
    ahead: int,
) -> Iterator[Pending]:
    """Run the rows of ``clips``; yield each clip once it and all before it have their results.

    Args:
        clips: as they are read; those without rows pass through.
        rows_of: the rows (n, ...) of a clip.
        run: rows (n, ...) to results (n, ...), called on the pool's threads.
        pool: the threads.
        batch: rows per call.
        ahead: batches that may be under way at once.
    """
    waiting: deque[Pending] = deque()
    flying: deque[tuple[Future[Array], list[Share]]] = deque()
    try:
        for rows, shares in _batches(clips, rows_of, batch, waiting):
            flying.append((pool.submit(run, rows), shares))
            if len(flying) > ahead:
                _land(*flying.popleft())
            yield from _done(waiting)
        while flying:
            _land(*flying.popleft())
            yield from _done(waiting)
        yield from _done(waiting)
    finally:
        for result, _ in flying:
            result.cancel()


def map_ahead(
    pool: ThreadPoolExecutor,
    read: Callable[[str | Path], Pending],
    paths: Iterable[str | Path],
    ahead: int,
) -> Iterator[Pending]:
    """``map`` in order, at most ``ahead`` clips in memory before they are wanted."""
    queue: deque[Future[Pending]] = deque()
    try:
        for path in paths:
            queue.append(pool.submit(read, path))
            if len(queue) > ahead:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
    finally:
        for result in queue:
            result.cancel()


def _batches(
    clips: Iterable[Pending],
    rows_of: Callable[[Pending], Rows],
    batch: int,
    waiting: deque[Pending],
) -> Iterator[tuple[Rows, list[Share]]]:
    """Fill batches with rows across clips; each comes with how many are whose."""
    parts: list[Rows] = []
    shares: list[Share] = []
    room = batch
    for clip in clips:
        waiting.append(clip)
        left = rows_of(clip)
        clip.missing = len(left)
        while len(left):
            part, left = left[:room], left[room:]
            parts.append(part)
            shares.append((clip, len(part)))
            room -= len(part)
            if room == 0:
                yield np.concatenate(parts), shares
                parts, shares, room = [], [], batch
    if parts:
        yield np.concatenate(parts), shares


def _done(waiting: deque[Pending]) -> Iterator[Pending]:
    while waiting and waiting[0].missing == 0:
        yield waiting.popleft()


def _land(result: Future[Array], shares: list[Share]) -> None:
    """Hand each clip its share of a batch's result."""
    values, start = result.result(), 0
    for clip, count in shares:
        clip.results.append(values[start : start + count])
        clip.missing -= count
        start += count
