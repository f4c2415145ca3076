"""The invertible transforms that flows are made of; each changes volume by a constant.

Convention: ``forward(x) -> (z, log_det)`` maps data to noise and ``inverse(z) -> x`` back;
``log_det`` is the log-determinant of the Jacobian in nats. Here it never depends on the data, so it
is a scalar.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

MIN_STD = 1e-3
"""The least spread that ActNorm's start divides by, so that a constant channel stays finite."""


class Transform(nn.Module, ABC):
    """An invertible map with a data-independent log-determinant."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Data (N, ...) to noise (N, ...), with the scalar ``log_det`` in nats."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """Noise (N, ...) back to data (N, ...)."""

    def initialize(self, x: Tensor) -> Tensor:
        """Set what starts from data by the batch ``x``; return the batch transformed."""
        with torch.no_grad():
            z: Tensor = self(x)[0]
        return z


class ActNorm(Transform):
    r"""Shifts and scales each channel.

    .. math:: z = (x + b) \odot e^{s}

    Args:
        channels: size of dimension 1.
        dims: number of dimensions after it (2 for images, 0 for vectors).

    References:
        Kingma, Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions", NeurIPS 2018.
    """

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        shape = (channels,) + (1,) * dims
        self.shift = nn.Parameter(torch.zeros(shape))
        self.log_scale = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Transform`."""
        cells = x[0, 0].numel()
        return (x + self.shift) * self.log_scale.exp(), self.log_scale.sum() * cells

    def inverse(self, z: Tensor) -> Tensor:
        """See :class:`Transform`."""
        return z * torch.exp(-self.log_scale) - self.shift

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        """Make ``x`` come out with zero mean and unit variance in each channel."""
        kept = [0, *range(2, x.dim())]
        std, mean = torch.std_mean(x, dim=kept, correction=0)
        self.shift.copy_(-mean.view_as(self.shift))
        self.log_scale.copy_(-std.clamp(min=MIN_STD).log().view_as(self.log_scale))
        return super().initialize(x)


