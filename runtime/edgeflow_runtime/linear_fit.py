"""The linear flow in closed form: a machine's own mean, and a covariance that sisters lend.

What travels between machines of a type is how their sound varies, not where it lies. So the
covariance is a blend of the machine's own and of its sisters', each about its own mean, and how
much is borrowed is what makes normal clips that were left out most likely. No anomaly takes part.

It is numpy alone, as a board enrols a machine with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Array
from edgeflow_runtime.errors import DataError

Rows = npt.NDArray[np.float64]
"""(n, D) what a view makes of clips, standardised, one row a clip."""

BLENDS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97)
"""Shares of the covariance that are tried to be the sisters'."""

REFITTED = 60
"""Up to so many clips are left out by fitting anew."""

FOLDS = 5
"""Parts of the clips that are left out in turn to choose among them."""


@dataclass(frozen=True, eq=False)
class LinearFit:
    r"""A Gaussian as a flow: one additive autoregressive layer, then a scale.

    With the covariance :math:`\Sigma = L M^2 L^T`, L unit lower triangular and M diagonal,

    .. math:: z = M^{-1} L^{-1} (x - \mu), \qquad
              \log|\det \partial z / \partial x| = -\sum \log m_i

    so the conditioner is linear and the log-determinant a constant.
    """

    mean: npt.NDArray[np.float64]
    """(D,) of the machine's own clips."""
    inverse: npt.NDArray[np.float64]
    """(D, D), the inverse of L: unit lower triangular."""
    scale: npt.NDArray[np.float64]
    """(D,) the diagonal of M."""
    blend: float
    """The share of the covariance that is the sisters'."""
    shrinkage: float
    """The share of it that was drawn towards independence."""
    clips: int
    """Clips of the machine's own."""

    @property
    def least_nll(self) -> float:
        """The NLL of the likeliest sound, in nats per dimension."""
        return 0.5 * math.log(2 * math.pi) + float(np.log(self.scale).mean())

    def distances(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(n,) squared Mahalanobis distances of (n, D)."""
        noise = (rows - self.mean) @ self.inverse.T / self.scale
        squares: npt.NDArray[np.float64] = np.square(noise).sum(axis=1)
        return squares

    def nll(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(n,) NLL of (n, D), in nats per dimension."""
        return self.of_distances(self.distances(rows))

    def of_distances(self, distances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The NLL that squared distances mean."""
        return 0.5 * distances / len(self.mean) + self.least_nll

    def constants(self) -> dict[str, Array]:
        """The float32 constants of the exported graph, by name."""
        dims = len(self.mean)
        exact = {
            "conditioners.0.weight": self.inverse - np.eye(dims),
            "shift": -self.inverse @ self.mean,
            "scale": math.sqrt(0.5 / dims) / self.scale,
            "constant": np.array(self.least_nll / dims),
        }
        return {name: value.astype(np.float32) for name, value in exact.items()}


class Sisters:
    """What other machines of a type lend: how their clips vary about their own means.

    Args:
        machines: (n, D) rows of each; those of fewer than two clips tell nothing.
    """

    def __init__(self, machines: Sequence[Rows]) -> None:
        centred = [rows - rows.mean(axis=0) for rows in machines if len(rows) > 1]
        self.rows = np.concatenate(centred) if centred else np.empty((0, 0))
        self.covariance = sum(map(_covariance, centred)) / max(len(centred), 1)

    def __bool__(self) -> bool:
        return len(self.rows) > 0


def fit_linear(
    target: Rows, sisters: Sisters, floor: npt.NDArray[np.float64], blend: float | None = None
) -> LinearFit:
    """Fit a machine's clips.

    Args:
        target: (n, D) rows of its clips, n at least 1, and 2 without sisters.
        sisters: of its type.
        floor: (D,) the spread that a dimension has at least, as of independent noise.
        blend: the sisters' share; chosen by likelihood if not given.

    Raises:
        DataError: there are too few clips to fit anything.

    Source: shrinkage as O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional
    covariance matrices", Journal of Multivariate Analysis 88, 2004, over all rows together.
    """
    if len(target) < (1 if sisters else 2):
        raise DataError(
            f"{len(target)} clip(s) of a machine without sisters are too few: at least 2 are needed"
        )
    if blend is None:
        blend = choose_blend(target, sisters, floor)
    mean = target.mean(axis=0)
    rows = target - mean
    covariance = _covariance(rows)
    if sisters:
        covariance = (1 - blend) * covariance + blend * sisters.covariance
        rows = np.concatenate([rows, sisters.rows])
    spread = np.sqrt(np.diag(covariance) + floor**2)
    correlation = covariance / np.outer(spread, spread)
    np.fill_diagonal(correlation, 1.0)
    shrinkage = _shrinkage(rows / spread)
    correlation = (1 - shrinkage) * correlation + shrinkage * np.eye(len(spread))
    root = np.linalg.cholesky(correlation) * spread[:, None]
    scale = np.diag(root).copy()
    inverse = np.linalg.solve(root / scale, np.eye(len(scale)))
    return LinearFit(mean, np.tril(inverse), scale, blend, shrinkage, len(target))


def unlearned_nll(
    fit: LinearFit, target: Rows, sisters: Sisters, floor: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The NLL (n,) of each clip that was learned, as if it alone had not been.

    It is what :func:`unlearned_distances` mean by the fit: (0,) of a single clip.
    """
    return fit.of_distances(unlearned_distances(fit, target, sisters, floor))


def unlearned_distances(
    fit: LinearFit, target: Rows, sisters: Sisters, floor: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    r"""The squared distance (n,) of each clip that was learned, as if it alone had not been.

    Few clips are left out one by one, at the blend of the fit; of more than :data:`REFITTED` each
    is taken out of mean and covariance,

    .. math:: q_{-k} = \Big(\frac{n}{n-1}\Big)^2 \frac{q}{1 - c q}, \quad
              c = (1 - w)(1 - a) \frac{n}{(n - 1)^2}

    for blend a and shrinkage w as they are: within 1 % of what leaving out gives.

    Args:
        fit: of ``target``.
        target: (n, D) the rows that were fitted.
        sisters: as the fit had them.
        floor: likewise.

    Returns:
        (n,), or (0,) of a single clip.
    """
    n = len(target)
    if n < (2 if sisters else 3):
        return np.empty(0)
    if n <= REFITTED:
        every = np.arange(n)
        fits = (fit_linear(target[every != k], sisters, floor, fit.blend) for k in every)
        return np.concatenate([one.distances(target[k : k + 1]) for k, one in enumerate(fits)])
    q = fit.distances(target)
    own = (1 - fit.shrinkage) * (1 - fit.blend) * n / (n - 1) ** 2
    out: npt.NDArray[np.float64] = (n / (n - 1)) ** 2 * q / np.maximum(1 - own * q, 1e-9)
    return out


def choose_blend(target: Rows, sisters: Sisters, floor: npt.NDArray[np.float64]) -> float:
    """The sisters' share that makes clips of the machine likeliest which the fit left out."""
    if not sisters:
        return 0.0
    folds = min(FOLDS, len(target))
    if folds < 2:
        return BLENDS[-1]
    parts = np.arange(len(target)) % folds

    def left_out(blend: float) -> float:
        fits = (fit_linear(target[parts != k], sisters, floor, blend) for k in range(folds))
        nll = [fit.nll(target[parts == k]) for k, fit in enumerate(fits)]
        return float(np.concatenate(nll).mean())

    return min(BLENDS, key=left_out)


def _covariance(centred: Rows) -> npt.NDArray[np.float64]:
    """(D, D) of rows about their mean."""
    covariance: npt.NDArray[np.float64] = centred.T @ centred / len(centred)
    return covariance


def _shrinkage(rows: Rows) -> float:
    """Ledoit and Wolf's weight of centred rows (n, D)."""
    count, dims = rows.shape
    covariance = _covariance(rows)
    usual = np.trace(covariance) / dims
    squares = float(np.square(covariance).sum())
    beyond = (squares - dims * usual**2) / dims
    sampling = (float(np.square(np.square(rows).sum(axis=1)).sum()) / count - squares) / count
    return float(np.clip(sampling / dims / beyond, 0.0, 1.0)) if beyond > 0 else 1.0
