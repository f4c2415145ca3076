"""From a sound to samples: float32, one channel, at the monitor's rate, fit to be judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Samples
from edgeflow_runtime.errors import AudioError
from edgeflow_runtime.hearing import SILENCE, Hearing
from edgeflow_runtime.sound_file import open_sound

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 100, 10_000_000
"""Rates that sound is recorded at lie well between."""

MOST_CHANNELS = 1024
"""No recorder has more, and libsndfile reads no more."""


@dataclass(frozen=True)
class Intake:
    """How one monitor takes in sound, wherever that comes from: its rate and its channel."""

    rate_hz: int
    """The rate that everything is brought to."""
    min_rate_hz: int = 0
    """Recordings below this rate are refused, as their upper bands would be empty; faster ones are
    brought down to it first."""
    channel: int | None = None
    """The channel to take, the first is 0. Sound of one channel needs none; channels are never
    mixed."""
    usual_channel: int | None = None
    """Taken, if none is chosen, of sound that has several."""
    fewest: int = 0
    """Samples that a sound must have, once it is at the monitor's rate."""

    def column(self, name: str, channels: int, rate_hz: float) -> int:
        """The channel to take of a sound of this kind.

        Raises:
            AudioError: the rate is out of range, there are several channels and none is chosen, or
                there is no such channel.
        """
        check_rate(name, rate_hz, self.min_rate_hz)
        return choose_channel(name, channels, self.channel, self.usual_channel)

    def band_hz(self, rate_hz: int) -> int:
        """The lowest of the rates that a sound passes: half of it is all that a model hears."""
        return min(rate_hz, self.rate_hz, self.min_rate_hz or rate_hz)


def read_sound(path: str | Path, intake: Intake, *, allow_clipped: bool = False) -> Samples:
    """Read one channel of a sound file, whole, and bring it to the monitor's rate.

    Args:
        path: a file that libsndfile reads, PCM or float, of any rate and channel count.
        intake: rate and channel.
        allow_clipped: read it even if it is clipped.

    Returns:
        (n,) float32, full scale is 1.

    Raises:
        AudioError: the file cannot be read whole, holds a NaN, has no such channel, too low a rate,
            needs a channel chosen, or holds what no healthy microphone gives.
    """
    with open_sound(Path(path)) as sound:
        info = sound.info
        column = intake.column(sound.name, info.channels, info.rate_hz)
        blocks = (block[:, column] for block in sound.blocks())
        return _joined(_heard(sound.name, blocks, info.rate_hz, intake, allow_clipped))


def take_samples(
    name: str,
    samples: npt.NDArray[Any],
    rate_hz: float,
    intake: Intake,
    *,
    allow_clipped: bool = False,
) -> Samples:
    """One channel of an array of samples, at the monitor's rate.

    Args:
        name: what errors call the sound.
        samples: (n,) or (n, channels) floats with full scale 1, or 16-bit integers.
        rate_hz: their rate.
        intake: rate and channel.
        allow_clipped: take them even if they are clipped.

    Raises:
        AudioError: the array is no sound, or as :func:`read_sound` does.
    """
    if samples.dtype == np.int16:
        samples = samples / np.float32(32768)
    elif not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(f"'{name}' is of type {samples.dtype}: give floats or 16-bit integers")
    if samples.ndim not in (1, 2):
        raise AudioError(f"'{name}' has shape {samples.shape}; expected (n,) or (n, channels)")
    columns = samples if samples.ndim == 2 else samples[:, None]
    if columns.shape[1] > MOST_CHANNELS:
        raise AudioError(
            f"'{name}' has shape {samples.shape}, which is {columns.shape[1]} channels; expected "
            "(n, channels): turn it with .T"
        )
    whole_hz = whole_rate(name, rate_hz)
    column = intake.column(name, columns.shape[1], whole_hz)
    with np.errstate(over="ignore"):  # what is too large for float32 is infinite, and refused
        chosen = columns[:, column].astype(np.float32)
    return _joined(_heard(name, [chosen], whole_hz, intake, allow_clipped))


