"""The backend that runs a bundle's engine on the GPU."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future
from typing import TYPE_CHECKING

from edgeflow_runtime.arrays import Array, Nll, NllMap, Rows
from edgeflow_runtime.backends.tensorrt.engine_record import EngineKey
from edgeflow_runtime.backends.tensorrt.engine_store import EngineStore
from edgeflow_runtime.backends.tensorrt.gpu_worker import SLOTS, Device, GpuWorker
from edgeflow_runtime.backends.tensorrt.nvidia_driver import Gpu, probe_gpu
from edgeflow_runtime.backends.tensorrt.tensorrt_module import import_library, library_build
from edgeflow_runtime.board.facts import read_board
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import EngineError

if TYPE_CHECKING:
    from edgeflow_runtime.backends.tensorrt.tensorrt_types import TensorRt

QUEUED = 1
"""Batches that wait while others are under way, so that the GPU never waits for a thread."""


class TensorRtBackend:
    """A graph on the GPU; see :class:`~edgeflow_runtime.backends.protocol.Backend`.

    May be called from any thread, and under asyncio through ``asyncio.to_thread`` or
    :meth:`submit`; after a fork it says so. Once nobody holds it, it closes itself.

    Args:
        name: ``tensorrt`` or ``tensorrt-rtx``.
        device: what runs the engine.

    Raises:
        BackendError: the GPU or the engine cannot be opened.
    """

    def __init__(self, name: str, device: Device) -> None:
        self.name = name
        self.device = device.name
        self.batch = device.buckets[-1]
        self.workers = SLOTS + QUEUED
        self._worker = GpuWorker(device)

    @classmethod
    def load(cls, bundle: Bundle, name: str, graph: str = "flow") -> TensorRtBackend:
        """Open the engine that was built for this bundle on this board.

        Raises:
            DeviceError: there is no GPU, driver or TensorRT.
            EngineError: there is no engine, or it is stale, foreign or damaged.
        """
        gpu = probe_gpu()
        trt = import_library(name)
        store = EngineStore(bundle.path)
        built = store.load(engine_key(bundle, graph, name, trt, gpu))
        if built is None:
            raise EngineError(
                f"there is no {name} engine of '{bundle.path}' here yet: "
                f"run edgeflow build '{bundle.path}'"
            )
        record, content = built
        return cls(name, _cuda_device(trt, content, record.buckets, gpu))

    def nll(self, rows: Rows) -> Nll:
        """See :class:`~edgeflow_runtime.backends.protocol.Backend`."""
        (nll,) = self.submit(rows, "nll").result()
        return nll

    def nll_map(self, rows: Rows) -> NllMap:
        """See :class:`~edgeflow_runtime.backends.protocol.Backend`."""
        (nll_map,) = self.submit(rows, "nll_map").result()
        return nll_map

    def submit(self, rows: Rows, *outputs: str) -> Future[list[Array]]:
        """Run rows (n, ...), n at least 1, without waiting: the future gives an array an output.

        ``rows`` must be of the graph's own shape and type, and stay as they are until it is done.

        Raises:
            DeviceError: this is a forked child of the process that opened the GPU.
            BackendError: the rows or outputs are none of the graph's, or the GPU failed or is
                closed.
        """
        return self._worker.submit(rows, outputs)

    def close(self) -> None:
        """Let the GPU go."""
        self._worker.close()


def engine_key(
    bundle: Bundle,
    graph: str,
    backend: str,
    trt: TensorRt,
    gpu: Gpu | None,
    compute_capabilities: tuple[str, ...] = (),
) -> EngineKey:
    """What an engine of ``graph`` must have been built for to run here.

    Args:
        bundle: whose graph.
        graph: ``flow`` or ``audio``.
        backend: ``tensorrt`` or ``tensorrt-rtx``.
        trt: its module.
        gpu: the GPU; ``None`` to build without one, for ``compute_capabilities``.
        compute_capabilities: as ``8.6``.
    """
    return EngineKey(
        backend=backend,
        graph=graph,
        onnx=hashlib.sha256(bundle.graph(graph)).hexdigest(),
        version=trt.__version__,
        build=library_build(backend, trt.__version__),
        gpu=gpu.name if gpu else None,
        compute_capability=gpu.compute_capability if gpu else ",".join(compute_capabilities),
        multiprocessors=gpu.multiprocessors if gpu else None,
        driver=gpu.driver if gpu else None,
        l4t=read_board().l4t if gpu else None,
    )


def _cuda_device(trt: TensorRt, engine: bytes, buckets: tuple[int, ...], gpu: Gpu) -> Device:
    from edgeflow_runtime.backends.tensorrt.cuda_device import CudaDevice

    return CudaDevice(trt, engine, buckets, gpu)
