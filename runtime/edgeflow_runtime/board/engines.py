"""Whether the engines beside a bundle were built from it, and have run."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from edgeflow_runtime.backends.names import AUDIO, ENGINES, FLOW
from edgeflow_runtime.backends.tensorrt.engine_store import EngineStore
from edgeflow_runtime.board.diagnosis import Finding
from edgeflow_runtime.board.facts import Board
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import EngineError


def diagnose_engines(path: Path, board: Board) -> Iterator[Finding]:
    """One finding for each graph of a bundle; nothing is loaded, built or changed.

    Building is the mend only where ``board`` has a driver to build for.

    Raises:
        BundleError: the bundle cannot be trusted or read.
    """
    bundle = Bundle.load(path)
    for graph in (FLOW, AUDIO) if bundle.audio_onnx else (FLOW,):
        option = " --audio-in" if graph == AUDIO else ""
        build = f"edgeflow build {shlex.quote(str(bundle.path))}{option}"
        yield _look(bundle, graph, build if board.driver or board.driver_library else None)


def _look(bundle: Bundle, graph: str, mend: str | None) -> Finding:
    subject = f"engine of {graph}"
    store, onnx = EngineStore(bundle.path), hashlib.sha256(bundle.graph(graph)).hexdigest()
    for name in ENGINES:
        try:
            record = store.record(graph, name)
        except EngineError as error:
            return Finding("note", subject, str(error))
        if record is None:
            continue
        if record.key.onnx != onnx:
            return Finding("note", subject, f"{name}: of another export of the bundle", mend)
        if record.proof is None:
            return Finding("note", subject, f"{name}: {record.label}")
        if not (store.folder / record.file).is_file():
            return Finding("note", subject, f"{name}: its file is missing", mend)
        proof = f"{record.proof.nll:.1e} nats/dim off the golden recording"
        return Finding("ok", subject, f"{name} for {record.key.gpu}, {proof}")
    return Finding("note", subject, "none: the CPU scores", mend)
