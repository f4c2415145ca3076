"""Training the flow of one machine in a folder, from its start to its best epoch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from edgeflow.models.model import Model
from edgeflow.training.checkpoint import Best, load_best, save_checkpoint
from edgeflow.training.closed_form import Lent
from edgeflow.training.corpus import Corpus
from edgeflow.training.criterion import Judge, clip_scores, mean_nll
from edgeflow.training.loop import LOG, Task, train
from edgeflow.training.recipe import Recipe
from edgeflow.training.run import UNLEARNED
from edgeflow.training.start import start_of
from edgeflow_runtime.arrays import Scores
from edgeflow_runtime.storage import write_bytes, write_text


def train_machine(
    folder: Path, label: str, recipe: Recipe, corpus: Corpus, start: tuple[Model, float | None]
) -> None:
    """Train ``start``, a model and its c, on the machine that ``recipe`` names.

    Raises:
        TrainingError: the loss is not finite.
    """
    name, schedule, loss = recipe.machine.name, recipe.settings.schedule, recipe.loss
    assert schedule is not None
    model, ceiling = start
    if not is_trained(recipe, corpus):
        _keep_start(folder, recipe, corpus, model)
        return
    task = Task(
        folder=folder,
        label=label,
        schedule=schedule,
        loss=loss,
        ceiling=ceiling,
        target=corpus.learn_starts(name),
        outliers=corpus.outlier_starts(name) if loss.uses_outliers else None,
        heldout=corpus.heldout_starts(name),
        seed=recipe.seed,
        judge=_judge(recipe, corpus),
        counts_start=recipe.settings.model.starts_fitted,
    )
    train(model, corpus, task)


def is_trained(recipe: Recipe, corpus: Corpus) -> bool:
    """Whether epochs follow: not on a linear flow that no clip could tell them from."""
    judged = corpus.splits[recipe.machine.name].validation
    return bool(judged) or not recipe.settings.model.starts_fitted


def cross_fit(folder: Path, recipe: Recipe, corpus: Corpus) -> Scores:
    """Train further flows, each without a part of the clips, and score that part with it.

    Each goes on where it was interrupted, in a folder of its own below ``folder``.

    Returns:
        (n,) scores of the learned clips, as if they had not been, in their order. Only the view's
        standardisation has seen them.
    """
    name, learn = recipe.machine.name, corpus.splits[recipe.machine.name].learn
    parts = min(recipe.cross_fit, len(learn))
    scores = np.empty(len(learn))
    for part in range(parts):
        left_out, place = learn[part::parts], folder / f"without_{part + 1}"
        others = corpus.without(name, left_out)
        place.mkdir(exist_ok=True)
        start = start_of(recipe, others)
        train_machine(place, f"cross-fit {part + 1} of {parts}, {name}", recipe, others, start)
        load_best(place, start[0])
        scores[part::parts] = clip_scores(start[0].eval(), corpus, corpus.clips(left_out)).cpu()
    write_bytes(folder / UNLEARNED, save({"scores": scores.astype(np.float32)}))
    return scores


def _judge(recipe: Recipe, corpus: Corpus) -> Judge | None:
    name = recipe.machine.name
    validation, sisters = corpus.splits[name].validation, corpus.sister_paths(name)
    if not validation:
        return None
    others = corpus.clips(sisters) if sisters else None
    return Judge(corpus.clips(validation), others, recipe.loss.uses_outliers)


def _keep_start(folder: Path, recipe: Recipe, corpus: Corpus, model: Model) -> None:
    """Too few clips to judge an epoch by: the run is the linear flow itself."""
    name = recipe.machine.name
    lent = Lent(corpus, name)
    unlearned = lent.unlearned(lent.fit())
    row = {
        "epoch": 0,
        "target_nll": mean_nll(model, corpus, corpus.learn_starts(name)),
        "heldout_nll": float(unlearned.mean()),
    }
    write_bytes(folder / UNLEARNED, save({"scores": unlearned.astype(np.float32)}))
    write_text(folder / LOG, json.dumps(row) + "\n")
    best = Best.of(0, row["target_nll"], model)
    save_checkpoint(folder, recipe.settings.epochs, model, best=best)
