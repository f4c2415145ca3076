"""From sound file to verdict, beside torch fed by librosa and beside the matrix rate."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import torch

from edgeflow_benchmarks.arithmetic import matrix_products, multiply_adds
from edgeflow_benchmarks.logmel import librosa_logmel
from edgeflow_benchmarks.models import FEATURES, RandomModel, clip_logmels
from edgeflow_benchmarks.report import Goal, Row
from edgeflow_benchmarks.timing import interleave, pair_ratio
from edgeflow_runtime.arrays import Array
from edgeflow_runtime.errors import ParityError
from edgeflow_runtime.scorer import Scorer

ALLOWED_NLL = 1e-4
"""Nats per dimension by which the two sides may differ in a clip's score."""

SHARE_GOAL = Goal(0.85, "x")
"""Of the machine's matrix rate."""


def torch_scores(model: RandomModel, clips: list[Path]) -> list[float]:
    """Clip scores as people compute them today: librosa, then the flow as it was trained, eager.

    All windows of a clip make one batch.
    """
    scores = []
    for clip in clips:
        samples, _ = soundfile.read(clip, dtype="float32")  # what librosa.load does inside
        logmel = librosa_logmel(samples, FEATURES).T  # (frames, bands)
        windows = model.view(np.ascontiguousarray(logmel))  # (N, T, M)
        with torch.inference_mode():
            nll = model.flow.score(torch.from_numpy(windows.copy()))
        scores.append(float(nll.double().mean()))
    return scores


def edgeflow_scores(scorer: Scorer, clips: list[Path]) -> list[float]:
    """Clip scores as edgeflow gives them; NaN for a clip that is not judged."""
    results = scorer.score_files(clips)
    return [float("nan") if result.score is None else result.score for result in results]


def check_scores(model: RandomModel, scorer: Scorer, clips: list[Path]) -> float:
    """The largest difference of a clip's score, in nats per dimension.

    Raises:
        ParityError: it is above 1e-4.
    """
    ours, theirs = edgeflow_scores(scorer, clips), torch_scores(model, clips)
    worst = float(np.abs(np.subtract(ours, theirs)).max())
    if not worst <= ALLOWED_NLL:
        raise ParityError(
            f"clip scores are {worst:.1e} nats/dim from torch's; at most {ALLOWED_NLL:.0e} allowed"
        )
    return worst


def measure_scoring(
    name: str, model: RandomModel, clips: list[Path], rounds: int, goal: Goal | None
) -> list[Row]:
    """Time sound file to verdict beside torch and librosa, pair by pair on the same clips.

    Raises:
        ParityError: the two do not come to the same scores.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    scorer = Scorer.load(model.bundle)
    check_scores(model, scorer, clips[:1])
    actions: dict[str, Callable[[], object]] = {
        "clips": lambda: edgeflow_scores(scorer, clips),
        "torch": lambda: torch_scores(model, clips),
        "clip": lambda: edgeflow_scores(scorer, clips[:1]),
        "torch, clip": lambda: torch_scores(model, clips[:1]),
    }
    times = interleave(actions, rounds)
    seconds = {key: [t / len(clips) for t in times[key]] for key in ("clips", "torch")}
    seconds |= {key: times[key] for key in ("clip", "torch, clip")}
    rows = [(f"of {len(clips)}", "clips", "torch", goal), ("alone", "clip", "torch, clip", None)]
    return [
        Row(
            what=f"{name}, file to verdict, a clip {which}",
            edgeflow=1e3 * statistics.median(seconds[ours]),
            unit="ms",
            against="torch eager + librosa",
            reference=1e3 * statistics.median(seconds[theirs]),
            ratio=pair_ratio(seconds[theirs], seconds[ours]),
            goal=bound,
        )
        for which, ours, theirs, bound in rows
    ]


def measure_rate(
    name: str, model: RandomModel, clips: list[Path], rounds: int, size: int, goal: Goal | None
) -> list[Row]:
    """Multiply-adds per second of the flow, and of files to verdicts, beside matrix products.

    Args:
        name: what the rows call the model.
        model: a flow.
        clips: sound files.
        rounds: repeats.
        size: rows and columns of the square matrices.
        goal: the share of the matrix rate to reach.
    """
    scorer = Scorer.load(model.bundle)
    windows = clip_windows(scorer, clips)
    products = matrix_products(size)
    actions: dict[str, Callable[[], object]] = {
        **products,
        "flow alone": lambda: run_flow(scorer, windows),
        "file to verdict": lambda: edgeflow_scores(scorer, clips),
    }
    times = interleave(actions, rounds)
    work = multiply_adds(model.onnx) * len(windows)
    rows = []
    for reference in products:
        reference_rates = [size**3 / t / 1e9 for t in times[reference]]
        for what in ("flow alone", "file to verdict"):
            rates = [work / t / 1e9 for t in times[what]]
            rows.append(
                Row(
                    what=f"{name}, {what}, multiply-adds",
                    edgeflow=statistics.median(rates),
                    unit="G/s",
                    against=f"{reference}'s matrix product",
                    reference=statistics.median(reference_rates),
                    ratio=pair_ratio(rates, reference_rates),
                    goal=goal,
                )
            )
    return rows


def clip_windows(scorer: Scorer, clips: list[Path]) -> Array:
    """All standardised windows of ``clips``, (N, T, M) float32."""
    return np.concatenate([scorer.view(logmel) for logmel in clip_logmels(clips)])


def run_flow(scorer: Scorer, windows: Array) -> Array:
    """NLL of (N, T, M) windows as (N,), by the scorer's backend and as busy as it likes to be."""
    backend = scorer.backend
    batches = [windows[i : i + backend.batch] for i in range(0, len(windows), backend.batch)]
    with ThreadPoolExecutor(backend.workers) as pool:
        return np.concatenate(list(pool.map(backend.nll, batches)))
