"""Flows as they are deployed: every constant folded, so that only the sum of squares is left.

The networks of the couplings stand apart in ``conditioners``: the latent path around them, and
every sum, stays float32 whatever precision they are given.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from edgeflow.flows.flow import LOG_2PI
from edgeflow.flows.transforms import squeeze

if TYPE_CHECKING:
    from edgeflow.flows.glow import Glow, Prior, Step
    from edgeflow.flows.maf import MAF


class FoldedFlow(nn.Module):
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

    def nll_map(self, windows: Tensor) -> Tensor:
        """(N, T, M) to (N, t, m)."""
        raise NotImplementedError


class FoldedMAF(FoldedFlow):
    r"""A MAF whose ActNorms have gone into its blocks.

    Let a latent be :math:`y = (u + B) \odot S`. Following ``u`` instead of ``y``, each block only
    subtracts, and B and S gather in constants that are applied once, at the end.
    """

    def __init__(self, flow: MAF) -> None:
        super().__init__()
        self.shape = (flow.frames, flow.bands)
        self.conditioners = nn.ModuleList()
        scale = torch.ones(flow.dims, dtype=torch.float64, device=_device(flow))
        shift = torch.zeros_like(scale)
        log_det = torch.zeros_like(scale).sum()
        for block, norm in flow.pairs():
            weight_in = block.hidden.weight.double() * block.in_mask
            weight_out = block.shift.weight.double() * block.out_mask
            bias = block.hidden.bias + weight_in @ (scale * shift)
            hidden = _linear(weight_in * scale, bias)
            output = _linear(-weight_out / scale[:, None])
            self.conditioners.append(nn.Sequential(hidden, nn.ReLU(), output))
            shift = shift + (norm.shift.double() - block.shift.bias) / scale
            scale = scale * norm.log_scale.double().exp()
            log_det = log_det + norm.log_scale.double().sum()
        self.shift = _constant(shift)
        self.scale = _constant(scale * math.sqrt(0.5 / flow.dims))
        self.constant = _share(log_det, flow.dims, cells=flow.dims)
        self.requires_grad_(False)

    def nll_map(self, windows: Tensor) -> Tensor:
        """See :class:`FoldedFlow`; one cell per dimension."""
        u = windows.flatten(1)  # (N, D)
        for conditioner in self.conditioners:
            u = u + conditioner(u)
        squares = ((u + self.shift) * self.scale).square() + self.constant
        return squares.view(-1, *self.shape)


class FoldedGlow(FoldedFlow):
    """A Glow whose ActNorms and 1x1 matrices have become one convolution a step."""

    def __init__(self, flow: Glow) -> None:
        super().__init__()
        self.mixers = nn.ModuleList()
        self.positions = nn.ParameterList()
        self.conditioners = nn.ModuleList()
        self.means = nn.ParameterList()
        self.scales = nn.ParameterList()
        self.steps = len(flow.scales()[0][0])
        log_det = flow.latents(torch.zeros(1, flow.frames, flow.bands, device=_device(flow)))[1]
        for steps, prior in flow.scales():
            for step in steps:
                self._add_step(step)
            self._add_prior(prior, flow.dims)
        cells = flow.shapes[0][1] * flow.shapes[0][2]
        self.constant = _share(log_det.double(), flow.dims, cells)
        self.requires_grad_(False)

    def nll_map(self, windows: Tensor) -> Tensor:
        """See :class:`FoldedFlow`; one cell per 2 x 2 patch of the window."""
        h = windows.unsqueeze(1)
        energies = []
        for k, (mean, scale) in enumerate(zip(self.means, self.scales, strict=True)):
            h = squeeze(h)
            for i in range(k * self.steps, (k + 1) * self.steps):
                a, b = self.mixers[i](h).chunk(2, dim=1)
                b = b + self.conditioners[i](a + self.positions[i])
                h = torch.cat([a, b], dim=1)
            h, z = h.chunk(2, dim=1) if k < len(self.means) - 1 else (h, h)
            energies.append(((z - mean) * scale).square().sum(1))  # (N, h, w)
        return merge_cells(energies) + self.constant

    def _add_step(self, step: Step) -> None:
        stretch = step.norm.log_scale.double().exp().flatten()
        weight = step.mix.weight().double() * stretch
        mixer = nn.Conv2d(len(weight), len(weight), 1)
        mixer.weight = _constant(weight[:, :, None, None])
        mixer.bias = _constant(weight @ step.norm.shift.double().flatten())
        self.mixers.append(mixer)
        self.positions.append(_constant(step.coupling.position[None]))
        self.conditioners.append(copy.deepcopy(step.coupling.conditioner))

    def _add_prior(self, prior: Prior, dims: int) -> None:
        self.means.append(_constant(prior.mean[None]))
        self.scales.append(_constant((-prior.log_std).exp()[None] * math.sqrt(0.5 / dims)))


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


def _share(log_det: Tensor, dims: int, cells: int) -> float:
    """The part of the NLL that does not depend on the data, per cell of the map."""
    return (0.5 * LOG_2PI - float(log_det) / dims) / cells


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A layer with the given (out, in) weight and (out,) bias."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = _constant(weight)
    if bias is not None:
        layer.bias = _constant(bias)
    return layer


def _constant(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().float().clone(), requires_grad=False)


def _device(flow: nn.Module) -> torch.device:
    return next(flow.parameters()).device
