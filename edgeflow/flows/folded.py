"""Flows as they are deployed: every constant folded, so that only the sum of squares is left.

The networks of the couplings stand apart in ``conditioners``: the latent path around them, and
every sum, stays float32 whatever precision they are given.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

LOG_2PI = math.log(2 * math.pi)


class FoldedFlow(nn.Module, ABC):
    """An inference module: ``windows`` (N, T, M) to ``nll`` (N,) and ``nll_map`` (N, t, m).

    Both in nats per dimension; the map adds up to ``nll``.

    Attributes:
        conditioners: the networks of the couplings, in order.
    """

    conditioners: nn.ModuleList

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        nll_map = self.nll_map(windows)
        return nll_map.sum(dim=(1, 2)), nll_map

    @abstractmethod
    def nll_map(self, windows: Tensor) -> Tensor:
        """(N, T, M) to (N, t, m)."""


def merge_cells(energies: list[Tensor]) -> Tensor:
    """Add maps (N, h, w) of halving resolution on the finest grid, each cell's energy spread.

    Returns:
        (N, h, w) of the first map, adding up to the sum of all maps.

    Example:
        >>> fine, coarse = torch.ones(1, 4, 4), torch.ones(1, 2, 2)
        >>> merge_cells([fine, coarse]).sum().item()
        20.0
    """
    merged = energies[-1]
    for finer in reversed(energies[:-1]):
        h, w = merged.shape[1:]
        patches = finer.reshape(-1, h, 2, w, 2) + 0.25 * merged.reshape(-1, h, 1, w, 1)
        merged = patches.reshape(-1, 2 * h, 2 * w)
    return merged


def constant_share(log_det: Tensor, dims: int, cells: int) -> float:
    """The part of the NLL that does not depend on the data, per cell of the map."""
    return (0.5 * LOG_2PI - float(log_det) / dims) / cells


def frozen_linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A layer with the given (out, in) weight and (out,) bias."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = frozen(weight)
    if bias is not None:
        layer.bias = frozen(bias)
    return layer


def frozen(value: Tensor) -> nn.Parameter:
    """``value`` as a float32 constant of a module."""
    return nn.Parameter(value.detach().float().clone(), requires_grad=False)


def device_of(flow: nn.Module) -> torch.device:
    """Where the parameters of ``flow`` are."""
    return next(flow.parameters()).device
