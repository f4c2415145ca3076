"""Replaying a bundle's golden recording: whether a backend gives here what it gave at export."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow_runtime.arrays import Nll, Rows
from edgeflow_runtime.backends.names import AUDIO
from edgeflow_runtime.backends.protocol import Backend, filled
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import BundleIntegrityError


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


def golden_rows(bundle: Bundle, graph: str) -> tuple[Rows, Nll]:
    """What goes into a graph to replay the golden recording, and the NLL it must give.

    Raises:
        BundleIntegrityError: there are not as many windows as recorded NLLs.
    """
    golden = bundle.golden
    if graph == AUDIO:
        return golden["audio"], golden["audio_nll"]
    windows, nll = bundle.view.rehearse(golden["logmel"]), golden["nll"]
    if len(windows) != len(nll) or not len(windows):
        raise BundleIntegrityError(
            f"'{bundle.path}': the golden record has {len(nll)} NLLs for {len(windows)} windows"
        )
    return np.ascontiguousarray(windows), nll


def allowed_nll(bundle: Bundle, graph: str) -> float:
    """How far a replay of ``flow`` or ``audio`` may be off, in nats per dimension."""
    audio = bundle.manifest.audio
    return audio.tolerance if graph == AUDIO and audio else bundle.manifest.tolerances.nll


def _worst(backend: Backend, rows: Rows, expected: Nll, bucket: int) -> float:
    """The largest difference of an NLL in batches of ``bucket``; NaN, if there is one."""
    order = filled(len(rows), bucket)
    nll = np.concatenate([backend.nll(np.ascontiguousarray(rows[part])) for part in order])
    return float(np.abs(nll - expected[order.ravel()]).max())
