"""Glow with additive couplings, over log-Mel windows seen as images."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
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
    gathered_taps,
    merge_cells,
)
from edgeflow.models.kind import ModelKind
from edgeflow.models.spec import ModelSettings, ModelSpec, Schedule
from edgeflow.models.transforms import (
    ActNorm,
    AdditiveCoupling,
    InvertibleConv1x1,
    Squeeze,
    Transform,
    squeeze,
)
from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.views import WindowSpec


@dataclass(frozen=True)
class GlowSpec(ModelSpec):
    """Size of a :class:`Glow`; the defaults are those of Dohi et al. (ICASSP 2021)."""

    name: str = "glow"
    """Always ``glow``."""
    frames: int = 32
    """Frames per window, T; a multiple of 2 ** blocks."""
    bands: int = 128
    """Mel bands, M; a multiple of 2 ** blocks."""
    blocks: int = 3
    """Scales: each squeezes, and all but the last send half of their channels to the prior."""
    steps: int = 12
    """Steps of flow in each block."""
    hidden: int = 128
    """Hidden channels of each coupling's network."""

    def __post_init__(self) -> None:
        self.check("glow", self.blocks, self.steps, self.hidden)
        if self.frames % 2**self.blocks or self.bands % 2**self.blocks:
            raise ConfigError(
                f"a Glow of {self.blocks} blocks halves its window {self.blocks} times, which "
                f"{self.frames} frames x {self.bands} bands do not allow"
            )


class Step(Transform):
    """One step of flow: ActNorm, invertible 1x1 convolution, additive coupling."""

    def __init__(self, channels: int, cells: int, hidden: int) -> None:
        super().__init__()
        self.norm = ActNorm(channels, 2)
        self.mix = InvertibleConv1x1(channels)
        self.coupling = AdditiveCoupling(channels, cells, hidden)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`~edgeflow.models.transforms.Transform`."""
        x, stretched = self.norm(x)
        x, mixed = self.mix(x)
        return self.coupling(x)[0], stretched + mixed

    def inverse(self, z: Tensor) -> Tensor:
        """See :class:`~edgeflow.models.transforms.Transform`."""
        return self.norm.inverse(self.mix.inverse(self.coupling.inverse(z)))

    def initialize(self, x: Tensor) -> Tensor:
        """See :class:`~edgeflow.models.transforms.Transform`."""
        return self.coupling.initialize(self.mix.initialize(self.norm.initialize(x)))


class Prior(Transform):
    r"""A normal learned per channel and Mel position, as the affine map that makes it standard.

    .. math:: z = (x - \mu) \odot e^{-s}
    """

    def __init__(self, channels: int, cells: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels, 1, cells))
        self.log_std = nn.Parameter(torch.zeros(channels, 1, cells))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`~edgeflow.models.transforms.Transform`; ``x`` is (N, channels, h, cells)."""
        return (x - self.mean) * torch.exp(-self.log_std), -self.log_std.sum() * x.shape[2]

    def inverse(self, z: Tensor) -> Tensor:
        """See :class:`~edgeflow.models.transforms.Transform`."""
        return z * self.log_std.exp() + self.mean


