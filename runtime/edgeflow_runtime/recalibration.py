"""A bundle's threshold set anew, from normal clips of the place where it listens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeflow_runtime.arrays import Scores
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.calibration import binomial_interval, threshold_from_scores
from edgeflow_runtime.clip_reader import Clip
from edgeflow_runtime.errors import ConfigError, DataError
from edgeflow_runtime.manifest import Threshold
from edgeflow_runtime.scorer import Scorer


@dataclass(frozen=True)
class Recalibration:
    """What a threshold was, and what normal clips make of it."""

    old: Threshold
    """As the bundle has it."""
    new: Threshold
    """As the clips set it."""
    alarms: int
    """How many of the clips lie above the old one."""

    @property
    def laxer(self) -> float:
        """By how much the new threshold lies above the old one, in nats per dimension."""
        return self.new.value - self.old.value

    def old_rate(self) -> tuple[float, float]:
        """Where the old threshold's rate of false alarms lies here with 90 % confidence."""
        return binomial_interval(self.alarms, self.new.heldout_clips)


def recalibrate(old: Threshold, scores: Scores, false_alarm_probability: float) -> Recalibration:
    """Set a threshold anew.

    Args:
        old: as it is.
        scores: (n,) of normal clips that the model has not learned, n at least 2.
        false_alarm_probability: what is promised.

    Raises:
        ConfigError: the promise is out of range.
        DataError: there are too few clips, or a score is not finite.
    """
    likeliest = old.least, old.usual_spread
    new = threshold_from_scores(scores, false_alarm_probability, old.clip_seconds, *likeliest)
    method = f"calibrated where it listens; {new.method}; before: {old.value:.6g}"
    alarms = int(np.count_nonzero(scores > old.value))
    return Recalibration(old, replace(new, method=method), alarms)


def check_unlearned(bundle: Bundle, clips: Sequence[Clip]) -> None:
    """Refuse the clip that a bundle keeps of its training: others that it learned come with it.

    Raises:
        DataError: one of the clips is the golden recording.
    """
    golden = bundle.golden.get("samples")
    for clip in clips:
        if clip.samples is not None and golden is not None and np.array_equal(clip.samples, golden):
            raise DataError(
                f"'{clip.name}' is the bundle's golden recording, from those that it was made of: "
                "give clips that it has not learned, or its threshold would be far too low"
            )


def scores_of(scorer: Scorer, clips: Sequence[Clip]) -> Scores:
    """(n,) scores of clips that have their log-Mel. Raises as :meth:`Scorer.score` does."""
    scores = []
    for clip in clips:
        assert clip.logmel is not None
        scores.append(scorer.score_logmel(clip.logmel, seconds=clip.seconds, name=clip.name).score)
    return np.array(scores, np.float64)


def recalibrated(
    bundle: Bundle, made: Recalibration, output: str | Path, *, allow_laxer: bool
) -> Bundle:
    """The bundle with the new threshold.

    Raises:
        ConfigError: the threshold would be laxer, and nobody allowed it.
    """
    if made.laxer > 0 and not allow_laxer:
        raise ConfigError(
            f"the new threshold, {made.new.value:.4f}, is laxer than the old one, "
            f"{made.old.value:.4f}, by {made.laxer:.4f}: faults that alarmed may no longer; if "
            "these clips are surely normal, say --allow-laxer"
        )
    manifest = replace(bundle.manifest, threshold=made.new)
    return replace(bundle, path=Path(output), manifest=manifest)
