"""Whether the engines beside a bundle were built from it, and have run."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from edgeflow_runtime.backends.names import AUDIO, ENGINES, FLOW
from edgeflow_runtime.backends.tensorrt.engine_store import EngineStore
from edgeflow_runtime.board.diagnosis import Finding
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import EngineError


def diagnose_engines(path: Path) -> Iterator[Finding]:
    """One finding for each graph of a bundle; nothing is loaded, built or changed.

    Raises:
        BundleError: the bundle cannot be trusted or read.
    """
    bundle = Bundle.load(path)
    for graph in (FLOW, AUDIO) if bundle.audio_onnx else (FLOW,):
        yield _look(bundle, graph)


def _look(bundle: Bundle, graph: str) -> Finding:
    subject = f"engine of {graph}"
    option = " --audio-in" if graph == AUDIO else ""
    mend = f"edgeflow build {shlex.quote(str(bundle.path))}{option}"
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
        proof = f"{record.proof.nll:.1e} nats/dim off the golden recording"
        return Finding("ok", subject, f"{name} for {record.key.gpu}, {proof}")
    return Finding("note", subject, "none: the CPU scores", mend)
