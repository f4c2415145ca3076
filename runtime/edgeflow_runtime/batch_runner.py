"""Running rows through a backend: clips share batches, several batches run at once, in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from edgeflow_runtime.arrays import Array, Rows
from edgeflow_runtime.backends.protocol import Backend, processors
from edgeflow_runtime.clip_reader import Clip
from edgeflow_runtime.errors import AudioError, BackendError

Item = TypeVar("Item")
Result = TypeVar("Result")

CLOSED = "the monitor is closed"

NO_ROWS: Rows = np.empty(0, np.float32)

POOL_IS_SHUT = (RuntimeError, CancelledError)
"""What a pool raises that is shut down."""


@dataclass
class _Pending:
    """A clip whose rows may lie in several batches."""

    clip: Clip
    missing: int
    """Rows that are still to come back."""
    results: list[Array] = field(default_factory=list)
    """What came back of its rows, in order."""


_Share = tuple[_Pending, int]
"""A clip, and how many rows of a batch are its own."""


class BatchRunner:
    """A backend with the threads that feed it.

    On the CPU, calls made in a forked child go on; what holds a GPU says there that it is lost.

    Args:
        backend: closed with this.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._closed = False
        self._start_threads()

    def close(self) -> None:
        """Stop the threads and let the GPU go, if it has one."""
        self._closed = True
        if self._pid == os.getpid():  # what a fork left behind has no threads to stop
            self._readers.shutdown(cancel_futures=True)
            self._pool.shutdown(cancel_futures=True)
        self.backend.close()

    def run(self, rows: Rows, *, maps: bool = False) -> Array:
        """All of one clip's rows (n, ...), n at least 1, to their NLL, or to their maps.

        Raises:
            BackendError: the backend refuses, or this is closed.
        """
        self._check_threads()
        starts = range(0, len(rows), self.backend.batch)
        parts = [np.ascontiguousarray(rows[i : i + self.backend.batch]) for i in starts]
        if len(parts) == 1:  # handing it to a thread would cost more than a small model does
            return self._call(maps)(parts[0])
        try:
            return np.concatenate(list(self._pool.map(self._call(maps), parts)))
        except POOL_IS_SHUT as error:
            self._say_closed(error)
            raise

    def run_clips(
        self, clips: Iterable[Clip], rows_of: Callable[[Clip], Rows | None], *, maps: bool
    ) -> Iterator[tuple[Clip, Array | None]]:
        """Run the rows of ``clips``; yield each clip once it and all before it have their results.

        Args:
            clips: as they are read; those without rows pass through.
            rows_of: the rows (n, ...) of a clip. If it raises :class:`AudioError`, that is the
                clip's fault.
            maps: give maps in place of NLLs.
        """
        self._check_threads()
        waiting: deque[_Pending] = deque()
        flying: deque[tuple[Future[Array], list[_Share]]] = deque()
        try:
            for rows, shares in self._batches(clips, rows_of, waiting):
                flying.append((self._pool.submit(self._call(maps), rows), shares))
                if len(flying) > 2 * self.backend.workers:
                    _land(*flying.popleft())
                yield from _done(waiting)
            while flying:
                _land(*flying.popleft())
                yield from _done(waiting)
            yield from _done(waiting)
        except POOL_IS_SHUT as error:
            self._say_closed(error)
            raise
        finally:
            for result, _ in flying:
                result.cancel()

    def map_ahead(self, read: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """``map`` in order on the reading threads, only some results before they are wanted."""
        self._check_threads()
        ahead = 2 * max(self.backend.workers, processors())
        queue: deque[Future[Result]] = deque()
        try:
            for item in items:
                queue.append(self._readers.submit(read, item))
                if len(queue) > ahead:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        except POOL_IS_SHUT as error:
            self._say_closed(error)
            raise
        finally:
            for result in queue:
                result.cancel()

    def _call(self, maps: bool) -> Callable[[Rows], Array]:
        return self.backend.nll_map if maps else self.backend.nll

    def _start_threads(self) -> None:
        backend = self.backend
        self._pool = self._readers = ThreadPoolExecutor(backend.workers, "edgeflow-score")
        if backend.device != "cpu":  # while the GPU works, the processor's cores make log-Mel
            self._readers = ThreadPoolExecutor(processors(), "edgeflow-read")
        self._pid = os.getpid()

    def _check_threads(self) -> None:
        """Start them anew in a forked child: a fork takes none along, and all would wait."""
        if self._closed:
            raise BackendError(CLOSED)
        if self._pid != os.getpid():
            self._start_threads()

    def _say_closed(self, error: Exception) -> None:
        if self._closed:
            raise BackendError(CLOSED) from error

    def _batches(
        self,
        clips: Iterable[Clip],
        rows_of: Callable[[Clip], Rows | None],
        waiting: deque[_Pending],
    ) -> Iterator[tuple[Rows, list[_Share]]]:
        """Fill batches with rows across clips; each comes with how many are whose."""
        parts: list[Rows] = []
        shares: list[_Share] = []
        room = self.backend.batch
        for clip in clips:
            clip, left = _with_rows(clip, rows_of)
            pending = _Pending(clip, len(left))
            waiting.append(pending)
            while len(left):
                part, left = left[:room], left[room:]
                parts.append(part)
                shares.append((pending, len(part)))
                room -= len(part)
                if room == 0:
                    yield np.concatenate(parts), shares
                    parts, shares, room = [], [], self.backend.batch
        if parts:
            yield np.concatenate(parts), shares


def _with_rows(clip: Clip, rows_of: Callable[[Clip], Rows | None]) -> tuple[Clip, Rows]:
    """A clip and its rows, none if something is wrong with it."""
    rows: Rows | None = None
    try:
        rows = rows_of(clip)
    except AudioError as error:
        clip = replace(clip, error=str(error))
    return clip, NO_ROWS if rows is None else rows


def _done(waiting: deque[_Pending]) -> Iterator[tuple[Clip, Array | None]]:
    while waiting and waiting[0].missing == 0:
        done = waiting.popleft()
        yield done.clip, np.concatenate(done.results) if done.results else None


def _land(result: Future[Array], shares: list[_Share]) -> None:
    """Hand each clip its share of a batch's result."""
    values, start = result.result(), 0
    for pending, count in shares:
        pending.results.append(values[start : start + count])
        pending.missing -= count
        start += count
