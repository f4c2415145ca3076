"""Which backend scores: the one asked for, or the best that is here, and none in silence."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from edgeflow_runtime.backends.names import AUTO, BACKENDS, CPU, ENGINES
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.backends.protocol import Backend
from edgeflow_runtime.backends.tensorrt.engine_store import EngineStore
from edgeflow_runtime.backends.tensorrt.nvidia_driver import probe_gpu
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import BackendError, ConfigError, DeviceError, MissingExtraError


def warn_in_python(text: str) -> None:
    """A :class:`RuntimeWarning` where whoever calls ``Scorer.load`` calls it."""
    warnings.warn(text, RuntimeWarning, stacklevel=5)


def open_backend(
    bundle: Bundle,
    name: str = AUTO,
    *,
    graph: str = "flow",
    require_gpu: bool = False,
    workers: int | None = None,
    warn: Callable[[str], None] = warn_in_python,
) -> Backend:
    """Open a backend for one of a bundle's graphs.

    ``auto`` takes an engine that was built and proven here, else the CPU. Where an engine is there
    but cannot be used, ``warn`` is told why.

    Args:
        bundle: whose graph.
        name: one of :data:`~edgeflow_runtime.cli.options.BACKENDS`.
        graph: ``flow``, or ``audio`` for the one that starts at the samples.
        require_gpu: refuse to score on the CPU.
        workers: threads that run the graph on the CPU; all its own if not given.
        warn: told one line; a :class:`RuntimeWarning` if not given.

    Raises:
        DeviceError: there is no GPU, driver or TensorRT, and one was asked for.
        EngineError: there is no engine that fits, and one was asked for.
        BackendError: the graph cannot be loaded.
    """
    if name not in BACKENDS:
        raise ConfigError(f"there is no backend {name!r}: choose one of {', '.join(BACKENDS)}")
    if name == CPU and require_gpu:
        raise ConfigError(
            f"--require-gpu and --backend {CPU}, which runs on the CPU, exclude "
            "each other: leave one out"
        )
    if name in ENGINES:
        return _open_engine(bundle, name, graph)
    if name == AUTO:
        engine = _best_engine(bundle, graph, require_gpu, warn)
        if engine is not None:
            return engine
    return OnnxRuntimeBackend(bundle.graph(graph), workers, bundle.signature(graph))


def _best_engine(
    bundle: Bundle, graph: str, require_gpu: bool, warn: Callable[[str], None]
) -> Backend | None:
    """The first engine that can be used; ``None`` to go on with the CPU."""
    if require_gpu:
        probe_gpu()
    store, refusals = EngineStore(bundle.path), []
    for name in ENGINES:
        try:
            # Engines that only show that the graph compiles are not meant to be run.
            record = store.record(graph, name)
            if record is not None and record.proof is not None:
                return _open_engine(bundle, name, graph)
        except (BackendError, MissingExtraError) as error:
            refusals.append(str(error))
    if require_gpu:
        raise DeviceError(
            refusals[0]
            if refusals
            else f"there is no engine of '{bundle.path}' here yet: run edgeflow build "
            f"'{bundle.path}'"
        )
    if refusals:
        warn(f"scoring on the CPU: {refusals[0]}")
    return None


def _open_engine(bundle: Bundle, name: str, graph: str) -> Backend:
    from edgeflow_runtime.backends.tensorrt.backend import TensorRtBackend

    return TensorRtBackend.load(bundle, name, graph)
