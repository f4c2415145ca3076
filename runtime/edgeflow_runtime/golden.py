"""Replaying a bundle's golden recording, to see that this machine gives what the export gave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.backend import Backend, Rows, nll_of
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import BundleIntegrityError

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Replay:
    """How far the replay is from the record, each beside what is allowed."""

    windows: int
    """Windows that were replayed."""
    logmel_db: float
    """Largest difference of a log-Mel value in dB; 0 where the bundle takes arrays."""
    logmel_allowed_db: float
    """The bundle's tolerance for it."""
    nll: float
    """Largest difference of a window's NLL, in nats per dimension."""
    nll_allowed: float
    """The bundle's tolerance for it."""

    @property
    def passed(self) -> bool:
        """Whether both lie within their tolerance; a NaN does not."""
        return self.logmel_db <= self.logmel_allowed_db and self.nll <= self.nll_allowed


def replay(bundle: Bundle, backend: Backend) -> Replay:
    """Run the golden recording through this machine's log-Mel and ``backend``.

    Raises:
        BundleIntegrityError: the golden record does not fit the bundle.
        BackendError: the flow cannot be run.
    """
    golden, logmel = bundle.golden, bundle.logmel
    expected = golden["logmel"]
    found = expected if logmel is None else logmel(golden["samples"])
    windows = bundle.manifest.window.views(bundle.standardise(found))
    if found.shape != expected.shape or len(windows) != len(golden["nll"]) or not len(windows):
        raise BundleIntegrityError(f"'{bundle.path}': the golden record does not fit the window")
    nll = nll_of(backend, windows)
    allowed = bundle.manifest.tolerances
    return Replay(
        windows=len(windows),
        logmel_db=float(np.abs(found - expected).max()),
        logmel_allowed_db=allowed.logmel_db,
        nll=float(np.abs(nll - golden["nll"]).max()),
        nll_allowed=allowed.nll,
    )


def golden_rows(bundle: Bundle, graph: str) -> tuple[Rows, Array]:
    """What goes into a graph to replay the golden recording, and the NLL it must give."""
    if graph == "audio":
        return bundle.golden["audio"], bundle.golden["audio_nll"]
    standard = bundle.standardise(bundle.golden["logmel"])
    return np.ascontiguousarray(bundle.manifest.window.views(standard)), bundle.golden["nll"]


def worst_in(backend: Backend, rows: Rows, expected: Array, buckets: tuple[int, ...]) -> float:
    """The largest difference of an NLL when ``rows``, over and over, fill batches of these sizes.

    NaN, if there is one.
    """
    worst = [0.0]
    for bucket in buckets:
        whole = -(-max(len(rows), bucket) // bucket) * bucket
        order = np.arange(whole) % len(rows)
        parts = [order[i : i + bucket] for i in range(0, whole, bucket)]
        found = np.concatenate([backend.nll(np.ascontiguousarray(rows[part])) for part in parts])
        worst.append(float(np.abs(found - expected[order]).max()))
    return float(np.max(worst))


def allowed_nll(bundle: Bundle, graph: str) -> float:
    """How far a replay of ``flow`` or ``audio`` may be off, in nats per dimension."""
    audio = bundle.manifest.audio
    return audio.tolerance if graph == "audio" and audio else bundle.manifest.tolerances.nll
