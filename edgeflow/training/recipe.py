"""What a training is: its settings, and the presets that they start from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from edgeflow.losses import LossSpec
from edgeflow.models.glow import GlowSpec
from edgeflow.models.maf import MAFSpec
from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.logmel import LogMelSpec
from edgeflow_runtime.manifest import MachineId
from edgeflow_runtime.views import WindowSpec


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
class FlowSettings(Document):
    """All that makes a flow but the machine and the loss: what a preset holds."""

    flow: GlowSpec | MAFSpec
    """Size of the flow."""
    view: WindowSpec
    """What the flow sees of a clip; its frames are the flow's."""
    schedule: Schedule
    """How the flow of one machine is trained."""
    pretraining: Schedule
    """How the flow of all machines of the type is trained, which gives c."""


@dataclass(frozen=True)
class Recipe(Document):
    """A whole training; two runs with equal settings and data give equal flows on one device."""

    data: str
    """Folder of the data set."""
    machine: MachineId
    """The target machine."""
    loss: LossSpec
    """Which loss."""
    settings: FlowSettings
    """The flow and how it is trained."""
    logmel: LogMelSpec
    """The features, unless the data set holds arrays."""
    channel: int | None
    """The channel to listen to."""
    holdout: float
    """Share of each machine's training clips kept from training, to set the threshold with."""
    seed: int
    """Seed of everything random."""

    def __post_init__(self) -> None:
        if not 0 < self.holdout < 1:
            raise ConfigError(f"the held-out share lies between 0 and 1, found {self.holdout}")


_PAPER_GLOW = FlowSettings(
    flow=GlowSpec(),
    view=WindowSpec(frames=32, hop=4),
    schedule=Schedule(epochs=100, batch=64, optimiser="adamax", learning_rate=5e-4),
    pretraining=Schedule(epochs=10, batch=64, optimiser="adamax", learning_rate=5e-4),
)

_PAPER_MAF = FlowSettings(
    flow=MAFSpec(),
    view=WindowSpec(frames=4, hop=4),
    schedule=Schedule(epochs=100, batch=64, optimiser="adam", learning_rate=1e-4),
    pretraining=Schedule(epochs=20, batch=256, optimiser="adam", learning_rate=3e-4),
)

PRESETS = {
    ("glow", "paper"): _PAPER_GLOW,
    ("maf", "paper"): _PAPER_MAF,
    ("glow", "small"): FlowSettings(
        flow=GlowSpec(steps=4, hidden=32),
        view=WindowSpec(frames=32, hop=8),
        schedule=Schedule(epochs=30, batch=64, optimiser="adamax", learning_rate=2e-3),
        pretraining=Schedule(epochs=10, batch=64, optimiser="adamax", learning_rate=2e-3),
    ),
    ("maf", "small"): FlowSettings(
        flow=MAFSpec(hidden=256),
        view=WindowSpec(frames=4, hop=4),
        schedule=Schedule(epochs=30, batch=64, optimiser="adam", learning_rate=3e-4),
        pretraining=Schedule(epochs=20, batch=256, optimiser="adam", learning_rate=1e-3),
    ),
}
"""By model and preset: ``paper`` as in Dohi et al., ``small`` for a CPU."""


def preset(model: str, name: str, *, bands: int = 128, epochs: int | None = None) -> FlowSettings:
    """The settings of a preset, for windows of ``bands`` bands, with other epochs if given.

    Raises:
        ConfigError: there is no such preset, or the numbers make no sense.
    """
    if (model, name) not in PRESETS:
        known = ", ".join(f"{m} {n}" for m, n in PRESETS)
        raise ConfigError(f"no preset {name!r} for {model!r}: there are {known}")
    settings = PRESETS[model, name]
    settings = dataclasses.replace(settings, flow=dataclasses.replace(settings.flow, bands=bands))
    if epochs is not None:
        schedule = dataclasses.replace(settings.schedule, epochs=epochs)
        settings = dataclasses.replace(settings, schedule=schedule)
    return settings
