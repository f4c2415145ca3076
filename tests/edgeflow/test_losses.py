"""The losses, against the equations written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.losses import LossSpec, loss_of
from edgeflow_runtime.errors import ConfigError

nlls = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=20)


def by_hand(kind: str, target: list[float], outlier: list[float], c: float, k: float) -> float:
    if kind == "nll":
        return float(np.mean(target))
    passing = [v for v in outlier if v < c and (kind == "eq4" or v < max(target))]
    weight = 1.0 if kind == "eq4" else k
    return float(np.mean(target) - (weight * np.mean(passing) if passing else 0.0))


@pytest.mark.parametrize("kind", ["nll", "eq4", "eq5"])
@given(target=nlls, outlier=nlls, c=st.floats(-5, 5, width=32), k=st.floats(0, 2, width=32))
def test_losses_are_the_equations(kind: str, target, outlier, c: float, k: float):
    outliers = None if kind == "nll" else torch.tensor(outlier)
    loss, passed = loss_of(LossSpec(kind, k), torch.tensor(target), outliers, c)
    assert loss.item() == pytest.approx(by_hand(kind, target, outlier, c, k), abs=1e-5)
    if kind == "eq4":
        assert passed.item() == sum(v < c for v in outlier)


def test_the_gradient_pushes_passing_outliers_only():
    target = torch.tensor([1.0, 2.0], requires_grad=True)
    outlier = torch.tensor([0.5, 1.5, 2.5, 9.0], requires_grad=True)
    loss_of(LossSpec("eq5", 0.5), target, outlier, 3.0)[0].backward()
    assert target.grad.tolist() == [0.5, 0.5]
    assert outlier.grad.tolist() == [-0.25, -0.25, 0.0, 0.0]


def test_no_passing_outlier_means_no_term():
    target, outlier = torch.tensor([1.0]), torch.tensor([5.0], requires_grad=True)
    loss, passed = loss_of(LossSpec("eq4"), target, outlier, 2.0)
    assert (loss.item(), passed.item()) == (1.0, 0)


@pytest.mark.parametrize(("kind", "uses"), [("nll", False), ("eq4", True), ("eq5", True)])
def test_which_losses_need_outliers(kind: str, uses: bool):
    assert LossSpec(kind).uses_outliers is uses


def test_an_unknown_loss_is_refused():
    with pytest.raises(ConfigError, match="unknown loss 'eq6'"):
        LossSpec("eq6")
    with pytest.raises(ConfigError, match="c must be a finite number, found nan"):
        LossSpec("eq5", ceiling=float("nan"))
