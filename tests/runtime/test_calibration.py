"""Thresholds keep what they promise, and say what they cannot."""

from __future__ import annotations

import numpy as np
import pytest

from edgeflow_runtime.calibration import (
    advice,
    fewest_clips,
    interval_seconds,
    probability,
    threshold_from_scores,
)
from edgeflow_runtime.errors import ConfigError, DataError


def test_enough_clips_carry_their_promise_whatever_the_tail():
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(2_000):
        threshold = threshold_from_scores(rng.standard_t(2, 99), 0.01, 10.0)
        assert threshold.method == "conformal: the 99th smallest of 99 scores"
        rates.append(np.mean(rng.standard_t(2, 1_000) > threshold.value))
    assert np.mean(rates) == pytest.approx(0.01, abs=0.001)
    given = np.array(rates)
    inside = np.mean((given >= threshold.rate_low) & (given <= threshold.rate_high))
    assert inside == pytest.approx(0.9, abs=0.05)  # rates are counted in 1,000 clips


@pytest.mark.parametrize("clips", [2, 5, 20])
def test_fewer_clips_keep_it_where_distances_are_log_normal(clips: int):
    rng = np.random.default_rng(clips)
    rates = []
    for _ in range(1_000):
        scores = -3 + np.exp(0.3 * rng.standard_normal(clips))
        threshold = threshold_from_scores(scores, 0.02, 10.0, least=-3.0)
        assert threshold.method.startswith("extrapolated")
        rates.append(np.mean(-3 + np.exp(0.3 * rng.standard_normal(500)) > threshold.value))
    assert np.mean(rates) == pytest.approx(0.02, abs=0.004)
    assert np.quantile(rates, 0.95) == pytest.approx(threshold.rate_high, abs=0.02)


def test_the_advice_says_what_would_carry_it():
    few = threshold_from_scores(np.arange(30.0), 0.01, 10.0)
    assert advice(few) == (
        "30 clips can promise 3.23%, not 1%: beyond, the tail is a guess; for 1% record 99"
    )
    assert advice(threshold_from_scores(np.arange(99.0), 0.01, 10.0)) is None
    assert [fewest_clips(p) for p in (0.01, 0.05, 0.1)] == [99, 19, 9]


@pytest.mark.parametrize(
    ("scores", "p", "error", "message"),
    [
        ([1.0], 0.01, DataError, "needs 2 clips that were not learned, found 1"),
        ([1.0, np.nan], 0.01, DataError, "not finite"),
        ([1.0, 2.0], 0.0, ConfigError, "between 0 and 0.5"),
        ([1.0, 2.0], 0.5, ConfigError, "between 0 and 0.5"),
    ],
)
def test_what_no_threshold_can_be_set_from_is_refused(scores, p, error, message: str):
    with pytest.raises(error, match=message):
        threshold_from_scores(np.array(scores), p, 10.0)


@pytest.mark.parametrize(
    ("text", "listen", "expected"),
    [
        ("1%", None, 0.01),
        ("0.5 %", None, 0.005),
        ("0.02", None, 0.02),
        ("1 per week", "every 10 s", 10 / 604800),
        ("2 per days", "60", 120 / 86400),
        ("3/month", "2 minutes", 360 / 2629800),
    ],
)
def test_rates_in_words(text: str, listen: str | None, expected: float):
    assert probability(text, listen) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "listen", "message"),
    [
        ("often", None, "'often' is no rate"),
        ("60%", None, "'60%' is 0.6 of the clips"),
        ("0", None, "'0' is 0 of the clips"),
        ("nan", None, "'nan' is no rate"),
        ("1 per week", None, "say how often a clip is judged: --listen 'every 10 s'"),
        ("1 per fortnight", "10", "give a rate per second"),
        ("1 per week", "now and then", "'now and then' says no interval"),
        ("1 per week", "0 s", "'0 s' says no interval"),
    ],
)
def test_words_that_say_no_rate_are_refused(text: str, listen: str | None, message: str):
    with pytest.raises(ConfigError, match=message):
        probability(text, listen)


def test_intervals_in_words():
    assert [interval_seconds(t) for t in ("every 10 s", "10", "2 minutes", "1.5h")] == [
        10, 10, 120, 5400,
    ]  # fmt: skip
