"""A GPU as the worker wants it: pycuda's primary context, one stream, TensorRT's contexts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.backends.tensorrt.gpu_worker import Slot
from edgeflow_runtime.backends.tensorrt.nvidia_driver import Gpu, cuda_version
from edgeflow_runtime.backends.tensorrt.tensorrt_module import decode, make_logger
from edgeflow_runtime.errors import BackendError, DeviceError, EngineError
from edgeflow_runtime.extras import require

if TYPE_CHECKING:
    from edgeflow_runtime.backends.tensorrt.tensorrt_types import (
        ICudaEngine,
        IExecutionContext,
        Runtime,
        TensorRt,
    )

NUMPY = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
"""TensorRT's types by name."""


@dataclass
class _Resources:
    """What belongs to one slot on the GPU; emptied at the end, as slots may outlive the context."""

    addresses: dict[str, Any]
    """Device memory by tensor name."""
    done: Any
    """The event after its last copy."""


class CudaDevice:
    """Runs one engine; see :class:`~edgeflow_runtime.backends.tensorrt.gpu_worker.Device`.

    Args:
        trt: the module of TensorRT or TensorRT-RTX.
        engine: the serialised engine, its hash already checked: engines are executable code.
        buckets: batch sizes of its profiles, in their order.
        gpu: the GPU that the driver was asked for.
        index: its number.
    """

    def __init__(
        self,
        trt: TensorRt,
        engine: bytes,
        buckets: tuple[int, ...],
        gpu: Gpu,
        index: int = 0,
    ) -> None:
        self.name = f"{gpu.name} (compute capability {gpu.compute_capability})"
        self.buckets = buckets
        self._trt, self._content, self._index = trt, engine, index
        self._cuda: Any = None
        self._context: Any = None
        self._stream: Any = None
        self._runtime: Runtime | None = None
        self._engine: ICudaEngine | None = None
        self._runs: dict[int, IExecutionContext] = {}
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._complaints: list[str] = []
        self._slots: list[Slot] = []
        self._memory: list[Any] = []

    def open(self) -> None:
        """See the protocol."""
        self._cuda = cuda = _load_pycuda()
        _check_driver(cuda)
        cuda.init()
        # The primary context is the one that every other library in the process uses, too.
        self._context = cuda.Device(self._index).retain_primary_context()
        self._context.push()
        self._stream = cuda.Stream()
        self._logger = make_logger(self._trt, self._complaints.append)
        self._runtime = self._trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(self._content)
        self._content = b""
        if self._engine is None:
            raise EngineError(f"TensorRT refuses the engine: {self._complaint()}")
        self._read_tensors()
        self._make_contexts()

    def allocate(self) -> Slot:
        """See the protocol; the largest profile decides the sizes."""
        largest = self.buckets[-1]
        host = {name: self._pinned(name, largest) for name in (*self._inputs, *self._outputs)}
        addresses = {name: self._allocated(array.nbytes) for name, array in host.items()}
        flags = self._cuda.event_flags
        # By default whoever waits for an event may keep a core busy with asking.
        done = self._cuda.Event(flags.BLOCKING_SYNC | flags.DISABLE_TIMING)
        resources = _Resources(addresses, done)
        (source,) = self._inputs
        slot = Slot(host[source], {name: host[name] for name in self._outputs}, resources)
        self._slots.append(slot)
        return slot

    def launch(self, slot: Slot, bucket: int, outputs: Sequence[str]) -> None:
        """See the protocol: one stream keeps copies and work in order."""
        cuda, run, resources = self._cuda, self._runs[bucket], slot.resources
        (source,) = self._inputs
        cuda.memcpy_htod_async(resources.addresses[source], slot.input[:bucket], self._stream)
        bound = [run.set_tensor_address(n, int(at)) for n, at in resources.addresses.items()]
        if not (all(bound) and run.execute_async_v3(self._stream.handle)):
            raise BackendError(f"TensorRT cannot run a batch of {bucket}: {self._complaint()}")
        for name in outputs:
            target = slot.outputs[name][:bucket]
            cuda.memcpy_dtoh_async(target, resources.addresses[name], self._stream)
        resources.done.record(self._stream)

    def wait(self, slot: Slot) -> None:
        """See the protocol."""
        slot.resources.done.synchronize()

    def close(self) -> None:
        """See the protocol; contexts go before the engine, the engine before the runtime.

        Others may hold the primary context, too: what stayed in it would stay for good.
        """
        if self._context is None:
            return
        try:
            idle = self._is_idle()
            self._runs.clear()
            self._engine = self._runtime = None
            if idle:
                self._give_back()
        finally:
            # Off pycuda's stack, whatever happened: it ends the process if a thread leaves one.
            self._context.detach()
            self._context = None

    def _is_idle(self) -> bool:
        """Wait for what still runs; ``False`` if the context is broken, and all in it lost."""
        try:
            if self._stream is not None:
                self._stream.synchronize()
        except self._cuda.Error:
            return False
        return True

    def _give_back(self) -> None:
        for memory in self._memory:
            memory.free()
        for slot in self._slots:
            slot.resources.addresses.clear()
            slot.resources.done = None
        self._memory.clear()
        self._slots.clear()
        self._stream = None

    @property
    def _loaded(self) -> ICudaEngine:
        assert self._engine is not None
        return self._engine

    def _read_tensors(self) -> None:
        engine, trt = self._loaded, self._trt
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        for name in names:
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (self._inputs if is_input else self._outputs).append(name)
        if len(self._inputs) != 1 or engine.num_optimization_profiles != len(self.buckets):
            raise EngineError(
                f"the engine has inputs {self._inputs} and {engine.num_optimization_profiles} "
                f"profiles; its record says one input and {len(self.buckets)} profiles"
            )

    def _make_contexts(self) -> None:
        """A context for each profile, and one scratch for all.

        Left alone, each context takes what the largest profile needs; but all run on one stream,
        so no two ever use it at once.
        """
        size = max(1, self._loaded.device_memory_size_v2)
        scratch = int(self._allocated(size))
        for profile, bucket in enumerate(self.buckets):
            self._runs[bucket] = self._make_context(profile, bucket)
            self._runs[bucket].set_device_memory(scratch, size)

    def _make_context(self, profile: int, bucket: int) -> IExecutionContext:
        """An execution context that stays with one profile and its one shape."""
        run = self._bare_context()
        if not run.set_optimization_profile_async(profile, self._stream.handle):
            raise EngineError(f"TensorRT refuses profile {profile}: {self._complaint()}")
        self._stream.synchronize()
        (source,) = self._inputs
        smallest, _, largest = self._loaded.get_tensor_profile_shape(source, profile)
        if smallest[0] != bucket or largest[0] != bucket:
            raise EngineError(
                f"profile {profile} of the engine takes batches of {smallest[0]} to {largest[0]}; "
                f"its record says {bucket}"
            )
        if not run.set_input_shape(source, tuple(largest)):
            raise EngineError(f"TensorRT refuses a batch of {bucket}: {self._complaint()}")
        unknown = run.infer_shapes()
        if unknown:
            raise EngineError(f"the engine leaves the shapes of {', '.join(unknown)} open")
        return run

    def _bare_context(self) -> IExecutionContext:
        """An execution context that is yet to get its scratch memory."""
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        run = self._loaded.create_execution_context(strategy)
        if run is None:
            raise BackendError(f"TensorRT has no memory for a context: {self._complaint()}")
        return run

    def _pinned(self, name: str, rows: int) -> npt.NDArray[Any]:
        """Page-locked memory for a tensor: only such memory is copied while the caller goes on."""
        shape = tuple(self._runs[rows].get_tensor_shape(name))
        kind = self._loaded.get_tensor_dtype(name).name
        if kind not in NUMPY:
            raise EngineError(f"the engine's {name!r} is of the type {kind}, which NumPy lacks")
        array: npt.NDArray[Any] = self._cuda.pagelocked_empty(shape, NUMPY[kind])
        self._memory.append(array.base)
        return array

    def _allocated(self, size: int) -> Any:  # noqa: ANN401
        """Memory on the GPU."""
        self._memory.append(self._cuda.mem_alloc(size))
        return self._memory[-1]

    def _complaint(self) -> str:
        return decode(self._complaints[-1:])  # those before were of something else


def _load_pycuda() -> Any:  # noqa: ANN401
    """pycuda, which is linked with the functions of the CUDA that it was built with."""
    try:
        return require("pycuda.driver", "jetson")
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise DeviceError(
            f"pycuda cannot be loaded: {reason}: it was built for another CUDA or Python; update "
            "the driver, or build pycuda on this machine: "
            "pip install --force-reinstall --no-deps --no-cache-dir pycuda"
        ) from error


def _check_driver(cuda: Any) -> None:  # noqa: ANN401
    """Whether the driver is new enough for the CUDA that pycuda was built with."""
    built, driver = cuda.get_version(), cuda.get_driver_version()
    if driver // 1000 < built[0]:
        raise DeviceError(
            f"the driver speaks CUDA {cuda_version(driver)}, but pycuda was built with CUDA "
            f"{'.'.join(map(str, built[:2]))}: update the driver, or build pycuda on this machine"
        )
