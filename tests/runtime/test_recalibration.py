"""A threshold is set anew where a monitor listens, and never silently laxer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from edgeflow.cli import cli
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.bundle_writer import write_again
from edgeflow_runtime.errors import BundleError
from edgeflow_runtime.manifest import Threshold
from edgeflow_runtime.recalibration import recalibrate


def calibrate(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["calibrate", *map(str, arguments)])


@pytest.fixture
def normal(bundle_path: Path, tmp_path: Path) -> Path:
    """A folder of the bundle's golden clip, a little louder and softer."""
    samples = Bundle.load(bundle_path).golden["samples"]
    for k, gain in enumerate(np.linspace(0.5, 1.5, 8)):
        soundfile.write(tmp_path / f"{k}.wav", samples * gain, 16000)
    return tmp_path


def test_what_the_bundle_was_made_of_is_refused(bundle_path: Path, normal: Path):
    samples = Bundle.load(bundle_path).golden["samples"]
    soundfile.write(normal / "learned.wav", samples, 16000, subtype="FLOAT")
    result = calibrate(bundle_path, normal, "-o", normal / "new.edgeflow")
    assert result.exit_code == 2
    assert "learned.wav' is the bundle's golden recording" in result.stderr
    assert not (normal / "new.edgeflow").exists()


def old(value: float) -> Threshold:
    return Threshold(value, "by hand", 0.01, 10, 1.0)


def test_the_new_threshold_is_that_of_the_clips():
    scores = np.random.default_rng(0).normal(size=99)
    made = recalibrate(old(2.0), scores, 0.05)
    assert made.new.value == np.sort(scores)[94]
    assert made.new.method.endswith("before: 2")
    assert made.alarms == np.count_nonzero(scores > 2.0)
    assert made.laxer == made.new.value - 2.0


@pytest.mark.parametrize(
    ("value", "low", "high"), [(np.inf, 0.0, 0.2589), (9.5, 0.0051, 0.3942), (0.0, 0.7411, 1.0)]
)
def test_the_rate_of_the_old_threshold_has_the_exact_interval(
    value: float, low: float, high: float
):
    made = recalibrate(old(value), np.arange(1.0, 11.0), 0.1)
    assert np.allclose(made.old_rate(), (low, high), atol=1e-4)


def test_without_an_output_it_only_reports(bundle_path: Path, normal: Path):
    before = bundle_path.read_bytes()
    result = calibrate(bundle_path, normal, "--false-alarms", "20%")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("was ")
    assert "20% false alarms" in result.output
    assert bundle_path.read_bytes() == before


def test_a_laxer_threshold_has_to_be_allowed(bundle_path: Path, normal: Path, tmp_path: Path):
    output = tmp_path / "new.edgeflow"
    arguments = bundle_path, normal, "--false-alarms", "0.1%", "-o", output
    refused = calibrate(*arguments)
    assert refused.exit_code == 2
    assert "laxer than the old one" in refused.stderr
    assert not output.exists()
    assert calibrate(*arguments, "--allow-laxer").exit_code == 0
    whole, new = Bundle.load(bundle_path), Bundle.load(output)
    assert new.manifest.threshold.value > whole.manifest.threshold.value
    assert "calibrated where it listens" in new.manifest.threshold.method
    assert new.onnx == whole.onnx
    stricter = calibrate(output, normal, "--false-alarms", "20%", "-o", output)
    assert stricter.exit_code == 0, stricter.output
    assert "stricter" in stricter.output
    assert Bundle.load(output).manifest.threshold.value < new.manifest.threshold.value


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--allow-laxer",), "belongs to -o"),
        (("--rate", "8000"), "only for sound from a pipe"),
        (("--listen", "every 10 s"), "belongs to --false-alarms"),
        (("--false-alarms", "1 per week"), "how often a clip is judged"),
        (("--false-alarms", "60%"), "less than 0.5"),
    ],
)
def test_bad_input_is_one_line(
    bundle_path: Path, normal: Path, arguments: tuple[str, ...], said: str
):
    result = calibrate(bundle_path, normal, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr.splitlines()[-1]


def test_a_single_clip_is_too_few(bundle_path: Path, normal: Path):
    result = calibrate(bundle_path, normal / "0.wav")
    assert result.exit_code == 2
    assert "needs 2 clips" in result.stderr


def test_a_threshold_that_no_board_would_take_is_not_written(bundle_path: Path, tmp_path: Path):
    whole, path = Bundle.load(bundle_path), tmp_path / "fan.edgeflow"
    path.write_bytes(b"what is there")
    threshold = replace(whole.manifest.threshold, value=1e6)
    manifest = replace(whole.manifest, threshold=threshold)
    with pytest.raises(BundleError, match="no board would take"):
        write_again(replace(whole, path=path, manifest=manifest))
    assert path.read_bytes() == b"what is there"
    write_again(replace(whole, path=path))
    assert Bundle.load(path).manifest.threshold == whole.manifest.threshold
