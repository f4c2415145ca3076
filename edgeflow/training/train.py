"""Training a machine into a run's folder, going on from whatever stands there."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from edgeflow import __version__
from edgeflow.dataset import Machine
from edgeflow.losses import LossSpec
from edgeflow.models import preset as settings_of
from edgeflow.training.closed_form import fit_into, linear_separation
from edgeflow.training.corpus import Corpora, Corpus
from edgeflow.training.machine import cross_fit as fit_parts
from edgeflow.training.machine import is_trained, train_machine
from edgeflow.training.recipe import Recipe
from edgeflow.training.record import RUN_VERSION, RunRecord
from edgeflow.training.run import (
    RECORD,
    STANDARD,
    UNLEARNED,
    TrainedRun,
    is_finished,
    read_record,
)
from edgeflow.training.start import start_of
from edgeflow_runtime.errors import ConfigError, StorageError, TrainingError
from edgeflow_runtime.logmel import LogMelSpec
from edgeflow_runtime.storage import make_folder, write_bytes, write_text


def train(
    machine: Machine,
    out: str | Path,
    *,
    model: str = "linear",
    statistics: tuple[str, ...] = (),
    loss: str = "nll",
    start: str = "fresh",
    preset: str | None = None,
    epochs: int | None = None,
    ceiling: float | None = None,
    outlier_weight: float = 0.5,
    filterbank: str = "psf",
    channel: int | None = None,
    holdout: float | None = None,
    cross_fit: int = 0,
    seed: int = 0,
    device: str = "auto",
    corpora: Corpora | None = None,
) -> TrainedRun:
    """Train a monitor for ``machine``; the other machines of its type are the outliers.

    The same call again goes on where it was interrupted, and does nothing where all is done.

    Args:
        machine: from :meth:`~edgeflow.dataset.Dataset.machine`, or for a base from
            :meth:`~edgeflow.dataset.Dataset.whole_type`.
        out: folder of the run.
        model: name in :data:`edgeflow.models.MODELS`.
        statistics: of a pooled view, in place of the preset's view; see
            :mod:`edgeflow_runtime.pooling`.
        loss: name in :data:`edgeflow.losses.LOSSES`.
        start: ``linear`` to train a MAF whose first layer is the machine's linear flow, on pooled
            statistics; ``fresh`` otherwise.
        preset: ``paper`` or ``small``; ``small`` on a CPU and ``paper`` on a GPU if not given.
        epochs: passes over the target's windows; the preset's if not given.
        ceiling: c of equations (4) and (5), nats per dimension; taken from pre-training if not
            given.
        outlier_weight: k of equation (5).
        filterbank: ``psf`` or ``slaney``.
        channel: the channel to listen to; the first is 0.
        holdout: share of the training clips kept to set the threshold with; a tenth if not given,
            and none for a closed form or with ``cross_fit``, which tell how each clip would be
            scored unlearned.
        cross_fit: further trainings, each without one such part of the learned clips, which set
            the threshold with it.
        seed: of everything random.
        device: ``auto``, ``cpu`` or ``cuda``.
        corpora: the same for every machine of a data set, so that each type is read once.

    Raises:
        ConfigError: a name is unknown, or a number makes no sense.
        TrainingError: the folder holds another training, or the loss is not finite.
        DataError: the data set does not allow this training.
    """
    place = device_of(device)
    size = preset or ("paper" if place.type == "cuda" else "small")
    settings = settings_of(model, size, epochs=epochs, statistics=statistics, start=start)
    if machine.id.is_type and settings.schedule:
        raise ConfigError(f"a base is a linear flow, not a {model}: leave --model out")
    if holdout is None:
        holdout = 0.1 if settings.schedule and not cross_fit else 0.0
    recipe = Recipe(
        data=str(machine.root.resolve()),
        machine=machine.id,
        loss=LossSpec(loss, outlier_weight, ceiling),
        settings=settings,
        logmel=LogMelSpec(filterbank=filterbank),
        channel=channel,
        holdout=holdout,
        seed=seed,
        cross_fit=cross_fit,
    )
    train_run(recipe, Path(out), place, corpora)
    return TrainedRun.load(out)


def device_of(name: str) -> torch.device:
    """The device to train on; ``auto`` takes the GPU where there is one.

    Raises:
        TrainingError: there is no GPU, and one is asked for.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    elif name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("--device cuda: torch finds no GPU here; take --device cpu")
    return torch.device(name)


