"""One thread that owns the GPU: batches go in from anywhere, results come back in order.

CUDA contexts belong to threads, so all that touches the GPU happens on the worker's own. It keeps
two slots of buffers: while the GPU runs one batch, the next is already copied into the other, and
whoever submits has the processor free for the log-Mel after that.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.errors import BackendError, DeviceError, EdgeflowError

Tensor = npt.NDArray[Any]

SLOTS = 2
"""Batches under way at once: one runs, one is being filled."""

PATIENCE_S = 10.0
"""How long a worker that nobody holds any more may keep whoever let it go; ``close`` waits on."""


@dataclass(frozen=True)
class Slot:
    """Host buffers of one batch, large enough for the largest; allocated once."""

    input: Tensor
    """(largest bucket, ...), page-locked, so that copies need not wait."""
    outputs: dict[str, Tensor]
    """By the outputs' names, (largest bucket, ...), page-locked."""
    resources: Any = None
    """What the device keeps with it."""


class Device(Protocol):
    """What the worker asks of a GPU. Every method is called on the worker's thread."""

    name: str
    """What results say they ran on."""
    buckets: tuple[int, ...]
    """Batch sizes that it can run, ascending."""

    def open(self) -> None:
        """Take the GPU and load the engine.

        Raises:
            EdgeflowError: it cannot.
        """
        ...

    def allocate(self) -> Slot:
        """Buffers for one batch."""
        ...

    def launch(self, slot: Slot, bucket: int, outputs: Sequence[str]) -> None:
        """Start copying in, running and copying ``outputs`` back; return at once."""
        ...

    def wait(self, slot: Slot) -> None:
        """Return once the outputs of what was launched last on ``slot`` are there."""
        ...

    def close(self) -> None:
        """Give everything back; also after a fault."""
        ...


@dataclass(frozen=True)
class _Ends:
    """What the graph takes and gives, as the slots tell: shapes and types of a single row."""

    input: tuple[tuple[int, ...], np.dtype[Any]]
    outputs: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]

    @classmethod
    def of(cls, slot: Slot) -> _Ends:
        outputs = {name: (host.shape[1:], host.dtype) for name, host in slot.outputs.items()}
        return cls((slot.input.shape[1:], slot.input.dtype), outputs)

    def check(self, rows: Tensor, outputs: Sequence[str]) -> None:
        """Refuse what a caller got wrong before it reaches the GPU, which then would be blamed."""
        shape, dtype = self.input
        if rows.ndim != 1 + len(shape) or rows.shape[1:] != shape:
            expected = ", ".join(map(str, ("n", *shape)))
            raise BackendError(f"rows have shape {rows.shape}; the graph takes ({expected})")
        if rows.dtype != dtype:  # a cast could change scores in silence
            raise BackendError(f"rows are {rows.dtype}; the graph takes {dtype}: convert them")
        if not len(rows):
            raise BackendError("there is nothing to run")
        known = ", ".join(self.outputs)
        for name in outputs:
            if name not in self.outputs:
                raise BackendError(f"the graph has no output {name!r}: choose from {known}")
        if not outputs:
            raise BackendError(f"no output is asked for: choose from {known}")

    def room(self, rows: int, outputs: Sequence[str]) -> list[Tensor]:
        """An array (rows, ...) for each output."""
        kinds = (self.outputs[name] for name in outputs)
        return [np.empty((rows, *shape), dtype) for shape, dtype in kinds]


@dataclass
class _Job:
    """One call: its rows may lie in several batches."""

    rows: Tensor
    outputs: tuple[str, ...]
    results: list[Tensor]
    """For each output, filled from the front."""
    landed: int = 0
    """Rows whose results are there."""
    future: Future[list[Tensor]] = field(default_factory=Future)


@dataclass(frozen=True)
class _Flight:
    """A batch on the device."""

    slot: Slot
    job: _Job
    rows: int


class GpuWorker:
    """Runs batches on a :class:`Device`, from any thread; results are a :class:`Future`'s.

    Once nobody holds it, it closes itself, and so it does when the interpreter ends.

    Args:
        device: opened here, on the worker's thread.

    Raises:
        EdgeflowError: the device cannot be opened.
    """

    def __init__(self, device: Device) -> None:
        # The thread holds the workshop, and only callers hold this: that is how it knows.
        self._workshop = _Workshop(device)
        weakref.finalize(self, self._workshop.close, PATIENCE_S).atexit = False

    def submit(self, rows: Tensor, outputs: Sequence[str]) -> Future[list[Tensor]]:
        """Queue rows (n, ...); the future gives one array (n, ...) for each of ``outputs``.

        ``rows`` must be of the graph's own shape and type, n at least 1, and stay as they are until
        then. Under asyncio, await ``asyncio.wrap_future(worker.submit(rows, outputs))``.

        Raises:
            DeviceError: this is a forked child of the process that opened the GPU.
            BackendError: the rows or outputs are none of the graph's, or the worker is closed or
                broke down.
        """
        return self._workshop.submit(rows, outputs)

    def close(self) -> None:
        """Finish what was submitted, then let the GPU go. Further calls do nothing.

        A future's callback may call it for its own worker, but is not kept waiting: it runs on that
        worker's thread.
        """
        self._workshop.close()


