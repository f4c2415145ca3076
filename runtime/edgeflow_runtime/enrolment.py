"""A machine never seen, enrolled from its first clips: what its sisters lend, and how far it may go.

The sisters lend their covariance, and they tell what its first clips cannot: how far one more
normal clip lies from a mean of so few. Each sister is enrolled in the same way, by the others, from
as many of her clips, and the rest of hers are measured. The machine's own clips, each left out in
turn, take over as they come: the logarithms of the distances are taken to be

.. math:: y = m + e, \\quad m \\sim N(M, \\tau^2), \\quad e \\sim N(0, \\sigma^2)

with M and tau from the sisters' means and m from what both say of this machine.

It is numpy alone, as it runs on the board.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Array
from edgeflow_runtime.bundle import SISTER
from edgeflow_runtime.calibration import CONFIDENCE, DRAWS, fewest_clips, threshold_from_scores
from edgeflow_runtime.errors import DataError
from edgeflow_runtime.linear_fit import (
    FOLDS,
    LinearFit,
    Rows,
    Sisters,
    fit_linear,
    unlearned_distances,
    unlearned_nll,
)
from edgeflow_runtime.manifest import Enrolment, Threshold

Numbers = npt.NDArray[np.float64]

FEWEST_SISTERS, FEWEST_OF_EACH = 2, 3
"""Fewer machines do not tell how machines differ; fewer clips not how clips do."""

FEWEST_ALONE = 3
"""Clips that a machine needs which can borrow nothing."""

LENT_FREEDOM = 10
"""The sisters' spread counts as much as that of so many clips more of the machine's own: machines
differ in it, and with this freedom Student's t allows for that."""

DOUBT = 0.01
"""The share of true sisters that would be called unlike."""

METHOD = (
    "enrolled: Student's t on the logarithm of the distance from the likeliest sound, of {lent} "
    "clips of {sisters} sisters enrolled in the same way and of {own} own left out in turn"
)


@dataclass(frozen=True, eq=False)
class Base:
    """What a machine is enrolled from: clips as the view measures them, standardised."""

    sisters: dict[str, Rows]
    """(n, D) rows of each machine of the type, by name."""
    floor: Numbers
    """(D,) the least spread of each dimension."""
    own: Rows
    """(n, D) rows of the machine's own clips; none of a base."""

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> Base:
        """As :meth:`tensors` wrote it."""
        exact = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
        sisters = {k.removeprefix(SISTER): v for k, v in exact.items() if k.startswith(SISTER)}
        return cls(sisters, exact["floor"], exact["own"])

    def tensors(self) -> dict[str, Array]:
        """float32, by the names that a bundle has for them."""
        named = {SISTER + name: rows for name, rows in self.sisters.items()}
        every = {"floor": self.floor, "own": self.own, **named}
        return {name: rows.astype(np.float32) for name, rows in every.items()}

    def record(self, blend: float, unlike: tuple[str, ...] = ()) -> Enrolment:
        """What the manifest says of it."""
        sisters = {name: len(rows) for name, rows in self.sisters.items()}
        return Enrolment(sisters, len(self.own), blend, unlike)

    def check(self) -> None:
        """Refuse too few sisters, or too few clips of one. Raises :class:`DataError`."""
        if len(self.sisters) < FEWEST_SISTERS:
            raise DataError(
                f"a base needs {FEWEST_SISTERS} machines of a type or more, found "
                f"{len(self.sisters)}: it learns from them how machines differ"
            )
        for name, rows in self.sisters.items():
            if len(rows) < FEWEST_OF_EACH:
                raise DataError(
                    f"{name} has {len(rows)} training clip(s); a base needs at least "
                    f"{FEWEST_OF_EACH} of each machine: add some, or leave the machine out"
                )


