"""A pooled linear monitor, from samples to its verdict, beside its log-Mel alone, on one core."""

from __future__ import annotations

import statistics
from pathlib import Path

from edgeflow.models.linear import SETTINGS
from edgeflow_benchmarks.models import make_model
from edgeflow_benchmarks.report import Goal, Row
from edgeflow_benchmarks.timing import interleave, one_core, pair_ratio
from edgeflow_runtime.audio import Intake, read_sound
from edgeflow_runtime.logmel import LogMel
from edgeflow_runtime.scorer import Scorer

GOAL = Goal(1 / 1.5, "x")
"""The whole way takes one and a half times as long as log-Mel at most."""


def measure_pooled(clips: list[Path], path: Path, rounds: int, *, judge: bool) -> Row:
    """Time a clip's way to its verdict, its samples being there, and its log-Mel.

    Args:
        clips: sound files; the first is scored.
        path: where the bundle goes.
        rounds: of both in turn.
        judge: whether to hold it against the goal.
    """
    model = make_model(SETTINGS.model, SETTINGS.view, clips, path)
    with Scorer.load(model.bundle, workers=1) as scorer:
        assert isinstance(scorer.logmel, LogMel)
        spec, logmel = scorer.logmel.spec, scorer.logmel
        samples = read_sound(clips[0], Intake(spec.rate_hz))
        actions = {
            "verdict": lambda: scorer.score(samples, spec.rate_hz),
            "log-Mel": lambda: logmel(samples),
        }
        with one_core():
            times = interleave(actions, rounds)
    return Row(
        what="linear flow, samples to verdict, 10 s clip, one core",
        edgeflow=1e3 * statistics.median(times["verdict"]),
        unit="ms",
        against="its log-Mel alone",
        reference=1e3 * statistics.median(times["log-Mel"]),
        ratio=pair_ratio(times["log-Mel"], times["verdict"]),
        goal=GOAL if judge else None,
    )
