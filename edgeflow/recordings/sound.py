"""A recording, opened: its samples as they are stored, from anywhere in it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from edgeflow_runtime.arrays import Samples
from edgeflow_runtime.errors import AudioError
from edgeflow_runtime.hearing import Hearing
from edgeflow_runtime.sound_file import sound_info

EXACT = {
    "PCM_S8": "int16",
    "PCM_U8": "int16",
    "PCM_16": "int16",
    "PCM_24": "int32",
    "PCM_32": "int32",
    "FLOAT": "float32",
    "DOUBLE": "float64",
}
"""Encodings that are read and written without a loss, and the type of sample that does it."""

BYTES = {
    "PCM_S8": 1,
    "PCM_U8": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
}
"""Bytes of a sample in each of them."""

Stored = npt.NDArray[Any]
"""(n, channels) samples of the type that :data:`EXACT` gives."""


class OpenRecording:
    """A recording that is open.

    Args:
        name: what errors call it.
        file: the open file.
    """

    def __init__(self, name: str, file: soundfile.SoundFile) -> None:
        self.name, self._file = name, file
        self.rate_hz, self.channels, self.samples = file.samplerate, file.channels, file.frames
        own = "FLAC" if file.format == "FLAC" else "WAV"
        kept = file.subtype in EXACT and soundfile.check_format(own, file.subtype)
        self.encoding = (own, file.subtype) if kept else ("WAV", "FLOAT")
        """Format and subtype of clips that lose nothing of it."""

    def blocks(self, size: int) -> Iterator[Samples]:
        """All of it, as (n, channels) float32 of ``size`` samples each but the last.

        Raises:
            AudioError: it is damaged or truncated.
        """
        read = 0
        while read < self.samples and len(block := self._read(size, "float32")):
            read += len(block)
            yield block
        if read < self.samples:
            raise AudioError(f"'{self.name}' is truncated: {read} of {self.samples} samples")

    def stored(self, start: int, samples: int) -> Stored:
        """(samples, channels) from ``start`` on, as they are stored.

        Raises:
            AudioError: they cannot be read.
        """
        return self._piece(start, samples, EXACT[self.encoding[1]])

    def check(self, start: int, samples: int, channel: int, *, allow_clipped: bool) -> None:
        """Refuse a clip that a monitor could not judge. Raises :class:`AudioError`."""
        sound = self._piece(start, samples, "float32")[:, channel]
        hearing = Hearing(self.name, self.rate_hz, self.rate_hz, allow_clipped=allow_clipped)
        hearing.hear(sound)
        hearing.check()

    def _piece(self, start: int, samples: int, dtype: str) -> Stored:
        try:
            self._file.seek(start)
        except RuntimeError as error:
            raise AudioError(f"'{self.name}' is damaged at sample {start}") from error
        piece = self._read(samples, dtype)
        if len(piece) < samples:
            raise AudioError(f"'{self.name}' has changed: it is shorter than it was")
        return piece

    def _read(self, samples: int, dtype: str) -> Stored:
        try:
            block: Stored = self._file.read(samples, dtype=dtype, always_2d=True)
        except RuntimeError as error:
            reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
            raise AudioError(f"'{self.name}' is damaged: {reason}") from error
        return block


@contextmanager
def open_recording(path: Path) -> Iterator[OpenRecording]:
    """Open ``path`` for reading.

    Raises:
        AudioError: it is missing, empty, truncated or no sound.
    """
    sound_info(path)  # names all that can be wrong with it
    with soundfile.SoundFile(os.fsencode(path)) as file:
        yield OpenRecording(str(path), file)


def clip_file(clip: Stored, rate_hz: int, encoding: tuple[str, str]) -> bytes:
    """(n, channels) stored samples as a sound file."""
    file = io.BytesIO()
    soundfile.write(file, np.ascontiguousarray(clip), rate_hz, encoding[1], format=encoding[0])
    return file.getvalue()
