"""Bundles that are out there keep their scores, whatever format they are in."""

from __future__ import annotations

import dataclasses
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeflow.cli import cli
from edgeflow_runtime import Scorer
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.bundle_writer import write_again
from edgeflow_runtime.manifest import FORMAT_VERSION

MAKING = runpy.run_path(str(Path(__file__).parents[1] / "bundles" / "make.py"))
RECORDED = json.loads(MAKING["SCORES"].read_text())
"""By bundle, the scores that the code gave which made it."""


@pytest.fixture(params=RECORDED)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_there_is_one_of_each_format_that_was(bundles: Path):
    formats = [Bundle.load(bundles / name).manifest.format_version for name in RECORDED]
    assert formats == [1, 2, 3]


def test_it_scores_as_on_the_day_it_was_made(bundles: Path, name: str):
    """Another processor rounds otherwise; on the one that made them, the bits are equal."""
    recorded = RECORDED[name]["scores"]
    with Scorer.load(bundles / name) as scorer:
        clips = MAKING["clips_from"](scorer.bundle.golden["samples"])
        scores = {clip: scorer.score(samples, 16000).score for clip, samples in clips.items()}
    assert scores == pytest.approx(recorded, abs=1e-6, rel=0)
    assert np.ptp(list(recorded.values())) > 0.1  # the clips are told apart


def test_written_again_it_is_of_todays_format_and_scores_the_same(
    bundles: Path, name: str, tmp_path: Path
):
    old = Bundle.load(bundles / name)
    write_again(dataclasses.replace(old, path=tmp_path / name))
    new = Bundle.load(tmp_path / name)
    assert new.manifest.format_version == FORMAT_VERSION
    assert new.manifest.features == old.manifest.features  # the front end of its day
    samples = old.golden["samples"]
    with Scorer.load(old.path) as before, Scorer.load(new.path) as after:
        assert after.score(samples, 16000).score == before.score(samples, 16000).score


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_the_commands_take_it(bundles: Path, name: str, command: str):
    result = CliRunner().invoke(cli, [command, str(bundles / name)])
    assert result.exit_code == 0, result.output
    assert "fan_id_00" in result.output or command == "verify"
