"""Where a machine first leaves a bundle's record: samples, log-Mel, windows, or a backend's NLL.

Every stage is given what the record says went into it, so that one fault shows in one stage.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from edgeflow_runtime.arrays import Samples
from edgeflow_runtime.backends.names import AUDIO, ENGINES, FLOW
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.backends.protocol import Backend
from edgeflow_runtime.backends.select import open_backend
from edgeflow_runtime.backends.tensorrt.engine_store import EngineStore
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import BundleIntegrityError, EdgeflowError
from edgeflow_runtime.golden import golden_rows, logmel_difference, replay

OK, DIFFERS, MISSING, NOTE = "ok", "differs", "missing", "note"

NAMES = {FLOW: "NLL", AUDIO: "NLL from samples"}
"""What the two graphs give."""


@dataclass(frozen=True)
class Stage(Document):
    """One stage of the way from sound to score."""

    name: str
    """For example ``log-Mel``, or ``NLL on tensorrt``."""
    level: str
    """``ok``, ``differs``, ``missing`` (asked for and not usable) or ``note`` (not here)."""
    detail: str
    """How far it is from the record, or why it did not run."""


def replay_stages(bundle: Bundle, *, every: bool = False) -> Iterator[Stage]:
    """Replay a bundle's golden recording, stage by stage and backend by backend.

    Args:
        bundle: whose recording.
        every: also go through a sound file and back, try single rows, and run the engines.
    """
    if bundle.logmel is not None:
        if every:
            yield _through_a_file(bundle.golden["samples"], bundle.logmel.spec.rate_hz)
        yield _logmel(bundle)
    windows = _windows(bundle)
    yield windows
    if windows.level == DIFFERS:
        return  # what there is has no scores to be held against
    for graph in (FLOW, AUDIO) if bundle.audio_onnx else (FLOW,):
        cpu = OnnxRuntimeBackend(bundle.graph(graph), signature=bundle.signature(graph))
        yield _nll(bundle, graph, cpu, (1, cpu.batch) if every else (cpu.batch,))
        for name in ENGINES if every else ():
            yield _engine(bundle, graph, name)


def first_difference(stages: Iterable[Stage]) -> Stage | None:
    """The first stage that left the record, if one did."""
    return next((stage for stage in stages if stage.level == DIFFERS), None)


def _through_a_file(samples: Samples, rate_hz: int) -> Stage:
    """Whether a sound file written and read here holds what went in."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype="FLOAT")
    file.seek(0)
    back, _ = soundfile.read(file, dtype="float32")
    worst = float(np.abs(back - samples).max()) if back.shape == samples.shape else np.inf
    return _stage("samples", worst, 0.0, "of full scale", ", through a sound file and back")


def _logmel(bundle: Bundle) -> Stage:
    """Whether this machine's log-Mel of the samples is the record's."""
    worst = logmel_difference(bundle)
    return _stage("log-Mel", worst, bundle.manifest.tolerances.logmel_db, "dB")


def _windows(bundle: Bundle) -> Stage:
    """Whether the record's log-Mel is cut into as many windows as the record has scores for."""
    try:
        rows, _ = golden_rows(bundle, FLOW)
    except BundleIntegrityError as error:
        return Stage("windows", DIFFERS, str(error))
    if not np.isfinite(rows).all():
        return Stage("windows", DIFFERS, f"{len(rows)}, not all finite")
    return Stage("windows", OK, f"{len(rows)} of {' x '.join(map(str, rows.shape[1:]))}")


def _nll(bundle: Bundle, graph: str, backend: Backend, buckets: tuple[int, ...]) -> Stage:
    """Whether a backend gives the record's NLL, in each batch size."""
    result = replay(bundle, graph, backend, buckets)
    where = f", in batches of {', '.join(map(str, sorted(set(buckets))))} on {backend.device}"
    name = f"{NAMES[graph]} on {backend.name}"
    return _stage(name, result.nll, result.allowed, "nats/dim", where)


def _engine(bundle: Bundle, graph: str, name: str) -> Stage:
    """The NLL on the GPU, with the engine that was built here, if one was."""
    stage = f"{NAMES[graph]} on {name}"
    try:
        record = EngineStore(bundle.path).record(graph, name)
        if record is None or record.proof is None:
            return Stage(stage, NOTE, "no engine was built here")
        backend = open_backend(bundle, name, graph=graph)
        try:
            return _nll(bundle, graph, backend, (1, backend.batch))
        finally:
            backend.close()
    except EdgeflowError as error:
        return Stage(stage, MISSING, str(error))


def _stage(name: str, worst: float, allowed: float, unit: str, where: str = "") -> Stage:
    level = OK if worst <= allowed else DIFFERS  # a NaN is within nothing
    limit = f" (allowed {allowed:.0e})" if allowed else ""
    return Stage(name, level, f"{worst:.1e} {unit} off the record{limit}{where}")
