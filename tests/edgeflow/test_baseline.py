"""The baseline: the linear flow fitted to a data set, and the clip mean as a setting of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeflow.baseline import BASELINES, LinearBaseline
from edgeflow.dataset import Dataset
from edgeflow.evaluation import auc_and_pauc
from edgeflow.features import FeatureStore
from edgeflow.training.run_scores import RunScores
from edgeflow.training.train import train
from edgeflow_runtime.errors import AudioError, DataError
from edgeflow_runtime.logmel import LogMelSpec
from edgeflow_runtime.manifest import Features

FEATURES = Features(128, 16000, None, LogMelSpec())


def clips(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 1, (50, 128)).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("name", BASELINES)
def test_it_finds_a_louder_band(name: str):
    baseline = LinearBaseline(BASELINES[name], FEATURES, clips(20, 0), [clips(20, 1)])
    tests = clips(10, 2)
    louder = [clip + np.eye(128, dtype=np.float32)[5] * 3 for clip in tests]
    assert auc_and_pauc(baseline.scores(tests), baseline.scores(louder))[0] == 1.0


def test_it_is_what_training_a_linear_flow_gives(sounds: Path, tmp_path: Path):
    machines = Dataset.scan(sounds).of_type("fan")
    run = train(machines[0], tmp_path / "run", device="cpu")
    store = FeatureStore(run.features)
    heard = [store.read_all(machine.train, "fan") for machine in machines]
    tests = machines[0].test_normal + machines[0].test_anomalous
    baseline = LinearBaseline(BASELINES["linear"], run.features, heard[0], heard[1:])
    scores = RunScores(run, store, torch.device("cpu"))(tests)
    assert baseline.scores(store.read_all(tests, "fan")) == pytest.approx(scores, rel=1e-4)


def test_only_the_linear_one_borrows_from_sisters():
    target, tests = clips(5, 0), clips(5, 2)
    for name, borrows in (("linear", True), ("clip-mean", False)):
        alone = LinearBaseline(BASELINES[name], FEATURES, target)
        helped = LinearBaseline(BASELINES[name], FEATURES, target, [clips(20, 1)])
        assert (helped.fit.blend > 0) == borrows
        assert (not np.allclose(alone.scores(tests), helped.scores(tests))) == borrows


def test_what_cannot_be_fitted_is_said():
    spec = BASELINES["linear"]
    with pytest.raises(DataError, match="no training clips"):
        LinearBaseline(spec, FEATURES, [])
    with pytest.raises(DataError, match="1 clip"):
        LinearBaseline(spec, FEATURES, clips(1, 0))
    with pytest.raises(AudioError, match="has 20 frames, one window takes 32"):
        LinearBaseline(spec, FEATURES, [clip[:20] for clip in clips(3, 0)])
