"""Other constants are written into a graph in place, and only where they fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import BundleError
from edgeflow_runtime.linear_fit import Sisters, fit_linear
from edgeflow_runtime.onnx_weights import replace_initializers

BASE = Path(__file__).parents[1] / "bundles" / "fan.base.edgeflow"
ONNX = Bundle.load(BASE).onnx
DIMS = 96


@pytest.fixture(scope="module")
def constants() -> dict[str, np.ndarray]:
    rows = np.random.default_rng(0).normal(size=(40, DIMS))
    return fit_linear(rows, Sisters([]), np.full(DIMS, 0.1)).constants()


def test_every_constant_of_a_fit_is_the_graphs(constants: dict[str, np.ndarray]):
    changed = replace_initializers(ONNX, constants)
    assert len(changed) == len(ONNX)
    for name, value in constants.items():
        alone = replace_initializers(ONNX, {name: value})
        assert alone != ONNX, name
        assert value.tobytes() in alone
    x = np.random.default_rng(1).normal(size=(5, 3, 32)).astype(np.float32)
    flat = x.reshape(5, DIMS).astype(np.float64)
    z = flat + flat @ constants["conditioners.0.weight"].T + constants["shift"]
    expected = np.square(z * constants["scale"]).sum(axis=1) + DIMS * constants["constant"]
    assert np.allclose(OnnxRuntimeBackend(changed).nll(x), expected, atol=1e-5)


def test_what_was_there_gives_the_same_bytes():
    assert replace_initializers(ONNX, {}) == ONNX


@pytest.mark.parametrize(
    ("name", "shape", "there"),
    [("shift", (DIMS - 1,), r"\(96,\)"), ("shift", (DIMS, 1), "96"), ("gone", (1,), "none")],
)
def test_what_does_not_fit_is_refused(name: str, shape: tuple[int, ...], there: str):
    with pytest.raises(BundleError, match=f"{name}.*{there}"):
        replace_initializers(ONNX, {name: np.zeros(shape, np.float32)})


@given(st.binary(max_size=200))
def test_bytes_that_are_no_graph_are_refused(content: bytes):
    with pytest.raises(BundleError):
        replace_initializers(content, {"shift": np.zeros(DIMS, np.float32)})


@given(st.integers(0, len(ONNX) - 1), st.integers(0, 255))
def test_a_damaged_graph_is_read_or_refused_by_name(place: int, byte: int):
    damaged = bytearray(ONNX)
    damaged[place] = byte
    try:
        changed = replace_initializers(bytes(damaged), {"shift": np.zeros(DIMS, np.float32)})
    except BundleError:
        return
    assert len(changed) == len(ONNX)
