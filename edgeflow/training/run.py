"""A run: one machine's training in one folder, from its settings to a model that can be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeflow.models import build
from edgeflow.models.model import Model
from edgeflow.training.checkpoint import checkpoint_epoch, load_checkpoint
from edgeflow.training.loop import last_row
from edgeflow.training.recipe import Recipe, upgraded
from edgeflow_runtime.arrays import Scores
from edgeflow_runtime.documents import Document, parsed
from edgeflow_runtime.errors import ConfigError, DamagedRunError, TrainingError
from edgeflow_runtime.manifest import Features
from edgeflow_runtime.tensors import read_tensors
from edgeflow_runtime.views import View

RECORD = "run.json"
STANDARD = "standard.safetensors"
UNLEARNED = "unlearned.safetensors"
OWN_DATA = "data"
"""Folder in a run's, of a data set that was cut for it."""
RUN_VERSION = 2


@dataclass(frozen=True)
class RunRecord(Document):
    """``run.json``: what was trained on what."""

    run_version: int
    """Version of the folder's layout."""
    recipe: Recipe
    """The settings."""
    ceiling: float | None
    """c that was used, in nats per dimension."""
    data_digest: str
    """SHA-256 of the features of every clip of the type, as they were trained on."""
    arrays: bool
    """Whether the data set holds log-Mel arrays."""
    min_rate_hz: int
    """The lowest rate among the type's recordings, 0 for arrays."""
    learn: tuple[str, ...]
    """The target's clips that were learned from, relative to the data set."""
    heldout: tuple[str, ...]
    """The target's clips that were held out."""
    outliers: int
    """How many clips of other machines took part."""
    versions: dict[str, str]
    """Versions of what trained it."""


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
        load_checkpoint(folder, model)
        return cls(folder, record, model.eval(), _view(folder, record))

    def __str__(self) -> str:
        """How the training ended, in a line."""
        row = last_row(self.folder)
        if self.record.recipe.settings.schedule is None:
            return (
                f"fitted, NLL {row['target_nll']:.4f}, left out {row['heldout_nll']:.4f}, "
                f"{row['blend']:.0%} of the covariance from sisters"
            )
        text = (
            f"trained, {row['epoch']} epochs, target NLL {row['target_nll']:.4f}, "
            f"held-out {row['heldout_nll']:.4f}"
        )
        share = row.get("outliers_passing_share")
        return text if share is None else f"{text}, {share:.1%} of outliers passing"

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
