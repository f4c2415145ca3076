r"""A machine never seen, enrolled from its first clips: a fit, and a threshold from the first on.

The sisters lend their covariance, and tell what its first clips cannot: how far one more normal
clip lies from a mean of so few (see :mod:`~edgeflow_runtime.kinship`). The machine's own clips,
each left out in turn, take over as they come: logarithms of squared distances are taken to be

.. math:: y = m + e, \quad m \sim N(M, \tau^2), \quad e \sim N(0, \sigma^2)

with M and tau from the sisters' means and m from what both say of this machine.

It is numpy alone, as it runs on the board.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeflow_runtime.base import Base
from edgeflow_runtime.calibration import CONFIDENCE, DRAWS, fewest_clips, threshold_from_scores
from edgeflow_runtime.errors import DataError
from edgeflow_runtime.kinship import Kinship, Numbers, as_of, kinship_of
from edgeflow_runtime.linear_fit import (
    LinearFit,
    Sisters,
    fit_linear,
    unlearned_distances,
    unlearned_nll,
)
from edgeflow_runtime.manifest import Threshold

FEWEST_ALONE = 3
"""Clips that a machine needs which can borrow nothing."""

LENT_FREEDOM = 10
"""The sisters' spread counts as much as that of so many clips more of the machine's own: machines
differ in it, and with this freedom Student's t allows for that."""

METHOD = (
    "enrolled: Student's t on the logarithm of the distance from the likeliest sound, of {lent} "
    "clips of {sisters} sisters enrolled in the same way and of {own} own left out in turn"
)


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
        DataError: it has no clip, or is unlike its sisters and has too few to stand alone.
    """
    own, sisters = base.own, Sisters(list(base.sisters.values()))
    if not len(own):
        raise DataError("a machine is enrolled from at least one clip of its own")
    fit = fit_linear(own, sisters, base.floor)
    kinship = kinship_of(base, len(own), fit.blend)
    left_out = unlearned_distances(fit, own, sisters, base.floor)
    logs = np.log(left_out * as_of(len(own), len(own) - 1)) if len(left_out) else left_out
    unlike = tuple(kinship.unlike(base))
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


def _interval(reach: float, variance: float, freedom: float, doubt: float) -> tuple[float, float]:
    """Where the true rate beyond ``reach`` above the level lies, if all is as it is taken to be."""
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    levels = rng.standard_normal(DRAWS) * math.sqrt(doubt)
    spreads = np.sqrt(variance * freedom / rng.chisquare(freedom, DRAWS))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(norm.sf((reach - levels) / spreads), [tail, 1 - tail])
    return float(low), float(high)