def _heard(
    name: str, blocks: Iterable[Samples], rate_hz: int, intake: Intake, allow_clipped: bool
) -> Iterator[Samples]:
    """Blocks at ``rate_hz``, looked at as they come and brought to the monitor's rate.

    Raises:
        AudioError: a sample is no number; at the end, if it is too short, silent or faulty.
    """
    band_hz = intake.band_hz(rate_hz)
    hearing = Hearing(name, rate_hz, band_hz, allow_clipped=allow_clipped)
    resampler = Resampler(rate_hz, intake.rate_hz, through_hz=intake.min_rate_hz)
    count, low, high = 0, np.inf, -np.inf
    for block in _resampled(map(hearing.hear, blocks), resampler):
        if len(block):
            count += len(block)
            low, high = min(low, block.min()), max(high, block.max())
            yield block
    if 0 < count < intake.fewest:
        raise AudioError(f"'{name}' is too short: {count} of {intake.fewest} samples needed")
    hearing.check()
    if high - low <= SILENCE:  # all that there was lay above what the monitor hears
        raise AudioError(f"'{name}' is silent up to {band_hz // 2} Hz: is the microphone right?")


def _resampled(blocks: Iterable[Samples], resampler: Resampler) -> Iterator[Samples]:
    for block in blocks:
        yield resampler.push(block)
    yield resampler.finish()


def _joined(blocks: Iterator[Samples]) -> Samples:
    """Blocks as one array; a single one as it is."""
    parts = list(blocks)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def whole_rate(name: str, rate_hz: object) -> int:
    """A sample rate given by a program, as a whole number of Hz.

    Raises:
        AudioError: it is none, or none that a recorder has.
    """
    numbers = (int, float, np.integer, np.floating)
    if isinstance(rate_hz, bool) or not isinstance(rate_hz, numbers):
        raise AudioError(f"'{name}': a rate of {rate_hz!r} is no number of Hz")
    check_rate(name, rate_hz, 0)  # type: ignore[arg-type]  # NumPy's numbers compare like ours
    if rate_hz != int(rate_hz):
        raise AudioError(f"'{name}': a rate of {rate_hz} Hz is not a whole number")
    return int(rate_hz)


def check_rate(name: str, rate_hz: float, min_rate_hz: int) -> None:
    """Refuse rates that no recorder has, and those whose upper bands would be empty.

    Raises:
        AudioError: the rate is out of range.
    """
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise AudioError(f"'{name}': a rate of {rate_hz} Hz is none that a recorder has")
    if rate_hz < min_rate_hz:
        raise AudioError(
            f"'{name}' is at {rate_hz} Hz; this monitor learned from {min_rate_hz} Hz and more, "
            f"so its upper bands would be empty: record at {min_rate_hz} Hz or higher"
        )


def choose_channel(name: str, channels: int, channel: int | None, usual: int | None = None) -> int:
    """The channel to listen to, 0 being the first.

    Args:
        name: what errors call the sound.
        channels: how many it has.
        channel: the one asked for.
        usual: the one to take, if none is asked for, of a sound that has several.

    Raises:
        AudioError: there are several channels and none is chosen, or there is no such channel.
    """
    if channel is None and channels > 1:
        channel = usual
    if channel is None and channels > 1:
        raise AudioError(
            f"'{name}' has {channels} channels; a monitor listens to 1 channel: choose one with "
            f"--channel 0 to {channels - 1}"
        )
    column = channel or 0
    if not 0 <= column < channels:
        raise AudioError(f"'{name}' has {channels} channel(s), so there is no channel {column}")
    return column


class Resampler:
    """Brings samples from one rate to another as they come, with soxr's high quality filter.

    Where ``through_hz`` is below both, they go through that rate, which empties the bands above its
    half: a monitor that learned from slow recordings hears fast ones as it learned to. However the
    samples are cut, what comes out is the same bit for bit.
    """

    def __init__(self, from_hz: int, to_hz: int, through_hz: int = 0) -> None:
        goes_through = 0 < through_hz < min(from_hz, to_hz)
        rates = (from_hz, through_hz, to_hz) if goes_through else (from_hz, to_hz)
        self._steps = [_step(a, b) for a, b in pairwise(rates) if a != b]

    def push(self, samples: Samples) -> Samples:
        """Take (n,) float32 samples; return the (k,) that can be told of by now."""
        for step in self._steps:
            samples = step.resample_chunk(samples)
        return samples

    def finish(self) -> Samples:
        """The last (k,) samples; it is then spent."""
        samples: Samples = np.empty(0, np.float32)
        for step in self._steps:
            samples = step.resample_chunk(samples, last=True)
        return samples


def _step(from_hz: int, to_hz: int) -> Any:  # noqa: ANN401  # soxr has no types
    import soxr

    return soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32")
