"""The machines that move in strokes: slider and valve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.synth.anomalies import (
    Bearing,
    Condition,
    bearing_blows,
    draw_bearing,
    leak_hiss,
    slipping,
    squeal,
)
from edgeflow.synth.sources import (
    Curve,
    Signal,
    Track,
    convolve,
    gain,
    harmonics,
    impulses,
    periodic,
    ring,
    shaped_noise,
    strikes,
)
from edgeflow.synth.spec import RATE_HZ
from edgeflow.synth.variation import about, pace_of, spread


def stroke_times(rng: np.random.Generator, n: int, period_s: float, jitter: float) -> Track:
    """The sample positions (J,) at which strokes begin: every ``period_s``, give or take."""
    count = int(n / RATE_HZ / period_s) + 2
    steps = np.arange(count) - rng.uniform() + jitter * rng.standard_normal(count)
    return np.asarray(steps * period_s * RATE_HZ, np.float64)


def happens(rng: np.random.Generator, n: int, begins: Track, missing: float) -> Track:
    """1 for each of the strokes ``begins`` (J,) that happens, 0 for one that is missing.

    The share ``missing`` is of the strokes that begin in the clip's ``n`` samples; it is rounded
    up, so that a faulty clip lacks at least one.
    """
    done = np.ones(len(begins))
    within = rng.permutation(np.flatnonzero((begins >= 0) & (begins < n)))
    done[within[: int(np.ceil(missing * len(within)))]] = 0.0
    return done


@dataclass(frozen=True)
class Slider:
    """A linear slide: a belt-driven carriage that runs there and back with a clack at each end."""

    stroke_s: float
    """Time of one stroke, there or back, with its rest."""

    moving: float
    """Share of that time in which the carriage moves."""

    tooth_hz: float
    """Teeth of the belt per second at full speed."""

    tooth_db: float
    """Level of the belt's teeth relative to the rolling carriage."""

    clack_hz: tuple[float, ...]
    """Resonances of the end stop."""

    squeal_hz: float
    """Stick-slip frequency of the slipping belt."""

    rolling: Curve
    """Spectrum of the carriage on its rail."""

    bearing: Bearing
    """Bearing of the carriage's rollers."""

    @classmethod
    def draw(cls, rng: np.random.Generator, index: int) -> Slider:
        """The slider number ``index`` of its type."""
        peak_hz = float(rng.uniform(500.0, 1500.0))
        return cls(
            stroke_s=spread(rng, 0.45, 0.95, index),
            moving=float(rng.uniform(0.55, 0.75)),
            tooth_hz=float(rng.uniform(180.0, 420.0)),
            tooth_db=float(rng.uniform(-3.0, 3.0)),
            clack_hz=tuple(float(mode) for mode in rng.uniform(500.0, 3000.0, 3)),
            squeal_hz=float(rng.uniform(1500.0, 3000.0)),
            rolling=((80.0, -16.0), (peak_hz, 0.0), (4 * peak_hz, -12.0), (8e3, -26.0)),
            bearing=draw_bearing(rng),
        )

    def sound(self, rng: np.random.Generator, n: int, state: Condition) -> Signal:
        """The dry sound (N,) of one clip."""
        pace = pace_of(rng)
        begins = stroke_times(rng, n, self.stroke_s / pace, jitter=0.01)
        done = happens(rng, n, begins, state.missing_stroke)
        slips = slipping(rng, n, state.slipping_belt)
        speed = self._speed(n, begins, done, pace) * (1.0 - 0.5 * slips)
        angle = rng.uniform() + np.cumsum(speed * self.tooth_hz * pace) / RATE_HZ
        moving = speed.astype(np.float32)
        sound = shaped_noise(rng, n, self.rolling) * about(rng, 0.0, 0.7) * moving
        teeth = periodic(rng, angle, harmonics(8, 5.0))
        sound += about(rng, self.tooth_db - 3.0, 0.7) * teeth * moving
        ends = begins + self.moving * self.stroke_s / pace * RATE_HZ
        body = ring(self.clack_hz, 0.04)
        sound += about(rng, -4.0) * strikes(rng, n, ends[done > 0], body, 1.0 / self.stroke_s)
        if state.slipping_belt:
            sound += gain(-4.0) * squeal(rng, slips * speed, self.squeal_hz)
        if state.bearing:
            # the rollers are small: one turn for every six teeth of the belt
            hz = self.tooth_hz * pace / 6.0 * self.moving
            sound += bearing_blows(rng, angle / 6.0, hz, self.bearing, state.bearing)
        return sound

    def _speed(self, n: int, begins: Track, done: Track, pace: float) -> Track:
        """Speed (N,) of the carriage relative to its full speed: a trapezium for each stroke."""
        length = self.moving * self.stroke_s / pace * RATE_HZ
        corners = begins[:, None] + length * np.array([0.0, 0.2, 0.8, 1.0])  # (strokes, 4)
        heights = done[:, None] * np.array([0.0, 1.0, 1.0, 0.0])
        speed = np.interp(np.arange(n), corners.ravel(), heights.ravel())
        return np.asarray(speed, np.float64)


