"""Sound from a pipe: raw PCM, or the WAV stream that recorders write by default, clip by clip."""

from __future__ import annotations

import math
import select
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from io import UnsupportedOperation
from typing import BinaryIO, NamedTuple

import numpy as np

from edgeflow_runtime.arrays import Channels
from edgeflow_runtime.audio import MOST_CHANNELS, whole_rate
from edgeflow_runtime.errors import AudioError, ConfigError
from edgeflow_runtime.sound_file import OPEN_WAV_BYTES

ENCODINGS = {"s16": ("<i2", 1 / 32768), "s32": ("<i4", 1 / 2147483648), "f32": ("<f4", 1.0)}
"""Sample type and the factor that brings full scale to 1, by name."""

WAV_ENCODINGS = {(1, 16): "s16", (1, 32): "s32", (3, 32): "f32"}
"""Encoding by a WAV header's format tag and bits."""


MOST_SAMPLES = 1 << 28
"""Samples in a clip, of all channels together: four hours of one channel at 16 kHz."""

MOST_HEADER_BYTES = 1 << 20
"""A WAV header that has not come to its sound by then is none."""

PIECE_BYTES = 1 << 16
"""What is asked of a pipe at once."""


@dataclass(frozen=True)
class PcmFormat:
    """What the bytes in a pipe mean."""

    rate_hz: int
    """Sample rate in Hz."""
    channels: int = 1
    """Interleaved channels."""
    encoding: str = "s16"
    """``s16``, ``s32`` or ``f32``, little-endian."""

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ConfigError(
                f"unknown encoding {self.encoding!r}: choose one of {', '.join(ENCODINGS)}"
            )
        whole_rate("-", self.rate_hz)
        if not isinstance(self.channels, int) or not 1 <= self.channels <= MOST_CHANNELS:
            raise AudioError(
                f"'-': no recorder has {self.channels!r} channels; 1 to {MOST_CHANNELS} are taken"
            )

    @property
    def frame_bytes(self) -> int:
        """One sample of every channel."""
        return np.dtype(ENCODINGS[self.encoding][0]).itemsize * self.channels

    def samples(self, seconds: float) -> int:
        """Samples of each channel in a clip.

        Raises:
            ConfigError: that is no length, or too much for the memory.
        """
        if not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
            raise ConfigError(f"clips of {seconds!r} seconds are none")
        count = max(1, round(seconds * self.rate_hz))
        if count * self.channels > MOST_SAMPLES:
            raise ConfigError(
                f"clips of {seconds:g} s at {self.rate_hz} Hz in {self.channels} channel(s) are "
                "too long: choose shorter ones with --every"
            )
        return count

    def decode(self, content: bytes) -> Channels:
        """(n, channels) float32 samples, full scale 1."""
        dtype, factor = ENCODINGS[self.encoding]
        samples = np.frombuffer(content, dtype).reshape(-1, self.channels)
        with np.errstate(invalid="ignore"):  # a NaN that signals; it is told of with the others
            return samples.astype(np.float32) * np.float32(factor)


class PipedSound(NamedTuple):
    """A clip's worth of what came through a pipe."""

    channels: Channels
    """(n, channels) float32, full scale 1."""
    rate_hz: int
    """Sample rate in Hz."""
    heard_at: datetime
    """When its first sample came, in UTC: of a recorder that runs, when the clip began."""
    offset_seconds: float
    """Where in the pipe it begins."""


class NoSound(NamedTuple):
    """A clip that did not come in time."""

    reason: str
    """How long was waited, and what was dropped."""
    heard_at: datetime
    """When the waiting for it began, or its first sample came, in UTC."""
    offset_seconds: float
    """Where in the pipe that is."""


def cut_pipe(
    pipe: BinaryIO, fmt: PcmFormat, seconds: float, timeout_s: float = math.inf
) -> Iterator[PipedSound | NoSound]:
    """Cut a pipe into clips of ``seconds``, each given as soon as it is there.

    What is left at the end of the pipe is a shorter last clip. A pipe that starts with a WAV header
    is read as that header says, whatever ``fmt`` holds. Where nothing comes for ``timeout_s``, or a
    clip that began is that late, there is :class:`NoSound` in its place; what came of it is
    dropped, and listening goes on.

    Raises:
        AudioError: the pipe is empty, or its header tells of another encoding, or of what no
            recorder has.
        ConfigError: the length or the timeout make no sense.
    """
    if not isinstance(timeout_s, (int, float)) or not timeout_s > 0:
        raise ConfigError(f"a timeout of {timeout_s!r} s leaves no time: give some seconds")
    fmt.samples(seconds)
    source = PipeBytes(pipe, timeout_s)
    start = None
    while start is None:
        waiting = _now()
        try:
            start = _start(source, fmt)
        except Stalled as stall:
            yield NoSound(str(stall), waiting, 0.0)
    fmt, left = start  # bytes of sound that are still to come
    yield from _cut(source, fmt, left, fmt.samples(seconds))


