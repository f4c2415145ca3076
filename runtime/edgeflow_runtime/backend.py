"""What runs a flow's graph: the contract of a backend, and the one for ONNX Runtime."""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.errors import BackendError

Array = npt.NDArray[np.float32]

CPU_BATCH_CELLS = 9 * 32 * 128
"""Cells (frames x bands) per call on a CPU: large enough to amortise the call, small enough for the
caches. It makes 9 windows of 32 frames, 8 calls for a 10 s clip, or 72 windows of 4 frames."""


class Backend(Protocol):
    """Runs the graph. Its methods may be called from several threads at once."""

    name: str
    """For example ``onnxruntime``."""
    device: str
    """Where it runs, for example ``cpu``."""
    batch: int
    """Windows per call that it runs best."""
    workers: int
    """Calls that it runs best at the same time."""

    def nll(self, windows: Array) -> Array:
        """(N, T, M) float32 standardised windows to (N,) NLL in nats per dimension."""
        ...

    def nll_map(self, windows: Array) -> Array:
        """(N, T, M) float32 to (N, time cells, mel cells), which sums to ``nll``."""
        ...


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
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        onnxruntime.disable_telemetry_events()  # what a monitor hears is nobody else's business
        self.workers = workers or len(os.sched_getaffinity(0))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        provider = "CPUExecutionProvider"
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, providers=[provider])
        except Exception as error:  # onnxruntime raises classes of its own, RuntimeError and others
            raise BackendError(f"ONNX Runtime cannot load the flow: {_one_line(error)}") from error
        frames, bands = self._session.get_inputs()[0].shape[1:]
        self.batch = max(1, CPU_BATCH_CELLS // (frames * bands))
        found = self._session.get_providers()
        if found != [provider]:
            raise BackendError(f"ONNX Runtime would run on {found}, not on {provider} as asked")

    def nll(self, windows: Array) -> Array:
        """See :class:`Backend`."""
        return self._run("nll", windows)

    def nll_map(self, windows: Array) -> Array:
        """See :class:`Backend`."""
        return self._run("nll_map", windows)

    def _run(self, output: str, windows: Array) -> Array:
        try:
            found: Array = self._session.run([output], {"windows": windows})[0]
        except Exception as error:  # as above
            raise BackendError(f"ONNX Runtime cannot run the flow: {_one_line(error)}") from error
        return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
