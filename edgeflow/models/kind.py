"""What the registry holds of a kind of model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeflow.models.model import Model
from edgeflow.models.spec import ModelSettings, ModelSpec


@dataclass(frozen=True)
class ModelKind:
    """One kind of model: the end of its module says this of it, as ``KIND``."""

    spec: type[ModelSpec]
    """Its sizes, and what its documents look like."""
    build: Callable[[Any], Model]
    """Makes a fresh one from its specification."""
    paper: ModelSettings
    """The preset with the paper's numbers."""
    small: ModelSettings
    """The preset for a CPU."""
    from_linear: ModelSettings | None = None
    """The preset, of either size, of one whose first layer is a linear flow; ``None`` if there is
    no such model."""
    closed_form: bool = False
    """Whether it is fitted at once, by its ``take``, in place of being trained."""
