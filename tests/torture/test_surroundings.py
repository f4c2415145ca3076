"""Clocks that step, full temporary folders, crowds of files, no rights, other locales."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgeflow.dataset import Dataset
from edgeflow_runtime.clip_reader import find_clips
from tests.torture.scenes import SCENES, Reference, Scene, Torture, complaint
from tests.torture.test_faults import LONG

NOBODY = 65534


def edgeflow(
    arguments: list[object], content: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "edgeflow", *map(str, arguments)],
        input=content, capture_output=True, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("scene", SCENES if LONG else SCENES[:1], ids=lambda scene: scene.name)
@pytest.mark.parametrize("step_s", [86400, -86400])
def test_a_clock_that_steps_changes_nothing(torture: Torture, scene: Scene, step_s: int):
    reference = Reference.of(torture, scene)
    torture.begin(scene)
    done = torture.play(scene, CLOCK_STEP_S=str(step_s))
    assert done.status == reference.done.status, done.err
    assert torture.tree() == reference.tree


@pytest.mark.parametrize("step_s", [86400, -86400])
def test_a_clock_that_steps_while_a_pipe_is_heard(torture: Torture, library: Path, step_s: int):
    sound = np.random.default_rng(0).normal(0, 3000, 48000).astype("<i2").tobytes()
    command = ["score", torture.inputs / "old.edgeflow", "-"]
    steady = edgeflow(command, sound)
    stepping = edgeflow(command, sound, LD_PRELOAD=str(library), CLOCK_STEP_S=str(step_s))
    assert stepping.returncode == steady.returncode < 2
    timeless = [
        [json.loads(line) | {"heard_at": None} for line in done.stdout.splitlines()]
        for done in (steady, stepping)
    ]
    assert timeless[0] == timeless[1]
    assert len(timeless[0]) == 3


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root, unshare")
@pytest.mark.parametrize("name", ["export", "score", "build"] if LONG else ["score"])
def test_a_full_temporary_folder(torture: Torture, name: str, tmp_path: Path):
    scene = next(scene for scene in SCENES if scene.name == name)
    torture.begin(scene)
    places = {"WORK": str(torture.work), "INPUTS": str(torture.inputs)}
    arguments = [_filled(text, places) for text in scene.arguments]
    fill = 'mount -t tmpfs -o size=16k t "$TMPDIR" && head -c 16k /dev/zero > "$TMPDIR/full"; '
    within = ["unshare", "--mount", "sh", "-c", fill + 'exec "$@"', "sh"]
    done = subprocess.run(
        [*within, sys.executable, "-m", "edgeflow", *arguments],
        capture_output=True, text=True, timeout=120,
        env={**os.environ, "TMPDIR": str(tmp_path), "MPLCONFIGDIR": str(torture.work / "mpl")},
    )  # fmt: skip
    if "mount:" in done.stderr:
        pytest.skip("this machine lets nobody mount: run as root outside of a container")
    assert done.returncode in (0, 1, 2)
    assert "Traceback" not in done.stderr
    assert "unforeseen" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("Error")]) <= 1


def _filled(text: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        text = text.replace(name, place)
    return text


def test_a_crowd_of_files_is_found_in_seconds(tmp_path: Path):
    count = 100_000 if LONG else 10_000
    folder = tmp_path / "fan" / "train"
    folder.mkdir(parents=True)
    for number in range(count):
        os.close(os.open(folder / f"normal_id_00_{number:08d}.wav", os.O_CREAT))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    assert len(Dataset.scan(tmp_path).machines["fan_id_00"].train) == count
    assert len(find_clips([tmp_path])) == count
    seconds = time.monotonic() - began
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{count} files: {seconds:.1f} s, {grown_mb:.0f} MB")
    assert grown_mb < count / 200


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be someone else")
def test_nobody_is_told_in_one_line_what_may_not_be_written(torture: Torture):
    scene = next(scene for scene in SCENES if scene.name == "synth")
    reference = Reference.of(torture, scene)
    torture.begin(scene)
    torture.work.chmod(0o755)
    before = torture.tree()
    done = torture.play(scene, user=NOBODY)
    assert done.status == 2
    assert complaint(done, reference.done) is None
    assert torture.tree() == before


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "tr_TR.UTF-8"},
        {"PYTHONIOENCODING": "ascii"},
    ],
    ids=["C", "C without UTF-8", "Turkish", "ascii"],
)
@pytest.mark.parametrize("style", ["--json", "--csv", "--table"])
def test_other_locales_give_the_same_verdicts(
    torture: Torture, tmp_path: Path, locale: dict[str, str], style: str
):
    names = [b"L\xc3\xbcfter I\xc4\xb1.wav", b"\xff.WAV", b"plain.wav"]
    clip = next((torture.inputs / "clips").iterdir())
    for name in names:
        shutil.copy(clip, os.path.join(os.fsencode(tmp_path), name))
    command = ["score", torture.inputs / "old.edgeflow", tmp_path, style]
    usual, other = edgeflow(command), edgeflow(command, **locale)
    assert usual.returncode < 2, usual.stderr
    assert (other.returncode, other.stderr) == (usual.returncode, usual.stderr)
    assert len(other.stdout.splitlines()) == len(usual.stdout.splitlines()) >= len(names)
