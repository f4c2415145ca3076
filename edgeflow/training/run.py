"""A run: one machine's training in one folder, from its settings to a flow that can be used."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from edgeflow import __version__
from edgeflow.dataset import Dataset
from edgeflow.models import Flow, build
from edgeflow.training.checkpoint import checkpoint_epoch, load_checkpoint
from edgeflow.training.corpus import Corpus, load_corpus
from edgeflow.training.loop import Task, train
from edgeflow.training.pretraining import fresh_flow, pretrained
from edgeflow.training.recipe import Recipe
from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import ConfigError, DamagedRunError, StorageError, TrainingError
from edgeflow_runtime.manifest import Features
from edgeflow_runtime.storage import write_bytes, write_text
from edgeflow_runtime.views import View

RECORD = "run.json"
STANDARD = "standard.safetensors"
RUN_VERSION = 1


@dataclass(frozen=True)
class RunRecord(Document):
    """``run.json``: what was trained on what."""

    run_version: int
    """Version of the folder's layout."""
    config: Recipe
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
    flow: Flow
    """The trained flow, on the CPU, ready for inference."""
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
        wanted, epoch = record.config.settings.schedule.epochs, checkpoint_epoch(folder)
        if epoch < wanted:
            raise TrainingError(
                f"'{folder}' is trained for {epoch} of {wanted} epochs: run the same train command "
                "again to finish it"
            )
        flow = build(record.config.settings.flow)
        load_checkpoint(folder, flow)
        try:
            standard = load_file(folder / STANDARD)
            view = View(record.config.settings.view, standard["mean"], standard["scale"])
        except (SafetensorError, OSError, KeyError) as error:
            raise DamagedRunError(
                f"'{folder / STANDARD}' is missing or damaged: delete the folder to train anew"
            ) from error
        return cls(folder, record, flow.eval(), view)

    @property
    def features(self) -> Features:
        """What its monitor is fed."""
        record, config = self.record, self.record.config
        logmel = None if record.arrays else config.logmel
        return Features(len(self.view.mean), record.min_rate_hz, config.channel, logmel)


def find_runs(folder: str | Path) -> list[Path]:
    """The run that ``folder`` is, or the runs directly below it, in order.

    Raises:
        TrainingError: there is none.
    """
    folder = Path(folder)
    if (folder / RECORD).exists():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{RECORD}"))
    if not found:
        state = "holds no run" if folder.is_dir() else "is missing"
        raise TrainingError(f"'{folder}' {state}")
    return found


def read_record(folder: Path) -> RunRecord | None:
    """The record of a run, ``None`` where there is no run.

    Raises:
        TrainingError: the record is damaged.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        return RunRecord.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ConfigError) as error:
        raise TrainingError(
            f"'{path}' cannot be used: delete its folder to train from the start ({error})"
        ) from error


def train_run(config: Recipe, folder: Path, device: torch.device) -> bool:
    """Train the machine that ``config`` names into ``folder``, going on from what stands there.

    Returns:
        Whether anything was left to do.

    Raises:
        TrainingError: the folder holds another training, or the loss is not finite.
        DataError: the data set does not allow this training.
    """
    record = read_record(folder)
    if record is not None and record.config != config:
        raise TrainingError(
            f"'{folder}' holds a training with other settings ({_difference(record.config, config)}"
            "): choose another folder or delete it"
        )
    if record is not None and checkpoint_epoch(folder) >= config.settings.schedule.epochs:
        TrainedRun.load(folder)  # a finished run that is damaged is no finished run
        return False
    with _made(folder):
        _train_into(folder, config, record, device)
    return True


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a run's folder before minutes go by; if nothing was written into it, it goes again."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"'{folder}' cannot be made: {error.strerror}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            for place in made:
                place.rmdir()  # refuses if anything is in it


def _train_into(
    folder: Path, config: Recipe, record: RunRecord | None, device: torch.device
) -> None:
    dataset = Dataset.scan(config.data)
    corpus = load_corpus(dataset, config, device)
    if record is not None and record.data_digest != corpus.digest:
        raise TrainingError(
            f"'{folder}' was begun on other clips than '{config.data}' holds now: choose another "
            "folder or delete it"
        )
    name = config.machine.name
    flow, ceiling = _start(config, corpus)
    write_bytes(folder / STANDARD, save({"mean": corpus.view.mean, "scale": corpus.view.scale}))
    _write_record(folder, config, dataset, corpus, ceiling)
    task = Task(
        folder=folder,
        label=f"training {name}",
        schedule=config.settings.schedule,
        loss=config.loss,
        ceiling=ceiling,
        target=corpus.learn_starts(name),
        outliers=corpus.outlier_starts(name) if config.loss.uses_outliers else None,
        heldout=corpus.heldout_starts(name),
        seed=config.seed,
    )
    train(flow, corpus, task)


def _start(config: Recipe, corpus: Corpus) -> tuple[Flow, float | None]:
    """The flow to start from, and c."""
    name = config.machine.name
    if not config.loss.uses_outliers:
        return fresh_flow(config, corpus, corpus.learn_starts(name)), None
    corpus.outlier_starts(name)  # says that there are none before minutes go by
    flow, reached = pretrained(config, corpus)
    return flow, reached if config.loss.ceiling is None else config.loss.ceiling


def _write_record(
    folder: Path, config: Recipe, dataset: Dataset, corpus: Corpus, ceiling: float | None
) -> None:
    split = corpus.splits[config.machine.name]
    others = [s.learn for name, s in corpus.splits.items() if name != config.machine.name]
    arrays = dataset.holds_arrays
    record = RunRecord(
        run_version=RUN_VERSION,
        config=config,
        ceiling=ceiling,
        data_digest=corpus.digest,
        arrays=arrays,
        min_rate_hz=corpus.min_rate_hz,
        learn=tuple(path.relative_to(dataset.root).as_posix() for path in split.learn),
        heldout=tuple(path.relative_to(dataset.root).as_posix() for path in split.heldout),
        outliers=sum(map(len, others)) if config.loss.uses_outliers else 0,
        versions={
            "edgeflow": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    )
    write_text(folder / RECORD, json.dumps(record.to_dict(), indent=2) + "\n")


def _difference(old: Recipe, new: Recipe) -> str:
    """The first setting that differs, as ``loss.kind is 'nll', not 'eq5'``."""
    before, after = _flat(old.to_dict()), _flat(new.to_dict())
    for key in {**before, **after}:
        if before.get(key) != after.get(key):
            return f"{key} is {before.get(key)!r}, not {after.get(key)!r}"
    return "in nothing"


def _flat(document: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
