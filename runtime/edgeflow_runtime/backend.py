"""What runs a flow's graph: the contract of a backend, and the one for ONNX Runtime."""

from __future__ import annotations

import math
import os
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.errors import BackendError

Array = npt.NDArray[np.float32]
Rows = npt.NDArray[Any]

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

    def nll(self, rows: Rows) -> Array:
        """(N, T, M) float32 standardised windows to (N,) NLL in nats per dimension.

        Clips (N, ...) to (N, windows).
        """
        ...

    def nll_map(self, rows: Rows) -> Array:
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


def nll_of(backend: Backend, windows: Array) -> Array:
    """The NLL (N,) of any number of windows (N, T, M), batch by batch."""
    starts = range(0, len(windows), backend.batch)
    parts = [np.ascontiguousarray(windows[i : i + backend.batch]) for i in starts]
    none: Array = np.empty(0, np.float32)
    return np.concatenate([backend.nll(part) for part in parts]) if parts else none


class OnnxRuntimeBackend:
    """ONNX Runtime on the CPU.

    Each call runs on one thread and several calls run at once: on small boards that is faster than
    one call over several threads, as each worker's activations stay in its own cache.

    Raises:
        BackendError: the graph cannot be loaded, or another provider than asked for would run it.
    """

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, onnx: bytes, workers: int | None = None) -> None:
        # What a monitor hears is nobody else's business; it asks this while it is imported.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        onnxruntime.disable_telemetry_events()
        self.workers = workers or processors()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        provider = "CPUExecutionProvider"
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, providers=[provider])
        except Exception as error:  # onnxruntime raises classes of its own, RuntimeError and others
            raise BackendError(f"ONNX Runtime cannot load the flow: {_one_line(error)}") from error
        source = self._session.get_inputs()[0]
        self._input = source.name
        cells = math.prod(source.shape[1:])  # of a window, or more than a batch's of a clip
        self.batch = max(1, CPU_BATCH_CELLS // cells)
        found = self._session.get_providers()
        if found != [provider]:
            raise BackendError(f"ONNX Runtime would run on {found}, not on {provider} as asked")

    def nll(self, rows: Rows) -> Array:
        """See :class:`Backend`."""
        return self._run(["nll"], rows)[0]

    def nll_map(self, rows: Rows) -> Array:
        """See :class:`Backend`."""
        return self._run(["nll_map"], rows)[0]

    def close(self) -> None:
        """See :class:`Backend`; there is nothing to give back."""

    def outputs(self, rows: Rows) -> dict[str, Array]:
        """All that the graph gives, by name."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._run(names, rows), strict=True))

    def _run(self, outputs: list[str], rows: Rows) -> list[Array]:
        try:
            found: list[Array] = self._session.run(outputs, {self._input: rows})
        except Exception as error:  # as above
            raise BackendError(f"ONNX Runtime cannot run the flow: {_one_line(error)}") from error
        return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
