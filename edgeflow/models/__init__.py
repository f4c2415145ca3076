"""The models over log-Mel windows, in one registry: a kind is a file here and a line in its table.

Names are known without torch; a kind's module is loaded when it is first used.
"""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import TYPE_CHECKING

from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.views import PoolSpec

if TYPE_CHECKING:
    from edgeflow.models.kind import ModelKind
    from edgeflow.models.model import Model
    from edgeflow.models.spec import ModelSettings, ModelSpec

MODELS = {
    "linear": "edgeflow.models.linear",
    "glow": "edgeflow.models.glow",
    "maf": "edgeflow.models.maf",
}
"""The registry: the module of each kind, which says in its ``KIND`` what it is."""

PRESETS = ("paper", "small")
"""Sizes and speeds as in Dohi et al. (ICASSP 2021), and small ones for a CPU."""

STARTS = ("fresh", "linear")
"""What a training may start from: nothing (or, against outliers, the model of all machines), or the
linear flow."""


def kind_of(name: object) -> ModelKind:
    """A kind of model by its name.

    Raises:
        ConfigError: there is none of that name; those that there are, are listed.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise ConfigError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    kind: ModelKind = import_module(MODELS[name]).KIND
    return kind


def build(spec: ModelSpec) -> Model:
    """A fresh model of the kind and size that ``spec`` gives."""
    return kind_of(spec.name).build(spec)


def preset(
    model: str,
    name: str,
    *,
    bands: int = 128,
    epochs: int | None = None,
    statistics: tuple[str, ...] = (),
    start: str = "fresh",
) -> ModelSettings:
    """The settings of a preset, for ``bands`` bands, with other epochs or a pooled view if given.

    ``start`` is ``fresh``, or ``linear`` for a model whose first layer is the linear flow.

    Raises:
        ConfigError: there is no such model or preset, or the numbers make no sense.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    settings = _started(model, start) if start != "fresh" else getattr(kind_of(model), name)
    view = PoolSpec(statistics) if statistics else settings.view
    size = dataclasses.replace(settings.model, bands=bands, frames=view.rows)
    sized = dataclasses.replace(settings, model=size, view=view)
    if epochs is None:
        return sized
    if sized.schedule is None:
        raise ConfigError(
            f"a {model} model is fitted in closed form, without epochs: leave --epochs out"
        )
    return dataclasses.replace(sized, schedule=dataclasses.replace(sized.schedule, epochs=epochs))


def _started(model: str, start: str) -> ModelSettings:
    if start not in STARTS:
        raise ConfigError(f"unknown start {start!r}: choose one of {', '.join(STARTS)}")
    settings = kind_of(model).from_linear
    if settings is None:
        able = [name for name in MODELS if kind_of(name).from_linear]
        raise ConfigError(f"a {model} does not start from the linear flow: choose {able[0]}")
    return settings
