"""The replay notices a machine that gives something else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import BundleIntegrityError
from edgeflow_runtime.golden import replay


@pytest.fixture
def bundle(bundle_path: Path) -> Bundle:
    return Bundle.load(bundle_path)


def test_a_fresh_bundle_replays(bundle: Bundle):
    result = replay(bundle, "flow", OnnxRuntimeBackend(bundle.onnx))
    assert result.passed
    assert result.windows == len(bundle.golden["nll"]) > 0


@pytest.mark.parametrize(
    ("name", "shift"), [("nll", 2e-4), ("logmel", 2e-1), ("nll", float("nan"))]
)
def test_another_result_does_not_pass(bundle: Bundle, name: str, shift: float):
    golden = bundle.golden | {name: bundle.golden[name] + shift}
    other = dataclasses.replace(bundle, golden=golden)
    assert not replay(other, "flow", OnnxRuntimeBackend(bundle.onnx)).passed


def test_a_record_of_another_length_is_refused(bundle: Bundle):
    other = dataclasses.replace(bundle, golden=bundle.golden | {"nll": bundle.golden["nll"][:-1]})
    with pytest.raises(BundleIntegrityError, match="NLLs for"):
        replay(other, "flow", OnnxRuntimeBackend(bundle.onnx))
