"""How well a monitor does: AUC and pAUC, false alarms and anomalies caught at its threshold.

AUC is the area under the ROC curve. pAUC is the area up to a false positive rate of p = 0.1,
standardised by McClish's formula so that chance is 0.5 and perfection 1, as scikit-learn's
``roc_auc_score(max_fpr=p)`` and the DCASE 2020 Task 2 challenge have it. Both say how clips rank;
what a user gets is decided by the threshold, so the rates at it stand beside them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeflow.baseline import BASELINES, BaselineSpec, LinearBaseline
from edgeflow.dataset import Dataset, Machine
from edgeflow.evaluation_result import NO_FIGURE, Evaluation, MachineResult, ScoresByKind
from edgeflow.features import FeatureStore
from edgeflow.subjects import Subject, find_monitors, opened
from edgeflow_runtime.arrays import Scores
from edgeflow_runtime.backends.names import CPU
from edgeflow_runtime.calibration import binomial_interval, probability
from edgeflow_runtime.errors import AudioError, DataError, ScoreError

if TYPE_CHECKING:
    from edgeflow.training.run import TrainedRun

PAUC_FPR = 0.1
"""p, the largest false positive rate that pAUC looks at."""


def evaluate(
    monitors: TrainedRun | str | Path,
    data: Dataset | str | Path,
    *,
    channel: int | None = None,
    backend: str = CPU,
    baseline: str = "linear",
    false_alarm_probability: float | str | None = None,
    listen: str | None = None,
) -> Evaluation:
    """Score the test clips of each monitor's machine, and the baseline on the same clips.

    A bundle needs no torch. Normal clips alone give false alarms, but neither AUC nor detection.

    Args:
        monitors: a run, a bundle, or a folder of either.
        data: the data set.
        channel: the channel to listen to; the one that the monitor learned from if not given.
        backend: what runs a bundle's graph.
        baseline: name in :data:`~edgeflow.baseline.BASELINES`.
        false_alarm_probability: what a run's threshold promises, as :func:`edgeflow.export` takes
            it, 0.01 if not given; a bundle has its own.
        listen: with a rate per time, how often a clip is judged: ``"every 10 s"``.

    Raises:
        DataError: test clips are missing or cannot be used.
        ConfigError: a run cannot be evaluated on ``backend``, or a bundle is given a rate.
    """
    dataset = data if isinstance(data, Dataset) else Dataset.scan(data)
    found = find_monitors(monitors) if isinstance(monitors, (str, Path)) else [monitors]
    words = false_alarm_probability
    rate = None if words is listen is None else probability(words, listen)
    results = [
        evaluate_monitor(
            monitor,
            dataset,
            channel=channel,
            backend=backend,
            baseline=baseline,
            rate=rate,
        )
        for monitor in found
    ]
    return Evaluation(tuple(results))


def evaluate_monitor(
    monitor: TrainedRun | Path,
    dataset: Dataset,
    *,
    channel: int | None = None,
    backend: str = CPU,
    baseline: str = "linear",
    rate: float | None = None,
    sisters: bool = False,
    warn: Callable[[str], None] = warnings.warn,
) -> MachineResult:
    """:func:`evaluate` for one monitor.

    Args:
        monitor: a run or a bundle.
        dataset: the data set.
        channel: as there.
        backend: as there.
        baseline: as there.
        rate: as there, of false alarms.
        sisters: score the normal test clips of the other machines of the type, too.
        warn: told why an engine is passed by.
    """
    with opened(
        monitor, dataset, channel=channel, backend=backend, rate=rate, warn=warn
    ) as subject:
        return measure(subject, dataset, BASELINES[baseline], sisters=sisters)


def measure(
    subject: Subject, dataset: Dataset, baseline: BaselineSpec, *, sisters: bool = False
) -> MachineResult:
    """Score a subject's test clips, and the baseline on the same clips.

    Raises:
        DataError: there is no normal test clip, or a clip cannot be used.
    """
    machine = dataset.machine(subject.machine.machine_type, subject.machine.machine_id)
    others = [m for m in dataset.of_type(machine.id.machine_type) if m is not machine]
    parts = [machine.test_normal, machine.test_anomalous]
    if not machine.test_normal:
        raise DataError(f"{machine.id.name} has no normal test clips; at least one is needed")
    clips = [clip for other in others for clip in other.test_normal] if sisters else []
    ends = np.cumsum([len(part) for part in parts])
    every = subject.clip_scores([*machine.test_normal, *machine.test_anomalous, *clips])
    scores = ScoresByKind(*np.split(every, ends))
    auc, pauc = _ranks(scores.normal, scores.anomalous)
    name, baseline_auc, baseline_pauc = _beside(subject, machine, others, baseline)
    limit = subject.threshold.value
    alarms = int((scores.normal > limit).sum())
    low, high = binomial_interval(alarms, len(scores.normal))
    caught = scores.anomalous > limit
    return MachineResult(
        machine=machine.id.name,
        auc=auc,
        pauc=pauc,
        baseline=name,
        baseline_auc=baseline_auc,
        baseline_pauc=baseline_pauc,
        threshold=limit,
        promised=subject.threshold.false_alarm_probability,
        false_alarms=alarms / len(scores.normal),
        false_alarms_low=low,
        false_alarms_high=high,
        detected=float(caught.mean()) if len(caught) else NO_FIGURE,
        normal=len(scores.normal),
        anomalous=len(scores.anomalous),
        scores=scores,
    )


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


def _ranks(normal: Scores, anomalous: Scores) -> tuple[float, float]:
    """AUC and pAUC, or no figures where there are no anomalous clips."""
    if not np.isfinite(normal).all():
        raise ScoreError(f"{np.sum(~np.isfinite(normal))} score(s) are not finite")
    return auc_and_pauc(normal, anomalous) if len(anomalous) else (NO_FIGURE, NO_FIGURE)


def _beside(
    subject: Subject, machine: Machine, others: Sequence[Machine], spec: BaselineSpec
) -> tuple[str, float, float]:
    """What the baseline is, or why there is none, with its AUC and pAUC."""
    if subject.model == "linear" and subject.view == spec.view and spec.sisters:
        return f"the model is itself the {spec}", NO_FIGURE, NO_FIGURE
    store, normal = FeatureStore(subject.features), len(machine.test_normal)
    sisters = [other.train for other in others if other.train and spec.sisters]
    groups = [machine.train, *sisters, machine.test_normal + machine.test_anomalous]
    target, *lenders, tests = [store.read_all(clips, machine.id.name) for clips in groups]
    try:
        scores = LinearBaseline(spec, subject.features, target, lenders).scores(tests)
    except (AudioError, DataError) as error:  # of clips that can be read, but not be fitted
        return f"none: {error}", NO_FIGURE, NO_FIGURE
    return str(spec), *_ranks(scores[:normal], scores[normal:])