@dataclass(frozen=True, eq=False)
class Kinship:
    """What enrolling the sisters in the same way tells of one more."""

    distances: list[Numbers]
    """Of each sister the (n,) logarithms of her clips' squared distances."""
    places: Numbers
    """(sisters,) logarithms of the squared distance of each one's mean from the others'."""

    @property
    def levels(self) -> Numbers:
        """(sisters,) the mean of each one's :attr:`distances`."""
        return np.array([one.mean() for one in self.distances])

    @property
    def variance(self) -> float:
        """Of a sister's distances about her own level."""
        squares = sum(float(np.square(one - one.mean()).sum()) for one in self.distances)
        return squares / sum(len(one) - 1 for one in self.distances)


@dataclass(frozen=True, eq=False)
class Enrolled:
    """A machine's monitor, as numbers."""

    fit: LinearFit
    """What the graph computes."""
    threshold: Threshold
    """Where normal ends."""
    unlike: tuple[str, ...]
    """In what it is unlike its sisters, ``mean`` or ``spread``; it then borrows nothing."""


def enrol(base: Base, false_alarm_probability: float, clip_seconds: float) -> Enrolled:
    """Enrol the machine whose own clips ``base`` holds.

    Args:
        base: sisters, and at least one clip of its own.
        false_alarm_probability: what the threshold promises, between 0 and 0.5.
        clip_seconds: length of the clips, for the record.

    Raises:
        ConfigError: the promise is out of range.
        DataError: it has no clip, one twice, or is unlike its sisters and has too few to stand
            alone.
    """
    own, sisters = base.own, Sisters(list(base.sisters.values()))
    if not len(own):
        raise DataError("a machine is enrolled from at least one clip of its own")
    if len(np.unique(own.astype(np.float32), axis=0)) < len(own):
        raise DataError("a clip is there twice: each counts only once")
    fit = fit_linear(own, sisters, base.floor)
    kinship = kinship_of(base, len(own), fit.blend)
    left_out = unlearned_distances(fit, own, sisters, base.floor)
    logs = np.log(left_out * _as_of(len(own), len(own) - 1)) if len(left_out) else left_out
    unlike = tuple(_unlike(base, fit, kinship, logs))
    if unlike:
        return _alone(base, unlike, false_alarm_probability, clip_seconds)
    if len(logs) >= fewest_clips(false_alarm_probability):
        scores = fit.of_distances(left_out)
        threshold = threshold_from_scores(
            scores, false_alarm_probability, clip_seconds, fit.least_nll
        )
    else:
        threshold = _lent_threshold(fit, kinship, logs, false_alarm_probability, clip_seconds)
    return Enrolled(fit, threshold, ())


def kinship_of(base: Base, clips: int, blend: float) -> Kinship:
    """Enrol each sister by the others from so many clips of hers, and measure the rest."""
    distances, places = [], []
    for name in base.sisters:
        logs, far = zip(*_in_turn(base, name, clips, blend), strict=True)
        distances.append(np.concatenate(logs))
        places.append(float(np.mean(far)))
    return Kinship(distances, np.array(places))


def _in_turn(base: Base, name: str, clips: int, blend: float) -> Iterator[tuple[Numbers, float]]:
    """Of each part of a sister's clips the distances, and how far the mean of the others lies."""
    rows, others = base.sisters[name], [r for k, r in base.sisters.items() if k != name]
    lent, centre = Sisters(others), _centre(others)
    rng = np.random.default_rng(list(name.encode()))  # the same clips wherever it is asked
    order = rng.permutation(len(rows))
    for part in np.array_split(order, min(FOLDS, len(rows))):
        rest = rng.permutation(np.setdiff1d(order, part))[:clips]
        fit = fit_linear(rows[rest], lent, base.floor, blend)
        far = float(np.log(fit.distances(centre[None])[0]))
        yield np.log(fit.distances(rows[part]) * _as_of(clips, len(rest))), far


