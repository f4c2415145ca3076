"""How machines of a type differ: what enrolling each by the others tells of one more.

Each sister is enrolled by the others from as many of her clips as the new machine has, and the rest
of hers are measured. Were her own clips in the covariance, too, as in a cross-fit, the distances
would come out too small: that of a machine never seen holds none of its clips.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.base import Base
from edgeflow_runtime.linear_fit import FOLDS, LinearFit, Rows, Sisters, fit_linear

Numbers = npt.NDArray[np.float64]
"""(n,) one a sister, or one a clip."""

DOUBT = 0.05
"""The share of true sisters that would be called unlike."""


@dataclass(frozen=True, eq=False)
class Kinship:
    """What enrolling the sisters in the same way tells of one more."""

    distances: list[Numbers]
    """Of each sister the (n,) logarithms of her clips' squared distances."""
    places: Numbers
    """(sisters,) logarithms of the squared distance of each one's mean from the others'."""
    widths: Numbers
    """(sisters,) logarithms of the mean squared distance of her clips from their mean."""

    @property
    def levels(self) -> Numbers:
        """(sisters,) the mean of each one's :attr:`distances`."""
        return np.array([one.mean() for one in self.distances])

    @property
    def variance(self) -> float:
        """Of a sister's distances about her own level."""
        squares = sum(float(np.square(one - one.mean()).sum()) for one in self.distances)
        return squares / sum(len(one) - 1 for one in self.distances)

    def unlike(self, base: Base) -> Iterator[str]:
        """In what the machine of ``base`` lies farther out than all but :data:`DOUBT` of sisters.

        In its ``mean``: the distance of its mean from theirs. In its ``spread``: the mean distance
        of its clips from their mean. Both by the covariance that the sisters lend.
        """
        machines = list(base.sisters.values())
        fit = _lent_fit(base.own, machines, base)
        if _beyond(_place(fit, machines), self.places):
            yield "mean"
        if len(base.own) > 1:
            noise = self.variance / len(base.own)
            if _beyond(_width(fit, base.own), self.widths, noise):
                yield "spread"


def kinship_of(base: Base, clips: int, blend: float) -> Kinship:
    """Enrol each sister by the others from so many clips of hers, and measure the rest.

    Args:
        base: the sisters.
        clips: of each, for her mean; as many as she has to spare, if those are fewer.
        blend: the share of the covariance that is the others'.
    """
    distances, places, widths = [], [], []
    for name, rows in base.sisters.items():
        others = [theirs for other, theirs in base.sisters.items() if other != name]
        rng = np.random.default_rng(list(name.encode()))  # the same clips wherever it is asked
        distances.append(np.concatenate(list(_in_turn(rows, others, base, clips, blend, rng))))
        fit = _lent_fit(rows, others, base)
        draws = [rng.permutation(rows)[:clips].mean(axis=0) for _ in range(FOLDS)]
        places.append(np.mean([_place(replace(fit, mean=mean), others) for mean in draws]))
        widths.append(_width(fit, rows))
    return Kinship(distances, np.array(places), np.array(widths))


def _in_turn(
    rows: Rows,
    others: Sequence[Rows],
    base: Base,
    clips: int,
    blend: float,
    rng: np.random.Generator,
) -> Iterator[Numbers]:
    """Of each part of a sister's clips the logarithms of their squared distances."""
    lent, order = Sisters(others), rng.permutation(len(rows))
    for part in np.array_split(order, min(FOLDS, len(rows))):
        rest = rng.permutation(np.setdiff1d(order, part))[:clips]
        fit = fit_linear(rows[rest], lent, base.floor, blend)
        yield np.log(fit.distances(rows[part]) * as_of(clips, len(rest)))


def as_of(clips: int, used: int) -> float:
    """What a squared distance from a mean of ``used`` clips is from one of ``clips``, as a factor.

    A clip lies from a mean of n others by its own variance and an n-th of it.

    Example:
        >>> as_of(2, 1)
        0.75
    """
    return (1 + 1 / clips) / (1 + 1 / used)


def _lent_fit(rows: Rows, others: Sequence[Rows], base: Base) -> LinearFit:
    """A machine's mean, with nothing but the others' covariance."""
    return fit_linear(rows.mean(axis=0)[None], Sisters(others), base.floor, blend=1.0)


def _place(fit: LinearFit, others: Sequence[Rows]) -> float:
    """The logarithm of the squared distance of the mean from that of the others' means."""
    centre = np.mean([rows.mean(axis=0) for rows in others], axis=0)
    return math.log(float(fit.distances(centre[None])[0]))


def _width(fit: LinearFit, rows: Rows) -> float:
    """The logarithm of the mean squared distance of clips from their own mean."""
    return math.log(float(fit.distances(rows).sum()) / (len(rows) - 1))


def _beyond(value: float, sisters: Numbers, noise: float = 0.0) -> bool:
    """Whether ``value`` is above what one more of the ``sisters`` would have."""
    from scipy.stats import t

    n = len(sisters)
    spread = math.sqrt(float(sisters.var(ddof=1)) * (1 + 1 / n) + noise)
    return value > float(sisters.mean()) + float(t.ppf(1 - DOUBT, n - 1)) * spread
