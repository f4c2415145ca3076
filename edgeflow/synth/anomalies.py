"""What goes wrong with a machine, how badly, and the sound that the fault itself makes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from edgeflow.synth.sources import (
    Signal,
    Track,
    gain,
    harmonics,
    passages,
    periodic,
    ring,
    rotation,
    shaped_noise,
    strikes,
)
from edgeflow.synth.spec import RATE_HZ

DAMAGE: dict[str, dict[str, tuple[float, float]]] = {
    "fan": {"unbalance": (-19, 1), "bearing": (-35, -13), "voltage_drop": (0.005, 0.08)},
    "pump": {"bearing": (-27, -9), "leak": (-26, -8), "unbalance": (-18, 2)},
    "slider": {"slipping_belt": (0.03, 0.5), "missing_stroke": (0.02, 0.4), "bearing": (-24, -4)},
    "valve": {"missing_stroke": (0.04, 0.5), "leak": (-30, -12), "voltage_drop": (0.03, 0.4)},
    "ToyCar": {"voltage_drop": (0.005, 0.08), "worn_gear": (-33, -10), "unbalance": (-25, -3)},
    "ToyConveyor": {
        "slipping_belt": (0.04, 0.4), "bearing": (-32, -11), "voltage_drop": (0.005, 0.08),
    },
}  # fmt: skip
"""What can befall each type: the size of the damage at severity 0 and at severity 1.

