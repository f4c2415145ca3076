"""What a reduced precision may cost against float32: ranks, verdicts, AUC, and no NaN anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from edgeflow.evaluation import auc_and_pauc
from edgeflow_runtime.arrays import Array, Scores
from edgeflow_runtime.backends.protocol import Backend, filled, nll_of
from edgeflow_runtime.errors import ExportError, PrecisionError
from edgeflow_runtime.manifest import Gate

MAX_AUC_CHANGE = 0.002
"""Absolute change of the AUC."""

MIN_SPEARMAN = 0.999
"""Rank correlation with float32."""

MIN_RANKED_CLIPS = 23
"""From this many clips on, two neighbours may change places and the correlation stays above 0.999.
Fewer have hardly any ranks to lose, so those of all their windows must be kept as well."""

MAX_FLIPS = 0.005
"""Share of clips whose verdict changes."""

MAX_BATCH_DIFFERENCE = 1e-4
"""Nats per dimension between the NLL of one window in two batch sizes."""

MAX_HELDOUT_CHANGE = 0.2
"""Of the spread of NLL over held-out windows, that the NLL of one of them may change; a replay of
the golden recording may be off by twice the change."""

MEND = "--precision auto keeps the couplings that cannot bear it wider"


@dataclass(frozen=True)
class ClipWindows:
    """A clip as the flow sees it."""

    windows: Array
    """(n, T, M) standardised windows, n > 0; views will do."""
    anomalous: bool
    """Its label."""
    heldout: bool = False
    """Whether it is a normal clip that was kept from training, as the golden recording is."""


class Reference:
    """What float32 makes of some clips; scored once, however many graphs are compared with it.

    Args:
        backend: runs the float32 graph.
        clips: of the machine, not learned from.
        threshold: clips that score above it are anomalous; in nats per dimension.

    Raises:
        ExportError: there is no clip, or the float32 graph gives a score that is not finite.
    """

    def __init__(self, backend: Backend, clips: Sequence[ClipWindows], threshold: float) -> None:
        self._heldout = [k for k, clip in enumerate(clips) if clip.heldout]
        if not clips or not all(len(clip.windows) for clip in clips):
            raise ExportError(
                f"a precision is compared on clips with a window at least, found {len(clips)} "
                f"clips with {sum(len(clip.windows) for clip in clips)} windows"
            )
        self.clips = tuple(clips)
        self.threshold = threshold
        self._labels = np.array([clip.anomalous for clip in clips])
        self._nll = self._window_scores(backend)
        missing = _not_finite(np.concatenate(self._nll))
        if missing:
            raise ExportError(f"{missing} NLL(s) of the float32 graph are not finite")

    def compare(self, typed: Backend) -> Gate:
        """How near ``typed`` comes to float32 on these clips.

        A clip's score is the mean NLL of its windows. ``spearman`` is the rank correlation of the
        clips' scores; with fewer than :data:`MIN_RANKED_CLIPS` clips it is that of the NLLs of all
        windows if that is lower. Where one side gives equal scores to all, there are no ranks: it
        is 1 if the other side does as well, and 0 otherwise.

        Raises:
            PrecisionError: an NLL is not finite.
        """
        nll = self._window_scores(typed)
        flat = np.concatenate(nll)
        if missing := _not_finite(flat):
            raise PrecisionError(f"{missing} of {len(flat)} NLLs are not finite: {MEND}")
        before, after = _means(self._nll), _means(nll)
        spearman = _spearman(before, after)
        if len(nll) < MIN_RANKED_CLIPS:
            spearman = min(spearman, _spearman(np.concatenate(self._nll), flat))
        heldout = np.concatenate([self._nll[k] for k in self._heldout] or [flat[:0]])
        heldout_after = np.concatenate([nll[k] for k in self._heldout] or [flat[:0]])
        return Gate(
            clips=len(self.clips),
            anomalous=int(self._labels.sum()),
            windows=len(flat),
            auc_change=self._auc_change(before, after),
            spearman=spearman,
            flips=float(np.mean((before > self.threshold) != (after > self.threshold))),
            nll_change=float(np.abs(flat - np.concatenate(self._nll)).max()),
            heldout_change=float(np.abs(heldout_after - heldout).max(initial=0.0)),
            heldout_spread=float(heldout.std(dtype=np.float64)) if len(heldout) else 0.0,
        )

    def _window_scores(self, backend: Backend) -> list[Array]:
        with ThreadPoolExecutor(backend.workers) as pool:
            return list(pool.map(lambda clip: nll_of(backend, clip.windows), self.clips))

    def _auc_change(self, before: Scores, after: Scores) -> float | None:
        if self._labels.all() or not self._labels.any():
            return None
        aucs = [auc_and_pauc(s[~self._labels], s[self._labels])[0] for s in (before, after)]
        return abs(aucs[1] - aucs[0])


def refusals(gate: Gate) -> list[str]:
    """Why ``gate`` is not passed, with the figures and what is allowed; empty if it is."""
    reasons = []
    if gate.auc_change is not None and not gate.auc_change <= MAX_AUC_CHANGE:
        reasons.append(
            f"the AUC changes by {gate.auc_change:.4f}, at most {MAX_AUC_CHANGE} allowed"
        )
    if not gate.spearman >= MIN_SPEARMAN:
        reasons.append(
            f"the ranks correlate by {gate.spearman:.5f}, at least {MIN_SPEARMAN} demanded"
        )
    if gate.heldout_change > MAX_HELDOUT_CHANGE * gate.heldout_spread:
        reasons.append(
            f"a held-out window moves by {gate.heldout_change:.1e} nats/dim, at most "
            f"{MAX_HELDOUT_CHANGE * gate.heldout_spread:.1e} allowed"
        )
    if not gate.flips <= MAX_FLIPS:
        reasons.append(f"{gate.flips:.1%} of the verdicts flip, at most {MAX_FLIPS:.1%} allowed")
    return reasons


def require(gate: Gate, precision: str) -> None:
    """Refuse a ``precision`` that costs more than is allowed.

    Raises:
        PrecisionError: in one line, with the figures, what is allowed, and the mend.
    """
    if reasons := refusals(gate):
        raise PrecisionError(
            f"{precision} costs too much on {gate.clips} clips: {'; '.join(reasons)}: {MEND}"
        )


def require_finite(
    backend: Backend,
    windows: Array,
    batches: Sequence[int],
    allowed: float = MAX_BATCH_DIFFERENCE,
) -> None:
    """Refuse a graph that goes wrong at some batch size, of which the smallest is the measure.

    Args:
        backend: runs the graph.
        windows: (n, T, M) standardised windows, n > 0; repeated to fill a batch.
        batches: the batch sizes that will be run, such as the smallest, optimum and largest.
        allowed: nats per dimension between the NLL of one window in two batch sizes. Sums are
            taken in another order there, which tips an int8 activation into its next step.

    Raises:
        PrecisionError: an NLL is not finite, or a window scores differently in another batch.
    """
    measure: Array | None = None
    for batch in sorted(set(batches)):
        places = filled(len(windows), batch)
        nll = np.concatenate([backend.nll(np.ascontiguousarray(windows[p])) for p in places])
        if missing := _not_finite(nll):
            raise PrecisionError(
                f"at batch {batch}, {missing} of {len(nll)} NLLs are not finite: {MEND}"
            )
        measure = nll if measure is None else measure
        difference = np.abs(nll - measure[places.ravel()])
        if difference.max() > allowed:
            raise PrecisionError(
                f"at batch {batch}, window {places.ravel()[difference.argmax()]} scores "
                f"{difference.max():.2e} nats/dim away from batch {min(batches)}; at most "
                f"{allowed:.0e} is allowed: {MEND}"
            )


def _not_finite(nll: Array) -> int:
    return int(np.sum(~np.isfinite(nll)))


def _means(nll: Sequence[Array]) -> Scores:
    return np.array([part.mean(dtype=np.float64) for part in nll])


def _spearman(before: Array | Scores, after: Array | Scores) -> float:
    """Spearman's rank correlation; see :meth:`Reference.compare` for scores without ranks."""
    from scipy.stats import spearmanr

    still = np.ptp(before) == 0, np.ptp(after) == 0
    return float(all(still)) if any(still) else float(spearmanr(before, after).statistic)
