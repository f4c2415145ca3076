"""Clips that say nothing of a machine are learned from by nobody, and measured by nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from edgeflow.cli import cli


@pytest.mark.parametrize("kind", ["train", "evaluate", "info"])
def test_one_array_of_absurd_values_spoils_no_monitor(kind: str, sounds: Path, tmp_path: Path):
    folder = tmp_path / "arrays"
    for path in sorted((sounds / "fan").rglob("*.wav")):
        copy = folder / path.relative_to(sounds).with_suffix(".npy")
        copy.parent.mkdir(parents=True, exist_ok=True)
        seed = sum(str(copy.relative_to(folder)).encode())
        np.save(copy, np.random.default_rng(seed).normal(-40, 9, (60, 128)).astype(np.float32))
    split = "test" if kind == "evaluate" else "train"
    bad = sorted((folder / "fan" / split).glob("normal_id_00_*"))[0]
    np.save(bad, np.float32(1e30) * np.load(bad))
    if kind == "info":
        result = CliRunner().invoke(cli, ["data", "info", str(folder)])
        assert f"! '{bad}' holds values from" in result.output
        return
    options = ["--type", "fan", "--id", "00", "--model", "maf", "--preset", "small", "--epochs=1"]
    run = str(tmp_path / "run")
    result = CliRunner().invoke(cli, ["train", str(folder), *options, "-o", run])
    if kind == "evaluate":
        assert result.exit_code == 0, result.output
        result = CliRunner().invoke(cli, ["evaluate", run, str(folder)])
    assert result.exit_code == 2
    assert f"'{bad}' holds values from" in result.stderr


def test_a_frozen_driver_is_no_test_clip(bundle_path: Path, sounds: Path, tmp_path: Path):
    shutil.copytree(sounds / "fan", tmp_path / "data" / "fan")
    clip = sorted((tmp_path / "data" / "fan" / "test").glob("normal_id_00*"))[0]
    buffer = np.random.default_rng(0).standard_normal(1024) / 10
    soundfile.write(clip, np.tile(buffer, 32), 16000)
    result = CliRunner().invoke(cli, ["evaluate", str(bundle_path), str(tmp_path / "data")])
    assert (result.exit_code, f"'{clip}' repeats" in result.stderr) == (2, True)


def test_a_pipe_in_a_data_set_is_not_waited_for(sounds: Path, tmp_path: Path):
    shutil.copytree(sounds / "fan", tmp_path / "data" / "fan")
    pipe = tmp_path / "data" / "fan" / "train" / "normal_id_00_99999999.wav"
    os.mkfifo(pipe)
    for command in (["data", "info"], ["train", "--all", "-o", tmp_path / "runs"]):
        words = [sys.executable, "-m", "edgeflow", *command, tmp_path / "data"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert f"'{pipe}' is not a file" in done.stdout + done.stderr
