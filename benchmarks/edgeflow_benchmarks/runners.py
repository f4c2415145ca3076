"""What can run a flow on this machine: each engine, runtime and torch mode, or why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeflow.models.model import Model
from edgeflow_runtime.arrays import Array
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.backends.tensorrt.build import build_engine
from edgeflow_runtime.backends.tensorrt.engine_record import BuildOrder, EngineRecord
from edgeflow_runtime.backends.tensorrt.nvidia_driver import probe_gpu
from edgeflow_runtime.backends.tensorrt.tensorrt_module import is_installed
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import BackendError, EdgeflowError

Run = Callable[[npt.NDArray[Any]], Array]


@dataclass
class Runners:
    """What runs here, by name, and why the rest does not."""

    runs: dict[str, Run] = field(default_factory=dict)
    """Rows (n, ...) to their NLL, results on the host."""
    records: dict[str, EngineRecord] = field(default_factory=dict)
    """What is said of the engines among them."""
    absent: dict[str, str] = field(default_factory=dict)
    """Why the rest does not: by name where none of its kind runs, else with the label."""

    def try_to_add(self, name: str, label: str, make: Callable[[], Run]) -> None:
        """Add what ``make`` gives as ``name label``, or the reason why it gives nothing."""
        try:
            self.runs[f"{name} {label}"] = make()
        except EdgeflowError as error:
            ran = any(run.startswith(f"{name} ") for run in self.runs)
            self.absent.setdefault(f"{name} {label}" if ran else name, str(error))


def engine_runs(
    runners: Runners, bundle: Path, graph: str, label: str, buckets: Sequence[int], stack: ExitStack
) -> None:
    """Build a bundle's graph with TensorRT and TensorRT-RTX and add the engines.

    Args:
        runners: added to.
        bundle: whose graph.
        graph: ``flow`` or ``audio``.
        label: what the runs are called after the backend's name.
        buckets: batch sizes.
        stack: closes them.
    """
    for backend in ("tensorrt", "tensorrt-rtx"):
        make = _engine_maker(runners, label, bundle, graph, backend, tuple(buckets), stack)
        runners.try_to_add(backend, label, make)


def _engine_maker(
    runners: Runners,
    label: str,
    bundle: Path,
    graph: str,
    backend: str,
    buckets: tuple[int, ...],
    stack: ExitStack,
) -> Callable[[], Run]:
    def make() -> Run:
        if not is_installed(backend):
            raise BackendError(f"{backend} is not installed")
        probe_gpu()
        from edgeflow_runtime.backends.tensorrt.backend import TensorRtBackend

        order = BuildOrder(str(bundle), graph, backend, buckets)
        runners.records[f"{backend} {label}"] = build_engine(order, lambda *_: None).record
        opened = TensorRtBackend.load(Bundle.load(bundle), backend, graph)
        stack.callback(opened.close)
        return opened.nll

    return make


def onnxruntime_runs(runners: Runners, onnx: bytes, label: str, buckets: Sequence[int]) -> None:
    """Add ONNX Runtime on the CPU and, where its provider runs, on the GPU."""
    runners.try_to_add("onnxruntime cpu", label, lambda: OnnxRuntimeBackend(onnx).nll)
    runners.try_to_add("onnxruntime cuda", label, lambda: _cuda_session(onnx, buckets))


def _cuda_session(onnx: bytes, buckets: Sequence[int]) -> Run:
    import onnxruntime

    provider = "CUDAExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise BackendError("this onnxruntime has no CUDA")
    options = onnxruntime.SessionOptions()
    # Convolutions in TF32 would not be what float32 is elsewhere in the table.
    settings = [(provider, {"use_tf32": "0"})]
    try:
        session = onnxruntime.InferenceSession(onnx, options, providers=settings)
    except Exception as error:  # onnxruntime raises classes of its own
        raise BackendError(" ".join(str(error).split())) from error
    if session.get_providers()[0] != provider:
        raise BackendError(f"onnxruntime fell back to {session.get_providers()[0]}")
    name = session.get_inputs()[0].name

    def run(rows: npt.NDArray[Any]) -> Array:
        parts = range(0, len(rows), buckets[-1])
        nll = [session.run(["nll"], {name: rows[i : i + buckets[-1]]})[0] for i in parts]
        return np.concatenate(nll)

    return run


def torch_runs(runners: Runners, flow: Model, example: Array) -> str:
    """Add torch, eager and compiled, of the unfolded flow; return the device it runs on."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # As everywhere else in the table, float32 is float32.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    moved = flow.to(device)
    runners.runs["torch eager"] = _torch_run(moved.score, device)
    compiled = _torch_run(torch.compile(moved.score), device)
    try:
        compiled(example)
    except Exception as error:  # no compiler, an unsupported board: torch raises many classes
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        runners.absent["torch.compile"] = first
    else:
        runners.runs["torch.compile"] = compiled
    return str(device)


def _torch_run(nll: Callable[[torch.Tensor], torch.Tensor], device: torch.device) -> Run:
    def run(rows: npt.NDArray[Any]) -> Array:
        with torch.inference_mode():
            scores: Array = nll(torch.from_numpy(rows).to(device)).cpu().numpy()  # waits for it
        return scores

    return run


def gpu_facts() -> Iterator[tuple[str, str]]:
    """The GPU, its driver, and the libraries that could use it, as text by name."""
    try:
        gpu = probe_gpu()
        memory = f"{gpu.memory / 1e9:.1f} GB{' shared with the processor' * gpu.integrated}"
        yield "GPU", f"{gpu.name}, compute capability {gpu.compute_capability}, {memory}"
        yield "driver", f"speaks CUDA {gpu.driver}"
    except EdgeflowError as error:
        yield "GPU", f"none: {error}"
    for backend in ("tensorrt", "tensorrt-rtx"):
        yield backend, "installed" if is_installed(backend) else "not installed"
    yield "torch's CUDA", str(torch.version.cuda)
