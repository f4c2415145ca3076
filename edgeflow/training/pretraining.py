"""One model for all machines of a type: the start of losses (4) and (5), and their c."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from edgeflow import __version__
from edgeflow.features import cache_root
from edgeflow.losses import LossSpec
from edgeflow.models import build
from edgeflow.models.model import Model
from edgeflow.training.checkpoint import checkpoint_epoch, load_checkpoint
from edgeflow.training.corpus import Corpus
from edgeflow.training.criterion import mean_nll
from edgeflow.training.loop import Task, train
from edgeflow.training.recipe import Recipe
from edgeflow_runtime.documents import parsed
from edgeflow_runtime.errors import ConfigError, DamagedRunError, StorageError
from edgeflow_runtime.storage import make_folder, write_text

CEILING = "ceiling.json"


def pretrained(recipe: Recipe, corpus: Corpus) -> tuple[Model, float]:
    """The model of all machines of the type, and c, the mean NLL it reached on their windows.

    Made once per type, model, data and seed, kept in the cache, and reused for every machine and
    loss. An interrupted one goes on where it stopped.

    Returns:
        The model on the corpus's device, and c in nats per dimension.
    """
    folder = _folder(recipe, corpus)
    with _alone(folder):
        try:
            return _pretrained_in(folder, recipe, corpus)
        except DamagedRunError:  # by a crash or a full disk, in a cache that nobody looks into
            shutil.rmtree(folder)
            return _pretrained_in(folder, recipe, corpus)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a pre-training, so that of two that need it one makes it and the other waits for it.

    The system lets go of the lock when its holder ends, however that ends.
    """
    from filelock import FileLock, Timeout

    try:
        locks = cache_root() / "locks"
        make_folder(locks)
        lock = FileLock(locks / f"{folder.name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            print(f"waiting for another process, which is making '{folder}'", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        raise StorageError(f"'{locks}' cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def _pretrained_in(folder: Path, recipe: Recipe, corpus: Corpus) -> tuple[Model, float]:
    model = fresh_model(recipe, corpus, corpus.all_starts())
    schedule = recipe.settings.pretraining
    assert schedule is not None
    if checkpoint_epoch(folder) < schedule.epochs:
        name = recipe.machine.machine_type
        task = Task(
            folder=folder,
            label=f"pre-training on every {name}",
            schedule=schedule,
            loss=LossSpec("nll"),
            ceiling=None,
            target=corpus.all_starts(),
            outliers=None,
            heldout=None,
            seed=recipe.seed,
        )
        train(model, corpus, task)
    load_checkpoint(folder, model)
    return model, _ceiling(folder, model, corpus)


def fresh_model(recipe: Recipe, corpus: Corpus, starts: torch.Tensor) -> Model:
    """An untrained model on the corpus's device, its start made from windows at ``starts``."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = build(recipe.settings.model)
        chosen = torch.randperm(len(starts))[:512]
    model = model.to(corpus.device)
    if corpus.device.type == "cpu":
        # Convolutions train 1.6 times as fast. (torch's types know no such call.)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.initialize(corpus.windows(starts[chosen.to(starts.device)]))
    return model


def _ceiling(folder: Path, model: Model, corpus: Corpus) -> float:
    path = folder / CEILING
    # Not there, or damaged: made anew.
    with suppress(OSError, ValueError, KeyError, TypeError, OverflowError, ConfigError):
        kept = float(parsed(path.read_text(encoding="utf-8"))["ceiling"])
        if math.isfinite(kept):
            return kept
    ceiling = mean_nll(model, corpus, corpus.all_starts())
    write_text(path, json.dumps({"ceiling": ceiling}) + "\n")
    return ceiling


def _folder(recipe: Recipe, corpus: Corpus) -> Path:
    settings = recipe.settings
    key = {
        "edgeflow": __version__,
        "flow": settings.model.to_dict(),
        "window": settings.view.to_dict(),
        "schedule": settings.pretraining and settings.pretraining.to_dict(),
        "seed": recipe.seed,
        "device": corpus.device.type,
        "data": corpus.digest,
        "clips": {name: len(split.learn) for name, split in corpus.splits.items()},
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    name = f"{recipe.machine.machine_type}-{settings.model.name}-{digest}"
    return cache_root() / "pretrained" / name
