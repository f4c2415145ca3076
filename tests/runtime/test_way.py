"""A sound's way to its verdict: few files, in one order."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

import edgeflow_runtime
from edgeflow_runtime import Scorer

ROOM = Path(edgeflow_runtime.__file__).parent

CONDUCTOR = "scorer.py"
"""Puts the stations together: whatever it calls comes back to it."""


@pytest.fixture
def way():
    """The files that do a piece of work, in the order they are entered, as one clip is scored.

    Sound is read block by block, so its file, its check and its rate are come back to.
    """
    entered: list[str] = []

    def note(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and ROOM in path.parents:
            entered.append(path.relative_to(ROOM).as_posix())

    def follow(action):
        sys.setprofile(note)
        threading.setprofile(note)
        try:
            action()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
        return list(dict.fromkeys(name for name in entered if name != CONDUCTOR))

    return follow


def test_a_wav_reaches_its_verdict_through_few_files(way, bundle_path: Path, sounds: Path):
    clip = min(sounds.rglob("*.wav"))
    Scorer.load(bundle_path).score(clip)  # whatever is imported once is imported
    scorer = Scorer.load(bundle_path)  # whose threads are yet to start
    stations = way(lambda: scorer.score(clip))
    assert stations == [
        "stretches.py",
        "sound_file.py",
        "clip_file.py",
        "clip_reader.py",
        "audio.py",
        "hearing.py",
        "logmel.py",
        "views.py",
        "batch_runner.py",
        "backends/onnxruntime.py",
        "verdicts.py",
    ]


@pytest.mark.parametrize("pieces", [1, 7, 60])
def test_a_stream_of_windows_gives_the_score_of_the_clip(
    bundle_path: Path, sounds: Path, pieces: int
):
    clip = min(sounds.rglob("*.wav"))
    samples, rate = soundfile.read(clip, dtype="float32")
    with Scorer.load(bundle_path) as scorer:
        whole = scorer.score(samples, rate)
        stream = scorer.stream()
        nll = [stream.push(part) for part in np.array_split(samples, pieces)]
        nll.append(stream.finish())
    assert sum(map(len, nll)) == whole.windows
    assert np.concatenate(nll).mean() == pytest.approx(whole.score, abs=1e-6)
