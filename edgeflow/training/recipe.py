"""How to train: the machine, the loss, the model and everything random, in one document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeflow.losses import LossSpec
from edgeflow.models.spec import ModelSettings
from edgeflow.models.spec import upgraded as upgraded_settings
from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.logmel import LogMelSpec
from edgeflow_runtime.manifest import MachineId


@dataclass(frozen=True)
class Recipe(Document):
    """A whole training; two runs with equal recipes and data give equal models on one device."""

    data: str
    """Folder of the data set."""
    machine: MachineId
    """The target machine."""
    loss: LossSpec
    """Which loss."""
    settings: ModelSettings
    """The model and how it is trained."""
    logmel: LogMelSpec
    """The features, unless the data set holds arrays."""
    channel: int | None
    """The channel to listen to."""
    holdout: float
    """Share of each machine's training clips kept from training, to set the threshold with."""
    seed: int
    """Seed of everything random."""
    cross_fit: int = 0
    """Further trainings, each without one such part of the clips, which is then scored; or 0."""

    def __post_init__(self) -> None:
        if not 0 <= self.holdout < 1:
            raise ConfigError(f"the held-out share lies between 0 and 1, found {self.holdout}")
        if self.cross_fit and (self.cross_fit < 2 or self.settings.schedule is None):
            raise ConfigError(
                f"cross-fitting takes 2 parts or more, and a model that is trained; found "
                f"{self.cross_fit} of a {self.settings.model.name} model"
            )
        if self.settings.schedule is None and self.loss.kind != "nll":
            raise ConfigError(
                f"a {self.settings.model.name} model is fitted in closed form, by its likelihood: "
                f"leave loss {self.loss.kind} to models that are trained"
            )
        if self.settings.model.bands != self.logmel.bands:
            raise ConfigError(
                f"log-Mel has {self.logmel.bands} bands, this {self.settings.model.name} takes "
                f"{self.settings.model.bands}: make them equal"
            )


def upgraded(document: dict[str, Any]) -> dict[str, Any]:
    """A recipe as runs of version 1 wrote it, with the keys of today."""
    renamed = {"machine" if key == "monitor" else key: value for key, value in document.items()}
    return renamed | {"settings": upgraded_settings(document["settings"])}
