r"""The losses of Dohi et al. (ICASSP 2021): likelihood alone, and likelihood against outliers.

All NLL are in nats per dimension. The mean over outliers counts only those that satisfy the
condition; where none does, their term is zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import ConfigError


@dataclass(frozen=True)
class LossKind:
    """One loss of the registry."""

    uses_outliers: bool
    """Whether clips of other machines take part."""
    compute: Callable[[Tensor, Tensor, float, float], tuple[Tensor, Tensor]]
    """(N,) target scores, (M,) outlier scores, c and k to the loss, and to how many outliers passed
    (scalar tensors)."""


@dataclass(frozen=True)
class LossSpec(Document):
    """Which loss, and its constants."""

    kind: str = "nll"
    """Its name in :data:`LOSSES`."""
    weight: float = 0.5
    """k of equation (5)."""
    ceiling: float | None = None
    """c of equations (4) and (5), in the unit of the score; ``None`` takes it from pre-training."""

    def __post_init__(self) -> None:
        if self.kind not in LOSSES:
            raise ConfigError(f"unknown loss {self.kind!r}: choose one of {', '.join(LOSSES)}")
        for name, value in (("k", self.weight), ("c", self.ceiling)):
            if value is not None and not math.isfinite(value):
                raise ConfigError(f"{name} must be a finite number, found {value}")

    @property
    def uses_outliers(self) -> bool:
        """Whether clips of other machines take part."""
        return LOSSES[self.kind].uses_outliers


def target_loss(target: Tensor) -> Tensor:
    r"""Equation (2): the mean NLL of the target (N,), a scalar.

    .. math:: L = \frac{1}{N} \sum_i \mathrm{NLL}(x_i)
    """
    return target.mean()


def passing_eq4(outlier: Tensor, ceiling: float) -> Tensor:
    """Which outliers (N,) equation (4) pushes away: NLL below ``ceiling``. Boolean (N,)."""
    return outlier < ceiling


def passing_eq5(outlier: Tensor, target: Tensor, ceiling: float) -> Tensor:
    """Which outliers equation (5) pushes away: below ``ceiling`` and the largest target NLL."""
    return outlier < target.detach().max().clamp(max=ceiling)


def outlier_loss(target: Tensor, outlier: Tensor, passing: Tensor, weight: float) -> Tensor:
    r"""Equations (4), with weight 1, and (5), with weight k.

    .. math:: L = \frac{1}{N} \sum_i \mathrm{NLL}(x_i) - \frac{k}{N_o}
              \sum_{j\ \mathrm{passing}} \mathrm{NLL}(x_j), \quad
              N_o = |\{j\ \mathrm{passing}\}|

    Args:
        target: (N,) NLL of the target's windows.
        outlier: (M,) NLL of the outliers' windows.
        passing: (M,) boolean, which outliers satisfy the condition.
        weight: k.

    Example:
        >>> target, outlier = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 9.0])
        >>> outlier_loss(target, outlier, passing_eq4(outlier, 3.0), 0.5).item()
        0.75
    """
    pushed = torch.where(passing, outlier, 0.0).sum() / passing.sum().clamp(min=1)
    return target.mean() - weight * pushed


def loss_of(
    spec: LossSpec, target: Tensor, outlier: Tensor | None, ceiling: float | None
) -> tuple[Tensor, Tensor]:
    """The loss that ``spec`` names, and how many outliers passed (a scalar tensor).

    Args:
        spec: which loss.
        target: (N,) scores of the target's windows.
        outlier: (M,) scores of the outliers' windows; not needed for ``nll``.
        ceiling: c; not needed for ``nll``.
    """
    none = target.new_zeros(0) if outlier is None else outlier
    limit = math.inf if ceiling is None else ceiling
    return LOSSES[spec.kind].compute(target, none, limit, spec.weight)


def _nll(target: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return target_loss(target), target.new_zeros(())


def _eq4(target: Tensor, outlier: Tensor, ceiling: float, _: float) -> tuple[Tensor, Tensor]:
    passing = passing_eq4(outlier, ceiling)
    return outlier_loss(target, outlier, passing, 1.0), passing.sum()


def _eq5(target: Tensor, outlier: Tensor, ceiling: float, weight: float) -> tuple[Tensor, Tensor]:
    passing = passing_eq5(outlier, target, ceiling)
    return outlier_loss(target, outlier, passing, weight), passing.sum()


LOSSES = {
    "nll": LossKind(False, _nll),
    "eq4": LossKind(True, _eq4),
    "eq5": LossKind(True, _eq5),
}
"""The registry: a loss is a function here and a line in this table."""
