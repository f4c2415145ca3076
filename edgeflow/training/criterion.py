"""By what an epoch is judged: clips of the target, and of its sisters, that nothing learned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgeflow.models.model import Model
from edgeflow.training.corpus import Clips, Corpus

EVALUATION_BATCH = 256
"""Windows scored at a time when no gradient is kept."""


@dataclass(frozen=True)
class Judge:
    """Looks at a model after each epoch."""

    target: Clips
    """The target's validation clips."""
    sisters: Clips | None
    """Clips of other machines that they do not learn from, where there are any."""
    against_outliers: bool
    """Whether the loss tells the target from its sisters, so that the criterion does, too: losses
    (4) and (5) raise the target's NLL while they make its sisters' still higher."""

    def look(self, model: Model, corpus: Corpus) -> dict[str, float]:
        """The figures of the log's row; of ``criterion`` the least is the best."""
        own = clip_scores(model, corpus, self.target)
        row = {"validation_nll": float(own.mean())}
        row["criterion"] = row["validation_nll"]
        if self.sisters is not None:
            others = clip_scores(model, corpus, self.sisters)
            row["sister_nll"] = float(others.mean())
            row["separation"] = separation(own, others, model.least_score())
            if self.against_outliers:
                row["criterion"] = -row["separation"]
        return row


def separation(own: Tensor, others: Tensor, least: float | None) -> float:
    r"""How much farther from the likeliest sound other machines' clips lie, as a logarithm.

    .. math:: \overline{\log(s_j - s_0)} - \overline{\log(s_i - s_0)}

    over other machines' clips j and the target's i. A ratio of distances does not grow by pushing
    everything away, and each clip counts as one, however far off it is.

    Args:
        own: (n,) scores of the target's clips.
        others: (m,) of other machines'.
        least: s_0; scores as they are are compared if there is none.

    Example:
        >>> round(separation(torch.tensor([1.5]), torch.tensor([2.0, 2.0]), 1.0), 3)
        0.693
    """
    if least is not None:
        own, others = ((scores - least).clamp(min=1e-9).log() for scores in (own, others))
    return float(others.mean() - own.mean())


@torch.no_grad()
def clip_scores(model: Model, corpus: Corpus, clips: Clips) -> Tensor:
    """The mean score of the windows of each clip, (clips,) float64, as a board would give it."""
    parts = torch.split(clips.starts, EVALUATION_BATCH)
    scores = torch.cat([model.score(corpus.heard(part)) for part in parts]).double()
    sums = torch.zeros(len(clips), dtype=scores.dtype, device=scores.device)
    sums.index_add_(0, clips.numbers, scores)
    return sums / torch.bincount(clips.numbers)


@torch.no_grad()
def mean_nll(model: Model, corpus: Corpus, starts: Tensor) -> float:
    """Mean NLL, in nats per dimension, of the windows that begin at ``starts`` (n,), as trained."""
    parts = [model.score(corpus.windows(part)) for part in torch.split(starts, EVALUATION_BATCH)]
    return float(torch.cat(parts).double().mean())
