"""What may be asked of the generator, and the names and sizes that follow from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeflow_runtime.errors import ConfigError

RATE_HZ = 16_000
"""Samples per second of every clip, as in DCASE 2020 Task 2."""

MACHINE_TYPES = ("fan", "pump", "slider", "valve", "ToyCar", "ToyConveyor")
"""The challenge's machine types; the place of a name is part of a clip's seed, so only append."""

MACHINE_IDS = ("00", "02", "04", "06")
"""Names of a type's machines, as the challenge numbers them."""

MIN_TEST_CLIPS = 5

_BOUNDS = {
    "machines": (1, len(MACHINE_IDS)),
    "clips": (1, 100_000),
    "seconds": (1, 600),
    "snr_db": (-30, 60),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True)
class SynthSpec:
    """What one synthetic data set holds.

    Raises:
        ConfigError: a value is of the wrong kind or out of bounds.

    Example:
        >>> SynthSpec(types=("fan",), machines=2, clips=40).test_clips
        10
    """

    types: tuple[str, ...] = MACHINE_TYPES
    """Machine types to make, each one of :data:`MACHINE_TYPES`."""

    machines: int = 4
    """Machines of each type, 1 to 4: ids 00, 02, 04 and 06."""

    clips: int = 40
    """Normal training clips of each machine."""

    seconds: float = 10.0
    """Length of a clip in seconds, 1 to 600."""

    snr_db: float = 6.0
    """Power of a healthy machine over the factory noise in dB, -30 to 60, on average over clips."""

    seed: int = 0
    """Number that decides everything random; 0 or more."""

    def __post_init__(self) -> None:
        _check_types(self.types)
        for name in ("machines", "clips", "seed"):
            _check_number(name, getattr(self, name), whole=True)
        for name in ("seconds", "snr_db"):
            _check_number(name, getattr(self, name), whole=False)

    @property
    def test_clips(self) -> int:
        """Normal test clips of each machine, and as many anomalous ones."""
        return max(MIN_TEST_CLIPS, self.clips // 4)

    @property
    def samples(self) -> int:
        """Length of a clip in samples."""
        return round(self.seconds * RATE_HZ)


def _check_types(types: object) -> None:
    """Refuse anything but a non-empty tuple of different known machine types."""
    known = ", ".join(MACHINE_TYPES)
    if not isinstance(types, tuple) or not types:
        raise ConfigError(f"types is {types!r}: expected a tuple of one or more of {known}.")
    for name in types:
        if name not in MACHINE_TYPES:
            raise ConfigError(f"{name!r} is not a machine type: choose from {known}.")
    if len(set(types)) < len(types):
        raise ConfigError(f"types is {','.join(types)!r}: each machine type may be named once.")


def _check_number(name: str, value: object, *, whole: bool) -> None:
    """Refuse a number of the wrong kind or out of its bounds."""
    low, high = _BOUNDS[name]
    kind = "a whole number" if whole else "a number"
    right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not (right and isinstance(value, (int, float)) and math.isfinite(value)) or not (
        low <= value <= high
    ):
        raise ConfigError(f"{name} is {value!r}: expected {kind} from {low} to {high}.")
