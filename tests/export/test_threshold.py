"""The threshold, against the formula written out, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from edgeflow_export.threshold import METHOD, threshold_from_scores
from edgeflow_runtime.errors import ExportError
from edgeflow_runtime.manifest import Threshold

HELDOUT, LEARNED = np.array([1.0, 2.0, 4.5]), np.array([0.0, 1.0, 3.0, 2.5])


def test_it_is_the_upper_prediction_limit():
    heldout_squares = sum((s - 2.5) ** 2 for s in HELDOUT)
    learned_squares = sum((s - 1.625) ** 2 for s in LEARNED)
    spread = math.sqrt((heldout_squares + learned_squares) / 5)
    expected = 2.5 + t.ppf(0.99, 5) * spread * math.sqrt(4 / 3)
    found = threshold_from_scores(HELDOUT, LEARNED, 0.01, 10.0)
    assert found == Threshold(pytest.approx(expected, rel=1e-12), METHOD, 0.01, 3, 10.0)


def test_it_keeps_its_promise_on_normal_scores():
    rng = np.random.default_rng(0)
    draws = [rng.normal(3.0, 0.5, 20) for _ in range(2000)]
    limits = [threshold_from_scores(d[:4], d[4:19], 0.1, 0.0).value for d in draws]
    alarms = np.mean([d[19] > limit for d, limit in zip(draws, limits, strict=True)])
    assert alarms == pytest.approx(0.1, abs=0.02)


def test_the_fewest_clips():
    few = threshold_from_scores(HELDOUT[:1], LEARNED[:2], 0.01, 0.0)
    assert few.heldout_clips == 1
    assert few.value > HELDOUT[0]
    for heldout, learned in ((HELDOUT[:0], LEARNED), (HELDOUT, LEARNED[:1])):
        found = f"found {len(heldout)} and {len(learned)}"
        with pytest.raises(ExportError, match=f"1 held-out and 2 learned clips, {found}"):
            threshold_from_scores(heldout, learned, 0.01, 0.0)


@pytest.mark.parametrize("probability", [0.0, 0.5, -0.1, 0.7, math.nan])
def test_probabilities_that_make_no_sense(probability: float):
    with pytest.raises(ExportError, match=r"lies between 0 and 0\.5"):
        threshold_from_scores(HELDOUT, LEARNED, probability, 0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_a_score_that_is_not_finite(bad: float, place: int):
    scores = [HELDOUT.copy(), LEARNED.copy()]
    scores[place][1] = bad
    with pytest.raises(ExportError, match="not finite: the flow cannot be deployed"):
        threshold_from_scores(*scores, 0.01, 0.0)
