"""The masked autoregressive flow with additive blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from edgeflow.models.flow import Flow
from edgeflow.models.folded import (
    FoldedModel,
    constant_share,
    device_of,
    frozen,
    frozen_linear,
)
from edgeflow.models.kind import ModelKind
from edgeflow.models.linear import SETTINGS as LINEAR
from edgeflow.models.linear import LinearFlow, LinearSpec
from edgeflow.models.spec import ModelSettings, ModelSpec, Schedule
from edgeflow.models.transforms import ActNorm, AdditiveAutoregression
from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.views import WindowSpec


@dataclass(frozen=True)
class MAFSpec(ModelSpec):
    """Size of a :class:`MAF`; the defaults are those of Dohi et al. (ICASSP 2021)."""

    name: str = "maf"
    """Always ``maf``."""
    frames: int = 4
    """Frames per window, T."""
    bands: int = 128
    """Mel bands, M."""
    blocks: int = 4
    """MADE blocks."""
    hidden: int = 512
    """Hidden units of each block."""
    masks: str = "aligned"
    """``aligned``, as documents that do not tell mean it, or ``staggered``; see
    :class:`~edgeflow.models.transforms.AdditiveAutoregression`."""

    linear: bool = False
    """Whether a linear flow is the first layer, from which the training starts."""

    @property
    def starts_fitted(self) -> bool:
        """See :class:`ModelSpec`."""
        return self.linear

    def __post_init__(self) -> None:
        self.check("maf", self.blocks, self.hidden)
        if self.masks not in ("aligned", "staggered"):
            raise ConfigError(f"unknown masks {self.masks!r}: choose aligned or staggered")


class MAF(Flow):
    """Additive MADE blocks, each followed by an ActNorm; every other one in reverse order.

    With a linear flow as the first layer the blocks start as the identity, so that the whole is
    that linear flow until it is trained. The layer stays as it was fitted.

    References:
        Papamakarios et al., "Masked Autoregressive Flow for Density Estimation", NeurIPS 2017.

    Example:
        >>> flow = MAF(MAFSpec(frames=2, bands=4, blocks=2, hidden=16))
        >>> z, log_det = flow(torch.randn(3, 2, 4))
        >>> z.shape, log_det.shape
        (torch.Size([3, 8]), torch.Size([3]))
    """

    def __init__(self, spec: MAFSpec) -> None:
        super().__init__(spec.frames, spec.bands)
        self.blocks = nn.ModuleList(
            AdditiveAutoregression(self.dims, spec.hidden, reverse=bool(k % 2), masks=spec.masks)
            for k in range(spec.blocks)
        )
        self.norms = nn.ModuleList(ActNorm(self.dims, 0) for _ in range(spec.blocks))
        self.linear: LinearFlow | None = None
        if spec.linear:
            self.linear = LinearFlow(LinearSpec(frames=spec.frames, bands=spec.bands))
            self.usual_spread = LinearFlow.usual_spread  # of what the training starts from
            for block, _ in self.pairs():
                nn.init.zeros_(block.shift.weight)
                nn.init.zeros_(block.shift.bias)

    def pairs(self) -> list[tuple[AdditiveAutoregression, ActNorm]]:
        """Each block with the ActNorm after it."""
        return cast(
            "list[tuple[AdditiveAutoregression, ActNorm]]",
            list(zip(self.blocks, self.norms, strict=True)),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Flow`."""
        z, log_det = self.linear(x) if self.linear else (x.flatten(1), x.new_zeros(len(x)))
        for block, norm in self.pairs():
            z = block(z)[0]
            z, change = norm(z)
            log_det = log_det + change
        return z, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """See :class:`Flow`. Sequential: costs D passes a block."""
        for block, norm in reversed(self.pairs()):
            z = block.inverse(norm.inverse(z))
        if self.linear:
            return self.linear.inverse(z)
        return z.view(-1, self.frames, self.bands)

    def energy_map(self, z: Tensor) -> Tensor:
        """See :class:`Flow`; one cell per dimension, (N, T, M)."""
        return 0.5 * z.square().view(-1, self.frames, self.bands)

    def initialize(self, x: Tensor) -> None:
        """See :class:`Flow`; with a linear flow there is nothing to start but that."""
        if self.linear:
            return
        z = x.flatten(1)
        for block, norm in self.pairs():
            z = norm.initialize(block.initialize(z))

    @torch.no_grad()
    def fold(self) -> FoldedMAF:
        """See :class:`Flow`; all ActNorms go into the weights of the blocks."""
        return FoldedMAF(self)


class FoldedMAF(FoldedModel):
    r"""A MAF whose ActNorms have gone into its blocks.

    Let a latent be :math:`y = (u + B) \odot S`. Following ``u`` instead of ``y``, each block only
    subtracts, and B and S gather in constants that are applied once, at the end.
    """

    def __init__(self, flow: MAF) -> None:
        super().__init__()
        self.shape = (flow.frames, flow.bands)
        self.conditioners = nn.ModuleList()
        scale = torch.ones(flow.dims, dtype=torch.float64, device=device_of(flow))
        shift = torch.zeros_like(scale)
        log_det = torch.zeros_like(scale).sum()
        if flow.linear:
            self.conditioners.append(frozen_linear(flow.linear.conditioner.tril(-1)))
            shift, stretch = flow.linear.shift.double(), flow.linear.log_scale.double()
            scale, log_det = stretch.exp(), stretch.sum()
        for block, norm in flow.pairs():
            weight_in = block.hidden.weight.double() * block.in_mask
            weight_out = block.shift.weight.double() * block.out_mask
            bias = block.hidden.bias + weight_in @ (scale * shift)
            hidden = frozen_linear(weight_in * scale, bias)
            output = frozen_linear(-weight_out / scale[:, None])
            self.conditioners.append(nn.Sequential(hidden, nn.ReLU(), output))
            shift = shift + (norm.shift.double() - block.shift.bias) / scale
            scale = scale * norm.log_scale.double().exp()
            log_det = log_det + norm.log_scale.double().sum()
        self.shift = frozen(shift)
        self.scale = frozen(scale * math.sqrt(0.5 / flow.dims))
        self.constant = constant_share(log_det, flow.dims, cells=flow.dims)
        self.requires_grad_(False)

    def score_map(self, windows: Tensor) -> Tensor:
        """See :class:`FoldedModel`; one cell per dimension."""
        u = windows.flatten(1)  # (N, D)
        for conditioner in self.conditioners:
            u = u + conditioner(u)
        squares = ((u + self.shift) * self.scale).square() + self.constant
        return squares.view(-1, *self.shape)


KIND = ModelKind(
    MAFSpec,
    MAF,
    paper=ModelSettings(
        model=MAFSpec(masks="staggered"),
        view=WindowSpec(frames=4, hop=4),
        schedule=Schedule(epochs=100, batch=64, optimiser="adam", learning_rate=1e-4),
        pretraining=Schedule(epochs=20, batch=256, optimiser="adam", learning_rate=3e-4),
    ),
    small=ModelSettings(
        model=MAFSpec(hidden=256, masks="staggered"),
        view=WindowSpec(frames=4, hop=4),
        schedule=Schedule(epochs=15, batch=64, optimiser="adam", learning_rate=3e-4),
        pretraining=Schedule(epochs=20, batch=256, optimiser="adam", learning_rate=1e-3),
    ),
    from_linear=ModelSettings(
        model=MAFSpec(frames=3, blocks=2, hidden=192, masks="staggered", linear=True),
        view=LINEAR.view,
        schedule=Schedule(epochs=30, batch=64, optimiser="adam", learning_rate=1e-4),
    ),
)