class InvertibleConv1x1(Transform):
    r"""Mixes the channels of each cell by a matrix kept as its LU decomposition.

    .. math:: W = P L (U + \mathrm{diag}(\sigma \odot e^{s})), \quad
              \log|\det J| = h w \sum s

    No determinant is ever computed: it is the sum of the diagonal's logarithms.

    References:
        Kingma, Dhariwal, NeurIPS 2018, section 3.2.
    """

    permutation: Tensor
    sign: Tensor
    eye: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        random = torch.linalg.qr(torch.randn(channels, channels))[0]
        permutation, lower, upper = torch.linalg.lu(random)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.register_buffer("eye", torch.eye(channels))
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(diagonal.abs().log())

    def weight(self) -> Tensor:
        """The matrix W (channels, channels)."""
        lower = self.lower.tril(-1) + self.eye
        upper = self.upper.triu(1) + torch.diag(self.sign * self.log_diagonal.exp())
        return self.permutation @ lower @ upper

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Transform`; ``x`` is (N, channels, h, w)."""
        z = nn.functional.conv2d(x, self.weight()[:, :, None, None])
        return z, self.log_diagonal.sum() * (x.shape[2] * x.shape[3])

    def inverse(self, z: Tensor) -> Tensor:
        """See :class:`Transform`. Costs one matrix inversion, O(channels^3)."""
        return nn.functional.conv2d(z, torch.linalg.inv(self.weight())[:, :, None, None])


class AdditiveCoupling(Transform):
    r"""Shifts one half of the channels by a network of the other half.

    .. math:: z_a = x_a, \quad z_b = x_b + f(x_a + p)

    ``p`` is a learned offset per channel and Mel position: it tells the convolutions, which look
    the same way everywhere, where on the frequency axis they are. The last convolution starts at
    zero, so the coupling starts as the identity. ``log_det`` is 0.

    Args:
        channels: channels of ``x``, even.
        cells: Mel positions of ``x``.
        hidden: hidden channels of the network.

    References:
        Dinh, Krueger, Bengio, "NICE: Non-linear Independent Components Estimation", ICLR 2015.
    """

    def __init__(self, channels: int, cells: int, hidden: int) -> None:
        super().__init__()
        half = channels // 2
        self.position = nn.Parameter(torch.zeros(half, 1, cells))
        self.conditioner = nn.Sequential(
            nn.Conv2d(half, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, half, 3, padding=1),
        )
        for parameter in self.conditioner[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Transform`; ``x`` is (N, channels, h, w)."""
        a, b = x.chunk(2, dim=1)
        return torch.cat([a, b + self.conditioner(a + self.position)], dim=1), x.new_zeros(())

    def inverse(self, z: Tensor) -> Tensor:
        """See :class:`Transform`."""
        a, b = z.chunk(2, dim=1)
        return torch.cat([a, b - self.conditioner(a + self.position)], dim=1)


class Squeeze(Transform):
    """Folds each 2 x 2 patch of cells into channels: (N, c, h, w) to (N, 4 c, h/2, w/2)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Transform`."""
        return squeeze(x), x.new_zeros(())

    def inverse(self, z: Tensor) -> Tensor:
        """See :class:`Transform`."""
        n, c, h, w = z.shape
        z = z.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
        return z.reshape(n, c // 4, 2 * h, 2 * w)


def squeeze(x: Tensor) -> Tensor:
    """(N, c, h, w) to (N, 4 c, h/2, w/2), used by the trained and the folded flow alike."""
    c, h, w = x.shape[1:]
    x = x.reshape(-1, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4)
    return x.reshape(-1, 4 * c, h // 2, w // 2)


class AdditiveAutoregression(Transform):
    r"""Shifts each dimension by a network of those before it: one MADE block.

    .. math:: z_i = x_i - \mu_i(x_{<i})

    The order of the dimensions is the given one, or its reverse. ``log_det`` is 0.

    Args:
        dims: dimensions D of ``x``.
        hidden: hidden units.
        reverse: whether the last dimension comes first.
        masks: which neighbours stay hidden where there are fewer units than dimensions: with
            ``aligned`` the same in both orders, as flows once had it; with ``staggered`` others in
            reverse, so that D / 2 units hide none twice.

    References:
        Germain et al., "MADE: Masked Autoencoder for Distribution Estimation", ICML 2015;
        Papamakarios et al., "Masked Autoregressive Flow for Density Estimation", NeurIPS 2017.
    """

    in_mask: Tensor
    out_mask: Tensor

    def __init__(self, dims: int, hidden: int, *, reverse: bool, masks: str = "aligned") -> None:
        super().__init__()
        degrees = torch.arange(dims)
        order = degrees.flip(0) if reverse else degrees  # degree of each dimension
        units = torch.arange(hidden) * (dims - 1) // hidden  # degree of each hidden unit
        if reverse and masks == "staggered":
            # Counted from the other end, and half a step on: between those of the given order.
            units = dims - 2 - (2 * torch.arange(hidden) + 1) * (dims - 1) // (2 * hidden)
        self.register_buffer("in_mask", (units[:, None] >= order[None, :]).float())
        self.register_buffer("out_mask", (order[:, None] > units[None, :]).float())
        self.hidden = nn.Linear(dims, hidden)
        self.shift = nn.Linear(hidden, dims)
        self.reverse = reverse
        with torch.no_grad():
            # Half of what the mask lets through is missing on average: keep the variance.
            self.hidden.weight.mul_(2**0.5)
            self.shift.weight.mul_(0.01)

    def mean(self, x: Tensor) -> Tensor:
        """The shift of each dimension (N, D), its own and later dimensions having no part in it."""
        hidden = nn.functional.linear(x, self.hidden.weight * self.in_mask, self.hidden.bias)
        return nn.functional.linear(
            hidden.relu(), self.shift.weight * self.out_mask, self.shift.bias
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Transform`; ``x`` is (N, D)."""
        return x - self.mean(x), x.new_zeros(())

    def inverse(self, z: Tensor) -> Tensor:
        """See :class:`Transform`. Sequential: costs D passes of the network."""
        x = torch.zeros_like(z)
        order = range(z.shape[1])
        for i in reversed(order) if self.reverse else order:
            x[:, i] = z[:, i] + self.mean(x)[:, i]
        return x
