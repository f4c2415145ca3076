"""One clip of one machine: its own sound in its own room, over the noise of the factory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from edgeflow.synth.anomalies import HEALTHY, Anomaly, Condition, anomaly_of, condition_of
from edgeflow.synth.reciprocating import Slider, Valve
from edgeflow.synth.rotating import Fan, Pump, ToyCar, ToyConveyor
from edgeflow.synth.sources import (
    Signal,
    convolve,
    factory_noise,
    gain,
    rms,
    room,
)
from edgeflow.synth.spec import MACHINE_IDS, MACHINE_TYPES, RATE_HZ, SynthSpec
from edgeflow_runtime.errors import ConfigError

MEAN_LEVEL_DB = -34.0
"""RMS of a normal clip relative to full scale, on average over machines."""

PEAK = 0.9
"""No sample is larger than this; a clip that would be is turned down as a whole."""

CALIBRATION_S = 8.0
_CALIBRATION, _NORMAL, _ANOMALY = 0, 1, 2  # what a clip's seed is for


class Machine(Protocol):
    """What every machine can do."""

    def sound(self, rng: np.random.Generator, n: int, state: Condition) -> Signal:
        """The dry sound (N,) of one clip in the given condition."""


_BUILDERS: dict[str, Callable[[np.random.Generator, int], Machine]] = {
    "fan": Fan.draw,
    "pump": Pump.draw,
    "slider": Slider.draw,
    "valve": Valve.draw,
    "ToyCar": ToyCar.draw,
    "ToyConveyor": ToyConveyor.draw,
}


@dataclass(frozen=True)
class Station:
    """A machine where it stands."""

    machine: Machine
    """The machine."""

    response: Signal
    """Response (M,) of the room from the machine to the microphone."""

    unit: float
    """Factor that brings the healthy machine in its room to unit RMS."""

    level_db: float
    """Level of its clips relative to :data:`MEAN_LEVEL_DB`: the microphone is near or far."""

    severity_start: float
    """Where the even sequence of the severities starts."""


@dataclass(frozen=True)
class Parts:
    """The two sounds that make up a clip, before the converter's steps."""

    machine: Signal
    """The machine in its room, (N,)."""

    noise: Signal
    """The factory noise, (N,)."""


def render(
    spec: SynthSpec, machine_type: str, machine: int, number: int, *, anomalous: bool = False
) -> Signal:
    """One clip: float32 samples (N,) within +-0.9.

    The clip depends on its arguments and on the spec's ``seed``, ``seconds`` and ``snr_db``,
    and on nothing else: not on the order of calls, the thread, or what else the spec asks for.

    Raises:
        ConfigError: there is no such machine type, machine or clip number.

    Example:
        >>> clip = render(SynthSpec(seconds=1.0), "fan", machine=0, number=7)
        >>> clip.shape, clip.dtype
        ((16000,), dtype('float32'))
    """
    parts = render_parts(spec, machine_type, machine, number, anomalous=anomalous)
    clip = parts.machine + parts.noise
    return clip * np.float32(min(1.0, PEAK / max(float(np.max(np.abs(clip))), 1e-9)))


def render_parts(
    spec: SynthSpec, machine_type: str, machine: int, number: int, *, anomalous: bool = False
) -> Parts:
    """The machine and the factory noise of a clip, apart; :func:`render` adds them.

    The noise is set against the healthy machine's mean level, so a machine that a fault makes
    louder does stand out more.

    Raises:
        ConfigError: there is no such machine type, machine or clip number.
    """
    _check(machine_type, machine, number)
    station = station_of(spec.seed, machine_type, machine)
    purpose = _ANOMALY if anomalous else _NORMAL
    rng = _generator(spec.seed, machine_type, machine, purpose, number)
    anomaly = anomaly_for(spec, machine_type, machine, number) if anomalous else None
    dry = station.machine.sound(rng, spec.samples, condition_of(machine_type, anomaly))
    noise_db = -spec.snr_db + np.clip(rng.normal(0.0, 0.7), -1.5, 1.5)
    machine_db = np.clip(rng.normal(0.0, 0.7), -1.5, 1.5)
    whole = gain(MEAN_LEVEL_DB + station.level_db) / np.sqrt(1.0 + gain(-2.0 * spec.snr_db))
    heard = convolve(dry, station.response) * np.float32(whole * station.unit * gain(machine_db))
    noise = factory_noise(rng, spec.samples) * np.float32(whole * gain(noise_db))
    return Parts(heard, noise)


def anomaly_for(spec: SynthSpec, machine_type: str, machine: int, number: int) -> Anomaly:
    """What is wrong in the anomalous clip ``number`` of a machine: the truth of anomalies.csv.

    Example:
        >>> anomaly_for(SynthSpec(), "valve", machine=0, number=0).kind
        'missing_stroke'
    """
    _check(machine_type, machine, number)
    station = station_of(spec.seed, machine_type, machine)
    return anomaly_of(machine_type, number, station.severity_start)


@lru_cache(maxsize=64)
def station_of(seed: int, machine_type: str, machine: int) -> Station:
    """The machine of a type, drawn and calibrated from the seed alone."""
    rng = _generator(seed, machine_type, machine)
    built = _BUILDERS[machine_type](rng, machine)
    response = room(rng, decay_s=rng.uniform(0.2, 0.5), wet_db=rng.uniform(-6.0, 0.0))
    trial = _generator(seed, machine_type, machine, _CALIBRATION)
    dry = built.sound(trial, round(CALIBRATION_S * RATE_HZ), HEALTHY)
    return Station(
        machine=built,
        response=response,
        unit=1.0 / rms(convolve(dry, response)),
        level_db=float(rng.uniform(-3.0, 3.0)),
        severity_start=float(rng.uniform()),
    )


def _generator(seed: int, machine_type: str, *key: int) -> np.random.Generator:
    """The random generator that belongs to a machine, or to one clip of it, alone."""
    place = (MACHINE_TYPES.index(machine_type), *key)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=place)))


def _check(machine_type: str, machine: int, number: int) -> None:
    """Refuse a clip that no data set has."""
    if machine_type not in MACHINE_TYPES:
        known = ", ".join(MACHINE_TYPES)
        raise ConfigError(f"{machine_type!r} is not a machine type: choose from {known}.")
    if not 0 <= machine < len(MACHINE_IDS):
        raise ConfigError(f"machine is {machine!r}: expected 0 to {len(MACHINE_IDS) - 1}.")
    if number < 0:
        raise ConfigError(f"number is {number!r}: expected 0 or more.")
