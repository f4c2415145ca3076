"""Models that need no training: fitted at once, into a run like any other."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.numpy import save
from torch import Tensor

from edgeflow.models.linear import LinearFlow, LinearSpec
from edgeflow.standard import least_spread
from edgeflow.training.checkpoint import save_checkpoint
from edgeflow.training.corpus import Corpus
from edgeflow.training.loop import LOG
from edgeflow.training.recipe import Recipe
from edgeflow.training.run import UNLEARNED
from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.linear_fit import Rows, Sisters, fit_linear, unlearned_nll
from edgeflow_runtime.storage import write_bytes, write_text


def fit_into(folder: Path, recipe: Recipe, corpus: Corpus) -> None:
    """Fit the machine that ``recipe`` names, with what its sisters lend, into ``folder``.

    Raises:
        ConfigError: the view gives a clip more than one window, which are not independent.
        DataError: there are too few clips.
    """
    spec, name = recipe.settings.model, recipe.machine.name
    assert isinstance(spec, LinearSpec)
    if corpus.view.spec.hop:
        raise ConfigError(
            f"a linear flow is fitted to whole clips; this view gives {corpus.view.spec}"
        )
    rows = {key: _rows(corpus, corpus.learn_starts(key)) for key in corpus.splits}
    target = rows.pop(name)
    sisters, floor = Sisters(list(rows.values())), least_spread(corpus.view)
    fit = fit_linear(target, sisters, floor)
    model, unlearned = LinearFlow(spec), unlearned_nll(fit, target, sisters, floor)
    model.take(fit)
    row = {
        "epoch": 1,
        "target_nll": float(fit.nll(target).mean()),
        "heldout_nll": float(unlearned.mean()),
        "blend": fit.blend,
        "shrinkage": fit.shrinkage,
    }
    write_bytes(folder / UNLEARNED, save({"scores": unlearned}))
    write_text(folder / LOG, json.dumps(row) + "\n")
    save_checkpoint(folder, 1, model)


def _rows(corpus: Corpus, starts: Tensor) -> Rows:
    """(n, D) of the windows at ``starts``; bands that never vary are 0, as when scoring."""
    rows = corpus.windows(starts).flatten(1).double().cpu().numpy()
    rows[:, corpus.dead.ravel()] = 0.0
    return rows
