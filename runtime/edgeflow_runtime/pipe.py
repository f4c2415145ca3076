"""Sound from a pipe: raw PCM, or the WAV stream that recorders write by default, clip by clip."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import BinaryIO, NamedTuple

import numpy as np

from edgeflow_runtime.arrays import Channels
from edgeflow_runtime.audio import OPEN_WAV_BYTES
from edgeflow_runtime.errors import AudioError

ENCODINGS = {"s16": ("<i2", 1 / 32768), "s32": ("<i4", 1 / 2147483648), "f32": ("<f4", 1.0)}
"""Sample type and the factor that brings full scale to 1, by name."""

WAV_ENCODINGS = {(1, 16): "s16", (1, 32): "s32", (3, 32): "f32"}
"""Encoding by a WAV header's format tag and bits."""


@dataclass(frozen=True)
class PcmFormat:
    """What the bytes in a pipe mean."""

    rate_hz: int
    """Sample rate in Hz."""
    channels: int = 1
    """Interleaved channels."""
    encoding: str = "s16"
    """``s16``, ``s32`` or ``f32``, little-endian."""


class PipedSound(NamedTuple):
    """A clip's worth of what came through a pipe."""

    channels: Channels
    """(n, channels) float32, full scale 1."""
    rate_hz: int
    """Sample rate in Hz."""
    heard_at: datetime
    """When its first sample came, in UTC: of a recorder that runs, when the clip began."""


def cut_pipe(pipe: BinaryIO, fmt: PcmFormat, seconds: float) -> Iterator[PipedSound]:
    """Cut a pipe into clips of ``seconds``, each given as soon as it is there.

    What is left at the end of the pipe is a shorter last clip. A pipe that starts with a WAV header
    is read as that header says, whatever ``fmt`` holds.

    Raises:
        AudioError: the pipe is empty, or its header tells of another encoding.
    """
    head, left = _read_exactly(pipe, 4), math.inf  # bytes of sound that are still to come
    if head == b"RIFF":
        fmt, left = _wav_format(pipe)
        head = b""
    dtype, factor = ENCODINGS[fmt.encoding]
    step = np.dtype(dtype).itemsize * fmt.channels
    size = max(1, round(seconds * fmt.rate_hz)) * step
    heard = False
    while True:
        first = head + _read_exactly(pipe, int(min(step, left)) - len(head))
        heard_at = datetime.now(timezone.utc)
        content = first + _read_exactly(pipe, int(min(size, left)) - len(first))
        head = b""
        left -= len(content)
        whole = len(content) - len(content) % step
        if whole:
            heard = True
            samples = np.frombuffer(content[:whole], dtype).reshape(-1, fmt.channels)
            channels = samples.astype(np.float32) * np.float32(factor)
            yield PipedSound(channels, fmt.rate_hz, heard_at)
        if len(content) < size:
            break
    if 0 < left < math.inf:
        raise AudioError(f"the pipe ended {left} bytes before its WAV header says")
    if not heard:
        raise AudioError("the pipe gave no sound")


def _read_exactly(pipe: BinaryIO, size: int) -> bytes:
    """``size`` bytes, or what is left before the end."""
    parts = []
    while size > 0 and (part := pipe.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _wav_format(pipe: BinaryIO) -> tuple[PcmFormat, float]:
    """Read a WAV header, ``RIFF`` being gone; its format and the bytes of sound that follow."""
    if _read_exactly(pipe, 8)[4:] != b"WAVE":
        raise AudioError("the pipe holds a RIFF file that is not WAV")
    fields, size = None, 0
    while len(head := _read_exactly(pipe, 8)) == 8:
        name, size = head[:4], struct.unpack("<I", head[4:])[0]
        if name == b"data":
            break
        chunk = _read_exactly(pipe, size + size % 2)
        if name == b"fmt " and len(chunk) >= 16:
            tag, channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
            if tag == 0xFFFE and len(chunk) >= 26:  # extensible: the real tag comes later
                tag = struct.unpack("<H", chunk[24:26])[0]
            fields = tag, channels, rate_hz, bits
    if fields is None:
        raise AudioError("the pipe's WAV header is damaged")
    tag, channels, rate_hz, bits = fields
    if (tag, bits) not in WAV_ENCODINGS or not channels or not rate_hz:
        raise AudioError(
            f"the pipe's WAV header tells of {bits} bits with format tag {tag}; 16 or 32 bit PCM "
            "or 32 bit float is needed"
        )
    open_length = size == 0 or size >= OPEN_WAV_BYTES
    return PcmFormat(rate_hz, channels, WAV_ENCODINGS[tag, bits]), math.inf if open_length else size
