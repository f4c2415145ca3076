"""What is measured: a bundle or a run, with what scores its clips and where its normal ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeflow.dataset import Dataset
from edgeflow.features import FeatureStore
from edgeflow_runtime.arrays import Scores
from edgeflow_runtime.backends.names import CPU
from edgeflow_runtime.errors import ConfigError, DataError
from edgeflow_runtime.extras import require
from edgeflow_runtime.manifest import Features, MachineId, Threshold
from edgeflow_runtime.progress import track
from edgeflow_runtime.scorer import Scorer
from edgeflow_runtime.summary import summaries
from edgeflow_runtime.views import ViewSpec

if TYPE_CHECKING:
    from edgeflow.training.run import TrainedRun

USUAL_RATE = 0.01
"""The rate of false alarms that a threshold promises if nothing else is said."""

ClipScores = Callable[[Sequence[Path]], Scores]
"""Scores clips: paths to (n,), higher is more anomalous."""


@dataclass(frozen=True)
class Subject:
    """A monitor as it is measured."""

    machine: MachineId
    """Whose it is."""
    model: str
    """Name in :data:`edgeflow.models.MODELS`."""
    view: ViewSpec
    """What the model sees of a clip."""
    features: Features
    """What it is fed, on the channel that was asked for."""
    clip_scores: ClipScores
    """The model's scores."""
    threshold: Threshold
    """The one in force: a bundle's own; for a run, the one that export would set."""
    run: Path | None = None
    """The run's folder."""


@contextmanager
def opened(
    monitor: TrainedRun | Path,
    dataset: Dataset,
    *,
    channel: int | None,
    backend: str,
    rate: float | None,
    warn: Callable[[str], None],
) -> Iterator[Subject]:
    """Get a run or a bundle ready to be measured; what runs it is closed at the end.

    Args:
        monitor: a run or a bundle.
        dataset: where a run's held-out clips are looked for first.
        channel: the channel to listen to; the one that was learned from if not given.
        backend: what runs a bundle's graph.
        rate: of false alarms that a run's threshold promises, :data:`USUAL_RATE` if not given.
        warn: told why an engine is passed by.

    Raises:
        ConfigError: a run cannot be run on ``backend`` or is a base, or a bundle is given a
            ``rate``.
        DataError: a run's threshold cannot be set.
    """
    if not isinstance(monitor, Path) or not monitor.is_file():
        if backend != CPU:
            raise ConfigError(f"--backend {backend} runs bundles; '{monitor}' is a run")
        yield _run(monitor, dataset, channel, USUAL_RATE if rate is None else rate)
        return
    if rate is not None:
        raise ConfigError(
            f"'{monitor}' has its threshold; --false-alarms is for runs: leave it out"
        )
    with Scorer.load(
        monitor, channel=channel, allow_clipped=True, backend=backend, warn=warn
    ) as scorer:
        manifest = scorer.bundle.manifest
        yield Subject(
            manifest.machine,
            manifest.training.model,
            manifest.view,
            _on_channel(manifest.features, channel),
            lambda clips: bundle_scores(scorer, clips),
            manifest.threshold,
        )


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


def _run(monitor: TrainedRun | Path, dataset: Dataset, channel: int | None, rate: float) -> Subject:
    import torch

    from edgeflow.training.run import TrainedRun
    from edgeflow.training.run_scores import RunScores

    run = TrainedRun.load(monitor) if isinstance(monitor, Path) else monitor
    if run.record.recipe.machine.is_type:
        raise ConfigError(
            f"'{run.folder}' is a base, which judges no machine: export it, enrol one with "
            "'edgeflow enroll', and evaluate that bundle"
        )
    recipe, features = run.record.recipe, _on_channel(run.features, channel)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scores = RunScores(run, FeatureStore(features), device)
    roots = dataset.root, Path(recipe.data)
    return Subject(
        recipe.machine,
        recipe.settings.model.name,
        run.view.spec,
        features,
        scores,
        run.threshold(lambda names: scores([_found(name, roots) for name in names]), rate),
        run.folder,
    )


def _found(name: str, roots: Sequence[Path]) -> Path:
    """A held-out clip, in the data set that is measured on or the one that was trained on."""
    for root in roots:
        if (root / name).exists():
            return root / name
    raise DataError(
        f"'{roots[-1] / name}', which was held out to set the threshold, is missing: evaluate the "
        "bundle that was exported, or bring the clip back"
    )


def _on_channel(features: Features, channel: int | None) -> Features:
    return features if channel is None else dataclasses.replace(features, channel=channel)
