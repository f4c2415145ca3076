"""Replaying a bundle's golden recording: whether a backend gives here what it gave at export.

Whoever scores replays a little of it first (:func:`prove`), ``edgeflow verify`` all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow_runtime.arrays import Nll, Rows
from edgeflow_runtime.backends.names import AUDIO, FLOW
from edgeflow_runtime.backends.protocol import Backend, filled
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import BackendError, BundleIntegrityError, ProofError


@dataclass(frozen=True)
class Replay(Document):
    """How near a backend came to the golden recording; kept beside an engine as its proof."""

    windows: int
    """Windows that were replayed."""
    buckets: tuple[int, ...]
    """Batch sizes in which they were."""
    nll: float
    """Largest difference of a window's NLL from the record, in nats per dimension."""
    allowed: float
    """The bundle's tolerance for it."""

    @property
    def passed(self) -> bool:
        """Whether that is within the tolerance; a NaN is within nothing."""
        return self.nll <= self.allowed


def replay(bundle: Bundle, graph: str, backend: Backend, buckets: tuple[int, ...] = ()) -> Replay:
    """Run the golden recording through a graph, over and over until it fills each batch size.

    Args:
        bundle: whose recording.
        graph: ``flow`` or ``audio``.
        backend: runs that graph.
        buckets: batch sizes; the backend's own if none are given.

    Raises:
        BundleIntegrityError: the golden record does not fit the bundle.
        BackendError: the graph cannot be run.
    """
    rows, expected = golden_rows(bundle, graph)
    buckets = buckets or (backend.batch,)
    worst = [_worst(backend, rows, expected, bucket) for bucket in buckets]
    return Replay(expected.size, buckets, float(np.max(worst)), allowed_nll(bundle, graph))


def prove(bundle: Bundle, graph: str, backend: Backend) -> None:
    """Refuse to score where this machine's log-Mel, or ``backend``, leaves the golden record.

    Of the windows, the two with the lowest and the highest NLL are run: whatever gives the same for
    all sound, or another scale, is off in one of them by more than any bundle allows.

    Args:
        bundle: whose recording.
        graph: ``flow`` or ``audio``.
        backend: runs that graph.

    Raises:
        BundleIntegrityError: the golden record does not fit the bundle.
        BackendError: log-Mel or an NLL is farther off than the bundle allows, or the graph cannot
            be run. Of an engine it is a :class:`ProofError`.
    """
    logmel_db = bundle.manifest.tolerances.logmel_db
    if graph == FLOW and not (worst := logmel_difference(bundle)) <= logmel_db:
        raise BackendError(_unproven(bundle, "log-Mel", worst, "dB", logmel_db))
    rows, expected = golden_rows(bundle, graph)
    if graph == FLOW:
        extremes = sorted({int(expected.argmin()), int(expected.argmax())})
        rows, expected = rows[extremes], expected[extremes]
    worst, allowed = _worst(backend, rows, expected, len(rows)), allowed_nll(bundle, graph)
    if not worst <= allowed:  # a NaN is within nothing
        kind = BackendError if backend.device == "cpu" else ProofError
        raise kind(_unproven(bundle, f"NLL on {backend.name}", worst, "nats/dim", allowed))


def _unproven(bundle: Bundle, what: str, worst: float, unit: str, allowed: float) -> str:
    return (
        f"'{bundle.path}' does not give its golden scores on this machine: {what} is {worst:.1e} "
        f"{unit} off the record (allowed {allowed:.0e}): 'edgeflow verify' shows where it leaves it"
    )


def logmel_difference(bundle: Bundle) -> float:
    """How far this machine's log-Mel of the golden samples is off the record, in dB.

    It is 0 for bundles that take arrays, infinite where there are more or fewer frames, NaN where
    one is.
    """
    if bundle.logmel is None:
        return 0.0
    recorded = bundle.golden["logmel"]
    with np.errstate(all="ignore"):  # what is not finite shows in the result
        logmel = bundle.logmel(bundle.golden["samples"])
        return float(np.abs(logmel - recorded).max()) if logmel.shape == recorded.shape else np.inf


def golden_rows(bundle: Bundle, graph: str) -> tuple[Rows, Nll]:
    """What goes into a graph to replay the golden recording, and the NLL it must give.

    Windows are a view of the recording, and no copy of each: they may overlap a thousandfold.

    Raises:
        BundleIntegrityError: there are not as many windows as recorded NLLs.
    """
    golden = bundle.golden
    if graph == AUDIO:
        return golden["audio"], golden["audio_nll"]
    with np.errstate(all="ignore"):  # what is not finite shows in the scores
        windows, nll = bundle.view(golden["logmel"]), golden["nll"]
    if len(windows) != len(nll) or not len(windows):
        raise BundleIntegrityError(
            f"'{bundle.path}': the golden record has {len(nll)} NLLs for {len(windows)} windows"
        )
    return windows, nll


def allowed_nll(bundle: Bundle, graph: str) -> float:
    """How far a replay of ``flow`` or ``audio`` may be off, in nats per dimension."""
    audio = bundle.manifest.audio
    return audio.tolerance if graph == AUDIO and audio else bundle.manifest.tolerances.nll


def _worst(backend: Backend, rows: Rows, expected: Nll, bucket: int) -> float:
    """The largest difference of an NLL in batches of ``bucket``; NaN, if there is one."""
    order = filled(len(rows), bucket)
    nll = np.concatenate([backend.nll(np.ascontiguousarray(rows[part])) for part in order])
    with np.errstate(all="ignore"):
        return float(np.abs(nll - expected[order.ravel()]).max())
