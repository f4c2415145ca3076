"""A run: one machine's training in one folder, from its settings to a model that can be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeflow.models import build
from edgeflow.models.model import Model
from edgeflow.training.checkpoint import checkpoint_epoch, load_best
from edgeflow.training.ending import summary, warnings
from edgeflow.training.loop import log_rows
from edgeflow.training.recipe import upgraded
from edgeflow.training.record import RunRecord
from edgeflow_runtime.arrays import Scores
from edgeflow_runtime.base import Base
from edgeflow_runtime.bundle import BASE
from edgeflow_runtime.calibration import threshold_from_scores
from edgeflow_runtime.documents import parsed
from edgeflow_runtime.errors import ConfigError, DamagedRunError, TrainingError
from edgeflow_runtime.manifest import Features, Threshold
from edgeflow_runtime.tensors import read_tensors
from edgeflow_runtime.views import View

RECORD = "run.json"
STANDARD = "standard.safetensors"
UNLEARNED = "unlearned.safetensors"
OWN_DATA = "data"
"""Folder in a run's, of a data set that was cut for it."""


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, read back from its folder."""

    folder: Path
    """The folder."""
    record: RunRecord
    """What was trained on what."""
    model: Model
    """The trained model, on the CPU, ready for inference."""
    view: View
    """What it sees of a clip."""
    epoch: int
    """The epoch that was kept, 0 being what the training started from."""

    @classmethod
    def load(cls, folder: str | Path) -> TrainedRun:
        """Read a finished run.

        Raises:
            TrainingError: the folder holds no run, an unfinished or a damaged one.
        """
        folder = Path(folder)
        record = read_record(folder)
        if record is None:
            raise TrainingError(f"'{folder}' holds no run: it has no {RECORD}")
        wanted, epoch = record.recipe.settings.epochs, checkpoint_epoch(folder)
        if epoch < wanted:
            raise TrainingError(
                f"'{folder}' is trained for {epoch} of {wanted} epochs: run the same train command "
                "again to finish it"
            )
        model = build(record.recipe.settings.model)
        kept = load_best(folder, model)
        return cls(folder, record, model.eval(), _view(folder, record), kept)

    def __str__(self) -> str:
        """How the training ended, in a line."""
        return summary(self.record, log_rows(self.folder), self.epoch)

    def warnings(self) -> list[str]:
        """What is wrong with how it ended, and what to do, a line each."""
        return warnings(self.record, log_rows(self.folder), self.epoch)

    @property
    def data(self) -> Path:
        """Its data set: the one that was cut for it, which moves with it, or where it was."""
        own = self.folder / OWN_DATA
        return own if own.is_dir() else Path(self.record.recipe.data)

    @property
    def features(self) -> Features:
        """What its monitor is fed."""
        record, recipe = self.record, self.record.recipe
        logmel = None if record.arrays else recipe.logmel
        return Features(self.view.shape[1], record.min_rate_hz, recipe.channel, logmel)

    def base(self) -> Base | None:
        """What machines are enrolled from, if it is a base's run.

        Raises:
            DamagedRunError: it cannot be read.
        """
        if not self.record.recipe.machine.is_type:
            return None
        path = self.folder / BASE
        try:
            return Base.from_tensors(read_tensors(path.read_bytes()))
        except (OSError, ValueError, KeyError) as error:
            raise DamagedRunError(
                f"'{path}' is missing or damaged: delete the folder to train anew"
            ) from error

    def threshold(
        self,
        score: Callable[[tuple[str, ...]], Scores],
        false_alarm_probability: float,
        clip_seconds: float = 0.0,
    ) -> Threshold:
        """Where normal ends: from clips that the model has not learned.

        Args:
            score: gives the (n,) scores of held-out clips, by their names in the data set; asked
                only where the training itself has not told how it would score clips unlearned.
            false_alarm_probability: share of normal clips that may lie above.
            clip_seconds: length of the clips, for the record.

        Raises:
            ConfigError: no share between 0 and 0.5.
            DataError: there are too few clips, or a score is not finite.
        """
        unlearned, heldout = self.unlearned(), self.record.heldout
        parts = [] if unlearned is None else [unlearned]
        scores = np.concatenate([*parts, score(heldout)] if heldout or not parts else parts)
        model_knows = self.model.least_score(), self.model.usual_spread
        return threshold_from_scores(scores, false_alarm_probability, clip_seconds, *model_knows)

    def unlearned(self) -> Scores | None:
        """(n,) scores of the learned clips, each as if it had not been; ``None`` if not known.

        Raises:
            DamagedRunError: they cannot be read.
        """
        path = self.folder / UNLEARNED
        if not path.exists():
            return None
        try:
            scores: Scores = read_tensors(path.read_bytes())["scores"].astype(np.float64)
        except (OSError, ValueError, KeyError) as error:
            raise DamagedRunError(
                f"'{path}' is damaged: delete the folder to train anew"
            ) from error
        return scores


def _view(folder: Path, record: RunRecord) -> View:
    """What the run's model sees. Raises ``DamagedRunError``."""
    path, settings = folder / STANDARD, record.recipe.settings
    try:
        standard = read_tensors(path.read_bytes())
        mean, scale = standard["mean"], standard["scale"]
    except (OSError, ValueError, KeyError) as error:
        raise DamagedRunError(
            f"'{path}' is missing or damaged: delete the folder to train anew"
        ) from error
    wanted = settings.view.standard_shape(settings.model.bands)
    if mean.shape != wanted or scale.shape != wanted or not np.isfinite([mean, scale]).all():
        raise DamagedRunError(f"'{path}' is of another model: delete the folder to train anew")
    return View(settings.view, mean, scale)


def is_finished(folder: Path) -> bool:
    """Whether a run stands there that has seen all its epochs. Raises ``TrainingError``."""
    record = read_record(folder)
    wanted = record.recipe.settings.epochs if record else 1
    return checkpoint_epoch(folder) >= wanted


def find_runs(folder: str | Path) -> list[Path]:
    """The run that ``folder`` is, or the runs directly below it, in order.

    Raises:
        TrainingError: there is none.
    """
    folder = Path(folder)
    if (folder / RECORD).exists():
        return [folder]
    folders = sorted(path.parent for path in folder.glob(f"*/{RECORD}"))
    if not folders:
        state = "holds no run" if folder.is_dir() else "is missing"
        raise TrainingError(f"'{folder}' {state}")
    return folders


def read_record(folder: Path) -> RunRecord | None:
    """The record of a run, ``None`` where there is no run.

    Raises:
        TrainingError: the record is damaged.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        return RunRecord.from_dict(_upgraded(parsed(path.read_text(encoding="utf-8"))))
    except (ValueError, ConfigError, KeyError, TypeError) as error:
        raise TrainingError(
            f"'{path}' cannot be used: delete its folder to train from the start ({error})"
        ) from error


def _upgraded(document: Any) -> Any:  # noqa: ANN401
    """A record of version 1 with the keys of today."""
    if not isinstance(document, dict) or document.get("run_version") != 1:
        return document
    renamed = {"recipe" if key == "config" else key: value for key, value in document.items()}
    return renamed | {"recipe": upgraded(document["config"])}