def _cut(
    source: PipeBytes, fmt: PcmFormat, left: float, count: int
) -> Iterator[PipedSound | NoSound]:
    """Clips of ``count`` samples from where the sound begins."""
    step, samples, heard = fmt.frame_bytes, 0, False
    size = count * step
    late_s = count / fmt.rate_hz
    while True:
        waiting, offset_seconds = _now(), samples / fmt.rate_hz
        try:
            source.peek(int(min(step, left)))
            waiting = _now()
            content = source.take(int(min(size, left)), late_s)
        except Stalled as stall:
            dropped = source.drop(step)
            left -= dropped
            samples += dropped // step
            lost = f"; {dropped / step / fmt.rate_hz:.1f} s that had come are dropped"
            yield NoSound(f"{stall}{lost if dropped else ''}", waiting, offset_seconds)
            continue
        left -= len(content)
        whole = len(content) - len(content) % step
        if whole:
            heard = True
            samples += whole // step
            channels = fmt.decode(content[:whole])
            yield PipedSound(channels, fmt.rate_hz, waiting, offset_seconds)
        if len(content) < size:
            break
    if 0 < left < math.inf:
        raise AudioError(f"the pipe ended {left} bytes before its WAV header says")
    if not heard:
        raise AudioError("the pipe gave no sound")


class Stalled(Exception):  # no error: nothing may have gone wrong
    """Nothing came through a pipe in time; says how long was waited."""


class PipeBytes:
    """Bytes from a pipe that may stall; what came and was not taken is kept.

    Args:
        pipe: whatever is read; a timeout needs one that the system can watch, as it can watch
            pipes, sockets and terminals. Other files never stall.
        timeout_s: after so long without a byte it has stalled.
    """

    def __init__(self, pipe: BinaryIO, timeout_s: float = math.inf) -> None:
        self._pipe, self._timeout_s = pipe, timeout_s
        self._held = bytearray()
        self._poll: select.poll | None = None
        try:
            handle = pipe.fileno()
        except (OSError, UnsupportedOperation, AttributeError):
            return
        if math.isfinite(timeout_s):
            self._poll = select.poll()
            self._poll.register(handle, select.POLLIN)

    def peek(self, size: int, late_s: float = math.inf) -> bytes:
        """``size`` bytes, or what is left before the end; the next call gives them again.

        Raises:
            Stalled: nothing came for the timeout, or not all within ``late_s`` and the timeout.
        """
        deadline = time.monotonic() + self._timeout_s + late_s
        while len(self._held) < size:
            self._wait(deadline)
            part = self._read(min(PIECE_BYTES, size - len(self._held)))
            if not part:
                break
            self._held += part
        with memoryview(self._held) as held:
            return bytes(held[:size])

    def take(self, size: int, late_s: float = math.inf) -> bytes:
        """As :meth:`peek`, but they are taken."""
        content = self.peek(size, late_s)
        del self._held[: len(content)]
        return content

    def drop(self, step: int) -> int:
        """Forget what came, but for a last piece of less than ``step``; how many bytes that was."""
        dropped = len(self._held) - len(self._held) % step
        del self._held[:dropped]
        return dropped

    def _wait(self, deadline: float) -> None:
        if self._poll is None:
            return
        left_s = deadline - time.monotonic()
        wait_s = max(0.0, min(self._timeout_s, left_s))
        if left_s > 0 and self._poll.poll(math.ceil(wait_s * 1000)):
            return
        if wait_s < self._timeout_s:
            raise Stalled("it did not come in time")
        raise Stalled(f"nothing came for {wait_s:.3g} s")

    def _read(self, size: int) -> bytes:
        """Some bytes, as soon as there are any."""
        read = getattr(self._pipe, "read1", self._pipe.read)
        part: bytes = read(size)
        return part


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _start(source: PipeBytes, fmt: PcmFormat) -> tuple[PcmFormat, float]:
    """The format of what comes and how many bytes of sound there are; a WAV header is taken.

    Raises:
        Stalled: the header has not come yet; nothing of it was taken.
    """
    if source.peek(4) != b"RIFF":
        return fmt, math.inf
    if source.peek(12)[8:] != b"WAVE":
        raise AudioError("the pipe holds a RIFF file that is not WAV")
    fields, size, place = None, 0, 12
    while len(head := source.peek(place + 8)[place:]) == 8:
        name, size = head[:4], struct.unpack("<I", head[4:])[0]
        place += 8
        if name == b"data":
            break
        if place + size > MOST_HEADER_BYTES:
            raise AudioError("the pipe's WAV header is damaged: it comes to no sound")
        chunk = source.peek(place + size + size % 2)[place:]
        place += len(chunk)
        if name == b"fmt " and len(chunk) >= 16:
            fields = _fields(chunk)
    source.take(place)
    if fields is None:
        raise AudioError("the pipe's WAV header is damaged")
    open_length = size == 0 or size >= OPEN_WAV_BYTES
    return _format(*fields), math.inf if open_length else size


def _fields(chunk: bytes) -> tuple[int, int, int, int]:
    """Format tag, channels, rate in Hz and bits of a WAV file's ``fmt`` chunk."""
    tag, channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
    if tag == 0xFFFE and len(chunk) >= 26:  # extensible: the real tag comes later
        tag = struct.unpack("<H", chunk[24:26])[0]
    return tag, channels, rate_hz, bits


def _format(tag: int, channels: int, rate_hz: int, bits: int) -> PcmFormat:
    if (tag, bits) not in WAV_ENCODINGS or not channels or not rate_hz:
        raise AudioError(
            f"the pipe's WAV header tells of {bits} bits with format tag {tag}; 16 or 32 bit PCM "
            "or 32 bit float is needed"
        )
    return PcmFormat(rate_hz, channels, WAV_ENCODINGS[tag, bits])
