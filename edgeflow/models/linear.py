"""The linear flow: a Gaussian over pooled statistics, fitted in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edgeflow.models.flow import Flow
from edgeflow.models.folded import FoldedModel, constant_share, frozen, frozen_linear
from edgeflow.models.kind import ModelKind
from edgeflow.models.spec import STACK, ModelSettings, ModelSpec
from edgeflow_runtime.linear_fit import LinearFit


@dataclass(frozen=True)
class LinearSpec(ModelSpec):
    """Size of a :class:`LinearFlow`."""

    name: str = "linear"
    """Always ``linear``."""
    frames: int = 3
    """Rows of the view, T: its statistics."""
    bands: int = 128
    """Mel bands, M."""

    def __post_init__(self) -> None:
        self.check("linear")


class LinearFlow(Flow):
    r"""One additive autoregressive layer whose conditioner is linear, and a scale.

    .. math:: z = (x + K x + b) \odot e^{s}, \quad K \text{ strictly lower triangular}

    It is not trained step by step: :meth:`take` gives it what
    :func:`~edgeflow_runtime.linear_fit.fit_linear` found.

    Example:
        >>> flow = LinearFlow(LinearSpec(frames=2, bands=4))
        >>> z, log_det = flow(torch.ones(3, 2, 4))
        >>> z.shape, log_det.shape
        (torch.Size([3, 8]), torch.Size([3]))
    """

    usual_spread = 0.62
    """Of 7 clips left out each of 16 machines, the MIMII subset."""

    def __init__(self, spec: LinearSpec) -> None:
        super().__init__(spec.frames, spec.bands)
        self.conditioner = nn.Parameter(torch.zeros(self.dims, self.dims))
        self.shift = nn.Parameter(torch.zeros(self.dims))
        self.log_scale = nn.Parameter(torch.zeros(self.dims))

    @torch.no_grad()
    def take(self, fit: LinearFit) -> None:
        """Become what was fitted."""
        unit = np.eye(self.dims)
        self.conditioner.copy_(torch.from_numpy(fit.inverse - unit))
        self.shift.copy_(torch.from_numpy(-fit.inverse @ fit.mean))
        self.log_scale.copy_(torch.from_numpy(-np.log(fit.scale)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Flow`."""
        flat = x.flatten(1)
        z = (flat + flat @ self.conditioner.tril(-1).T + self.shift) * self.log_scale.exp()
        return z, self.log_scale.sum().expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """See :class:`Flow`."""
        matrix = self.conditioner.tril(-1) + torch.eye(self.dims, dtype=z.dtype, device=z.device)
        u = z * torch.exp(-self.log_scale) - self.shift
        x = torch.linalg.solve_triangular(matrix, u.T, upper=False, unitriangular=True)
        windows: Tensor = x.T.reshape(-1, self.frames, self.bands)
        return windows

    def energy_map(self, z: Tensor) -> Tensor:
        """See :class:`Flow`; one cell per dimension, (N, T, M)."""
        return 0.5 * z.square().view(-1, self.frames, self.bands)

    @torch.no_grad()
    def fold(self) -> FoldedLinear:
        """See :class:`Flow`."""
        return FoldedLinear(self)


class FoldedLinear(FoldedModel):
    """A linear flow whose scale has the halves and the dimensions in it.

    A board may put another fit's constants in place of its own: they are those of
    :meth:`~edgeflow_runtime.linear_fit.LinearFit.constants`, by name.
    """

    def __init__(self, flow: LinearFlow) -> None:
        super().__init__()
        self.shape = (flow.frames, flow.bands)
        self.conditioners = nn.ModuleList([frozen_linear(flow.conditioner.tril(-1))])
        self.shift = frozen(flow.shift)
        self.scale = frozen(flow.log_scale.double().exp() * math.sqrt(0.5 / flow.dims))
        constant = constant_share(flow.log_scale.double().sum(), flow.dims, cells=flow.dims)
        self.constant = frozen(torch.tensor(constant))  # a constant of the graph like the others
        self.requires_grad_(False)

    def score_map(self, windows: Tensor) -> Tensor:
        """See :class:`FoldedModel`; one cell per dimension."""
        x = windows.flatten(1)  # (N, D)
        u = x + self.conditioners[0](x)
        squares: Tensor = ((u + self.shift) * self.scale).square() + self.constant
        return squares.view(-1, *self.shape)


SETTINGS = ModelSettings(model=LinearSpec(), view=STACK)

KIND = ModelKind(LinearSpec, LinearFlow, paper=SETTINGS, small=SETTINGS, closed_form=True)
