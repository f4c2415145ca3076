"""Building a bundle's engine on this board: checked before, watched meanwhile, proven after.

TensorRT works in a process of its own. However that ends, killed for want of memory or crashed, the
engine that was good before stays, and so does the CPU path.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from edgeflow_runtime.backends.tensorrt.engine_record import BuildOrder, EngineRecord
from edgeflow_runtime.backends.tensorrt.engine_store import EngineStore
from edgeflow_runtime.backends.tensorrt.nvidia_driver import probe_gpu
from edgeflow_runtime.backends.tensorrt.tensorrt_module import MODULES, is_installed, mend
from edgeflow_runtime.board.facts import read_board
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import DeviceError, EngineError, ProofError

AHEAD_OF_TIME = ("8.0", "8.6", "8.9")
"""What TensorRT-RTX compiles for where there is no GPU."""

BASE_MEMORY = 700 * 2**20
"""Bytes that TensorRT's libraries and the process around them take before the graph is read."""

GRAPH_MEMORY = 8
"""Bytes of memory that a build takes for each byte of ONNX: weights, copies, reformatted trials."""

START = """
import sys
sys.path[:] = [path for path in sys.path if path]
from edgeflow_runtime.backends.tensorrt.build_process import main
raise SystemExit(main())
"""
"""Starts the building process; ``-m`` would import whatever lies in the current folder."""

Say = Callable[[str, int, int], None]
"""Told the phase, the steps done and their number (0 if unknown)."""


@dataclass(frozen=True)
class Built:
    """What came of a build."""

    record: EngineRecord
    """What is said of the engine."""
    path: Path | None
    """Where it is; ``None`` if it never ran and a proven one stays in its place."""


def build_engine(order: BuildOrder, say: Say, command: Sequence[str] | None = None) -> Built:
    """Build the engine of a bundle, prove it on this board's GPU, and put it in place.

    Where there is no GPU, TensorRT-RTX still compiles the graph: a check, not an engine to run.

    Args:
        order: what to build; where the candidate goes and what it is compiled for is filled in.
        say: told how far it is.
        command: the process that builds; given by tests.

    Raises:
        BundleError: the bundle cannot be read, or is a base.
        DeviceError: there is no GPU or TensorRT, and no way to check without.
        EngineError: the build failed, was killed, or gave an engine that misses the golden scores.
        StorageError: the disk refuses.
    """
    bundle = Bundle.load(order.bundle)
    bundle.check_judges()
    onnx = bundle.graph(order.graph)
    capabilities = _targets(order.backend)
    store = EngineStore(order.bundle)
    _check_memory(len(onnx), order.workspace)
    with store.building():
        _check_disk(store.folder, len(onnx))
        candidate = store.folder / f".{order.graph}-{order.backend}.building"
        order = replace(order, candidate=str(candidate), compute_capabilities=capabilities)
        try:
            record = _run(order, say, command)
            _check_candidate(candidate, record, Path(order.bundle))
            kept = _keep(store, record, candidate)
        finally:
            with suppress(OSError):
                candidate.unlink(missing_ok=True)
    return Built(record, store.folder / record.file if kept else None)


def _targets(backend: str) -> tuple[str, ...]:
    """For which GPUs to compile: none named where there is one, and it is to be used."""
    if not is_installed(backend):
        raise DeviceError(f"{MODULES[backend]} is not installed: {mend(backend)}")
    try:
        probe_gpu()
    except DeviceError:
        if backend != "tensorrt-rtx":
            raise
        return AHEAD_OF_TIME
    return ()


def _check_memory(onnx: int, workspace: int) -> None:
    """Refuse before the board starts to swap, and the kernel picks what to kill."""
    needed = BASE_MEMORY + GRAPH_MEMORY * onnx + workspace
    free = read_board().memory.available_bytes
    if free is not None and free < needed:
        raise EngineError(
            f"building takes about {needed / 2**20:.0f} MB of memory and {free / 2**20:.0f} MB are "
            "free without swapping: stop other programs, or lower --workspace"
        )


def _check_disk(folder: Path, onnx: int) -> None:
    needed, free = 4 * onnx + 16 * 2**20, shutil.disk_usage(folder).free
    if free < needed:
        raise EngineError(
            f"building takes about {needed / 2**20:.0f} MB of disk and '{folder}' has "
            f"{free / 2**20:.0f} MB free: make room there"
        )


def _run(order: BuildOrder, say: Say, command: Sequence[str] | None) -> EngineRecord:
    """Run the building process to its end; its last words if it failed."""
    arguments = command or [sys.executable, "-c", START]
    with tempfile.TemporaryFile() as heard:
        with subprocess.Popen(
            [*arguments, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=heard,
        ) as process:
            try:
                answer = _listen(process, order, say)
            except BaseException:
                process.kill()
                raise
        status = process.returncode
        heard.seek(0)
        last = heard.read().decode(errors="replace").strip().splitlines()
    if "record" in answer:
        return EngineRecord.from_dict(answer["record"])
    kind = ProofError if answer.get("kind") == ProofError.__name__ else EngineError
    raise kind(answer.get("error") or _last_words(status, last))


def _listen(process: subprocess.Popen[bytes], order: BuildOrder, say: Say) -> dict[str, Any]:
    """Pass progress on until the process has said how it ended; nothing if it never did."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(order.to_dict()).encode() + b"\n")
        process.stdin.close()
    for message in _messages(process.stdout):
        if "phase" in message:
            say(message["phase"], message.get("done", 0), message.get("steps", 0))
        else:
            return message
    return {}


def _messages(lines: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    for line in lines:
        try:
            message = json.loads(line)
        except ValueError:
            continue  # a library's own words
        if isinstance(message, dict):
            yield cast("dict[str, Any]", message)


def _last_words(status: int, heard: Sequence[str]) -> str:
    """What to say of a process that ended without a word."""
    if status == -signal.SIGKILL:
        return (
            "the build was killed, most likely for want of memory: stop other programs, add swap, "
            "or lower --workspace and --batch"
        )
    if status < 0:
        known = {int(number): number.name for number in signal.Signals}
        return f"TensorRT crashed ({known.get(-status, f'signal {-status}')}) while building"
    return f"the build ended with status {status}: {heard[-1] if heard else 'it said nothing'}"


def _check_candidate(candidate: Path, record: EngineRecord, bundle: Path) -> None:
    """Whether what lies on the disk is what was built, and from what the bundle still holds."""
    try:
        sha256 = hashlib.sha256(candidate.read_bytes()).hexdigest()
    except OSError as error:
        raise EngineError(f"'{candidate}' cannot be read: {error.strerror}") from error
    if sha256 != record.sha256:
        raise EngineError(f"'{candidate}' was damaged while it was written: its hash differs")
    now = Bundle.load(bundle).graph(record.key.graph)
    if record.key.onnx != hashlib.sha256(now).hexdigest():
        raise EngineError("the bundle was replaced while its engine was built: build again")


def _keep(store: EngineStore, record: EngineRecord, candidate: Path) -> bool:
    """Put the engine in place, but nothing that never ran over one that is proven."""
    with suppress(EngineError):  # a damaged record is no reason to keep what it names
        before = store.record(record.key.graph, record.key.backend)
        if before is not None and before.proof and not record.proof:
            return False
    store.keep(record, candidate)
    return True
