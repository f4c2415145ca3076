"""What a model is before it is built: its size, its view, how it is trained. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.views import PoolSpec, ViewSpec

STACK = PoolSpec(("mean", "max", "spread:32"))
"""What the linear flow sees of a clip: steady sound, knocks, and what comes and goes."""


@dataclass(frozen=True)
class ModelSpec(Document):
    """Size of a model; each kind has a class of its own, which its documents name.

    ``ModelSpec.from_dict`` reads the specification of any kind, by its ``name``.
    """

    name: str
    """Name of the model in the registry."""
    frames: int
    """Frames per window, T."""
    bands: int
    """Mel bands, M."""

    @property
    def starts_fitted(self) -> bool:
        """Whether training starts from what was fitted in closed form."""
        return False

    def check(self, name: str, *sizes: int) -> None:
        """Refuse another model's name, and sizes below 1. Raises :class:`ConfigError`."""
        if self.name != name:
            raise ConfigError(f"this is a specification of a {name}, not of a {self.name!r}")
        if min(self.frames, self.bands, *sizes) < 1:
            raise ConfigError(f"the sizes of a {name} are positive, found {self}")

    @classmethod
    def from_dict(cls, document: object) -> ModelSpec:
        """Read a specification; see :meth:`Document.from_dict`."""
        if cls is not ModelSpec or not isinstance(document, dict):
            return super().from_dict(document)
        from edgeflow.models import kind_of

        if "name" not in document:
            raise ConfigError(f"{cls.__name__}: missing key 'name'")
        return kind_of(document["name"]).spec.from_dict(document)


@dataclass(frozen=True)
class Schedule(Document):
    """One optimisation: how long, how fast, in what batches."""

    epochs: int
    """Passes over the target's windows."""
    batch: int
    """Target windows a step; as many outliers go with them."""
    optimiser: str
    """``adam`` or ``adamax``."""
    learning_rate: float
    """Step size."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2 or self.learning_rate <= 0:
            raise ConfigError(
                "epochs must be at least 1, the batch at least 2 and the learning rate positive, "
                f"found {self.epochs}, {self.batch} and {self.learning_rate}"
            )
        if self.optimiser not in ("adam", "adamax"):
            raise ConfigError(f"unknown optimiser {self.optimiser!r}: choose adam or adamax")


@dataclass(frozen=True)
class ModelSettings(Document):
    """All that makes a trained model but the machine and the loss: what a preset holds."""

    model: ModelSpec
    """Kind and size of the model."""
    view: ViewSpec
    """What the model sees of a clip."""
    schedule: Schedule | None = None
    """How the model of one machine is trained; ``None`` where it is fitted in closed form."""
    pretraining: Schedule | None = None
    """How the model of all machines of the type is trained, which gives c; ``None`` likewise."""

    def __post_init__(self) -> None:
        if self.view.rows != self.model.frames:
            raise ConfigError(
                f"the view gives windows of {self.view.rows} rows, this {self.model.name} "
                f"takes {self.model.frames}: make them equal"
            )

    @property
    def epochs(self) -> int:
        """Passes over the target's windows; a closed form takes one."""
        return self.schedule.epochs if self.schedule else 1


def upgraded(document: dict[str, Any]) -> dict[str, Any]:
    """Settings as runs of version 1 wrote them, with the keys of today."""
    flow = dict(document["flow"])
    renamed = {"model": {"name": flow.pop("model"), **flow}, "view": document["window"]}
    return renamed | {k: document[k] for k in ("schedule", "pretraining")}
