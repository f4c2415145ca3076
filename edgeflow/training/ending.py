"""How a training ended: in a line, and what its log gives cause to warn of."""

from __future__ import annotations

import math
from typing import Any

from edgeflow.training.record import RunRecord

Rows = list[dict[str, Any]]
"""Of the log, one an epoch."""

BY_HEART_GAP = 0.1
"""Nats per dimension by which validation clips are unlikelier than learned ones, at the end of a
training that learned by heart."""

LOSING_MARGIN = 0.1
"""By how much the separation from sisters, a logarithm, is less than the linear flow's before it is
said."""


def summary(record: RunRecord, rows: Rows, kept: int) -> str:
    """One line: which epoch was kept, and its figures."""
    row = _row(rows, kept)
    if record.recipe.machine.is_type:
        return f"a base, made of {len(record.learn)} clips"
    if record.recipe.settings.schedule is None:
        return (
            f"fitted, NLL {row['target_nll']:.4f}, left out {row['heldout_nll']:.4f}, "
            f"{row['blend']:.0%} of the covariance from sisters"
        )
    which = f"{kept} kept" if record.validation else "the last kept"
    parts = [f"trained, {rows[-1]['epoch']} epochs, {which}"]
    for key, word in FIGURES.items():
        if key in row:
            parts.append(f"{word} {row[key]:.4f}")
    if "outlier_steps_share" in row:
        parts.append(f"outliers acted in {row['outlier_steps_share']:.0%} of its steps")
    if record.recipe.settings.model.starts_fitted:
        parts.append(_added(rows, kept))
    return ", ".join(parts)


FIGURES = {
    "target_nll": "learned NLL",
    "validation_nll": "validation",
    "heldout_nll": "held-out",
    "separation": "separation from sisters",
}
"""The figures of a row, as the summary names them."""


def warnings(record: RunRecord, rows: Rows, kept: int) -> list[str]:
    """What is wrong with it, and what to do, a line each."""
    if record.run_version < 3 or record.recipe.settings.schedule is None:
        return []
    found = [_unjudged(record), _by_heart(rows, kept), _loses(record, rows, kept), _alone(rows)]
    return [line for line in found if line]


def _unjudged(record: RunRecord) -> str | None:
    if record.validation:
        return None
    clips = len(record.learn) + len(record.heldout)
    kept = "the linear flow" if record.recipe.settings.model.starts_fitted else "the last"
    return f"{clips} clips are too few to spare one that tells the best epoch: {kept} was kept"


def _by_heart(rows: Rows, kept: int) -> str | None:
    last = rows[-1]
    if "validation_nll" not in last or not last["epoch"] > kept <= math.ceil(last["epoch"] / 10):
        return None
    gap = last["validation_nll"] - last["target_nll"]
    if gap <= BY_HEART_GAP:
        return None
    return (
        f"it learned its clips by heart: epoch {kept} was the best of {last['epoch']}, and at the "
        f"end clips that were not learned lay {gap:.2f} nats/dim above those that were. Give it "
        "more clips, or take --model linear"
    )


def _loses(record: RunRecord, rows: Rows, kept: int) -> str | None:
    own, linear = _row(rows, kept).get("separation"), record.linear_separation
    if own is None or linear is None or own >= linear - LOSING_MARGIN:
        return None
    return (
        f"the linear flow tells this machine from its sisters better: {linear:.2f} against "
        f"{own:.2f} in the logarithm of the distance. Take --model linear, which also costs less"
    )


def _alone(rows: Rows) -> str | None:
    acted = [row["outlier_steps_share"] for row in rows if "outlier_steps_share" in row]
    if not acted or max(acted) > 0:
        return None
    return (
        "no outlier was ever near enough for the loss to act on it, so this is plain NLL: take "
        "--loss nll, or raise --ceiling"
    )


def _added(rows: Rows, kept: int) -> str:
    """What training gave beyond the linear flow that it started from."""
    if kept == 0:
        return "training added nothing: this is the linear flow"
    gain = rows[0]["criterion"] - _row(rows, kept)["criterion"]
    return f"training bettered the linear flow's criterion by {gain:.4f}"


def _row(rows: Rows, kept: int) -> dict[str, Any]:
    """The row of the epoch that was kept."""
    return next((row for row in rows if row["epoch"] == kept), rows[-1])
