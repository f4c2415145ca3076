"""Pictures of an evaluation: how training went, where scores lie, how well they rank."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgeflow.evaluation_result import MachineResult
from edgeflow_runtime.errors import DamagedRunError
from edgeflow_runtime.extras import require
from edgeflow_runtime.storage import write_bytes

LEARNED, SISTERS, ANOMALOUS = "#0072B2", "#E69F00", "#D55E00"
"""Told apart by whoever cannot tell red from green; shapes differ as well. Source: M. Okabe, K.
Ito, "Color universal design", 2008."""

CURVES = {
    "target_nll": ("learned", LEARNED, "-"),
    "heldout_nll": ("held out", "black", "--"),
    "outlier_nll": ("sisters", SISTERS, ":"),
}
"""What the log tells of each epoch, and how it is drawn."""

BINS = 30

REACH = 10
"""The histogram ends at so many times the distance from the least score to the largest normal one
or the threshold, so that a few clips far away do not press all others into one bar."""


def save_plots(result: MachineResult, run: Path | None, folder: Path) -> list[Path]:
    """Draw a machine's evaluation as PNGs in ``folder``.

    Args:
        result: what came of it.
        run: the run's folder; ``None`` for a bundle, which does not tell how it was trained.
        folder: where ``MACHINE-training.png``, ``-scores.png`` and ``-roc.png`` go; what cannot be
            drawn (one epoch, no anomalous clip) is left out.

    Returns:
        The pictures that were drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
        DamagedRunError: the run's log cannot be read.
        StorageError: the disk refuses the write.
    """
    rows = _log(run) if run else []
    pictures = {"scores": _scores(result)}
    if len(rows) > 1:
        pictures["training"] = _training(result, rows)
    if result.anomalous:
        pictures["roc"] = _roc(result)
    return [_save(figure, folder / f"{result.machine}-{n}.png") for n, figure in pictures.items()]


def _training(result: MachineResult, rows: list[dict[str, Any]]) -> Any:  # noqa: ANN401
    """NLL over the epochs."""
    figure, axes = _axes(f"{result.machine}: training", "epoch", "NLL (nats/dim)")
    for key, (name, colour, dashes) in CURVES.items():
        points = [(row["epoch"], row[key]) for row in rows if row.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), dashes, color=colour, label=name)
    axes.legend()
    return figure


def _scores(result: MachineResult) -> Any:  # noqa: ANN401
    """How many clips have which score, beside the threshold."""
    figure, axes = _axes(f"{result.machine}: scores", "score (nats/dim)", "share of the clips")
    scores = result.scores
    kinds = [
        (scores.normal, "normal", LEARNED, "stepfilled", None),
        (scores.sisters, "sisters, normal", SISTERS, "step", None),
        (scores.anomalous, "anomalous", ANOMALOUS, "stepfilled", "///"),
    ]
    kinds = [kind for kind in kinds if len(kind[0])]
    every = np.concatenate([values for values, *_ in kinds])
    start, limit = float(every.min()), result.threshold
    near = max(float(scores.normal.max()), min(limit, float(every.max()))) - start
    end = min(max(float(every.max()), limit), start + REACH * near)
    bins = np.linspace(start, end, BINS + 1)
    for values, name, colour, style, hatch in kinds:
        axes.hist(
            np.minimum(values, end), bins, weights=np.full(len(values), 1 / len(values)),
            histtype=style, color=colour, edgecolor=colour, hatch=hatch, linewidth=1.5,
            alpha=0.6 if style == "stepfilled" else 1, label=f"{name} ({len(values)})",
        )  # fmt: skip
    if every.max() > end:
        axes.set_xlabel("score (nats/dim); the last bar holds all that lies beyond")
    beyond = ", far to the right" if limit > end else ""
    label = f"threshold {limit:.4g}{beyond}"
    axes.axvline(min(limit, end), color="black", linestyle="--", label=label)
    axes.legend()
    return figure


def _roc(result: MachineResult) -> Any:  # noqa: ANN401
    """Anomalies caught against false alarms at every threshold, and at the one in force."""
    from sklearn.metrics import roc_curve

    figure, axes = _axes(
        f"{result.machine}: AUC {100 * result.auc:.1f} %", "false alarms", "anomalies caught"
    )
    labels = np.repeat([0, 1], [result.normal, result.anomalous])
    scores = np.concatenate([result.scores.normal, result.scores.anomalous])
    false, caught, _ = roc_curve(labels, scores, drop_intermediate=False)
    axes.plot(false, caught, color=LEARNED, label="model")
    axes.plot([0, 1], [0, 1], ":", color="0.5", label="chance")
    axes.axvline(result.promised, color="0.5", linestyle="--", label="promised")
    axes.plot(
        result.false_alarms, result.detected, "o", color=ANOMALOUS, label="threshold in force"
    )
    axes.plot(
        [result.false_alarms_low, result.false_alarms_high], [result.detected] * 2,
        color=ANOMALOUS, linewidth=1, label="90 % interval",
    )  # fmt: skip
    axes.set_aspect("equal")
    axes.legend(loc="lower right")
    return figure


def _axes(title: str, x: str, y: str) -> tuple[Any, Any]:
    figure = require("matplotlib.figure", "plot").Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _save(figure: Any, path: Path) -> Path:  # noqa: ANN401
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_bytes(path, content.getvalue())
    return path


def _log(run: Path) -> list[dict[str, Any]]:
    from edgeflow.training.loop import LOG

    try:
        rows = (run / LOG).read_text(encoding="utf-8").splitlines()
        return [json.loads(row) for row in rows]
    except (OSError, ValueError) as error:
        raise DamagedRunError(f"'{run / LOG}' is missing or damaged") from error
