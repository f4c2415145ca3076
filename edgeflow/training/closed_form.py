"""Models that need no training: fitted at once, into a run like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from torch import Tensor

from edgeflow.models.linear import LinearFlow, LinearSpec
from edgeflow.standard import least_spread
from edgeflow.training.checkpoint import save_checkpoint
from edgeflow.training.corpus import Corpus
from edgeflow.training.loop import LOG
from edgeflow.training.recipe import Recipe
from edgeflow.training.run import UNLEARNED
from edgeflow_runtime.arrays import Scores
from edgeflow_runtime.base import Base
from edgeflow_runtime.bundle import BASE
from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.kinship import kinship_of
from edgeflow_runtime.linear_fit import (
    BLENDS,
    LinearFit,
    Rows,
    Sisters,
    fit_linear,
    unlearned_nll,
)
from edgeflow_runtime.storage import write_bytes, write_text


def fit_into(folder: Path, recipe: Recipe, corpus: Corpus) -> None:
    """Fit the machine that ``recipe`` names, with what its sisters lend, into ``folder``.

    Of a whole type it is a base.

    Raises:
        ConfigError: the view gives a clip more than one window, which are not independent.
        DataError: there are too few clips.
    """
    spec = recipe.settings.model
    assert isinstance(spec, LinearSpec)
    if corpus.view.spec.hop:
        raise ConfigError(
            f"a linear flow is fitted to whole clips; this view gives {corpus.view.spec}"
        )
    rows = {key: _rows(corpus, corpus.learn_starts(key)) for key in corpus.splits}
    if recipe.machine.is_type:
        nothing = np.empty((0, spec.frames * spec.bands))
        fit, unlearned = _fit_base(folder, Base(rows, least_spread(corpus.view), nothing))
        target = np.concatenate(list(rows.values()))
    else:
        target = rows.pop(recipe.machine.name)
        sisters, floor = Sisters(list(rows.values())), least_spread(corpus.view)
        fit = fit_linear(target, sisters, floor)
        unlearned = unlearned_nll(fit, target, sisters, floor)
    model = LinearFlow(spec)
    model.take(fit)
    row = {
        "epoch": 1,
        "target_nll": float(fit.nll(target).mean()),
        "heldout_nll": float(unlearned.mean()),
        "blend": fit.blend,
        "shrinkage": fit.shrinkage,
    }
    write_bytes(folder / UNLEARNED, save({"scores": unlearned.astype(np.float32)}))
    write_text(folder / LOG, json.dumps(row) + "\n")
    save_checkpoint(folder, 1, model)


def _fit_base(folder: Path, base: Base) -> tuple[LinearFit, Scores]:
    """The mean machine of a type, and how its sisters' clips score that are enrolled from one clip.

    What it is made of goes into ``folder``, for whoever is enrolled by it.
    """
    base.check()
    machines = list(base.sisters.values())
    centre = np.mean([rows.mean(axis=0) for rows in machines], axis=0)
    fit = fit_linear(centre[None], Sisters(machines), base.floor, blend=1.0)
    logs = np.concatenate(kinship_of(base, clips=1, blend=BLENDS[-1]).distances)
    write_bytes(folder / BASE, save(base.tensors()))
    return fit, fit.of_distances(np.exp(logs))


def _rows(corpus: Corpus, starts: Tensor) -> Rows:
    """(n, D) of the windows at ``starts``; bands that never vary are 0, as when scoring."""
    rows = corpus.windows(starts).flatten(1).double().cpu().numpy()
    rows[:, corpus.dead.ravel()] = 0.0
    return rows
