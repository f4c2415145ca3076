"""How well scores tell anomalous clips from normal ones: AUC and pAUC, beside the baseline.

AUC is the area under the ROC curve. pAUC is the area up to a false positive rate of p = 0.1,
standardised by McClish's formula so that chance is 0.5 and perfection 1, as scikit-learn's
``roc_auc_score(max_fpr=p)`` and the DCASE 2020 Task 2 challenge have it.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeflow.baseline import MahalanobisBaseline
from edgeflow.dataset import Dataset, Machine
from edgeflow.features import FeatureStore
from edgeflow_runtime.arrays import Scores
from edgeflow_runtime.backends.names import CPU
from edgeflow_runtime.errors import ConfigError, DataError, ScoreError
from edgeflow_runtime.extras import require
from edgeflow_runtime.manifest import Features, MachineId
from edgeflow_runtime.progress import track
from edgeflow_runtime.scorer import Scorer
from edgeflow_runtime.summary import summaries

if TYPE_CHECKING:
    from edgeflow.training.run import TrainedRun

PAUC_FPR = 0.1
"""p, the largest false positive rate that pAUC looks at."""

ClipScores = Callable[[Sequence[Path]], Scores]
"""Scores clips: paths to (n,), higher is more anomalous."""


@dataclass(frozen=True)
class MachineResult:
    """One machine's figures, all as fractions."""

    machine: str
    """For example ``fan_id_00``."""
    auc: float
    """AUC of the model."""
    pauc: float
    """pAUC of the model."""
    baseline_auc: float
    """AUC of the one-second baseline; NaN if the data set has no training clips."""
    baseline_pauc: float
    """pAUC of the one-second baseline."""
    normal: int
    """Normal test clips."""
    anomalous: int
    """Anomalous test clips."""

    def record(self) -> dict[str, Any]:
        """The figures by name, ready for JSON, which lacks NaN: ``None`` stands for it."""
        return {name: _finite(value) for name, value in dataclasses.asdict(self).items()}


@dataclass(frozen=True)
class Evaluation:
    """What came of one or more monitors; prints as a table."""

    machines: tuple[MachineResult, ...]
    """One result a machine, in order."""

    @property
    def auc(self) -> float:
        """The mean AUC over the machines."""
        return self.mean("auc")

    @property
    def pauc(self) -> float:
        """The mean pAUC over the machines."""
        return self.mean("pauc")

    def mean(self, figure: str) -> float:
        """The mean of a figure over the machines."""
        return float(np.mean([getattr(result, figure) for result in self.machines]))

    def means(self) -> dict[str, Any]:
        """The mean of each figure, ready for JSON."""
        return {name: _finite(self.mean(name)) for name in FIGURES}

    def records(self) -> list[dict[str, Any]]:
        """One plain record a machine, for a data frame, CSV or JSON."""
        return [result.record() for result in self.machines]

    def __str__(self) -> str:
        width = max(len("machine"), *(len(result.machine) for result in self.machines))
        rows = [
            f"{'':<{width}}        model       baseline       clips",
            f"{'machine':<{width}}    AUC   pAUC    AUC   pAUC   normal/anomalous",
        ]
        for result in self.machines:
            figures = [getattr(result, name) for name in FIGURES]
            counts = f"{result.normal}/{result.anomalous}"
            rows.append(f"{result.machine:<{width}}{_percents(figures)}   {counts}")
        rows.append(f"{'mean':<{width}}{_percents([self.mean(name) for name in FIGURES])}")
        return "\n".join(rows)


FIGURES = ("auc", "pauc", "baseline_auc", "baseline_pauc")


def evaluate(
    monitors: TrainedRun | str | Path,
    data: Dataset | str | Path,
    *,
    channel: int | None = None,
    backend: str = CPU,
) -> Evaluation:
    """Score the test clips of each monitor's machine, and the baseline on the same clips.

    A bundle needs no torch.

    Args:
        monitors: a run, a bundle, or a folder of either.
        data: the data set.
        channel: the channel to listen to; the one that the monitor learned from if not given.
        backend: what runs a bundle's graph.

    Raises:
        DataError: test clips are missing or cannot be used.
        ConfigError: a run cannot be evaluated on ``backend``.
    """
    dataset = data if isinstance(data, Dataset) else Dataset.scan(data)
    subjects = find_monitors(monitors) if isinstance(monitors, (str, Path)) else [monitors]
    results = [evaluate_monitor(s, dataset, channel=channel, backend=backend) for s in subjects]
    return Evaluation(tuple(results))


def find_monitors(path: str | Path) -> list[Path]:
    """The bundle or run that ``path`` is, or those in it.

    Raises:
        TrainingError: there is none.
    """
    path = Path(path)
    bundles = [path] if path.is_file() else sorted(path.glob("*.edgeflow"))
    if bundles:
        return bundles
    require("torch", "train")
    from edgeflow.training.run import find_runs

    return find_runs(path)


def evaluate_monitor(
    monitor: TrainedRun | Path,
    dataset: Dataset,
    *,
    channel: int | None = None,
    backend: str = CPU,
    warn: Callable[[str], None] = warnings.warn,
) -> MachineResult:
    """:func:`evaluate` for one monitor; ``warn`` is told why an engine is passed by."""
    if isinstance(monitor, Path) and monitor.is_file():
        with Scorer.load(
            monitor, channel=channel, allow_clipped=True, backend=backend, warn=warn
        ) as scorer:
            manifest = scorer.bundle.manifest
            store = FeatureStore(_on_channel(manifest.features, channel))
            machine = _machine(dataset, manifest.machine)
            return evaluate_machine(machine, lambda clips: bundle_scores(scorer, clips), store)
    if backend != CPU:
        raise ConfigError(f"--backend {backend} runs bundles; '{monitor}' is a run")
    import torch

    from edgeflow.training.run import TrainedRun
    from edgeflow.training.run_scores import RunScores

    run = TrainedRun.load(monitor) if isinstance(monitor, Path) else monitor
    store = FeatureStore(_on_channel(run.features, channel))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scores = RunScores(run, store, device)
    return evaluate_machine(_machine(dataset, run.record.recipe.machine), scores, store)


def bundle_scores(scorer: Scorer, clips: Sequence[Path]) -> Scores:
    """The score of each clip, (n,), of a longer one that of its worst stretch.

    Raises:
        DataError: one cannot be judged.
    """
    scores = []
    name = f"scoring {scorer.bundle.manifest.machine.name}"
    for sound in track(summaries(scorer.score_files(clips)), name, len(clips)):
        if sound.unknown or sound.worst is None:
            raise DataError(sound.unknown[0].error)
        scores.append(sound.worst.score)
    return np.array(scores)


def auc_and_pauc(normal: Scores, anomalous: Scores) -> tuple[float, float]:
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
        clip_scores: the model's scores.
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


def _on_channel(features: Features, channel: int | None) -> Features:
    return features if channel is None else dataclasses.replace(features, channel=channel)


def _machine(dataset: Dataset, machine: MachineId) -> Machine:
    return dataset.machine(machine.machine_type, machine.machine_id)


def _finite(value: Any) -> Any:  # noqa: ANN401
    return None if isinstance(value, float) and math.isnan(value) else value


def _percents(figures: Sequence[float]) -> str:
    return "".join("      -" if math.isnan(f) else f"{100 * f:7.1f}" for f in figures)