class Glow(Flow):
    """Blocks of steps at halving resolution, with a learned prior at each.

    References:
        Kingma, Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions", NeurIPS 2018;
        Dohi et al., ICASSP 2021, section 3.

    Example:
        >>> flow = Glow(GlowSpec(frames=4, bands=8, blocks=2, steps=1, hidden=8))
        >>> x = torch.randn(3, 4, 8)
        >>> bool(torch.allclose(flow.inverse(flow(x)[0]), x, atol=1e-5))
        True
    """

    def __init__(self, spec: GlowSpec) -> None:
        super().__init__(spec.frames, spec.bands)
        self.squeeze = Squeeze()
        self.blocks = nn.ModuleList()
        self.priors = nn.ModuleList()
        self.shapes: list[tuple[int, int, int]] = []
        channels, rows, cells = 1, spec.frames, spec.bands
        for k in range(spec.blocks):
            channels, rows, cells = 4 * channels, rows // 2, cells // 2
            self.blocks.append(
                nn.ModuleList(Step(channels, cells, spec.hidden) for _ in range(spec.steps))
            )
            if k < spec.blocks - 1:
                channels //= 2
            self.priors.append(Prior(channels, cells))
            self.shapes.append((channels, rows, cells))  # of this block's latent

    def scales(self) -> list[tuple[list[Step], Prior]]:
        """The steps of each block with its prior."""
        pairs = zip(self.blocks, self.priors, strict=True)
        return [
            (list(cast("Iterable[Step]", block)), cast("Prior", prior)) for block, prior in pairs
        ]

    def latents(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Windows (N, T, M) to one standard normal latent (N, c, h, w) a block, and ``log_det``."""
        h, log_det = x.unsqueeze(1), x.new_zeros(())
        latents = []
        for k, (steps, prior) in enumerate(self.scales()):
            h = self.squeeze(h)[0]
            for step in steps:
                h, change = step(h)
                log_det = log_det + change
            if k < len(self.blocks) - 1:
                h, z = h.chunk(2, dim=1)
            else:
                z = h
            z, change = prior(z)
            log_det = log_det + change
            latents.append(z)
        return latents, log_det

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Flow`; the latents stand one block after the other."""
        latents, log_det = self.latents(x)
        return torch.cat([z.flatten(1) for z in latents], dim=1), log_det.expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """See :class:`Flow`."""
        latents = self._unflatten(z)
        h = z.new_empty(0)
        for (steps, prior), latent in zip(reversed(self.scales()), reversed(latents), strict=True):
            x = prior.inverse(latent)
            h = x if latent is latents[-1] else torch.cat([h, x], dim=1)
            for step in reversed(steps):
                h = step.inverse(h)
            h = self.squeeze.inverse(h)
        return h.squeeze(1)

    def energy_map(self, z: Tensor) -> Tensor:
        """See :class:`Flow`; one cell per 2 x 2 patch, (N, T/2, M/2)."""
        return merge_cells([0.5 * latent.square().sum(1) for latent in self._unflatten(z)])

    def initialize(self, x: Tensor) -> None:
        """See :class:`Flow`."""
        h = x.unsqueeze(1)
        for steps, _ in self.scales():
            h = self.squeeze(h)[0]
            for step in steps:
                h = step.initialize(h)
            h = h.chunk(2, dim=1)[0]

    @torch.no_grad()
    def fold(self) -> FoldedGlow:
        """See :class:`Flow`; each ActNorm and its 1x1 convolution become one convolution."""
        return FoldedGlow(self)

    def _unflatten(self, z: Tensor) -> list[Tensor]:
        sizes = [c * h * w for c, h, w in self.shapes]
        parts = torch.split(z, sizes, dim=1)
        return [part.view(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]


class FoldedGlow(FoldedModel):
    """A Glow whose ActNorms and 1x1 matrices have become one convolution a step."""

    def __init__(self, flow: Glow) -> None:
        super().__init__()
        self.mixers = nn.ModuleList()
        self.positions = nn.ParameterList()
        self.conditioners = nn.ModuleList()
        self.means = nn.ParameterList()
        self.scales = nn.ParameterList()
        self.steps = len(flow.scales()[0][0])
        log_det = flow.latents(torch.zeros(1, flow.frames, flow.bands, device=device_of(flow)))[1]
        for steps, prior in flow.scales():
            for step in steps:
                self._add_step(step)
            self._add_prior(prior, flow.dims)
        cells = flow.shapes[0][1] * flow.shapes[0][2]
        self.constant = constant_share(log_det.double(), flow.dims, cells)
        self.requires_grad_(False)

    def score_map(self, windows: Tensor) -> Tensor:
        """See :class:`FoldedModel`; one cell per 2 x 2 patch of the window."""
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
        mixer.weight = frozen(weight[:, :, None, None])
        mixer.bias = frozen(weight @ step.norm.shift.double().flatten())
        self.mixers.append(mixer)
        self.positions.append(frozen(step.coupling.position[None]))
        *body, output = copy.deepcopy(step.coupling.conditioner)
        taps = gathered_taps(cast("nn.Conv2d", output))
        self.conditioners.append(nn.Sequential(*body, *taps))

    def _add_prior(self, prior: Prior, dims: int) -> None:
        self.means.append(frozen(prior.mean[None]))
        self.scales.append(frozen((-prior.log_std).exp()[None] * math.sqrt(0.5 / dims)))


KIND = ModelKind(
    GlowSpec,
    Glow,
    paper=ModelSettings(
        model=GlowSpec(),
        view=WindowSpec(frames=32, hop=4),
        schedule=Schedule(epochs=100, batch=64, optimiser="adamax", learning_rate=5e-4),
        pretraining=Schedule(epochs=10, batch=64, optimiser="adamax", learning_rate=5e-4),
    ),
    small=ModelSettings(
        model=GlowSpec(steps=4, hidden=32),
        view=WindowSpec(frames=32, hop=8),
        schedule=Schedule(epochs=30, batch=64, optimiser="adamax", learning_rate=2e-3),
        pretraining=Schedule(epochs=10, batch=64, optimiser="adamax", learning_rate=2e-3),
    ),
)
