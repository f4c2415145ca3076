"""One flow for all machines of a type: the start of losses (4) and (5), and their c."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path

import torch

from edgeflow import __version__
from edgeflow.features import cache_root
from edgeflow.losses import LossSpec
from edgeflow.models import Flow, build
from edgeflow.training.checkpoint import checkpoint_epoch, load_checkpoint
from edgeflow.training.corpus import Corpus
from edgeflow.training.loop import Task, mean_nll, train
from edgeflow.training.recipe import Recipe
from edgeflow_runtime.errors import DamagedRunError
from edgeflow_runtime.storage import write_text

CEILING = "ceiling.json"


def pretrained(config: Recipe, corpus: Corpus) -> tuple[Flow, float]:
    """The flow of all machines of the type, and c, the mean NLL it reached on their windows.

    Made once per type, flow, data and seed, kept in the cache, and reused for every machine and
    loss. An interrupted one goes on where it stopped.

    Returns:
        The flow on the corpus's device, and c in nats per dimension.
    """
    folder = _folder(config, corpus)
    try:
        return _pretrained_in(folder, config, corpus)
    except DamagedRunError:  # by a crash or a full disk, in a cache that nobody looks into
        shutil.rmtree(folder)
        return _pretrained_in(folder, config, corpus)


def _pretrained_in(folder: Path, config: Recipe, corpus: Corpus) -> tuple[Flow, float]:
    flow = fresh_flow(config, corpus, corpus.all_starts())
    schedule = config.settings.pretraining
    if checkpoint_epoch(folder) < schedule.epochs:
        name = config.machine.machine_type
        task = Task(
            folder=folder,
            label=f"pre-training on every {name}",
            schedule=schedule,
            loss=LossSpec("nll"),
            ceiling=None,
            target=corpus.all_starts(),
            outliers=None,
            heldout=None,
            seed=config.seed,
        )
        train(flow, corpus, task)
    load_checkpoint(folder, flow)
    return flow, _ceiling(folder, flow, corpus)


def fresh_flow(config: Recipe, corpus: Corpus, starts: torch.Tensor) -> Flow:
    """An untrained flow on the corpus's device, its ActNorms started from windows at ``starts``."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        flow = build(config.settings.flow)
        chosen = torch.randperm(len(starts))[:512]
    flow = flow.to(corpus.device)
    if corpus.device.type == "cpu":
        # Convolutions train 1.6 times as fast. (torch's types know no such call.)
        flow.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    flow.initialize(corpus.windows(starts[chosen.to(starts.device)]))
    return flow


def _ceiling(folder: Path, flow: Flow, corpus: Corpus) -> float:
    path = folder / CEILING
    with suppress(OSError, ValueError, KeyError, TypeError):  # not there, or damaged: made anew
        return float(json.loads(path.read_text(encoding="utf-8"))["ceiling"])
    ceiling = mean_nll(flow, corpus, corpus.all_starts())
    write_text(path, json.dumps({"ceiling": ceiling}) + "\n")
    return ceiling


def _folder(config: Recipe, corpus: Corpus) -> Path:
    settings = config.settings
    key = {
        "edgeflow": __version__,
        "flow": settings.flow.to_dict(),
        "window": settings.view.to_dict(),
        "schedule": settings.pretraining.to_dict(),
        "seed": config.seed,
        "device": corpus.device.type,
        "data": corpus.digest,
        "clips": {name: len(split.learn) for name, split in corpus.splits.items()},
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    name = f"{config.machine.machine_type}-{settings.flow.model}-{digest}"
    return cache_root() / "pretrained" / name
