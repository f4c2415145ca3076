"""The contract of a flow: from standardised log-Mel windows to their likelihood."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from edgeflow.models.folded import LOG_2PI
from edgeflow.models.model import Model


class Flow(Model):
    r"""A density over windows (T, M), given by an invertible map to a standard normal.

    .. math:: \mathrm{NLL}(x) = \frac{1}{D}\Big(\tfrac12 \lVert z \rVert^2 +
              \tfrac{D}{2} \log 2\pi - \log|\det \partial z / \partial x|\Big), \quad D = T M

    All NLL are in nats per dimension. With additive couplings ``log_det`` does not depend on the
    data; with others it does, and a fold has to keep it.
    """

    usual_spread = 0.34
    """Of MAF (small), 2 held-out and 3 normal test clips each of 16 machines, the MIMII subset."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Data (N, T, M) to noise (N, D), with ``log_det`` (N,) in nats."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """Noise (N, D) back to data (N, T, M)."""

    @abstractmethod
    def energy_map(self, z: Tensor) -> Tensor:
        """Half the squared norm of ``z`` (N, D), per (time, mel) cell: (N, t, m)."""

    def score(self, x: Tensor) -> Tensor:
        """NLL of windows (N, T, M) as (N,), in nats per dimension."""
        z, log_det = self.forward(x)
        energy = 0.5 * z.square().sum(dim=1)
        return (energy - log_det) / self.dims + 0.5 * LOG_2PI

    def score_map(self, x: Tensor) -> Tensor:
        """NLL per (time, mel) cell as (N, t, m); its sum over the cells is :meth:`score`.

        The normalisation and ``log_det`` are spread evenly.
        """
        z, log_det = self.forward(x)
        energy = self.energy_map(z)  # (N, t, m)
        constant = 0.5 * LOG_2PI - log_det / self.dims  # (N,)
        cells = energy.shape[1] * energy.shape[2]
        return energy / self.dims + (constant / cells)[:, None, None]

    @torch.no_grad()
    def least_score(self) -> float:
        """The NLL of noise 0, which is the least where ``log_det`` does not depend on the data."""
        like = next(self.parameters())
        zero = torch.zeros(1, self.frames, self.bands, dtype=like.dtype, device=like.device)
        log_det = self.forward(zero)[1]
        return 0.5 * LOG_2PI - float(log_det) / self.dims

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density of windows (N, T, M) as (N,), in nats: not per dimension."""
        return -self.dims * self.score(x)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Windows drawn from the density, (count, T, M), standardised as what it learned from."""
        like = next(self.parameters())
        noise = torch.randn(count, self.dims, generator=generator, dtype=like.dtype)
        return self.inverse(noise.to(like.device))
