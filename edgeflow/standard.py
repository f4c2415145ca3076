"""How what a view measures is standardised: by the training clips of all machines of a type."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.manifest import Features
from edgeflow_runtime.views import Table, View, ViewSpec

DEAD_DB = 1e-3
"""A band whose training values spread less than this holds no information."""

DEAD_SCALE = 1e9
"""What such a band is divided by, so that it is zero whatever is heard in it."""

LEAST_SCALE_DB = 0.3
"""What every other band is divided by at least: one that hardly varied while it was learned would
otherwise be thousands of standard deviations off at the first change."""


def standard_view(spec: ViewSpec, tables: Sequence[Table], features: Features) -> View:
    """The view that gives these clips zero mean and, but for :data:`LEAST_SCALE_DB`, unit scale.

    Args:
        spec: how frames become windows.
        tables: what it measures of each training clip of the type, in dB.
        features: how the log-Mel was made.
    """
    learn = np.concatenate(tables)
    mean = learn.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = learn.std(axis=0, dtype=np.float64)
    dead = (spread < DEAD_DB) | unheard(features)
    scale = np.where(dead, DEAD_SCALE, np.maximum(spread, LEAST_SCALE_DB))
    return View(spec, mean, scale.astype(np.float32))


def unheard(features: Features) -> npt.NDArray[np.bool_]:
    """(bands,) those that say more of the recorder's rate than of the machine."""
    if features.logmel is None:
        return np.zeros(features.bands, bool)
    return features.logmel.beyond_passband(features.min_rate_hz)


def dead_bands(view: View) -> npt.NDArray[np.bool_]:
    """Where the view's scale says that nothing is heard, in the shape of the scale."""
    dead: npt.NDArray[np.bool_] = view.scale >= np.float32(DEAD_SCALE)
    return dead


def least_spread(view: View) -> npt.NDArray[np.float64]:
    """(D,) the spread that a linear flow gives each dimension at least; 1 where nothing varies."""
    floor = np.where(dead_bands(view), 1.0, LEAST_SCALE_DB / view.scale)
    return floor.ravel().astype(np.float64)
