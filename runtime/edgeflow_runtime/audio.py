"""From a sound file to samples: float32, one channel, at the monitor's rate, fit to be judged."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.errors import AudioError

if TYPE_CHECKING:
    import soundfile

Array = npt.NDArray[np.float32]

SOUND_SUFFIXES = (".wav", ".flac")
"""File names that a folder is searched for."""

SILENCE = 2 / 32768
"""A clip whose samples all lie within two steps of 16 bits holds no sound."""

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


def read_sound(
    path: str | Path, rate_hz: int, channel: int | None = None, *, min_rate_hz: int = 1
) -> Array:
    """Read one channel of a sound file and bring it to ``rate_hz``.

    Args:
        path: a file that libsndfile reads, PCM or float, of any rate and channel count.
        rate_hz: the rate to resample to.
        channel: which channel to take, the first is 0. A file of one channel needs none; channels
            are never mixed.
        min_rate_hz: recordings below this rate are refused, as their upper bands would be empty.

    Returns:
        (n,) float32, full scale is 1.

    Raises:
        AudioError: the file cannot be read whole, holds a NaN, has no such channel, too low a rate,
            or needs a channel chosen.
    """
    path = Path(path)
    with _open(path) as file:
        native_hz, expected = file.samplerate, file.frames
        check_rate(str(path), native_hz, min_rate_hz)
        column = choose_channel(str(path), file.channels, channel)
        try:
            sound: Array = file.read(dtype="float32", always_2d=True)  # (n, channels)
        except RuntimeError as error:
            raise AudioError(f"'{path}' is damaged: {_reason(error)}") from error
    if len(sound) < expected:
        raise AudioError(f"'{path}' is truncated: {len(sound)} of {expected} samples are there")
    return resample(check_finite(str(path), sound[:, column]), native_hz, rate_hz)


def check_rate(name: str, rate_hz: int, min_rate_hz: int) -> None:
    """Refuse recordings whose upper bands would be empty. Raises :class:`AudioError`."""
    if rate_hz < min_rate_hz:
        raise AudioError(
            f"'{name}' is at {rate_hz} Hz; this monitor learned from {min_rate_hz} Hz and more, "
            f"so its upper bands would be empty: record at {min_rate_hz} Hz or higher"
        )


def choose_channel(name: str, channels: int, channel: int | None) -> int:
    """The channel to listen to, 0 being the first.

    Raises:
        AudioError: there are several channels and none is chosen, or there is no such channel.
    """
    if channel is None and channels > 1:
        raise AudioError(
            f"'{name}' has {channels} channels; a monitor listens to 1 channel: choose one with "
            f"--channel 0 to {channels - 1}"
        )
    column = channel or 0
    if not 0 <= column < channels:
        raise AudioError(f"'{name}' has {channels} channel(s), so there is no channel {column}")
    return column


def check_finite(name: str, samples: Array) -> Array:
    """Return ``samples`` unless one is NaN or infinite. Raises :class:`AudioError`."""
    bad = np.flatnonzero(~np.isfinite(samples))
    if len(bad):
        raise AudioError(
            f"'{name}' holds {len(bad)} sample(s) that are NaN or infinite, the first at {bad[0]}"
        )
    return samples


def check_audible(name: str, samples: Array, *, allow_clipped: bool = False) -> None:
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


def resample(samples: Array, from_hz: int, to_hz: int) -> Array:
    """Bring (n,) float32 samples from one rate to another, with soxr's high quality filter."""
    if from_hz == to_hz:
        return np.ascontiguousarray(samples)
    import soxr

    resampled: Array = soxr.resample(samples, from_hz, to_hz)
    return resampled


def _open(path: Path) -> soundfile.SoundFile:
    """Open ``path`` for reading, with what can be wrong named."""
    import soundfile

    if not path.is_file():
        raise AudioError(f"'{path}' is not a file" if path.exists() else f"'{path}' is missing")
    try:
        size = path.stat().st_size
        if size == 0:
            raise AudioError(f"'{path}' is empty")
        _check_riff_size(path, size)
        return soundfile.SoundFile(str(path))
    except (soundfile.LibsndfileError, TypeError) as error:
        raise AudioError(f"'{path}' is not a sound file: {_reason(error)}") from error
    except OSError as error:
        raise AudioError(f"'{path}' cannot be read: {error.strerror}") from error


def _check_riff_size(path: Path, size: int) -> None:
    """Refuse a WAV file shorter than it says; libsndfile would read what is left in silence."""
    with path.open("rb") as file:
        head = file.read(12)
    if len(head) < 12 or head[:4] != b"RIFF":
        return
    declared = struct.unpack("<I", head[4:8])[0] + 8
    streamed = declared in (8, 0xFFFFFFFF + 8)  # a recorder that wrote to a pipe
    if declared > size + 1 and not streamed:
        raise AudioError(f"'{path}' is truncated: {size} of {declared} bytes are there")


def _reason(error: Exception) -> str:
    """Libsndfile's own words, without the address of the object that spoke them."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")
