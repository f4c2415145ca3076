"""What a long recording sounds like: its level every 50 ms, and where there is no sound.

It is read in blocks, so that memory holds some numbers for each 50 ms and never the recording.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edgeflow.recordings.sound import BYTES, open_recording
from edgeflow.recordings.sources import Source
from edgeflow_runtime.arrays import Samples
from edgeflow_runtime.audio import check_rate, choose_channel
from edgeflow_runtime.hearing import SILENCE

FRAME_S = 0.05
"""A knock is over in less, and a level of it is steady."""

BLOCK = 1 << 20
"""Samples of all channels together that are read at a time."""

BURST_DB = 12.0
"""How far above the usual peaks a burst lies at least. Set by looking at 160 clips of 16 real
machines in good order, valves and sliders among them: the loudest lay 8 dB above. How loud hands on
a microphone are was not measured."""

BURST_DEVIATIONS = 6.0
"""And how many robust standard deviations of these peaks."""

GUARD_S = 0.5
"""Left out before and after a burst: hands come and go."""

SILENCE_S = 1.0
"""Silence of this length is left out; shorter pauses are part of the sound."""

FAINTEST = 1e-12
"""Least power, so that digital zero has a level: -120 dB of full scale."""

Mask = npt.NDArray[np.bool_]
"""(n,) one for each frame of 50 ms."""


@dataclass(frozen=True, eq=False)
class Heard:
    """What was heard in one recording."""

    source: Source
    """The recording."""
    rate_hz: int
    """Its rate."""
    channels: int
    """Its channels."""
    channel: int
    """The one that was listened to."""
    samples: int
    """Its length in samples."""
    encoding: tuple[str, str]
    """Format and subtype of its clips."""
    frame: int
    """Samples in a frame."""
    levels_db: Samples
    """(n,) level of each whole frame without its mean, in dB of full scale; NaN or infinite where
    the samples are no numbers."""
    silent: Mask
    """(n,) frames without sound."""
    digest: str
    """SHA-256 of its samples: equal for equal sounds, whatever their files are called."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.samples / self.rate_hz

    @property
    def bytes_per_sample(self) -> int:
        """What a sample of its clips takes at most, all channels together."""
        return self.channels * BYTES[self.encoding[1]]

    @cached_property
    def excess_db(self) -> Samples:
        """(n,) level of each frame over the recording's own, the median of those with sound."""
        heard = self.levels_db[~self.silent & np.isfinite(self.levels_db)]
        return self.levels_db - (np.median(heard) if len(heard) else np.float32(0.0))

    def peaks_db(self, seconds: float) -> Samples:
        """(k,) the loudest frame of each stretch of ``seconds``, those without sound left out."""
        count = max(1, round(seconds / FRAME_S))
        whole = self.excess_db[: len(self.excess_db) // count * count].reshape(-1, count)
        silent = self.silent[: whole.size].reshape(-1, count)
        usable = np.isfinite(whole) & ~silent
        peaks: Samples = np.where(usable, whole, -np.inf).max(axis=1, initial=-np.inf)
        return peaks[np.isfinite(peaks)]

    def silences(self) -> Mask:
        """(n,) frames that lie in a silence of :data:`SILENCE_S` or more."""
        mask = np.zeros_like(self.silent)
        for first, end in runs(self.silent):
            mask[first:end] = end - first >= round(SILENCE_S / FRAME_S)
        return mask

    def bursts(self, limit_db: float) -> Mask:
        """(n,) frames that lie in a burst above ``limit_db`` over the recording's own level."""
        mask, guard = np.zeros_like(self.silent), round(GUARD_S / FRAME_S)
        with np.errstate(invalid="ignore"):
            loud = self.excess_db > limit_db
        for first, end in runs(loud):
            mask[max(0, first - guard) : end + guard] = True
        return mask


def listen(source: Source, channel: int | None, advance: Callable[[], None]) -> Heard:
    """Listen to a recording from its beginning to its end.

    Args:
        source: the recording.
        channel: the channel to listen to; the first is 0.
        advance: called after each block.

    Raises:
        AudioError: it cannot be read whole, or there is no such channel.
    """
    levels, silences, digest = [], [], hashlib.sha256()
    with open_recording(source.path) as sound:
        check_rate(sound.name, sound.rate_hz, 0)
        column = choose_channel(sound.name, sound.channels, channel)
        frame = max(1, round(FRAME_S * sound.rate_hz))
        digest.update(f"{sound.rate_hz} {sound.channels}".encode())
        for block in sound.blocks(frame * max(1, BLOCK // (frame * sound.channels))):
            digest.update(block.tobytes())
            frames = block[: len(block) // frame * frame, column].reshape(-1, frame)
            with np.errstate(invalid="ignore", over="ignore"):
                power = frames.var(axis=1, dtype=np.float32)
                levels.append(10 * np.log10(np.maximum(power, np.float32(FAINTEST))))
                silences.append(np.ptp(frames, axis=1) <= SILENCE)
            advance()
        return Heard(
            source,
            sound.rate_hz,
            sound.channels,
            column,
            sound.samples,
            sound.encoding,
            frame,
            np.concatenate([np.empty(0, np.float32), *levels]),
            np.concatenate([np.empty(0, bool), *silences]),
            digest.hexdigest(),
        )


def blocks_in(samples: int, channels: int) -> int:
    """About how many blocks such a recording is read in."""
    return 1 + samples * channels // BLOCK


def burst_limit_db(recordings: Sequence[Heard], seconds: float) -> float:
    """How far above its own level a recording of the machine must go to have a burst in it.

    What is usual is told by the loudest 50 ms of each clip: a valve's clicks are in all of them, a
    knock on the microphone is in few. So the limit lies :data:`BURST_DB`, and
    :data:`BURST_DEVIATIONS` robust standard deviations, above the median of these peaks.

    Args:
        recordings: of one machine, in good order.
        seconds: length of a clip.

    Returns:
        The limit in dB; infinite where no clip was heard.
    """
    peaks = np.concatenate([np.empty(0), *(heard.peaks_db(seconds) for heard in recordings)])
    if not len(peaks):
        return np.inf
    usual = float(np.median(peaks))
    deviation = 1.4826 * float(np.median(np.abs(peaks - usual)))
    return usual + max(BURST_DB, BURST_DEVIATIONS * deviation)


def runs(mask: Mask) -> npt.NDArray[np.int64]:
    """(k, 2) where each run of ``True`` begins, and the first after it.

    Example:
        >>> runs(np.array([True, True, False, True])).tolist()
        [[0, 2], [3, 4]]
    """
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return edges.reshape(-1, 2)
