"""What a user waits for and a board must hold: whole commands, from start to exit."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from edgeflow_benchmarks.report import Goal, Row
from edgeflow_benchmarks.timing import Process, watch, watch_in_turn

EDGEFLOW = (sys.executable, "-m", "edgeflow")
BARE = (sys.executable, "-c", "pass")

SCORE_GOAL = Goal(1.2, "s", at_most=True)
HELP_GOAL = Goal(0.3, "s", at_most=True)
MEMORY_GOAL = Goal(250, "MB", at_most=True)

JUDGED = (0, 1)
"""Exit statuses of ``edgeflow score`` where every clip got a verdict."""


def measure_startup(
    bundle: Path, clips: Sequence[Path], rounds: int, *, many: int, judge: bool = True
) -> list[Row]:
    """Time and peak memory of ``edgeflow --help`` and ``edgeflow score``.

    Args:
        bundle: the bundle to score with.
        clips: sound files.
        rounds: repeats of each command.
        many: clips of the run over many clips, which is made once; ``clips`` repeat as needed.
        judge: whether the goals, which are set for a full-size Glow, hold for this bundle.

    Raises:
        BackendError: a command failed.
    """
    commands: dict[str, Sequence[str | Path]] = {
        "bare": BARE,
        "help": (*EDGEFLOW, "--help"),
        "score": (*EDGEFLOW, "score", bundle, clips[0]),
    }
    watched = watch_in_turn(commands, rounds, JUDGED)
    several = [clips[i % len(clips)] for i in range(many)]
    large = watch((*EDGEFLOW, "score", bundle, *several), JUDGED)
    return [
        _time_row("edgeflow --help", watched["help"], watched["bare"], HELP_GOAL),
        _time_row(
            "edgeflow score, one clip",
            watched["score"],
            watched["bare"],
            SCORE_GOAL if judge else None,
        ),
        _memory_row("edgeflow score, one clip", watched["score"], watched["bare"], judge),
        _memory_row(f"edgeflow score, {many} clips", [large], watched["bare"], judge),
    ]


def _time_row(what: str, runs: list[Process], bare: list[Process], goal: Goal | None) -> Row:
    seconds = [run.seconds for run in runs]
    reference = statistics.median(run.seconds for run in bare)
    return Row(
        what=f"{what}: start to exit",
        edgeflow=statistics.median(seconds),
        unit="s",
        against="python -c pass",
        reference=reference,
        ratio=statistics.median(seconds) / reference,
        goal=goal,
        spread=(min(seconds), max(seconds)),
    )


def _memory_row(what: str, runs: list[Process], bare: list[Process], judge: bool) -> Row:
    peaks = [run.peak_mb for run in runs]
    reference = statistics.median(run.peak_mb for run in bare)
    return Row(
        what=f"{what}: peak memory",
        edgeflow=max(peaks),
        unit="MB",
        against="python -c pass",
        reference=reference,
        ratio=max(peaks) / reference,
        goal=MEMORY_GOAL if judge else None,
        spread=(min(peaks), max(peaks)),
    )
