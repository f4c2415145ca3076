"""Where a machine first leaves the record: samples, log-Mel, windows, then the NLL of each backend.

Every stage is given what the record says went into it, so that one fault shows in one stage.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.backend import Backend, OnnxRuntimeBackend
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.config import StrictConfig
from edgeflow_runtime.engines.build import BuildOrder, Say, build_engine
from edgeflow_runtime.engines.driver import probe_gpu
from edgeflow_runtime.engines.library import is_installed
from edgeflow_runtime.engines.store import EngineStore
from edgeflow_runtime.errors import DeviceError, EdgeflowError, EngineError, ProofError
from edgeflow_runtime.golden import allowed_nll, golden_rows, worst_in
from edgeflow_runtime.options import ENGINES

Array = npt.NDArray[np.float32]

NAMES = {"flow": "NLL", "audio": "NLL from samples"}
"""What the two graphs give."""


@dataclass(frozen=True)
class Stage(StrictConfig):
    """One stage of the way from sound to score."""

    name: str
    """For example ``log-Mel``, or ``NLL on tensorrt``."""
    level: str
    """``ok``, ``differs``, ``missing`` (asked for and not here) or ``note`` (not here)."""
    found: str
    """How far it is from the record, or why it did not run."""


def replay_stages(path: Path, say: Say) -> Iterator[Stage]:
    """Replay a bundle's golden recording, stage by stage and backend by backend.

    Args:
        path: the bundle.
        say: told how far the build of an engine is.

    Raises:
        BundleError: the bundle cannot be trusted or read.
    """
    bundle = Bundle.load(path)
    if bundle.logmel is not None:
        yield _samples(bundle.golden["samples"], bundle.logmel.spec.rate_hz)
        yield _logmel(bundle)
    windows = _windows(bundle)
    yield windows
    if windows.level == "differs":
        return  # what there is has no scores to be held against
    for graph in ("flow", "audio") if bundle.audio_onnx else ("flow",):
        cpu = OnnxRuntimeBackend(bundle.graph(graph))
        yield _nll(bundle, graph, cpu, (1, cpu.batch))
        for name in ENGINES:
            yield from _engine(bundle, graph, name, say)


def first_difference(stages: Iterable[Stage]) -> Stage | None:
    """The first stage that left the record, if one did."""
    return next((stage for stage in stages if stage.level == "differs"), None)


def _samples(samples: Array, rate_hz: int) -> Stage:
    """Whether a sound file written and read here holds what went in."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype="FLOAT")
    file.seek(0)
    found, _ = soundfile.read(file, dtype="float32")
    worst = float(np.abs(found - samples).max()) if found.shape == samples.shape else np.inf
    return _stage("samples", worst, 0.0, "of full scale", ", through a sound file and back")


def _logmel(bundle: Bundle) -> Stage:
    """Whether this machine's log-Mel of the samples is the record's."""
    golden, logmel = bundle.golden, bundle.logmel
    assert logmel is not None
    found = logmel(golden["samples"])
    same = found.shape == golden["logmel"].shape
    worst = float(np.abs(found - golden["logmel"]).max()) if same else np.inf
    return _stage("log-Mel", worst, bundle.manifest.tolerances.logmel_db, "dB")


def _windows(bundle: Bundle) -> Stage:
    """Whether the record's log-Mel is cut into as many windows as the record has scores for."""
    rows, expected = golden_rows(bundle, "flow")
    finite = bool(np.isfinite(rows).all())
    if len(rows) == len(expected) and finite:
        return Stage("windows", "ok", f"{len(rows)} of {' x '.join(map(str, rows.shape[1:]))}")
    wrong = "not all finite" if not finite else f"the record has {len(expected)}"
    return Stage("windows", "differs", f"{len(rows)}, {wrong}")


def _nll(bundle: Bundle, graph: str, backend: Backend, buckets: tuple[int, ...]) -> Stage:
    """Whether a backend gives the record's NLL, in each batch size."""
    rows, expected = golden_rows(bundle, graph)
    worst = worst_in(backend, rows, expected, buckets)
    name = f"{NAMES[graph]} on {backend.name}"
    where = f", in batches of {', '.join(map(str, sorted(set(buckets))))} on {backend.device}"
    return _stage(name, worst, allowed_nll(bundle, graph), "nats/dim", where)


def _engine(bundle: Bundle, graph: str, name: str, say: Say) -> Iterator[Stage]:
    """The NLL on the GPU, with an engine that is built first if there is none that fits."""
    stage = f"{NAMES[graph]} on {name}"
    if not is_installed(name):
        yield Stage(stage, "note", f"not here: {name} is not installed")
        return
    try:
        probe_gpu()
    except DeviceError as error:
        yield Stage(stage, "note", f"not here: {error}")
        return
    try:
        backend = _load_or_build(bundle, graph, name, say)
        try:
            yield _nll(bundle, graph, backend, (1, backend.batch))
        finally:
            backend.close()
    except ProofError as error:
        yield Stage(stage, "differs", str(error))
    except EdgeflowError as error:
        yield Stage(stage, "missing", str(error))


def _load_or_build(bundle: Bundle, graph: str, name: str, say: Say) -> Backend:
    """The engine that is here; else one that is built, in the batch sizes of the one before."""
    from edgeflow_runtime.engines.backend import TensorRtBackend

    try:
        return TensorRtBackend.load(bundle, name, graph)
    except EngineError:
        before = None
        with suppress(EngineError):
            before = EngineStore(bundle.path).record(graph, name)
        buckets = before.buckets if before else ()
        build_engine(bundle.path, BuildOrder(graph, name, buckets), say)
        return TensorRtBackend.load(bundle, name, graph)


def _stage(name: str, worst: float, allowed: float, unit: str, where: str = "") -> Stage:
    level = "ok" if worst <= allowed else "differs"  # a NaN is within nothing
    limit = f" (allowed {allowed:.0e})" if allowed else ""
    return Stage(name, level, f"{worst:.1e} {unit} off the record{limit}{where}")
