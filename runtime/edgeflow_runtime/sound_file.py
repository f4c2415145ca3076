"""A sound file, opened and read in blocks, with all that can be wrong with it named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeflow_runtime.arrays import Channels, Samples
from edgeflow_runtime.clip_file import blamed_on, regular_size
from edgeflow_runtime.errors import AudioError

if TYPE_CHECKING:
    import soundfile

OPEN_WAV_BYTES = 0x7FFFF000
"""Data lengths from here on are what recorders write that do not know the length yet."""

OPEN_LENGTH = 1 << 40
"""More samples than a file can hold: its header leaves the length open."""

LONG = 1 << 22
"""Samples, of all channels together, from which a file is read in blocks: more than four minutes of
one channel at 16 kHz, or 16 MiB."""

BLOCK, FEWEST_IN_BLOCK = 1 << 20, 1 << 16
"""Samples in a block, of all channels together, but never fewer of each: repeats are looked for
within a block, so it must have some seconds."""


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

    @property
    def is_long(self) -> bool:
        """Whether it is read in blocks."""
        return self.samples * self.channels > LONG


def sound_info(path: str | Path) -> SoundInfo:
    """Read the header of ``path``.

    Raises:
        AudioError: the file is missing, empty, truncated or no sound.
    """
    with open_sound(Path(path)) as sound:
        return sound.info


@contextmanager
def open_sound(path: Path) -> Iterator[OpenSound]:
    """Open ``path`` for reading.

    Raises:
        AudioError: the file is missing, empty, truncated, no sound, or does not say how long it is;
            or something else goes wrong in the block.
    """
    import soundfile

    size = regular_size(path)
    with blamed_on(str(path)):
        _check_wav_length(path, size)
        try:
            file = soundfile.SoundFile(os.fsencode(path))
        except (soundfile.LibsndfileError, TypeError) as error:
            raise AudioError(f"'{path}' is not a sound file: {_reason(error)}") from error
        with file:
            if file.frames > OPEN_LENGTH:
                raise AudioError(f"'{path}' does not say how long it is: convert it to WAV, say")
            yield OpenSound(str(path), file)


class OpenSound:
    """A sound file that is open."""

    def __init__(self, name: str, file: soundfile.SoundFile) -> None:
        self.name, self._file = name, file
        self.info = SoundInfo(file.samplerate, file.channels, file.frames)
        self._block = max(BLOCK // file.channels, FEWEST_IN_BLOCK)
        self._read_samples = 0

    def blocks(self) -> Iterator[Channels]:
        """All of it, in one block if it is short.

        Yields:
            (n, channels) float32, full scale is 1.

        Raises:
            AudioError: it is damaged or truncated.
        """
        info = self.info
        yield from self._blocks(info.samples, self._block if info.is_long else info.samples)

    def take(self, column: int, count: int) -> Samples:
        """The next ``count`` samples of one channel; raises as :meth:`blocks` does."""
        samples = np.empty(count, np.float32)
        taken = 0
        for block in self._blocks(count, self._block):
            samples[taken : taken + len(block)] = block[:, column]
            taken += len(block)
        return samples

    def _blocks(self, count: int, size: int) -> Iterator[Channels]:
        """The next ``count`` samples, in blocks of ``size``."""
        end, whole = self._read_samples + count, self.info.samples
        while self._read_samples < end:
            block = self._read(min(size, end - self._read_samples))
            if not len(block):
                raise AudioError(
                    f"'{self.name}' is truncated: {self._read_samples} of {whole} samples are there"
                )
            self._read_samples += len(block)
            yield block

    def _read(self, size: int) -> Channels:
        try:
            block: Channels = self._file.read(size, dtype="float32", always_2d=True)
        except RuntimeError as error:
            raise AudioError(f"'{self.name}' is damaged: {_reason(error)}") from error
        return block


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
