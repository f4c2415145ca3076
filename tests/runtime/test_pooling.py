"""The statistics of a pooled view: what their names say, and shares that lead back to frames."""

from __future__ import annotations

import numpy as np
import pytest

from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.pooling import MAX, MEAN, Ranked, statistic

FRAMES = np.random.default_rng(0).standard_normal((313, 5)).astype(np.float32)


def test_each_is_what_its_name_says():
    falling = -np.sort(-FRAMES, axis=0)
    decay = 0.9 ** np.arange(313)
    stretches = FRAMES[:288].reshape(9, 32, 5)
    for text, expected in {
        "mean": FRAMES.mean(axis=0),
        "max": FRAMES.max(axis=0),
        "gwrp:0.9": decay @ falling / decay.sum(),
        "ranks:0.01-0.1": falling[3:31].mean(axis=0),
        "spread:32": stretches.std(axis=1).mean(axis=0),
    }.items():
        np.testing.assert_allclose(statistic(text)(FRAMES), expected, rtol=1e-5, err_msg=text)


def test_ranking_pooling_runs_from_the_maximum_to_the_mean():
    assert statistic("gwrp:1") == MEAN
    assert statistic("gwrp:0") == MAX
    nearly = Ranked(decay=0.999999)(FRAMES), Ranked(decay=1e-9)(FRAMES)
    np.testing.assert_allclose(nearly, [MEAN(FRAMES), MAX(FRAMES)], atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 7, 313])
@pytest.mark.parametrize("text", ["mean", "max", "gwrp:0.5", "ranks:0-0.01", "ranks:0.99-1"])
def test_weights_add_up_however_few_the_frames(text: str, count: int):
    weights = statistic(text).weights(count)
    assert weights.shape == (count,)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()


@pytest.mark.parametrize("text", ["mean", "max", "gwrp:0.9", "ranks:0.01-0.1", "spread:32"])
@pytest.mark.parametrize("frames", [FRAMES, np.zeros_like(FRAMES)])
def test_parts_are_of_frames_and_never_all_nothing(text: str, frames: np.ndarray):
    parts = statistic(text).parts(frames, np.zeros(5))
    assert parts.shape == frames.shape
    assert (parts >= 0).all()
    assert (parts.sum(axis=0) > 0).all()


def test_a_mean_goes_back_to_what_raised_it():
    frames = np.zeros((100, 1), np.float32)
    frames[40:50] = 3
    parts = MEAN.parts(frames, np.zeros(1))
    assert np.flatnonzero(parts).tolist() == list(range(40, 50))
    lowered = MEAN.parts(-frames, np.zeros(1))
    assert np.flatnonzero(lowered).tolist() == list(range(40, 50))


@pytest.mark.parametrize(
    "text",
    ["", "Mean", "mean:1", "gwrp", "gwrp:1.1", "gwrp:-1", "ranks:0.5", "ranks:0.5-0.1", "spread:1",
     "spread:2.5", "spread:nan", "max:", "gwrp:x"],
)  # fmt: skip
def test_what_is_no_statistic_is_refused(text: str):
    if text == "max:":
        assert statistic(text) == MAX
        return
    with pytest.raises(ConfigError, match="unknown statistic"):
        statistic(text)
