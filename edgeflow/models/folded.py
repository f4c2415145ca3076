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


class FoldedModel(nn.Module, ABC):
    """An inference module: ``windows`` (N, T, M) to ``nll`` (N,) and ``nll_map`` (N, t, m).

    Both are scores in the model's unit, for a flow nats per dimension; the map adds up to ``nll``.

    Attributes:
        conditioners: what may be given a smaller precision, in order: a flow's the networks of its
            couplings. All else stays float32.
    """

    conditioners: nn.ModuleList

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        nll_map = self.score_map(windows)
        return nll_map.sum(dim=(1, 2)), nll_map

    @abstractmethod
    def score_map(self, windows: Tensor) -> Tensor:
        """(N, T, M) to (N, t, m)."""


def gathered_taps(conv: nn.Conv2d) -> tuple[nn.Conv2d, nn.Conv2d]:
    """A padded 3 x 3 convolution to few channels as two that a CPU runs 1.5 times as fast.

    Vector units work on 16 output channels at a time and a coupling's last convolution has 2 to 8,
    so most of its work is padding. The first convolution here computes every tap as a channel of
    its own, (c, 1, 1) to 9 h channels; the second adds the nine of each output at their places.
    """
    outputs, inputs = conv.weight.shape[:2]
    taps = nn.Conv2d(inputs, 9 * outputs, 1, bias=False)
    taps.weight = frozen(conv.weight.permute(0, 2, 3, 1).reshape(9 * outputs, inputs, 1, 1))
    gather = nn.Conv2d(9 * outputs, outputs, 3, padding=1, groups=outputs)
    gather.weight = frozen(torch.eye(9).reshape(1, 9, 3, 3).expand(outputs, 9, 3, 3))
    if conv.bias is not None:
        gather.bias = frozen(conv.bias)
    return taps, gather


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
