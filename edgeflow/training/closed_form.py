"""Models that need no training: fitted at once, into a run like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor

from edgeflow.models.linear import LinearFlow, LinearSpec
from edgeflow.standard import least_spread
from edgeflow.training.checkpoint import save_checkpoint
from edgeflow.training.corpus import Corpus
from edgeflow.training.criterion import separation
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
    if recipe.machine.is_type:
        fit, unlearned, target = _fit_base(folder, corpus)
    else:
        lent = Lent(corpus, recipe.machine.name)
        fit = lent.fit()
        target, unlearned = lent.target, lent.unlearned(fit)
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


def _fit_base(folder: Path, corpus: Corpus) -> tuple[LinearFit, Scores, Rows]:
    """The mean machine of a type; how its sisters' clips score, enrolled from one clip; all rows.

    What it is made of goes into ``folder``, for whoever is enrolled by it.
    """
    check_whole(corpus)
    rows = {key: rows_of(corpus, corpus.learn_starts(key)) for key in corpus.splits}
    machines = list(rows.values())
    base = Base(rows, least_spread(corpus.view), np.empty((0, machines[0].shape[1])))
    base.check()
    centre = np.mean([theirs.mean(axis=0) for theirs in machines], axis=0)
    fit = fit_linear(centre[None], Sisters(machines), base.floor, blend=1.0)
    logs = np.concatenate(kinship_of(base, clips=1, blend=BLENDS[-1]).distances)
    write_bytes(folder / BASE, save(base.tensors()))
    return fit, fit.of_distances(np.exp(logs)), np.concatenate(machines)


def check_whole(corpus: Corpus) -> None:
    """Refuse a view that gives a clip more than one window. Raises :class:`ConfigError`."""
    if corpus.view.spec.hop:
        raise ConfigError(
            f"a linear flow is fitted to whole clips; this view gives {corpus.view.spec}"
        )


class Lent:
    """A machine's rows, and what its sisters lend.

    Args:
        corpus: of a view that makes one window of a clip.
        name: of the machine.

    Raises:
        ConfigError: the view gives a clip more than one window, which are not independent.
    """

    def __init__(self, corpus: Corpus, name: str) -> None:
        check_whole(corpus)
        rows = {key: rows_of(corpus, corpus.learn_starts(key)) for key in corpus.splits}
        self.target = rows.pop(name)
        self._sisters = Sisters(list(rows.values()))
        self._floor = least_spread(corpus.view)

    def fit(self) -> LinearFit:
        """The linear flow of the machine. Raises :class:`DataError` if there are too few clips."""
        return fit_linear(self.target, self._sisters, self._floor)

    def unlearned(self, fit: LinearFit) -> Scores:
        """(n,) scores of the learned clips, each as if it had not been."""
        return unlearned_nll(fit, self.target, self._sisters, self._floor)


def linear_separation(corpus: Corpus, name: str) -> float | None:
    """How well the linear flow of the same clips tells the machine from its sisters.

    Returns:
        As :func:`~edgeflow.training.criterion.separation` of the machine's validation clips;
        ``None`` where there are none, or no sisters, or where clips are too short for its view.
    """
    if corpus.pooled is None or name not in corpus.splits:
        return None
    pooled, paths = corpus.pooled, corpus.splits[name].validation
    sisters = corpus.sister_paths(name)
    if not paths or not sisters:
        return None
    fit = Lent(pooled, name).fit()
    scores = [fit.nll(rows_of(pooled, pooled.starts(part))) for part in (paths, sisters)]
    own, others = map(torch.from_numpy, scores)
    return separation(own, others, fit.least_nll)


def rows_of(corpus: Corpus, starts: Tensor) -> Rows:
    """(n, D) of the windows at ``starts``, as when scoring."""
    rows: Rows = corpus.heard(starts).flatten(1).double().cpu().numpy()
    return rows
