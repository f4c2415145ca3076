"""The contract of a flow: from standardised log-Mel windows to their likelihood."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from edgeflow.models.folded import LOG_2PI, FoldedFlow


class Flow(nn.Module, ABC):
    r"""A density over windows (T, M), given by an invertible map to a standard normal.

    .. math:: \mathrm{NLL}(x) = \frac{1}{D}\Big(\tfrac12 \lVert z \rVert^2 +
              \tfrac{D}{2} \log 2\pi - \log|\det \partial z / \partial x|\Big), \quad D = T M

    All NLL are in nats per dimension. With additive couplings ``log_det`` does not depend on the
    data.

    Args:
        frames: T.
        bands: M.
    """

    def __init__(self, frames: int, bands: int) -> None:
        super().__init__()
        self.frames = frames
        self.bands = bands

    @property
    def dims(self) -> int:
        """D, the number of dimensions of a window."""
        return self.frames * self.bands

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Data (N, T, M) to noise (N, D), with ``log_det`` (N,) in nats."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """Noise (N, D) back to data (N, T, M)."""

    @abstractmethod
    def energy_map(self, z: Tensor) -> Tensor:
        """Half the squared norm of ``z`` (N, D), per (time, mel) cell: (N, t, m)."""

    @abstractmethod
    def initialize(self, x: Tensor) -> None:
        """Start every ActNorm from the batch ``x`` (N, T, M). Call once, before training."""

    @abstractmethod
    def fold(self) -> FoldedFlow:
        """The same NLL as a plain inference module: constants folded, no determinant."""

    def nll(self, x: Tensor) -> Tensor:
        """NLL of windows (N, T, M) as (N,), in nats per dimension."""
        z, log_det = self.forward(x)
        energy = 0.5 * z.square().sum(dim=1)
        return (energy - log_det) / self.dims + 0.5 * LOG_2PI

    def nll_map(self, x: Tensor) -> Tensor:
        """NLL per (time, mel) cell as (N, t, m); its sum over the cells is :meth:`nll`.

        The normalisation and ``log_det``, which do not depend on the data, are spread evenly.
        """
        z, log_det = self.forward(x)
        energy = self.energy_map(z)  # (N, t, m)
        constant = 0.5 * LOG_2PI - log_det / self.dims  # (N,)
        cells = energy.shape[1] * energy.shape[2]
        return energy / self.dims + (constant / cells)[:, None, None]
