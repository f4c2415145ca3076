"""What a machine's training starts from, and c, the ceiling of its outliers."""

from __future__ import annotations

from edgeflow.models.maf import MAF
from edgeflow.models.model import Model
from edgeflow.training.closed_form import Lent
from edgeflow.training.corpus import Corpus
from edgeflow.training.criterion import mean_nll
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
    reached: float | None
    if recipe.settings.model.starts_fitted:
        model, reached = _fitted(recipe, corpus)
    elif loss.uses_outliers:
        model, reached = pretrained(recipe, corpus)
    else:
        return fresh_model(recipe, corpus, corpus.learn_starts(name)), None
    return model, reached if loss.ceiling is None else loss.ceiling


def _fitted(recipe: Recipe, corpus: Corpus) -> tuple[Model, float | None]:
    """The machine's linear flow under layers that do nothing yet, and c.

    c is the mean NLL that the linear flow gives other machines' clips, so that about half of them
    act at first. (A flow of all machines, which gives c otherwise, is not what this starts from:
    its c lies below them all.)
    """
    name = recipe.machine.name
    model = fresh_model(recipe, corpus, corpus.learn_starts(name))
    assert isinstance(model, MAF)
    assert model.linear is not None
    model.linear.take(Lent(corpus, name).fit())
    model.linear.requires_grad_(requires_grad=False)
    if not recipe.loss.uses_outliers:
        return model, None
    return model, mean_nll(model, corpus, corpus.outlier_starts(name))
