"""The baseline that every model is shown beside: the linear flow, fitted to the same data set.

It takes a second, needs no GPU and borrows the covariance of the machine's sisters. A model that
does not beat it does not earn its watts. On the clip mean alone, with the machine's own covariance,
it is the Mahalanobis distance that stood here before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeflow.models.spec import STACK
from edgeflow.standard import dead_bands, least_spread, standard_view
from edgeflow_runtime.arrays import Frames, Scores
from edgeflow_runtime.errors import DataError
from edgeflow_runtime.linear_fit import Rows, Sisters, fit_linear
from edgeflow_runtime.manifest import Features
from edgeflow_runtime.views import PoolSpec, Table


@dataclass(frozen=True)
class BaselineSpec:
    """Which linear flow it is."""

    view: PoolSpec = STACK
    """What it sees of a clip."""
    sisters: bool = True
    """Whether it borrows the covariance of other machines of the type."""

    def __str__(self) -> str:
        """As the table says it."""
        whose = "covariance blended with its sisters'" if self.sisters else "own covariance"
        return f"linear flow on {self.view}, {whose}"


BASELINES = {"linear": BaselineSpec(), "clip-mean": BaselineSpec(PoolSpec(("mean",)), False)}
"""By the name that ``--baseline`` takes."""


class LinearBaseline:
    """A linear flow for one machine.

    Args:
        spec: which one.
        features: how the log-Mel was made.
        target: log-Mel (frames, bands) of each of the machine's training clips.
        sisters: of those of each other machine of its type.

    Raises:
        DataError: there are too few clips to fit anything.
        AudioError: a clip is too short for the view.
    """

    def __init__(
        self,
        spec: BaselineSpec,
        features: Features,
        target: Sequence[Frames],
        sisters: Sequence[Sequence[Frames]] = (),
    ) -> None:
        if not target:
            raise DataError("the machine has no training clips")
        self._spec = spec.view
        machines = [target, *(sisters if spec.sisters else ())]
        tables = [self._measured(clips) for clips in machines]
        self._view = standard_view(spec.view, tables, features)
        own, *others = [self._rows(table) for table in tables]
        self.fit = fit_linear(own, Sisters(others), least_spread(self._view))

    def scores(self, clips: Sequence[Frames]) -> Scores:
        """The NLL of each clip, (n,), in nats per dimension. Raises :class:`AudioError`."""
        return self.fit.nll(self._rows(self._measured(clips)))

    def _measured(self, clips: Sequence[Frames]) -> Table:
        """(n, T, M) in dB."""
        for clip in clips:
            self._spec.check("a clip", len(clip))
        return np.concatenate([self._spec.measure(clip) for clip in clips])

    def _rows(self, table: Table) -> Rows:
        """(n, D) of what the view measures, standardised; bands that never varied are 0."""
        rows = self._view.standardise(table)
        return np.where(dead_bands(self._view), 0.0, rows).reshape(len(rows), -1)