class _Workshop:
    """What the worker's thread and its callers share."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._pid = os.getpid()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # The garbage collector may close a worker wherever it interrupts that worker's own thread.
        self._gate = threading.RLock()
        self._closed = False
        self._fault: BaseException | None = None
        opened: Future[_Ends] = Future()
        self._thread = threading.Thread(
            target=self._work, args=(opened,), name="edgeflow-gpu", daemon=True
        )
        self._thread.start()
        try:
            self._ends = opened.result()
        except BaseException:
            self.close()
            raise

    def submit(self, rows: Tensor, outputs: Sequence[str]) -> Future[list[Tensor]]:
        """See :meth:`GpuWorker.submit`."""
        if os.getpid() != self._pid:
            raise DeviceError(
                "the GPU was opened before this process was forked, and CUDA does not survive a "
                "fork: open the monitor in the child, or start it with spawn"
            )
        names = tuple(outputs)
        self._ends.check(rows, names)
        job = _Job(rows, names, self._ends.room(len(rows), names))
        with self._gate:
            if self._fault is not None:
                raise BackendError(f"the GPU failed earlier: {self._fault}") from self._fault
            if self._closed:
                raise BackendError("the monitor is closed")
            self._jobs.put(job)
        return job.future

    def close(self, patience_s: float | None = None) -> None:
        """See :meth:`GpuWorker.close`; waits for ``patience_s``, or to the end."""
        if os.getpid() != self._pid:
            return
        with self._gate:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(patience_s)

    def _work(self, opened: Future[_Ends]) -> None:
        try:
            self._open_and_serve(opened)
        finally:
            self._give_back()
            atexit.unregister(self.close)  # which holds all this

    def _open_and_serve(self, opened: Future[_Ends]) -> None:
        try:
            self._device.open()
            free = deque(self._device.allocate() for _ in range(SLOTS))
            ends = _Ends.of(free[0])
        except BaseException as error:
            opened.set_exception(_named(error))
            return
        # A daemon thread that the interpreter stops amid a call of CUDA's takes the process along.
        atexit.register(self.close)
        opened.set_result(ends)
        self._serve(free)

    def _give_back(self) -> None:
        """Close the device; nobody waits for an answer that could say what went wrong with it."""
        try:
            self._device.close()
        except BaseException as error:
            with self._gate:
                self._fault = self._fault or _named(error)

    def _serve(self, free: deque[Slot]) -> None:
        """Launch batches as they come, at most one a slot; land them in the same order."""
        flying: deque[_Flight] = deque()
        job: _Job | None = None
        try:
            for job in self._coming(flying, free):
                for start, count, bucket in _batches(len(job.rows), self._device.buckets):
                    if not free:
                        self._land(flying, free)
                    self._launch(job, start, count, bucket, flying, free)
                job = None  # its flights hold it
        except BaseException as error:
            self._break_down(error, [*(flight.job for flight in flying), *([job] if job else [])])

    def _coming(self, flying: deque[_Flight], free: deque[Slot]) -> Iterator[_Job]:
        """Jobs in their order; while none waits, land what flies."""
        while True:
            try:
                job = self._jobs.get_nowait() if flying else self._jobs.get()
            except queue.Empty:
                self._land(flying, free)
                continue
            if job is None:
                break
            if job.future.set_running_or_notify_cancel():
                yield job
        while flying:
            self._land(flying, free)

    def _launch(
        self,
        job: _Job,
        start: int,
        count: int,
        bucket: int,
        flying: deque[_Flight],
        free: deque[Slot],
    ) -> None:
        slot = free.popleft()
        slot.input[:count] = job.rows[start : start + count]
        slot.input[count:bucket] = 0  # what fills up a batch must not be what came before
        flying.append(_Flight(slot, job, count))
        self._device.launch(slot, bucket, job.outputs)

    def _land(self, flying: deque[_Flight], free: deque[Slot]) -> None:
        """Wait for the batch that was launched first and hand its rows over."""
        flight = flying[0]
        self._device.wait(flight.slot)
        flying.popleft()
        job = flight.job
        end = job.landed + flight.rows
        for name, result in zip(job.outputs, job.results, strict=True):
            result[job.landed : end] = flight.slot.outputs[name][: flight.rows]
        free.append(flight.slot)
        job.landed = end
        if job.landed == len(job.rows):
            job.future.set_result(job.results)

    def _break_down(self, error: BaseException, jobs: Iterable[_Job]) -> None:
        """After a fault nothing on the GPU can be trusted: every call fails, with the cause."""
        named = _named(error)
        with self._gate:
            self._fault = named
        for running in jobs:  # none of which can be cancelled any more
            if not running.future.done():
                running.future.set_exception(named)
        while not self._jobs.empty():  # nothing is put any more: submit saw the fault
            job = self._jobs.get_nowait()
            if job is not None and job.future.set_running_or_notify_cancel():
                job.future.set_exception(named)


def _batches(rows: int, buckets: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Cut rows into batches: start, rows, and the smallest bucket that holds them.

    Example:
        >>> list(_batches(70, (1, 8, 32)))
        [(0, 32, 32), (32, 32, 32), (64, 6, 8)]
    """
    for start in range(0, rows, buckets[-1]):
        count = min(rows - start, buckets[-1])
        yield start, count, next(bucket for bucket in buckets if bucket >= count)


def _named(error: BaseException) -> BaseException:
    """An error of edgeflow's own, whatever the device raised."""
    # What an error's frames hold of the GPU would outlive the context, and end on another thread.
    traceback.clear_frames(error.__traceback__)
    if isinstance(error, EdgeflowError):
        return error
    named = BackendError(f"the GPU failed: {' '.join(str(error).split()) or type(error).__name__}")
    named.__cause__ = error
    return named