``unbalance``, ``bearing``, ``leak`` and ``worn_gear`` are RMS levels of the added sound in dB
relative to the main source of the machine; ``voltage_drop`` is the share of speed or force lost;
``slipping_belt`` and ``missing_stroke`` are shares of the time or of the strokes.
"""

KINDS = tuple(sorted({kind for kinds in DAMAGE.values() for kind in kinds}))
"""Every kind of anomaly."""

_IN_DB = frozenset({"unbalance", "bearing", "leak", "worn_gear"})


@dataclass(frozen=True)
class Anomaly:
    """What is wrong with the machine in one clip."""

    kind: str
    """One of :data:`KINDS`."""

    severity: float
    """From 0, hardly to be heard at an SNR of 6 dB, to 1, obvious."""


@dataclass(frozen=True)
class Condition:
    """The damage a machine runs with; all zero is healthy."""

    unbalance: float = 0.0
    """RMS of the added pull once a turn, relative to the main source of the machine."""

    bearing: float = 0.0
    """RMS of the blows of a pitted bearing, relative to the main source of the machine."""

    leak: float = 0.0
    """RMS of the hiss of a leak, relative to the main source of the machine."""

    worn_gear: float = 0.0
    """RMS of the uneven mesh of a worn gear, relative to the main source of the machine."""

    voltage_drop: float = 0.0
    """Share of the speed (or of a solenoid's force) lost to a low supply."""

    slipping_belt: float = 0.0
    """Share of the time that the belt slips."""

    missing_stroke: float = 0.0
    """Share of the strokes that do not happen."""

    @property
    def speed(self) -> float:
        """The speed relative to that at the full supply."""
        return 1.0 - self.voltage_drop


HEALTHY = Condition()


def anomaly_of(machine_type: str, number: int, start: float) -> Anomaly:
    """The anomaly of clip ``number``: the kinds in turn, severities spread evenly over 0 to 1.

    The severities are start + number / golden ratio modulo 1, a sequence that fills the interval
    evenly however many are taken, and that no kind hits in step.

    Example:
        >>> anomaly_of("fan", 1, start=0.0)
        Anomaly(kind='bearing', severity=0.618)
    """
    kinds = tuple(DAMAGE[machine_type])
    severity = math.fmod(start + number * (math.sqrt(5.0) - 1.0) / 2.0, 1.0)
    return Anomaly(kinds[number % len(kinds)], round(severity, 3))


def condition_of(machine_type: str, anomaly: Anomaly | None) -> Condition:
    """The damage that ``anomaly`` does to a machine of ``machine_type``."""
    if anomaly is None:
        return HEALTHY
    mild, severe = DAMAGE[machine_type][anomaly.kind]
    size = mild + (severe - mild) * anomaly.severity
    return replace(HEALTHY, **{anomaly.kind: gain(size) if anomaly.kind in _IN_DB else size})


@dataclass(frozen=True)
class Bearing:
    """The rolling bearing of a shaft."""

    balls: int
    """Number n of rolling elements."""

    ratio: float
    """Diameter d of a ball over the pitch diameter D."""

    contact_deg: float
    """Contact angle phi in degrees."""

    modes_hz: tuple[float, ...]
    """Resonances of the housing that the blows ring."""

    @property
    def outer_race_order(self) -> float:
        """Blows per turn of a pit in the outer race: BPFO / f_r = n/2 (1 - d/D cos phi).

        Randall and Antoni, *Rolling element bearing diagnostics - A tutorial*, MSSP 2011, eq. 2.

        Example:
            >>> Bearing(8, 0.25, 0.0, (3000.0,)).outer_race_order
            3.0
        """
        return self.balls / 2 * (1 - self.ratio * math.cos(math.radians(self.contact_deg)))


def draw_bearing(rng: np.random.Generator) -> Bearing:
    """A common deep-groove ball bearing."""
    modes = rng.uniform(1800.0, 6000.0, 3)
    return Bearing(
        balls=int(rng.integers(7, 11)),
        ratio=float(rng.uniform(0.18, 0.3)),
        contact_deg=float(rng.uniform(0.0, 10.0)),
        modes_hz=tuple(float(mode) for mode in modes),
    )


def bearing_blows(
    rng: np.random.Generator, angle: Track, shaft_hz: float, bearing: Bearing, level: float
) -> Signal:
    """The blows (N,) of a pitted outer race at RMS ``level`` for a shaft at ``shaft_hz``.

    The balls slip by about 1 %, so the blows are not strictly periodic.
    """
    order = bearing.outer_race_order
    at = passages(rng, angle, order, jitter=0.01)
    body = ring(bearing.modes_hz, decay_s=0.008)
    return np.float32(level) * strikes(rng, len(angle), at, body, order * shaft_hz)


def leak_hiss(rng: np.random.Generator, n: int, level: float) -> Signal:
    """The hiss (N,) of gas or liquid through a small hole: broadband noise, rising to 5 kHz."""
    curve = ((500.0, -30.0), (2000.0, -10.0), (4000.0, -1.0), (5500.0, 0.0), (8000.0, -4.0))
    return np.float32(level) * shaped_noise(rng, n, curve)


def imbalance(rng: np.random.Generator, angle: Track, level: float) -> Signal:
    """The pull (N,) once a turn of a rotor out of balance, and the looseness that it works up."""
    return np.float32(level) * periodic(rng, angle, harmonics(4, fall_db=7.0))


def slipping(rng: np.random.Generator, n: int, share: float) -> Track:
    """How much of the speed slips away (N,), 0 to 1: spells that fill about ``share`` of the time.

    There is a spell in each second; the slipping sets in and ends within 30 ms.
    """
    if not share:
        return np.zeros(n)
    starts = np.arange(0.0, n, RATE_HZ)
    lengths = np.minimum(share * rng.uniform(0.6, 1.4, len(starts)), 0.95) * RATE_HZ
    starts += rng.uniform(size=len(starts)) * (RATE_HZ - lengths)
    ramps = np.minimum(0.03 * RATE_HZ, lengths / 2)
    corners = np.stack([starts, starts + ramps, starts + lengths - ramps, starts + lengths], axis=1)
    heights = np.tile([0.0, 1.0, 1.0, 0.0], len(starts))
    return np.asarray(np.interp(np.arange(n), corners.ravel(), heights), np.float64)


def squeal(rng: np.random.Generator, slips: Track, hz: float) -> Signal:
    """The stick-slip squeal (N,) of a belt while it slips: a rough tone and its harmonics."""
    tone = periodic(rng, rotation(rng, len(slips), hz, wander=0.015), harmonics(4, 5.0))
    return np.asarray(tone * slips, np.float32)
