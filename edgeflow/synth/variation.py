"""How the machines of a type differ, and the clips of a machine."""

from __future__ import annotations

import numpy as np

from edgeflow.synth.sources import gain


def spread(rng: np.random.Generator, low: float, high: float, index: int) -> float:
    """A draw from the ``index``-th quarter of ``low`` to ``high``: a type's machines differ."""
    return float(low + (high - low) * (index + rng.uniform(0.2, 0.8)) / 4.0)


def about(rng: np.random.Generator, level_db: float, spread_db: float = 0.5) -> np.float32:
    """The amplitude of a level that differs from clip to clip by about ``spread_db``."""
    return np.float32(gain(level_db + spread_db * rng.standard_normal()))


def load(rng: np.random.Generator) -> float:
    """The speed under today's load relative to the rated one: within 3 %."""
    return float(1.0 + np.clip(0.012 * rng.standard_normal(), -0.03, 0.03))


def pace_of(rng: np.random.Generator) -> float:
    """The strokes per second relative to the usual: the controller differs by up to 8 %."""
    return float(1.0 + np.clip(0.03 * rng.standard_normal(), -0.08, 0.08))
