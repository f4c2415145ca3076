"""The record of a run: what was trained on what."""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.training.recipe import Recipe
from edgeflow_runtime.documents import Document

RUN_VERSION = 3
"""1 named the model otherwise; 1 and 2 judged no epochs, and hold their last one."""


@dataclass(frozen=True)
class RunRecord(Document):
    """``run.json``: what was trained on what."""

    run_version: int
    """Version of the folder's layout."""
    recipe: Recipe
    """The settings."""
    ceiling: float | None
    """c that was used, in nats per dimension."""
    data_digest: str
    """SHA-256 of the features of every clip of the type, as they were trained on."""
    arrays: bool
    """Whether the data set holds log-Mel arrays."""
    min_rate_hz: int
    """The lowest rate among the type's recordings, 0 for arrays."""
    learn: tuple[str, ...]
    """The target's clips that were learned from, relative to the data set."""
    heldout: tuple[str, ...]
    """The target's clips that were held out."""
    outliers: int
    """How many clips of other machines took part."""
    versions: dict[str, str]
    """Versions of what trained it."""
    validation: tuple[str, ...] = ()
    """The target's clips that told the best epoch."""
    linear_separation: float | None = None
    """How the linear flow tells ``validation`` from clips of other machines; see
    :func:`~edgeflow.training.criterion.separation`."""
