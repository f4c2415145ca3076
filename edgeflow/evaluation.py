"""How well scores tell anomalous clips from normal ones: AUC and pAUC, beside the baseline.

AUC is the area under the ROC curve. pAUC is the area up to a false positive rate of p = 0.1,
standardised by McClish's formula so that chance is 0.5 and perfection 1, as scikit-learn's
``roc_auc_score(max_fpr=p)`` and the DCASE 2020 Task 2 challenge have it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeflow.baseline import MahalanobisBaseline
from edgeflow.dataset import Machine
from edgeflow.features import FeatureStore
from edgeflow_runtime.errors import DataError, ScoreError

PAUC_FPR = 0.1
"""p, the largest false positive rate that pAUC looks at."""

ClipScores = Callable[[Sequence[Path]], npt.NDArray[np.float64]]
"""Scores clips: paths to (n,), higher is more anomalous."""


@dataclass(frozen=True)
class MachineResult:
    """One machine's figures, all as fractions."""

    machine: str
    """For example ``fan_id_00``."""
    auc: float
    """AUC of the flow."""
    pauc: float
    """pAUC of the flow."""
    baseline_auc: float
    """AUC of the one-second baseline; NaN if the data set has no training clips."""
    baseline_pauc: float
    """pAUC of the one-second baseline."""
    normal: int
    """Normal test clips."""
    anomalous: int
    """Anomalous test clips."""


def auc_and_pauc(
    normal: npt.NDArray[np.float64], anomalous: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """AUC and standardised pAUC (p = 0.1) of scores, higher being more anomalous.

    Raises:
        DataError: one of the two is empty.
        ScoreError: a score is not finite.

    Example:
        >>> auc_and_pauc(np.array([0.0, 1.0]), np.array([2.0, 3.0]))
        (1.0, 1.0)
    """
    from sklearn.metrics import roc_auc_score

    if not len(normal) or not len(anomalous):
        raise DataError(
            f"AUC needs normal and anomalous clips, found {len(normal)} and {len(anomalous)}"
        )
    scores = np.concatenate([normal, anomalous])
    if not np.isfinite(scores).all():
        raise ScoreError(f"{np.sum(~np.isfinite(scores))} score(s) are not finite")
    labels = np.repeat([0, 1], [len(normal), len(anomalous)])
    auc = float(roc_auc_score(labels, scores))
    return auc, float(roc_auc_score(labels, scores, max_fpr=PAUC_FPR))


def evaluate_machine(
    machine: Machine, clip_scores: ClipScores, store: FeatureStore
) -> MachineResult:
    """Score a machine's test clips, and the baseline on the same clips.

    Args:
        machine: with test clips of both kinds.
        clip_scores: the flow's scores.
        store: gives the baseline its log-Mel.

    Raises:
        DataError: test clips are missing or cannot be used.
    """
    normal, anomalous = machine.test_normal, machine.test_anomalous
    if not normal or not anomalous:
        raise DataError(
            f"{machine.id.name} has {len(normal)} normal and {len(anomalous)} anomalous test "
            "clips; both are needed"
        )
    tests = [*normal, *anomalous]
    scores = clip_scores(tests)
    auc, pauc = auc_and_pauc(scores[: len(normal)], scores[len(normal) :])
    baseline = float("nan"), float("nan")
    if len(machine.train) > 1:
        fitted = MahalanobisBaseline(store.read_all(machine.train, machine.id.name))
        distances = fitted.scores(store.read_all(tests, machine.id.name))
        baseline = auc_and_pauc(distances[: len(normal)], distances[len(normal) :])
    name = machine.id.name
    return MachineResult(name, auc, pauc, *baseline, len(normal), len(anomalous))


def mean_of(results: Sequence[MachineResult]) -> dict[str, float]:
    """The mean of each figure over machines."""
    names = ("auc", "pauc", "baseline_auc", "baseline_pauc")
    return {name: float(np.mean([getattr(r, name) for r in results])) for name in names}
