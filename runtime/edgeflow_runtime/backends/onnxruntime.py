"""ONNX Runtime on the CPU: the backend that is always there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from edgeflow_runtime.arrays import Array, Nll, NllMap, Rows
from edgeflow_runtime.backends.protocol import processors, rows_per_call
from edgeflow_runtime.errors import BackendError
from edgeflow_runtime.onnx_graph import FLOAT, UINT8, Port
from edgeflow_runtime.printable import printable

if TYPE_CHECKING:
    from edgeflow_runtime.signature import Signature

FATAL = 4
"""ONNX Runtime's severity of what ends the process."""

TYPES = {"tensor(float)": FLOAT, "tensor(uint8)": UINT8}
"""ONNX's numbers of the types that ONNX Runtime names so."""


class OnnxRuntimeBackend:
    """ONNX Runtime on the CPU.

    Each call runs on one thread and several calls run at once: on small boards that is faster than
    one call over several threads, as each worker's activations stay in its own cache.

    Raises:
        BackendError: the graph cannot be loaded, or another provider than asked for would run it.
    """

    name = "onnxruntime"
    device = "cpu"

    def __init__(
        self, onnx: bytes, workers: int | None = None, signature: Signature | None = None
    ) -> None:
        # What a monitor hears is nobody else's business; it asks this while it is imported.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        # What it prints of an error it raises as well; only here can it not steer a terminal.
        onnxruntime.set_default_logger_severity(FATAL)
        onnxruntime.disable_telemetry_events()
        self.workers = workers or processors()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = FATAL
        provider = "CPUExecutionProvider"
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, providers=[provider])
            inputs = _ports(self._session.get_inputs())
            outputs = _ports(self._session.get_outputs())
        except Exception as error:  # onnxruntime raises classes of its own, RuntimeError and others
            raise BackendError(f"ONNX Runtime cannot load the flow: {_one_line(error)}") from error
        (self._input, source), *more = inputs.items()
        row = [size for size in source.shape[1:] if size]
        if more or len(row) != len(source.shape) - 1:
            raise BackendError(f"the graph has more than one input, or a free size: {source.shape}")
        self.batch = rows_per_call(row)
        if signature is not None:
            _check_ports(signature, inputs, outputs)
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
        if any(result.shape[:1] != rows.shape[:1] for result in results):
            raise BackendError(
                f"the flow gives {[result.shape for result in results]} for {len(rows)} rows"
            )
        return results


def _check_ports(signature: Signature, inputs: dict[str, Port], outputs: dict[str, Port]) -> None:
    """Whether the graph is, once loaded, what it was before."""
    try:
        signature.check(inputs, outputs)
    except ValueError as error:
        raise BackendError(f"ONNX Runtime makes another graph of the flow: {error}") from error


def _ports(values: Iterable[Any]) -> dict[str, Port]:
    """Inputs or outputs as ONNX Runtime sees them."""
    return {
        value.name: Port(
            TYPES.get(value.type, 0),
            tuple(size if isinstance(size, int) else None for size in value.shape),
        )
        for value in values
    }


def _one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split()))
