"""Thresholds keep what they promise, over light and heavy tails, and say how well."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from edgeflow_runtime.calibration import (
    CONFIDENCE,
    binomial_interval,
    probability,
    threshold_from_scores,
)
from edgeflow_runtime.errors import ConfigError, DataError

TRIALS = 400


def stats() -> ModuleType:
    """Loaded when a test runs: it looks for torch, which collection hides in one test."""
    import scipy.stats

    return scipy.stats


Draw = Callable[[np.random.Generator, int], np.ndarray]
Tail = Callable[[float], float]

SCORES: dict[str, tuple[Draw, Tail]] = {
    "normal": (lambda rng, n: rng.normal(5, 1, n), lambda at: stats().norm.sf(at, 5)),
    "log-normal": (lambda rng, n: rng.lognormal(0, 0.5, n), lambda at: stats().lognorm.sf(at, 0.5)),
    "Student's t": (lambda rng, n: 50 + rng.standard_t(3, n), lambda at: stats().t.sf(at - 50, 3)),
    "mixture": (
        lambda rng, n: rng.lognormal(rng.random(n) > 0.9, 0.3),
        lambda at: (
            0.9 * stats().lognorm.sf(at, 0.3) + 0.1 * stats().lognorm.sf(at, 0.3, scale=np.e)
        ),
    ),
}
"""What scores of clips may be like: how to draw them, and the share above a threshold."""


def given(draw: Draw, tail: Tail, rate: float, clips: int) -> tuple[float, float]:
    """The mean rate that thresholds of so many clips give, and how often the interval holds it."""
    rng = np.random.default_rng(clips)
    rates, held = [], []
    for _ in range(TRIALS):
        threshold = threshold_from_scores(draw(rng, clips), rate, 10.0, least=0.0)
        rates.append(tail(threshold.value))
        held.append(threshold.rate_low <= rates[-1] <= threshold.rate_high)
    return float(np.mean(rates)), float(np.mean(held))


NEAR = 3 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / TRIALS)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize(("rate", "clips"), [(0.05, 19), (0.05, 50), (0.01, 99)])
def test_enough_clips_keep_the_promise_whatever_the_scores_are_like(
    name: str, rate: float, clips: int
):
    mean, held = given(*SCORES[name], rate, clips)
    assert mean < rate * (1 + 4 / np.sqrt(TRIALS))
    assert held == pytest.approx(CONFIDENCE, abs=NEAR)


@pytest.mark.parametrize(("rate", "clips"), [(0.05, 7), (0.01, 30)])
def test_fewer_clips_keep_it_where_the_tail_is_as_guessed(rate: float, clips: int):
    mean, held = given(*SCORES["log-normal"], rate, clips)
    assert mean == pytest.approx(rate, rel=0.25)
    assert held == pytest.approx(CONFIDENCE, abs=NEAR)


def test_a_guessed_tail_is_no_promise_elsewhere():
    """The documents say so: a lump of louder clips gives more alarms than were promised."""
    mean, held = given(*SCORES["mixture"], 0.01, 30)
    assert mean > 0.02
    assert held < CONFIDENCE - 0.2


def test_a_rate_out_of_reach_is_refused():
    with pytest.raises(DataError, match=r"2 clips say nothing of a rate of 0\.00165%"):
        threshold_from_scores(np.array([1.0, 2.0]), 1 / 60480, 10.0, least=0.0)


@pytest.mark.parametrize(("count", "of"), [(0, 30), (1, 30), (15, 30), (30, 30)])
def test_the_binomial_interval_is_exact(count: int, of: int):
    low, high = binomial_interval(count, of)
    assert low <= count / of <= high
    tail = (1 - CONFIDENCE) / 2
    if count:
        assert stats().binom.sf(count - 1, of, low) == pytest.approx(tail)
    if count < of:
        assert stats().binom.cdf(count, of, high) == pytest.approx(tail)


def test_a_rate_of_nothing_is_refused():
    with pytest.raises(DataError, match="at least one clip"):
        binomial_interval(0, 0)


@pytest.mark.parametrize("words", ["1%", 0.01, None])
def test_how_often_a_clip_is_judged_belongs_to_a_rate_per_time(words: str | float | None):
    with pytest.raises(ConfigError, match="--listen 'every 10 s' belongs to a rate per time"):
        probability(words, "every 10 s")


@pytest.mark.parametrize(("words", "listen"), [("1 per week", "1.2.3 s"), ("1e1e1 a week", "10")])
def test_numbers_that_are_none_are_refused(words: str, listen: str):
    with pytest.raises(ConfigError, match=r"says no interval|is no rate"):
        probability(words, listen)
