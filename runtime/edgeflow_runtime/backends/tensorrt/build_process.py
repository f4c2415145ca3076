"""The process that builds one engine and runs it: it may crash or be killed, its parent goes on.

It reads its order as one line of JSON, and answers in lines of JSON: where the build is, then the
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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from edgeflow_runtime.backends.protocol import Backend
from edgeflow_runtime.backends.tensorrt.backend import TensorRtBackend, engine_key
from edgeflow_runtime.backends.tensorrt.engine_from_onnx import compile_engine
from edgeflow_runtime.backends.tensorrt.engine_record import (
    RECORD_VERSION,
    BuildOrder,
    EngineRecord,
)
from edgeflow_runtime.backends.tensorrt.engine_store import EngineStore
from edgeflow_runtime.backends.tensorrt.nvidia_driver import Gpu, probe_gpu
from edgeflow_runtime.backends.tensorrt.tensorrt_module import import_library
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import EdgeflowError, ProofError
from edgeflow_runtime.golden import Replay, replay

if TYPE_CHECKING:
    from edgeflow_runtime.backends.tensorrt.tensorrt_types import TensorRt

SAY_EVERY_S = 0.2
"""Progress that comes faster is left out."""

DIE_WITH_PARENT = 1
"""``PR_SET_PDEATHSIG`` of prctl(2)."""


def build(order: BuildOrder, answers: Answers) -> EngineRecord:
    """Compile, write the candidate and, where there is a GPU, replay the golden recording on it.

    Raises:
        EdgeflowError: it cannot be done; the candidate may be left behind.
    """
    gpu = None if order.compute_capabilities else probe_gpu()
    trt = import_library(order.backend)
    bundle, store = Bundle.load(order.bundle), EngineStore(order.bundle)
    key = engine_key(bundle, order.graph, order.backend, trt, gpu, order.compute_capabilities)
    graph, precision = bundle.graph(order.graph), bundle.manifest.precision
    candidate, timing = Path(order.candidate), store.timing(order.backend)
    started = time.monotonic()
    layers = compile_engine(trt, graph, precision, order, candidate, timing, answers.step)
    seconds = time.monotonic() - started
    engine = candidate.read_bytes()
    proof = None
    if gpu is not None:
        answers.say(phase="replaying the golden recording", done=0, steps=0)
        proof = _prove(bundle, order, trt, engine, gpu)
    sha256 = hashlib.sha256(engine).hexdigest()
    return EngineRecord(
        record_version=RECORD_VERSION,
        key=key,
        buckets=order.buckets,
        precision=precision,
        layers=layers,
        workspace=order.workspace,
        seconds=round(seconds, 3),
        file=store.name_for(key, sha256),
        sha256=sha256,
        proof=proof,
    )


def _prove(bundle: Bundle, order: BuildOrder, trt: TensorRt, engine: bytes, gpu: Gpu) -> Replay:
    from edgeflow_runtime.backends.tensorrt.cuda_device import CudaDevice

    backend = TensorRtBackend(order.backend, CudaDevice(trt, engine, order.buckets, gpu))
    try:
        return prove(bundle, order.graph, backend, order.buckets)
    finally:
        backend.close()


def prove(bundle: Bundle, graph: str, backend: Backend, buckets: tuple[int, ...]) -> Replay:
    """Replay the golden recording on a new engine, in each of its batch sizes.

    Raises:
        ProofError: a score differs by more than the bundle allows, or is not finite.
    """
    parts = [replay(bundle, graph, backend, (bucket,)) for bucket in buckets]
    for part in parts:
        if not part.passed:
            raise ProofError(
                f"in batches of {part.buckets[0]} the new engine is {part.nll:.2e} nats/dim off "
                f"the golden recording, {part.allowed:.0e} are allowed: it is not used"
            )
    return replace(parts[0], buckets=buckets, nll=max(part.nll for part in parts))


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
    """Serve one order from standard input."""
    _die_with_parent(int(sys.argv[1]))
    # Libraries print to standard output as they please: what is ours gets a copy of its own.
    answers = Answers(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    try:
        record = build(BuildOrder.from_dict(json.loads(sys.stdin.readline())), answers)
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
