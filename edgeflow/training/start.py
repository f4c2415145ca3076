"""What a machine's training starts from, and c, the ceiling of its outliers."""

from __future__ import annotations

import numpy as np

from edgeflow.models.maf import MAF
from edgeflow.models.model import Model
from edgeflow.training.closed_form import Lent
from edgeflow.training.corpus import Corpus
from edgeflow.training.pretraining import fresh_model, pretrained
from edgeflow.training.recipe import Recipe


def start_of(recipe: Recipe, corpus: Corpus) -> tuple[Model, float | None]:
    """The model to start from, on the corpus's device, and c in nats per dimension.

    Raises:
        DataError: the loss needs outliers and there are none, or there are too few clips.
    """
    name, loss = recipe.machine.name, recipe.loss
    if loss.uses_outliers:
        corpus.outlier_starts(name)  # says that there are none before minutes go by
    if recipe.settings.model.starts_fitted:
        model, reached = _fitted(recipe, corpus)
    elif loss.uses_outliers:
        model, reached = pretrained(recipe, corpus)
    else:
        return fresh_model(recipe, corpus, corpus.learn_starts(name)), None
    if not loss.uses_outliers:
        return model, None
    return model, reached if loss.ceiling is None else loss.ceiling


def _fitted(recipe: Recipe, corpus: Corpus) -> tuple[Model, float]:
    """The machine's linear flow under layers that do nothing yet, and c.

    c is the NLL that one linear flow of all machines reaches on their clips.
    """
    name = recipe.machine.name
    model = fresh_model(recipe, corpus, corpus.learn_starts(name))
    assert isinstance(model, MAF)
    assert model.linear is not None
    lent = Lent(corpus, name)
    model.linear.take(lent.fit())
    model.linear.requires_grad_(requires_grad=False)
    every = np.concatenate([lent.target, *lent.sisters])
    return model, float(lent.fit_rows(every).nll(every).mean())
