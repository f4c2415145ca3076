"""From one long recording to a verdict on the command line, and what a user meets on the way."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from edgeflow.cli import cli

RATE_HZ = 16000


def edgeflow(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def fails(result: Result, *parts: str) -> None:
    """The command ended with status 2, and its last line of error says why."""
    assert result.exit_code == 2, result.output
    line = result.stderr.splitlines()[-1]
    assert line.startswith("Error: ")
    for part in parts:
        assert part in line


def recording(path: Path, seconds: float, channels: int = 1, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (round(seconds * RATE_HZ), channels)
    sound = 0.05 * np.random.default_rng(seed).standard_normal(shape)
    soundfile.write(path, sound, RATE_HZ)
    return path


@pytest.fixture
def good_day(tmp_path: Path) -> Path:
    return recording(tmp_path / "good day.wav", 62)


def test_one_long_recording_becomes_a_monitor(mimii: Path, tmp_path: Path):
    clips = sorted((mimii / "valve").glob("*/normal_id_00_*"))
    sound = np.concatenate([soundfile.read(clip, dtype="int16")[0] for clip in clips])
    path, run, bundle = tmp_path / "day.wav", tmp_path / "run", tmp_path / "valve.edgeflow"
    soundfile.write(path, sound, RATE_HZ)
    command = ["train", "--normal", path, "-o", run]
    trained = edgeflow(*command)
    assert trained.exit_code == 0, trained.output
    assert trained.stdout.startswith(f"{run}: fitted")
    assert "machine_id_00: 10 clips can promise 9.09%, not 1%" in trained.stderr
    assert edgeflow(*command).stdout == f"{run}: already trained\n"
    run = run.rename(tmp_path / "moved")  # the clips go with it
    exported = edgeflow("export", run, "-o", bundle)
    assert exported.exit_code == 0, exported.output
    assert edgeflow("verify", bundle).output.endswith("verified\n")
    test = next((mimii / "valve" / "test").glob("anomaly_id_00_*"))
    scored = json.loads(edgeflow("score", bundle, test).stdout)
    learned = sorted((run / "data").rglob("*.wav"))
    again = json.loads(edgeflow("score", bundle, learned[0]).stdout)
    assert (again["verdict"], again["machine_type"]) == ("normal", "machine")
    assert scored["score"] > again["score"]


def test_sisters_abnormal_recordings_and_an_evaluation(tmp_path: Path):
    good = [recording(tmp_path / f"good {k}.wav", 30, seed=k) for k in range(2)]
    bad = recording(tmp_path / "bad.wav", 9, seed=8)
    sister = recording(tmp_path / "b" / "x.flac", 20, seed=9)
    run = tmp_path / "run"
    named = ["--type", "fan", "--id", "07", "--seconds", 2, "--test-share", 0.25, "--yes"]
    trained = edgeflow(
        "train", "--normal", *good, "--abnormal", bad, "--sisters", f"02={sister.parent}",
        *named[:-1], "-o", run,
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    record = json.loads((run / "run.json").read_text())
    assert record["recipe"]["machine"] == {"machine_type": "fan", "machine_id": "07"}
    assert len(record["learn"]) == 30 - 8  # of two recordings, by one --normal
    measured = edgeflow("evaluate", run, run / "data", "--json")
    (figures,) = json.loads(measured.stdout)["machines"]
    assert (figures["normal"], figures["anomalous"]) == (8, 4)


def test_every_machine_of_a_folder(tmp_path: Path):
    for k, name in enumerate(("Halle 3", "Halle 4")):
        recording(tmp_path / "fans" / name / "normal" / "a.wav", 8, seed=k)
    options = ["--machines", tmp_path / "fans", "--type", "fan", "--seconds", 2]
    fails(edgeflow("train", *options, "-o", tmp_path / "x"), "--id, or train --all")
    other = edgeflow("train", *options, "--id", "Halle", "-o", tmp_path / "x")
    fails(other, "holds no machine 'Halle'; it has Halle-3, Halle-4")
    trained = edgeflow("train", *options, "--all", "-o", tmp_path / "runs")
    assert trained.stdout.count(": fitted") == 2, trained.output
    assert (tmp_path / "runs" / "fan_id_Halle-3" / "run.json").exists()
    out = tmp_path / "sounds"
    assert edgeflow("data", "import", out, *options, "--yes").exit_code == 0
    assert edgeflow("data", "info", out).output.count("fan_id_Halle") == 4


def test_a_plan_comes_first_and_nothing_is_written_unasked(good_day: Path, tmp_path: Path):
    out = tmp_path / "sounds"
    command = ["data", "import", out, "--normal", good_day]
    looked = edgeflow(*command, "--dry-run")
    assert looked.exit_code == 0
    assert "6 clips of 10 s" in looked.stdout
    fails(edgeflow(*command), "say --yes to write, or --dry-run to look only")
    looked = edgeflow("train", "--normal", good_day, "-o", tmp_path / "run", "--dry-run")
    assert "6 clips of 10 s" in looked.stdout
    assert not (tmp_path / "run").exists()
    assert not out.exists()
    written = edgeflow(*command, "--yes")
    assert written.stdout.endswith(f"{out}: 6 clips written\n")
    fails(edgeflow(*command, "--yes"), "is there already: add to it with --add")
    again = edgeflow(*command, "--yes", "--add")
    fails(again, "no clip can be cut")
    assert f"is in the data set already, from '{good_day}'" in again.stdout


@pytest.mark.parametrize(("answer", "clips"), [("n", 0), ("", 6)])
def test_on_a_terminal_it_asks(good_day: Path, tmp_path: Path, answer: str, clips: int):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edgeflow", "data", "import", tmp_path / "sounds"]
    asked = subprocess.Popen(
        [*command, "--normal", good_day], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = ""
    while "[Y/n]" not in said:
        said += os.read(ours, 1000).decode()
    os.write(ours, f"{answer}\n".encode())
    assert asked.wait(30) == 0
    os.close(ours)
    assert "Write 6 clips to" in said
    assert len(list(tmp_path.rglob("normal_id_*"))) == clips


def test_a_run_stays_with_the_recordings_it_was_cut_from(good_day: Path, tmp_path: Path):
    run = tmp_path / "run"
    command = ["train", "--normal", good_day, "-o", run]
    assert edgeflow(*command).exit_code == 0
    roundabout = tmp_path / "elsewhere" / ".." / good_day.name
    roundabout.parent.parent.mkdir()
    again = edgeflow("train", "--normal", roundabout, "-o", run)
    assert (again.exit_code, "already trained" in again.stdout) == (0, True)
    fails(edgeflow(*command, "--seconds", 5), "was cut with other settings")
    more = recording(tmp_path / "more.wav", 20, seed=1)
    fails(edgeflow("train", "--normal", good_day, more, "-o", run), "from other recordings")
    recording(good_day, 30)
    fails(edgeflow(*command), "was cut from other recordings than these are now")
    sounds = tmp_path / "sounds"
    assert edgeflow("data", "import", sounds, "--normal", good_day, "--yes").exit_code == 0
    other = ["--type", "machine", "--id", "00", "-o", tmp_path / "other"]
    assert edgeflow("train", sounds, *other).exit_code == 0
    fails(edgeflow("train", "--normal", good_day, *other), "on another data set")


def test_a_recording_that_cannot_be_read_is_reported_and_the_rest_is_used(
    good_day: Path, tmp_path: Path
):
    bad = tmp_path / "not\nsound.wav"
    bad.write_bytes(b"RIFF and no more than that")
    trained = edgeflow("train", "--normal", bad, good_day, "-o", tmp_path / "run")
    assert trained.exit_code == 2
    assert "is not a sound file" in trained.stderr.splitlines()[0]
    assert trained.stdout.startswith(f"{tmp_path / 'run'}: fitted")
    fails(edgeflow("train", "--normal", bad, "-o", tmp_path / "none"), "give 0 clip(s)")
    assert not (tmp_path / "none").exists()


def test_bad_input(good_day: Path, tmp_path: Path):
    out, short = tmp_path / "x", recording(tmp_path / "short.wav", 25)
    two = recording(tmp_path / "two.wav", 31, channels=2)
    fails(edgeflow("train", "--normal", short, "-o", out), "give 2 clip(s)", "--seconds 8")
    fails(edgeflow("train", "--normal", two, "-o", out), "--channel 0 to 1")
    fails(edgeflow("train", "-o", out), "--normal, or a data set")
    fails(edgeflow("train", short, "-o", out), "is not a folder", "train --normal")
    fails(edgeflow("train", tmp_path, "-o", out), "holds no clip", "data import")
    fails(edgeflow("train", tmp_path, "--normal", short, "-o", out), "leave one of them out")
    fails(edgeflow("train", tmp_path, "--hop", 3, "-o", out), "--hop: only for recordings")
    fails(edgeflow("data", "import", out, "--yes"), "--normal, or with --machines")
    fails(edgeflow("data", "import", "--normal", short, out), "'OUT'. name it first")
    both = edgeflow("data", "import", out, "--machines", tmp_path, "--normal", short)
    fails(both, "leave --normal, --abnormal and --sisters out")
    sister = edgeflow("data", "import", out, "--normal", short, "--sisters", "x.wav")
    fails(sister, "write NAME=PATH")
    ids = edgeflow("data", "import", out, "--machines", tmp_path, "--id", "00")
    fails(ids, "leave --id out")
    assert not out.exists()


def test_the_channel_that_was_chosen_is_the_one_the_monitor_takes(tmp_path: Path):
    path, run, bundle = tmp_path / "two.wav", tmp_path / "run", tmp_path / "x.edgeflow"
    recording(path, 40, channels=2)
    assert edgeflow("train", "--normal", path, "--channel", 1, "-o", run).exit_code == 0
    assert edgeflow("export", run, "-o", bundle).exit_code == 0
    clip = sorted((run / "data").rglob("*.wav"))[0]
    assert json.loads(edgeflow("score", bundle, clip).stdout)["verdict"] == "normal"
    out = tmp_path / "sounds"
    written = edgeflow("data", "import", out, "--normal", path, "--channel", 1, "--yes")
    assert "train with --channel 1" in written.stdout


def test_an_interruption_leaves_nothing_behind(tmp_path: Path):
    recording(tmp_path / "a.wav", 1000)
    out = tmp_path / "sounds"
    command = [sys.executable, "-m", "edgeflow", "data", "import", out, "--yes", "--seconds", "1"]
    process = subprocess.Popen(
        [*command, "--normal", tmp_path / "a.wav"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(tmp_path.glob(".sounds.*/*/*/*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.splitlines()[-1]) == (130, "interrupted")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