@dataclass(frozen=True)
class Valve:
    """A solenoid valve: a clack, a puff of air under a humming coil, and the clack of closing."""

    period_s: float
    """Time from one opening to the next."""

    open_s: float
    """Time for which the valve stays open."""

    puff_s: float
    """Time in which the puff of air dies by 60 dB."""

    puff_db: float
    """Level of the puffs relative to the clacks."""

    clack_hz: tuple[float, ...]
    """Resonances of the body when the plunger strikes it."""

    puff: Curve
    """Spectrum of the puff."""

    @classmethod
    def draw(cls, rng: np.random.Generator, index: int) -> Valve:
        """The valve number ``index`` of its type."""
        puff_hz = float(rng.uniform(1000.0, 2500.0))
        return cls(
            period_s=spread(rng, 0.4, 1.0, index),
            open_s=float(rng.uniform(0.12, 0.2)),
            puff_s=float(rng.uniform(0.1, 0.25)),
            puff_db=float(rng.uniform(-6.0, 0.0)),
            clack_hz=tuple(float(mode) for mode in rng.uniform(700.0, 4500.0, 4)),
            puff=((200.0, -24.0), (puff_hz, 0.0), (2.5 * puff_hz, -8.0), (8e3, -20.0)),
        )

    def sound(self, rng: np.random.Generator, n: int, state: Condition) -> Signal:
        """The dry sound (N,) of one clip; at a low supply the plunger strikes softer and later."""
        opens = stroke_times(rng, n, self.period_s / pace_of(rng), jitter=0.06)
        opens = opens[happens(rng, n, opens, state.missing_stroke) > 0]
        force = state.speed**2  # a solenoid pulls with the square of its current
        late = state.voltage_drop * 0.1 * RATE_HZ
        body, rate_hz = ring(self.clack_hz, 0.05), 1.0 / self.period_s
        sound = np.float32(force) * strikes(rng, n, opens + late, body, rate_hz)
        closes = opens + self.open_s * RATE_HZ * rng.uniform(0.95, 1.05)
        sound += gain(-5.0) * strikes(rng, n, closes, body[::2].copy(), rate_hz)
        sound += about(rng, self.puff_db, 0.7) * self._puffs(rng, n, opens + late)
        sound += about(rng, -14.0) * state.speed * self._hum(rng, n, opens)
        if state.leak:
            sound += leak_hiss(rng, n, state.leak)
        return np.asarray(sound, np.float32)

    def _puffs(self, rng: np.random.Generator, n: int, opens: Track) -> Signal:
        """Air (N,) that escapes at each opening and dies away; about unit RMS."""
        time = np.arange(int(self.puff_s * RATE_HZ)) / RATE_HZ
        fade = np.exp(-6.9 * time / self.puff_s)
        fade *= np.sqrt(self.period_s * RATE_HZ / np.sum(np.square(fade)))
        swells = convolve(impulses(n, opens, 1.0), fade.astype(np.float32))
        return shaped_noise(rng, n, self.puff) * swells

    def _hum(self, rng: np.random.Generator, n: int, opens: Track) -> Signal:
        """The hum (N,) of the coil at twice the mains frequency while it holds the valve open."""
        held = np.ones(int(self.open_s * RATE_HZ), np.float32)
        on = np.minimum(convolve(impulses(n, np.round(opens), 1.0), held), np.float32(1.0))
        angle = rng.uniform() + 100.0 * np.arange(n) / RATE_HZ
        return periodic(rng, angle, harmonics(8, 4.0)) * on
