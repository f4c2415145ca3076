"""The contract of a model: from standardised log-Mel windows to a score."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from edgeflow.models.folded import FoldedModel
from edgeflow_runtime.manifest import SCORE_UNIT


class Model(nn.Module, ABC):
    """Scores windows (T, M): the less like those it learned from, the higher.

    A flow's score is its NLL (:class:`~edgeflow.models.flow.Flow`). A model that is no flow, such
    as an autoencoder, defines a score of its own and needs no more than this.

    Args:
        frames: T.
        bands: M.
    """

    unit = SCORE_UNIT
    """Of every score."""

    usual_spread: float | None = None
    """How far the logarithms of unlearned normal clips' distances from :meth:`least_score` spread,
    in the mean over machines; it sets thresholds where clips are few."""

    def __init__(self, frames: int, bands: int) -> None:
        super().__init__()
        self.frames = frames
        self.bands = bands

    @property
    def dims(self) -> int:
        """D, the number of dimensions of a window."""
        return self.frames * self.bands

    @abstractmethod
    def score(self, x: Tensor) -> Tensor:
        """Windows (N, T, M) to their scores (N,); what losses are made of."""

    def score_map(self, x: Tensor) -> Tensor:
        """Scores per (time, mel) cell, (N, t, m), adding up to :meth:`score`.

        A model that cannot tell where a score comes from has one cell.
        """
        return self.score(x)[:, None, None]

    def least_score(self) -> float | None:
        """The score of what the model takes for likeliest; ``None`` if there is no least."""
        return None

    def initialize(self, x: Tensor) -> None:  # most models have nothing to start
        """Start what depends on data from a batch ``x`` (N, T, M). Called once, before training."""

    @abstractmethod
    def fold(self) -> FoldedModel:
        """The same score as a plain inference module, its constants folded."""
