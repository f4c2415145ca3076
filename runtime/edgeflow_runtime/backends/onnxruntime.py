"""ONNX Runtime on the CPU: the backend that is always there."""

from __future__ import annotations

import math
import os

from edgeflow_runtime.arrays import Array, Nll, NllMap, Rows
from edgeflow_runtime.backends.protocol import processors
from edgeflow_runtime.errors import BackendError

CPU_BATCH_CELLS = 9 * 32 * 128
"""Cells (frames x bands) per call on a CPU: large enough to amortise the call, small enough for the
caches. It makes 9 windows of 32 frames, 8 calls for a 10 s clip, or 72 windows of 4 frames."""


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
        running = self._session.get_providers()
        if running != [provider]:
            raise BackendError(f"ONNX Runtime would run on {running}, not on {provider} as asked")

    def nll(self, rows: Rows) -> Nll:
        """See :class:`~edgeflow_runtime.backends.protocol.Backend`."""
        return self._run(["nll"], rows)[0]

    def nll_map(self, rows: Rows) -> NllMap:
        """See :class:`~edgeflow_runtime.backends.protocol.Backend`."""
        return self._run(["nll_map"], rows)[0]

    def close(self) -> None:
        """There is nothing to give back."""

    def outputs(self, rows: Rows) -> dict[str, Array]:
        """All that the graph gives, by name."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._run(names, rows), strict=True))

    def _run(self, outputs: list[str], rows: Rows) -> list[Array]:
        try:
            results: list[Array] = self._session.run(outputs, {self._input: rows})
        except Exception as error:  # as above
            raise BackendError(f"ONNX Runtime cannot run the flow: {_one_line(error)}") from error
        return results


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
