"""An evaluation as a table for people, in per cent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]

HEADINGS = (
    ("model", ("AUC", "pAUC")),
    ("baseline", ("AUC", "pAUC")),
    ("false alarms", ("promised", "given", "90 % interval")),
    ("anomalies", ("caught",)),
    ("clips", ("normal/anomalous",)),
)


def table(records: Sequence[Record], means: Record) -> str:
    """One row a machine, their mean, and what the baseline is.

    Args:
        records: of each machine, as :meth:`~edgeflow.evaluation.MachineResult.record` makes them.
        means: of all machines.
    """
    rows = [_row(record) for record in records]
    if len(records) > 1:
        rows.append(_row({"machine": "mean", **means}))
    groups = ["", *(group for group, names in HEADINGS for _ in names)]
    heads = ["machine", *(name for _, names in HEADINGS for name in names)]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [_above(groups, widths), *(_line(row, widths) for row in [heads, *rows])]
    for kind in dict.fromkeys(record["baseline"] for record in records):
        lines.append(f"baseline: {kind}")
    return "\n".join(lines)


def _row(record: Record) -> list[str]:
    low, high = record["false_alarms_low"], record["false_alarms_high"]
    names = ("auc", "pauc", "baseline_auc", "baseline_pauc", "promised", "false_alarms")
    clips = f"{record['normal']}/{record['anomalous']}" if "normal" in record else ""
    return [
        record["machine"],
        *(_percent(record[name]) for name in names),
        f"{_percent(low)} to {_percent(high)}",
        _percent(record["detected"]),
        clips,
    ]


def _percent(share: float | None) -> str:
    if share is None:
        return "-"
    return f"{100 * share:.1f}" if share >= 0.001 or share == 0 else f"{100 * share:.2g}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "   ".join([f"{first[0]:<{first[1]}}", *(f"{c:>{w}}" for c, w in others)]).rstrip()


def _above(groups: Sequence[str], widths: Sequence[int]) -> str:
    """The names of groups of columns, each over the middle of its own."""
    line, at = "", 0
    for group in dict.fromkeys(groups):
        mine = [width for name, width in zip(groups, widths, strict=True) if name == group]
        span = sum(mine) + 3 * (len(mine) - 1)
        line += " " * (at - len(line)) + f"{group:^{span}}"
        at += span + 3
    return line.rstrip()
