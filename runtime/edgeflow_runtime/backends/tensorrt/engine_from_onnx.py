"""From an ONNX graph to an engine: a strongly typed network, one optimisation profile a batch size.

Every call is one that TensorRT 10.3 to 11.4 and TensorRT-RTX all have; a test holds this file
against the list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgeflow_runtime.backends.tensorrt.engine_record import BuildOrder
from edgeflow_runtime.backends.tensorrt.tensorrt_module import decode, make_logger
from edgeflow_runtime.errors import EngineError, StorageError
from edgeflow_runtime.storage import atomic_file, write_bytes

if TYPE_CHECKING:
    from edgeflow_runtime.backends.tensorrt.tensorrt_types import (
        AheadOfTime,
        AheadOfTimeConfig,
        Builder,
        IBuilderConfig,
        INetworkDefinition,
        IProgressMonitor,
        OnnxParser,
        TensorRt,
    )

TYPES = {"fp32": "FLOAT", "fp16": "HALF", "int8": "INT8"}
"""What TensorRT calls the precisions; layers of that type must be in the parsed network."""

Step = Callable[[str, int, int], None]
"""Told the phase of the build, how many of its steps are done, and how many there are."""


def compile_engine(
    trt: TensorRt,
    onnx: bytes,
    precision: str,
    order: BuildOrder,
    target: Path,
    timing: Path | None,
    step: Step,
) -> dict[str, int]:
    """Parse and build.

    Args:
        trt: the module of TensorRT or of TensorRT-RTX.
        onnx: the graph, its only input with a free first axis.
        precision: what the graph says it holds: ``fp32``, ``fp16`` or ``int8``.
        order: batch sizes, workspace and what to compile for.
        target: where the engine goes, untouched.
        timing: file of the timing cache; read if it is there, written afterwards. ``None`` for
            TensorRT-RTX, which has none.
        step: told how far it is.

    Returns:
        Layers of the parsed network by the type of their output.

    Raises:
        EngineError: TensorRT refuses the graph, or cannot build it.
        StorageError: the engine cannot be written.
    """
    complaints: list[str] = []
    logger = make_logger(trt, complaints.append)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)  # holds the weights until the engine is built
    if not parser.parse(onnx):
        raise EngineError(f"TensorRT refuses the graph: {_parse_error(parser, complaints)}")
    layers = _layer_types(network, precision)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, order.workspace)
    # TF32 keeps 10 bits of a float32's 23: log-Mel and the latent path would not be float32's.
    config.clear_flag(trt.BuilderFlag.TF32)
    _add_profiles(builder, config, network, order.buckets)
    _choose_targets(trt, config, order.compute_capabilities)
    monitor = _make_monitor(trt, step)  # kept here, as TensorRT may not keep it
    config.progress_monitor = monitor
    if timing is not None:
        _start_timing(config, timing)
    complaints.clear()  # what was said of a stale timing cache is no reason for what follows
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"TensorRT cannot build the engine: {decode(complaints)}")
    with atomic_file(target) as file:
        file.write(plan)
    if timing is not None:
        with suppress(StorageError):  # it only saves time
            write_bytes(timing, bytes(config.get_timing_cache().serialize()))
    return layers


def _parse_error(parser: OnnxParser, complaints: Sequence[str]) -> str:
    """The parser's first error, with the operator and the node that it is about."""
    if not parser.num_errors:
        return decode(complaints)
    error = parser.get_error(0)
    reason = " ".join(error.desc().split())
    operator, node = error.node_operator(), error.node_name()
    return f"operator {operator} (node {node!r}): {reason}" if operator else reason


def _layer_types(network: INetworkDefinition, precision: str) -> dict[str, int]:
    """Read back what TensorRT understood, and hold it against what the bundle says."""
    layers = (network.get_layer(i) for i in range(network.num_layers))
    types = Counter(layer.get_output(0).dtype.name for layer in layers if layer.num_outputs)
    if not types[TYPES[precision]]:
        counts = ", ".join(f"{n} {name}" for name, n in types.items())
        raise EngineError(
            f"the bundle says {precision}, but TensorRT reads no {TYPES[precision]} layer: {counts}"
        )
    return dict(types)


def _add_profiles(
    builder: Builder,
    config: IBuilderConfig,
    network: INetworkDefinition,
    buckets: Sequence[int],
) -> None:
    """One profile a batch size, its smallest, best and largest shape all the same."""
    source = network.get_input(0)
    rest = tuple(source.shape)[1:]
    for bucket in buckets:
        profile = builder.create_optimization_profile()
        shape = (bucket, *rest)
        profile.set_shape(source.name, shape, shape, shape)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"TensorRT refuses a profile for a batch of {bucket}")


def _choose_targets(trt: TensorRt, config: IBuilderConfig, capabilities: Sequence[str]) -> None:
    """Ahead of time, for GPUs that are not here: TensorRT-RTX alone can."""
    if not capabilities:
        return
    if not hasattr(config, "set_compute_capability"):
        raise EngineError("only TensorRT-RTX builds for GPUs that are not here")
    rtx, ahead = cast("AheadOfTime", trt), cast("AheadOfTimeConfig", config)
    ahead.num_compute_capabilities = len(capabilities)
    for i, capability in enumerate(capabilities):
        name = "SM" + capability.replace(".", "")
        target = getattr(rtx.ComputeCapability, name, None)
        if target is None or not ahead.set_compute_capability(target, i):
            raise EngineError(f"TensorRT-RTX does not build for compute capability {capability}")


def _start_timing(config: IBuilderConfig, path: Path) -> None:
    """Start from the timing cache in ``path``, or from an empty one if TensorRT does not take it.

    Raises:
        EngineError: TensorRT takes not even an empty one.
    """
    saved = b""
    with suppress(OSError):
        saved = path.read_bytes()
    for content in (saved, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return
    raise EngineError("TensorRT makes no timing cache")


def _make_monitor(trt: TensorRt, step: Step) -> IProgressMonitor:
    """A progress monitor that passes on where the innermost phase is."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._sizes: dict[str, int] = {}

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._sizes[name] = steps
            step(name, 0, steps)

        def step_complete(self, name: str, done: int) -> bool:
            step(name, done + 1, self._sizes.get(name, 0))
            return True

        def phase_finish(self, name: str) -> None:
            self._sizes.pop(name, None)

    return Monitor()