def _as_of(clips: int, used: int) -> float:
    """What a squared distance from a mean of ``used`` clips is from one of ``clips``, as a factor.

    A clip lies from a mean of n others by its own variance and an n-th of it.
    """
    return (1 + 1 / clips) / (1 + 1 / used)


def _centre(machines: list[Rows]) -> Numbers:
    """(D,) the mean of machines' means."""
    centre: Numbers = np.mean([rows.mean(axis=0) for rows in machines], axis=0)
    return centre


def _unlike(base: Base, fit: LinearFit, kinship: Kinship, logs: Numbers) -> Iterator[str]:
    """In what a machine lies farther out than all but :data:`DOUBT` of its sisters would."""
    place = float(np.log(fit.distances(_centre(list(base.sisters.values()))[None])[0]))
    if _beyond(place, kinship.places):
        yield "mean"
    if len(logs) and _beyond(float(logs.mean()), kinship.levels, kinship.variance / len(logs)):
        yield "spread"


def _beyond(value: float, sisters: Numbers, noise: float = 0.0) -> bool:
    """Whether ``value`` is above what one more of the ``sisters`` would have."""
    from scipy.stats import t

    n = len(sisters)
    spread = math.sqrt(float(sisters.var(ddof=1)) * (1 + 1 / n) + noise)
    return value > float(sisters.mean()) + float(t.ppf(1 - DOUBT, n - 1)) * spread


def _alone(
    base: Base, unlike: tuple[str, ...], false_alarm_probability: float, clip_seconds: float
) -> Enrolled:
    """What a machine's own clips carry."""
    if len(base.own) < FEWEST_ALONE:
        raise DataError(
            f"this machine is unlike its sisters in its {' and '.join(unlike)}, so it can borrow "
            f"nothing from them, and {len(base.own)} clip(s) of its own carry no monitor: record "
            f"at least {FEWEST_ALONE}"
        )
    nobody = Sisters([])
    fit = fit_linear(base.own, nobody, base.floor)
    scores = unlearned_nll(fit, base.own, nobody, base.floor)
    threshold = threshold_from_scores(scores, false_alarm_probability, clip_seconds, fit.least_nll)
    return Enrolled(fit, threshold, unlike)


def _lent_threshold(
    fit: LinearFit, kinship: Kinship, own: Numbers, p: float, clip_seconds: float
) -> Threshold:
    """The threshold that the sisters' distances and the machine's ``own`` together set."""
    from scipy.stats import t

    sisters, n, levels = len(kinship.levels), len(own), kinship.levels
    freedom, variance = LENT_FREEDOM, kinship.variance
    if n > 1:
        freedom += n - 1
        squares = float(np.square(own - own.mean()).sum())
        variance = (LENT_FREEDOM * variance + squares) / freedom
    between = float(levels.var(ddof=1)) * (1 + 1 / sisters)  # holds what noise is in the levels
    weight = variance + n * between
    level = (variance * float(levels.mean()) + between * float(own.sum())) / weight
    doubt = variance * between / weight
    total = variance + doubt
    both = total**2 / (variance**2 / freedom + doubt**2 / (sisters - 1 + n))
    bound = level + float(t.ppf(1 - p, both)) * math.sqrt(total)
    value = float(fit.of_distances(np.array(math.exp(bound))))
    lent = sum(map(len, kinship.distances))
    method = METHOD.format(lent=lent, sisters=sisters, own=n)
    low, high = _interval(bound - level, variance, freedom, doubt)
    return Threshold(value, method, p, n, clip_seconds, low, high, fit.least_nll)


def _interval(
    reach: float, variance: float, freedom: float, doubt: float
) -> tuple[float, float]:
    """Where the true rate beyond ``reach`` above the level lies, if all is as it is taken to be."""
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    levels = rng.standard_normal(DRAWS) * math.sqrt(doubt)
    spreads = np.sqrt(variance * freedom / rng.chisquare(freedom, DRAWS))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(norm.sf((reach - levels) / spreads), [tail, 1 - tail])
    return float(low), float(high)
