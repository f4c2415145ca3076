"""From windows' NLLs to a verdict: the mean, the threshold, and what is no number."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeflow_runtime.clip_reader import Clip
from edgeflow_runtime.manifest import MachineId
from edgeflow_runtime.verdicts import Judge

JUDGE = Judge(2.0, MachineId("fan", "00"), "ab" * 32, "fake", "cpu")
FRAMES = np.zeros((4, 2), np.float32)
CLIP = Clip("a.wav", 1.5, logmel=FRAMES, offset_seconds=3.0)


@pytest.mark.parametrize(
    ("nll", "score", "verdict"),
    [
        ([1.0, 2.0], 1.5, "normal"),
        ([2.0, 2.0], 2.0, "normal"),  # at the threshold
        ([2.0, np.nextafter(np.float32(2), np.float32(3))], None, "anomalous"),
        ([-5.0], -5.0, "normal"),
        ([1.0, 7.0, 4.0], 4.0, "anomalous"),
    ],
)
def test_a_score_above_the_threshold_is_anomalous(nll, score: float | None, verdict: str):
    result = JUDGE(CLIP, np.array(nll, np.float32))
    assert (result.verdict, result.error) == (verdict, None)
    assert score is None or result.score == score
    assert (result.windows, result.seconds, result.offset_seconds) == (len(nll), 1.5, 3.0)
    assert result.logmel is result.nll_map is None


def test_the_record_names_each_thing():
    record = JUDGE(CLIP, np.ones(2, np.float32)).to_dict()
    assert record == {
        "schema": "edgeflow.clip_result.v1",
        "heard_at": None,
        "machine_type": "fan",
        "machine_id": "00",
        "bundle_sha256": "ab" * 32,
        "clip": "a.wav",
        "offset_seconds": 3.0,
        "score": 1.0,
        "threshold": 2.0,
        "verdict": "normal",
        "seconds": 1.5,
        "windows": 2,
        "backend": "fake",
        "device": "cpu",
        "error": None,
    }


def test_maps_are_summed_and_kept():
    maps = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    result = JUDGE(CLIP, maps)
    assert result.score == pytest.approx(66 / 3)
    assert result.nll_map is maps
    assert result.logmel is FRAMES


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_unknown(bad: float):
    result = JUDGE(CLIP, np.array([1.0, bad], np.float32))
    assert (result.score, result.verdict, result.windows) == (None, "unknown", 2)
    assert result.error == f"'a.wav' scored {bad}, which is no finite number"


def test_a_clip_that_was_not_heard_is_unknown():
    result = JUDGE(Clip("a.wav", error="it is gone"), None)
    assert (result.score, result.verdict, result.windows) == (None, "unknown", 0)
    assert (result.seconds, result.error) == (None, "it is gone")
