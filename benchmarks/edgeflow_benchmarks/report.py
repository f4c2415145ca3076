"""The rows of a measurement, as a table to read and as JSON to keep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Goal:
    """What a row's figure should come to.

    Example:
        >>> str(Goal(2.5, "x")), Goal(250, "MB", at_most=True).reached(240.0)
        ('>= 2.5 x', True)
    """

    value: float
    """The bound."""
    unit: str
    """``x`` bounds the ratio; any other unit, that of the row, bounds edgeflow's own figure."""
    at_most: bool = False
    """Whether less is better."""

    def reached(self, ours: float) -> bool:
        """Whether ``found`` keeps the bound."""
        return ours <= self.value if self.at_most else ours >= self.value

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.value:g} {self.unit}"


@dataclass(frozen=True)
class Row:
    """One thing measured, beside what it is compared with."""

    what: str
    """What was measured."""
    edgeflow: float
    """edgeflow's median, in ``unit``."""
    unit: str
    """Unit of both figures, for example ``ms``."""
    against: str = ""
    """What it is compared with; empty if with nothing."""
    reference: float | None = None
    """The reference's median, in ``unit``."""
    ratio: float | None = None
    """How many times better edgeflow is, or which share of the reference it reaches."""
    goal: Goal | None = None
    """What it should come to."""
    spread: tuple[float, float] | None = None
    """edgeflow's smallest and largest figure, in ``unit``."""

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; ``None`` if there is none."""
        if self.goal is None:
            return None
        judged = self.ratio if self.goal.unit == "x" else self.edgeflow
        return judged is not None and self.goal.reached(judged)

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON holds it."""
        return {
            "what": self.what,
            "edgeflow": self.edgeflow,
            "unit": self.unit,
            "spread": self.spread,
            "against": self.against,
            "reference": self.reference,
            "ratio": self.ratio,
            "goal": str(self.goal) if self.goal else None,
            "reached": self.reached,
        }


HEADINGS = ("what", "edgeflow", "reference", "ratio", "goal", "reached")


def table(rows: Sequence[Row]) -> str:
    """The rows in aligned columns.

    Example:
        >>> print(table([Row("a clip", 2.0, "ms", "librosa", 5.0, 2.5, Goal(2.5, "x"))]))
        what    edgeflow  reference      ratio   goal      reached
        a clip  2 ms      5 ms, librosa  2.50 x  >= 2.5 x  yes
    """
    cells = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADINGS))]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(line.rstrip() for line in lines)


def document(environment: dict[str, str], rows: Sequence[Row]) -> str:
    """The whole measurement as JSON."""
    content = {"environment": environment, "rows": [row.to_dict() for row in rows]}
    return json.dumps(content, indent=2) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    ours = f"{row.edgeflow:.3g} {row.unit}"
    if row.spread:
        ours += f" ({row.spread[0]:.3g} to {row.spread[1]:.3g})"
    reference = "" if row.reference is None else f"{row.reference:.3g} {row.unit}, {row.against}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f} x"
    reached = {True: "yes", False: "NO", None: ""}[row.reached]
    return (row.what, ours, reference, ratio, str(row.goal or ""), reached)
