"""The process that builds one engine and runs it: it may crash or be killed, its parent goes on.

It reads a request as one line of JSON, and answers in lines of JSON: where the build is, then the
record of the engine, or why there is none.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.config import StrictConfig
from edgeflow_runtime.engines.backend import TensorRtBackend, engine_key
from edgeflow_runtime.engines.compiler import Order, compile_engine
from edgeflow_runtime.engines.driver import probe_gpu
from edgeflow_runtime.engines.library import import_library
from edgeflow_runtime.engines.proof import prove
from edgeflow_runtime.engines.record import RECORD_VERSION, EngineKey, EngineRecord, Proof
from edgeflow_runtime.engines.store import EngineStore
from edgeflow_runtime.errors import EdgeflowError

SAY_EVERY_S = 0.2
"""Progress that comes faster is left out."""

DIE_WITH_PARENT = 1
"""``PR_SET_PDEATHSIG`` of prctl(2)."""


@dataclass(frozen=True)
class Request(StrictConfig):
    """What the parent asks for."""

    bundle: str
    """Path of the bundle."""
    graph: str
    """``flow`` or ``audio``."""
    backend: str
    """``tensorrt`` or ``tensorrt-rtx``."""
    buckets: tuple[int, ...]
    """Batch sizes, ascending."""
    workspace: int
    """Bytes."""
    candidate: str
    """Where the engine goes until it is proven."""
    compute_capabilities: tuple[str, ...]
    """To build without a GPU for these; none to build for the GPU that is here, and prove it."""


def build(request: Request, answers: Answers) -> EngineRecord:
    """Compile, write the candidate and, where there is a GPU, replay the golden recording on it.

    Raises:
        EdgeflowError: it cannot be done; the candidate may be left behind.
    """
    gpu = None if request.compute_capabilities else probe_gpu()
    trt = import_library(request.backend)
    bundle = Bundle.load(request.bundle)
    key = engine_key(bundle, request.graph, request.backend, trt, gpu, request.compute_capabilities)
    order = Order(
        bundle.graph(request.graph),
        request.buckets,
        request.workspace,
        bundle.manifest.precision,
        request.compute_capabilities,
    )
    store = EngineStore(request.bundle)
    started = time.monotonic()
    candidate = Path(request.candidate)
    layers = compile_engine(trt, order, candidate, store.timing(request.backend), answers.step)
    seconds = time.monotonic() - started
    engine = candidate.read_bytes()
    proof = None
    if gpu is not None:
        answers.say(phase="replaying the golden recording", done=0, steps=0)
        from edgeflow_runtime.engines.cuda import CudaDevice

        device = CudaDevice(trt, engine, request.buckets, gpu)
        backend = TensorRtBackend(request.backend, device)
        try:
            proof = prove(bundle, request.graph, backend, request.buckets)
        finally:
            backend.close()
    sha256 = hashlib.sha256(engine).hexdigest()
    return _record(request, bundle, key, layers, seconds, sha256, proof)


def _record(
    request: Request,
    bundle: Bundle,
    key: EngineKey,
    layers: dict[str, int],
    seconds: float,
    sha256: str,
    proof: Proof | None,
) -> EngineRecord:
    return EngineRecord(
        record_version=RECORD_VERSION,
        key=key,
        buckets=request.buckets,
        precision=bundle.manifest.precision,
        layers=layers,
        workspace=request.workspace,
        seconds=round(seconds, 3),
        file=EngineStore(request.bundle).name_for(key, sha256),
        sha256=sha256,
        proof=proof,
    )


class Answers:
    """Lines of JSON to the parent.

    Args:
        file: what it reads.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._said = 0.0

    def say(self, **message: Any) -> None:  # noqa: ANN401
        """Write one line."""
        print(json.dumps(message), file=self._file, flush=True)

    def step(self, phase: str, done: int, steps: int) -> None:
        """Say where the build is, not more often than a person can read."""
        now = time.monotonic()
        if now - self._said >= SAY_EVERY_S:
            self._said = now
            self.say(phase=phase, done=done, steps=steps)


def _die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


def main() -> int:
    """Serve one request from standard input."""
    _die_with_parent(int(sys.argv[1]))
    # Libraries print to standard output as they please: what is ours gets a copy of its own.
    answers = Answers(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    try:
        record = build(Request.from_dict(json.loads(sys.stdin.readline())), answers)
    except EdgeflowError as error:
        answers.say(error=str(error), kind=type(error).__name__)
    except MemoryError:
        answers.say(error="there is too little memory: stop other programs, or lower --workspace")
    except Exception as error:  # whatever TensorRT's bindings raise has a line of its own
        answers.say(error=f"{type(error).__name__}: {' '.join(str(error).split())}")
    else:
        answers.say(record=record.to_dict())
        return 0
    return 1
