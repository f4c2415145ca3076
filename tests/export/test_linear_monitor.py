"""A linear flow from recordings to verdict: what it hears, and what it must not care about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from edgeflow.dataset import Dataset
from edgeflow.features import FeatureStore
from edgeflow.training.run_scores import RunScores
from edgeflow.training.train import train
from edgeflow_export.bundle_from_run import export
from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.linear_fit import Sisters, fit_linear
from edgeflow_runtime.scorer import Scorer


@pytest.fixture(scope="module")
def fan(mimii: Path, tmp_path_factory: pytest.TempPathFactory):
    """A scorer of a real fan, and its clips."""
    folder, data = tmp_path_factory.mktemp("fan"), Dataset.scan(mimii)
    machine = data.machine("fan", "00")
    bundle = export(train(machine, folder / "run"), folder / "fan.edgeflow").path
    with Scorer.load(bundle) as scorer:
        yield scorer, machine.test_normal + machine.test_anomalous


@pytest.mark.parametrize(("offset", "allowed"), [(0.01, 1e-4), (0.1, 1e-3)])
def test_an_offset_of_the_sound_card_moves_no_score(fan, offset: float, allowed: float):
    scorer, clips = fan
    for clip in clips:
        samples, rate = soundfile.read(clip, dtype="float32")
        shifted = scorer.score(samples + np.float32(offset), rate)
        assert shifted.score == pytest.approx(scorer.score(samples, rate).score, abs=allowed)


@pytest.mark.parametrize("rate_hz", [22050, 44100, 48000, 96000])
def test_the_rate_of_a_recording_moves_no_score(fan, rate_hz: int):
    scorer, clips = fan
    for clip in clips:
        samples, own_hz = soundfile.read(clip, dtype="float32")
        faster = soxr.resample(samples, own_hz, rate_hz, "VHQ")
        expected = scorer.score(samples, own_hz).score
        assert scorer.score(faster, rate_hz).score == pytest.approx(expected, abs=3e-3)


def test_the_run_and_its_bundle_score_as_the_fit_does(sounds: Path, tmp_path: Path):
    machine = Dataset.scan(sounds).machine("fan", "00")
    run = train(machine, tmp_path / "run")
    store = FeatureStore(run.features)
    in_torch = RunScores(run, store, torch.device("cpu"))(machine.test_normal)
    with Scorer.load(export(run, tmp_path / "fan.edgeflow").path) as scorer:
        results = [scorer.score(clip) for clip in machine.test_normal]
    np.testing.assert_allclose([r.score for r in results], in_torch, atol=1e-4)

    def rows(paths: list[Path]) -> np.ndarray:
        seen = [run.view(store.read(path)).reshape(-1) for path in paths]
        return np.array(seen, np.float64)

    sister = Dataset.scan(sounds).machine("fan", "02")
    dead = run.view.scale.ravel() > 1e6
    floor = np.where(dead, 1.0, 0.3 / run.view.scale.ravel())
    fit = fit_linear(rows(machine.train), Sisters([rows(sister.train)]), floor)
    np.testing.assert_allclose(fit.nll(rows(machine.test_normal)), in_torch, atol=1e-4)
    assert results[0].windows == 1


def test_a_machine_without_sisters_is_fitted_to_its_own_clips(sounds: Path, tmp_path: Path):
    machine = Dataset.scan(sounds).machine("fan", "00")
    lonely = tmp_path / "fan" / "train"
    lonely.mkdir(parents=True)
    for clip in machine.train:
        (lonely / clip.name).symlink_to(clip)
    run = train(Dataset.scan(tmp_path).machine("fan", "00"), tmp_path / "run")
    assert "0% of the covariance from sisters" in str(run)
    assert len(run.unlearned()) == len(machine.train)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "eq5"}, "a linear model is fitted in closed form, by its likelihood"),
        ({"epochs": 3}, "a linear model is fitted in closed form, without epochs"),
        ({"statistics": ("mean", "median")}, "unknown statistic 'median'"),
    ],
)
def test_what_a_closed_form_cannot_do_is_refused(sounds: Path, tmp_path, options, message: str):
    with pytest.raises(ConfigError, match=message):
        train(Dataset.scan(sounds).machine("fan", "00"), tmp_path / "run", **options)
