"""The linear flow in closed form: the Gaussian it says, sisters that help, clips left out."""

from __future__ import annotations

import numpy as np
import pytest

from edgeflow_runtime.errors import DataError
from edgeflow_runtime.linear_fit import (
    BLENDS,
    REFITTED,
    Sisters,
    choose_blend,
    fit_linear,
    unlearned_nll,
)

DIMS = 12
FLOOR = np.full(DIMS, 0.01)
NOBODY = Sisters([])


def clips(count: int, seed: int, at: float = 0.0) -> np.ndarray:
    """Machines of one type: alike in how they vary, not in where they lie."""
    shape = np.random.default_rng(99).standard_normal((DIMS, DIMS))
    return at + np.random.default_rng(seed).standard_normal((count, DIMS)) @ shape


def test_it_is_the_density_of_a_gaussian():
    from scipy.stats import multivariate_normal

    target = clips(400, 1)
    fit = fit_linear(target, NOBODY, FLOOR)
    unit = np.linalg.inv(fit.inverse)
    covariance = (unit * fit.scale) @ (unit * fit.scale).T
    expected = -multivariate_normal(fit.mean, covariance).logpdf(target) / DIMS
    np.testing.assert_allclose(fit.nll(target), expected, rtol=1e-9)
    np.testing.assert_allclose(fit.nll(fit.mean[None]), fit.least_nll)
    np.testing.assert_array_equal(np.triu(fit.inverse, 1), 0)
    np.testing.assert_allclose(np.diag(fit.inverse), 1)


def test_with_many_clips_it_is_their_covariance():
    target = clips(20_000, 2)
    fit = fit_linear(target, NOBODY, FLOOR)
    unit = np.linalg.inv(fit.inverse) * fit.scale
    np.testing.assert_allclose(unit @ unit.T, np.cov(target.T, bias=True), rtol=0.02, atol=0.05)
    assert fit.shrinkage < 0.01


def test_sisters_lend_what_few_clips_cannot_tell():
    sisters = Sisters([clips(200, seed, at=seed) for seed in (3, 4, 5)])
    own, new = clips(5, 6, at=-7), clips(500, 7, at=-7)
    alone, helped = (fit_linear(own, s, FLOOR) for s in (NOBODY, sisters))
    assert helped.blend == BLENDS[-1]
    assert helped.nll(new).mean() < alone.nll(new).mean() - 0.5
    assert fit_linear(own[:1], sisters, FLOOR).nll(new).mean() < alone.nll(new).mean()


def test_sisters_that_are_no_help_are_not_asked():
    strangers = [np.random.default_rng(k).standard_normal((200, DIMS)) * 50 for k in (1, 2)]
    assert choose_blend(clips(2_000, 8), Sisters(strangers), FLOOR) == 0.0
    assert choose_blend(clips(20, 8), NOBODY, FLOOR) == 0.0


@pytest.mark.parametrize("count", [3, REFITTED, REFITTED + 1, 400])
def test_clips_left_out_score_as_new_ones_do(count: int):
    sisters = Sisters([clips(100, seed) for seed in (3, 4)])
    target = clips(count, 9)
    fit = fit_linear(target, sisters, FLOOR)
    left_out = unlearned_nll(fit, target, sisters, FLOOR)
    exact = [
        fit_linear(np.delete(target, k, axis=0), sisters, FLOOR, fit.blend).nll(target[k][None])
        for k in range(min(count, 20))
    ]
    np.testing.assert_allclose(left_out[:20], np.concatenate(exact), rtol=0.01)
    assert (left_out > fit.nll(target)).all()


def test_a_single_clip_cannot_be_left_out():
    sisters = Sisters([clips(100, 3)])
    one = clips(1, 4)
    assert unlearned_nll(fit_linear(one, sisters, FLOOR), one, sisters, FLOOR).shape == (0,)


def test_a_band_that_never_varies_keeps_its_floor():
    target = clips(50, 5)
    target[:, 3] = 0.25
    fit = fit_linear(target, NOBODY, FLOOR)
    moved = target[:1].copy()
    moved[0, 3] += 0.01  # one floor
    assert 0 < fit.distances(moved)[0] - fit.distances(target[:1])[0] < 3


@pytest.mark.parametrize("machines", [[], [clips(1, 0)]])
def test_one_clip_without_sisters_is_too_few(machines: list[np.ndarray]):
    with pytest.raises(DataError, match="1 clip\\(s\\) of a machine without sisters are too few"):
        fit_linear(clips(1, 1), Sisters(machines), FLOOR)