def train_run(
    recipe: Recipe, folder: Path, device: torch.device, corpora: Corpora | None = None
) -> bool:
    """Train the machine that ``recipe`` names into ``folder``, going on from what stands there.

    Returns:
        Whether anything was left to do.

    Raises:
        TrainingError: the folder holds another training, or the loss is not finite.
        DataError: the data set does not allow this training.
    """
    record = read_record(folder)
    if record is not None and record.recipe != recipe:
        raise TrainingError(
            f"'{folder}' holds a training with other settings ({_difference(record.recipe, recipe)}"
            "): choose another folder or delete it"
        )
    if record is not None and record.run_version < RUN_VERSION and not is_finished(folder):
        raise TrainingError(
            f"'{folder}' was begun by an older edgeflow, which divided the clips otherwise: choose "
            "another folder or delete it"
        )
    if is_finished(folder):
        TrainedRun.load(folder)  # a finished run that is damaged is no finished run
        return False
    with _made(folder):
        _train_into(folder, recipe, record, (corpora or Corpora()).of(recipe, device))
    return True


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a run's folder before minutes go by; if nothing was written into it, it goes again."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        make_folder(folder)
    except OSError as error:
        raise StorageError(f"'{folder}' cannot be made: {error.strerror}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            for place in made:
                place.rmdir()  # refuses if anything is in it


def _train_into(folder: Path, recipe: Recipe, record: RunRecord | None, corpus: Corpus) -> None:
    if record is not None and record.data_digest != corpus.digest:
        raise TrainingError(
            f"'{folder}' was begun on other clips than '{recipe.data}' holds now: choose another "
            "folder or delete it"
        )
    closed = recipe.settings.schedule is None
    start = None if closed else start_of(recipe, corpus)
    standard = {"mean": corpus.view.mean, "scale": corpus.view.scale}
    write_bytes(folder / STANDARD, save(standard))
    _write_record(folder, recipe, corpus, start[1] if start else None)
    if start is None:
        fit_into(folder, recipe, corpus)
        return
    parts = recipe.cross_fit and is_trained(recipe, corpus)
    if parts and not (folder / UNLEARNED).exists():
        fit_parts(folder, recipe, corpus)
    train_machine(folder, f"training {recipe.machine.name}", recipe, corpus, start)


def _write_record(folder: Path, recipe: Recipe, corpus: Corpus, ceiling: float | None) -> None:
    split = corpus.clips_of(recipe.machine)
    others = [s.learn for name, s in corpus.splits.items() if name != recipe.machine.name]
    root = split.machine.root
    record = RunRecord(
        run_version=RUN_VERSION,
        recipe=recipe,
        ceiling=ceiling,
        data_digest=corpus.digest,
        arrays=corpus.features.logmel is None,
        min_rate_hz=corpus.features.min_rate_hz,
        learn=_names(split.learn, root),
        heldout=_names(split.heldout, root),
        validation=_names(split.validation, root),
        linear_separation=linear_separation(corpus, recipe.machine.name),
        outliers=sum(map(len, others)) if recipe.loss.uses_outliers else 0,
        versions={
            "edgeflow": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    )
    write_text(folder / RECORD, json.dumps(record.to_dict(), indent=2) + "\n")


def _names(paths: list[Path], root: Path) -> tuple[str, ...]:
    """Clips as they are called in the data set."""
    return tuple(path.relative_to(root).as_posix() for path in paths)


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
