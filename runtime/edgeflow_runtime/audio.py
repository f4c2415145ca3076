"""From a sound file to samples: float32, one channel, at the monitor's rate, fit to be judged."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Channels, Samples
from edgeflow_runtime.errors import AudioError

if TYPE_CHECKING:
    import soundfile

SOUND_SUFFIXES = (".wav", ".flac")
"""File names that a folder is searched for."""

SILENCE = 2 / 32768
"""A clip whose samples all lie within two steps of 16 bits holds no sound."""

OPEN_WAV_BYTES = 0x7FFFF000
"""Data lengths from here on are what recorders write that do not know the length yet."""

OPEN_LENGTH = 1 << 40
"""More samples than a file can hold: its header leaves the length open."""

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 100, 10_000_000
"""Rates that sound is recorded at lie well between."""

LOUDEST = 1e4
"""Full scale is 1; samples beyond this are no sound but numbers gone wrong."""

FULL_SCALE = 32767 / 32768
"""Samples at or above this magnitude lie on the converter's rail."""

CLIPPED_SHARE = 0.01
"""The share of samples on the rail from which a clip is called clipped."""


@dataclass(frozen=True)
class SoundInfo:
    """What a sound file's header says."""

    rate_hz: int
    """Sample rate in Hz."""
    channels: int
    """Number of channels."""
    samples: int
    """Samples per channel."""

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.samples / self.rate_hz


def sound_info(path: str | Path) -> SoundInfo:
    """Read the header of ``path``.

    Raises:
        AudioError: the file is missing, empty, truncated or no sound.
    """
    with _open(Path(path)) as file:
        return SoundInfo(file.samplerate, file.channels, file.frames)


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

    def at_rate(self, name: str, samples: Samples, rate_hz: int) -> Samples:
        """(n,) finite samples at ``rate_hz``, brought to the monitor's rate.

        Raises:
            AudioError: a sample is NaN, infinite, or far beyond full scale, or there are too few.
        """
        taken = resample(check_finite(name, samples), rate_hz, self.rate_hz, self.min_rate_hz)
        if 0 < len(taken) < self.fewest:
            raise AudioError(f"'{name}' is too short: {len(taken)} of {self.fewest} samples needed")
        return taken


def read_sound(path: str | Path, intake: Intake) -> Samples:
    """Read one channel of a sound file and bring it to the monitor's rate.

    Args:
        path: a file that libsndfile reads, PCM or float, of any rate and channel count.
        intake: rate and channel.

    Returns:
        (n,) float32, full scale is 1.

    Raises:
        AudioError: the file cannot be read whole, holds a NaN, has no such channel, too low a rate,
            or needs a channel chosen.
    """
    path = Path(path)
    with _open(path) as file:
        native_hz = file.samplerate
        column = intake.column(str(path), file.channels, native_hz)
        sound = _read_whole(path, file)[:, column]
    return intake.at_rate(str(path), sound, native_hz)


def take_samples(name: str, samples: npt.NDArray[Any], rate_hz: int, intake: Intake) -> Samples:
    """One channel of an array of samples, at the monitor's rate.

    Args:
        name: what errors call the sound.
        samples: (n,) or (n, channels) floats with full scale 1, or 16-bit integers.
        rate_hz: their rate.
        intake: rate and channel.

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
    column = intake.column(name, columns.shape[1], rate_hz)
    return intake.at_rate(name, columns[:, column].astype(np.float32), rate_hz)


def _read_whole(path: Path, file: soundfile.SoundFile) -> Channels:
    """All samples of ``file``, (n, channels)."""
    if file.frames > OPEN_LENGTH:
        raise AudioError(f"'{path}' does not say how long it is: convert it to WAV, say")
    try:
        channels: Channels = file.read(dtype="float32", always_2d=True)
    except RuntimeError as error:
        raise AudioError(f"'{path}' is damaged: {_reason(error)}") from error
    if len(channels) < file.frames:
        raise AudioError(
            f"'{path}' is truncated: {len(channels)} of {file.frames} samples are there"
        )
    return channels


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


def check_finite(name: str, samples: Samples) -> Samples:
    """Return ``samples`` unless one is NaN or infinite. Raises :class:`AudioError`."""
    bad = np.flatnonzero(~np.isfinite(samples))
    if len(bad):
        raise AudioError(
            f"'{name}' holds {len(bad)} sample(s) that are NaN or infinite, the first at {bad[0]}"
        )
    if len(samples) and (peak := float(np.abs(samples).max())) > LOUDEST:
        raise AudioError(f"'{name}' holds samples up to {peak:.1e}, where full scale is 1")
    return samples


def check_audible(name: str, samples: Samples, *, allow_clipped: bool = False) -> None:
    """Refuse what a microphone gives when it hears nothing or too much.

    Raises:
        AudioError: the clip is empty, silent or clipped.
    """
    if not len(samples):
        raise AudioError(f"'{name}' holds no samples")
    if np.ptp(samples) <= SILENCE:
        raise AudioError(f"'{name}' is silent: is the microphone connected?")
    share = float(np.mean(np.abs(samples) >= FULL_SCALE))
    if share > CLIPPED_SHARE and not allow_clipped:
        raise AudioError(
            f"'{name}' is clipped: {share:.1%} of its samples are at full scale: lower the gain"
        )


def resample(samples: Samples, from_hz: int, to_hz: int, through_hz: int = 0) -> Samples:
    """Bring (n,) float32 samples from one rate to another, with soxr's high quality filter.

    Where ``through_hz`` is below both, they go through that rate, which empties the bands above its
    half: a monitor that learned from slow recordings hears fast ones as it learned to.
    """
    if 0 < through_hz < min(from_hz, to_hz):
        return resample(resample(samples, from_hz, through_hz), through_hz, to_hz)
    if from_hz == to_hz:
        return np.ascontiguousarray(samples)
    import soxr

    resampled: Samples = soxr.resample(samples, from_hz, to_hz)
    return resampled


def _open(path: Path) -> soundfile.SoundFile:
    """Open ``path`` for reading, with what can be wrong named."""
    import soundfile

    try:
        if not path.is_file():
            raise AudioError(f"'{path}' is not a file" if path.exists() else f"'{path}' is missing")
        size = path.stat().st_size
        if size == 0:
            raise AudioError(f"'{path}' is empty")
        _check_wav_length(path, size)
        return soundfile.SoundFile(os.fsencode(path))
    except (soundfile.LibsndfileError, TypeError) as error:
        raise AudioError(f"'{path}' is not a sound file: {_reason(error)}") from error
    except OSError as error:
        raise AudioError(f"'{path}' cannot be read: {error.strerror}") from error


def _check_wav_length(path: Path, size: int) -> None:
    """Refuse a WAV file whose samples are fewer than its header says.

    libsndfile would read what is left in silence. Recorders that write to a pipe leave a length of
    nearly 2 or 4 GiB; such files are read to their end.
    """
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return
        file.seek(12)
        while len(head := file.read(8)) == 8:
            name, length = head[:4], int.from_bytes(head[4:], "little")
            end = file.tell() + length
            if name == b"data":
                if size < end and length < OPEN_WAV_BYTES:
                    raise AudioError(f"'{path}' is truncated: {size} of {end} bytes are there")
                if length == 0 and size > end:
                    raise AudioError(
                        f"'{path}' says it holds no samples, yet {size - end} bytes follow: its "
                        "recorder was cut off; score it through a pipe, with -"
                    )
                return
            file.seek(end + length % 2)


def _reason(error: Exception) -> str:
    """Libsndfile's own words, without the address of the object that spoke them."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")
