"""What came of an evaluation: figures of each machine, their means, and how they print."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from edgeflow.evaluation_table import table
from edgeflow_runtime.arrays import Scores
from edgeflow_runtime.calibration import binomial_interval

NO_FIGURE = float("nan")

RANKS = ("auc", "pauc", "baseline_auc", "baseline_pauc")

INTERVAL = ("false_alarms_low", "false_alarms_high")

MEANS = (*RANKS, "promised", "false_alarms", *INTERVAL, "detected")
"""The figures that have a mean over machines."""


@dataclass(frozen=True, eq=False)
class ScoresByKind:
    """A monitor's scores of test clips."""

    normal: Scores
    """(n,) of its machine's normal clips."""
    anomalous: Scores
    """(m,) of its machine's anomalous clips."""
    sisters: Scores
    """(k,) of normal clips of other machines of the type; none unless they were asked for."""


@dataclass(frozen=True)
class MachineResult:
    """One machine's figures, all rates as fractions; NaN where there is none."""

    machine: str
    """For example ``fan_id_00``."""
    auc: float
    """AUC of the model; NaN without anomalous clips."""
    pauc: float
    """pAUC of the model."""
    baseline: str
    """What the baseline is, or why there is none."""
    baseline_auc: float
    """Its AUC."""
    baseline_pauc: float
    """Its pAUC."""
    threshold: float
    """The threshold in force, in nats per dimension."""
    promised: float
    """The rate of false alarms that it promises."""
    false_alarms: float
    """The rate that it gave: the share of normal clips above it."""
    false_alarms_low: float
    """Lower end of the rate's exact 90 % interval (Clopper and Pearson)."""
    false_alarms_high: float
    """Upper end of it."""
    detected: float
    """The share of anomalous clips above the threshold."""
    normal: int
    """Normal test clips."""
    anomalous: int
    """Anomalous test clips."""
    scores: ScoresByKind = field(repr=False, compare=False)
    """What all this was made of."""

    def record(self) -> dict[str, Any]:
        """The figures by name, ready for JSON, which lacks NaN: ``None`` stands for it."""
        names = [each.name for each in fields(self) if each.name != "scores"]
        return {name: _finite(getattr(self, name)) for name in names}


@dataclass(frozen=True)
class Evaluation:
    """What came of one or more monitors; prints as a table."""

    machines: tuple[MachineResult, ...]
    """One result a machine, in order."""

    @property
    def auc(self) -> float:
        """The mean AUC over the machines."""
        return self.mean("auc")

    @property
    def pauc(self) -> float:
        """The mean pAUC over the machines."""
        return self.mean("pauc")

    @property
    def false_alarms(self) -> float:
        """The mean rate of false alarms over the machines."""
        return self.mean("false_alarms")

    @property
    def detected(self) -> float:
        """The mean share of anomalies caught over the machines."""
        return self.mean("detected")

    def mean(self, figure: str) -> float:
        """The mean of a figure over the machines that have it.

        The interval of the mean rate is that of all normal clips together.
        """
        if figure in INTERVAL:
            clips = sum(one.normal for one in self.machines)
            alarms = sum(round(one.false_alarms * one.normal) for one in self.machines)
            return binomial_interval(alarms, clips)[INTERVAL.index(figure)]
        values = np.array([getattr(one, figure) for one in self.machines])
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else NO_FIGURE

    def means(self) -> dict[str, Any]:
        """The mean of each figure, ready for JSON."""
        return {name: _finite(self.mean(name)) for name in MEANS}

    def records(self) -> list[dict[str, Any]]:
        """One plain record a machine, for a data frame, CSV or JSON."""
        return [result.record() for result in self.machines]

    def __str__(self) -> str:
        return table(self.records(), self.means())


def _finite(value: Any) -> Any:  # noqa: ANN401
    return None if isinstance(value, float) and math.isnan(value) else value
