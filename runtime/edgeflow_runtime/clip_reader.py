"""From a file, an array or a pipe to a clip: sound at the monitor's rate, or log-Mel as it is."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Frames, Samples
from edgeflow_runtime.audio import (
    SOUND_SUFFIXES,
    Intake,
    check_audible,
    read_sound,
    take_samples,
)
from edgeflow_runtime.errors import AudioError
from edgeflow_runtime.pipe import PcmFormat, cut_pipe

ARRAY_SUFFIX = ".npy"
"""Files that hold (frames, bands) float32 log-Mel in place of sound."""

NPY_MAGIC = b"\x93NUMPY"
"""What such a file begins with."""

HEADER_LOCK = threading.Lock()
"""NumPy reads a header with Python's parser, which in 3.11 fails when threads take turns in it."""

CLIP_SUFFIXES = (*SOUND_SUFFIXES, ARRAY_SUFFIX)
"""Files that are clips."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip on its way to a verdict."""

    name: str
    """What it is called."""
    seconds: float = math.nan
    """Its length; NaN where an array does not tell."""
    samples: Samples | None = None
    """(n,) at the monitor's rate, fit to be judged."""
    logmel: Frames | None = None
    """(frames, bands) dB: what an array holds, or what the samples became."""
    error: str | None = None
    """Why it cannot be judged."""
    offset_seconds: float = 0.0
    """Where in its source it begins; 0 but for clips that were cut from a pipe."""
    heard_at: datetime | None = None
    """When its first sample was heard, in UTC; ``None`` where nobody knows, as of a file."""


@dataclass(frozen=True)
class ClipReader:
    """Reads clips the way one monitor listens."""

    bands: int
    """Mel bands that arrays must have."""
    intake: Intake | None
    """Its rate and channel; ``None`` if it takes arrays only."""
    allow_clipped: bool = False
    """Whether clipped sounds are read, too: an evaluation must not leave out the loud ones."""
    sound_only: bool = False
    """Whether the graph starts at the samples, so that log-Mel is of no use."""

    def read(self, path: str | Path) -> Clip:
        """A clip from a sound file, or from a ``.npy`` file of log-Mel.

        Raises:
            AudioError: the clip cannot be read or judged.
        """
        path = Path(path)
        is_array = path.suffix.lower() == ARRAY_SUFFIX
        if is_array and not self.sound_only:
            return Clip(str(path), logmel=read_logmel_array(path, self.bands))
        if self.intake is None:
            raise AudioError(
                f"'{path}' is sound, but this monitor was trained on log-Mel arrays made "
                f"elsewhere: give it {ARRAY_SUFFIX} files of (frames, {self.bands}) float32"
            )
        if is_array:
            raise AudioError(
                f"'{path}' is no sound, but the graph that runs starts at the samples: it takes "
                "sound"
            )
        samples = read_sound(path, self.intake)
        check_audible(str(path), samples, allow_clipped=self.allow_clipped)
        return Clip(str(path), len(samples) / self.intake.rate_hz, samples)

    def hear(self, name: str, samples: npt.NDArray[Any], rate_hz: int) -> Clip:
        """A clip from (n,) or (n, channels) samples; raises as :meth:`read` does."""
        if self.intake is None:
            raise AudioError("this monitor was trained on log-Mel arrays; it hears no sound")
        taken = take_samples(name, samples, rate_hz, self.intake)
        check_audible(name, taken, allow_clipped=self.allow_clipped)
        return Clip(name, len(taken) / self.intake.rate_hz, taken)

    def read_pipe(self, pipe: BinaryIO, fmt: PcmFormat, seconds: float) -> Iterator[Clip]:
        """Clips of ``seconds`` from a pipe, each as soon as it is there, faults and all.

        What is left at its end is dropped if it is shorter than half a clip (than a whole one,
        where all must have one length): its score would vary too much.

        Raises:
            AudioError: what comes is no sound that this monitor takes at all.
        """
        whole = 0
        for number, (samples, rate_hz, heard_at) in enumerate(cut_pipe(pipe, fmt, seconds)):
            if number == 0 and self.intake:  # wrong for the first clip is wrong for all of the pipe
                self.intake.column("-", samples.shape[1], rate_hz)
            if len(samples) < whole / (1 if self.sound_only else 2):
                break
            whole = whole or len(samples)
            offset_seconds = number * whole / rate_hz
            name = f"-@{offset_seconds:.1f}s"
            clip = attempt(Clip(name), partial(self.hear, name, samples, rate_hz))
            yield replace(clip, offset_seconds=offset_seconds, heard_at=heard_at)


def attempt(known: Clip, read: Callable[[], Clip]) -> Clip:
    """The clip that ``read`` gives, or what is ``known`` of it and why there is no more.

    Name and error can be printed, whatever bytes a file is called.
    """
    try:
        clip = read()
    except AudioError as error:
        clip = replace(known, error=_printable(str(error)))
    return replace(clip, name=_printable(known.name))


def _printable(text: str) -> str:
    return os.fsencode(text).decode(errors="replace")


def read_logmel_array(path: Path, bands: int) -> Frames:
    """Read (frames, bands) float32 log-Mel from a ``.npy`` file.

    Raises:
        AudioError: the file is missing, damaged, of another shape or type, or holds a NaN.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(NPY_MAGIC)) != NPY_MAGIC:
                raise AudioError(f"'{path}' is not a NumPy array")
            file.seek(0)
            with HEADER_LOCK:
                array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"'{path}' is not a whole NumPy array: {reason}") from error
    if array.ndim != 2 or array.shape[1] != bands or array.dtype != np.float32:
        raise AudioError(
            f"'{path}' holds {array.dtype} of shape {array.shape}; "
            f"expected float32 of shape (frames, {bands})"
        )
    if not np.isfinite(array).all():
        raise AudioError(f"'{path}' holds values that are NaN or infinite")
    if np.ptp(array) == 0:
        raise AudioError(f"'{path}' is silent: all its values are equal")
    return np.ascontiguousarray(array)


def find_clips(paths: list[Path]) -> list[Path]:
    """The clips that ``paths`` name: files as given, folders searched in sorted order."""
    clips: list[Path] = []
    for path in paths:
        if not path.is_dir():
            clips.append(path)
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in CLIP_SUFFIXES)
        if not inside:
            raise AudioError(f"'{path}' holds no clip ({', '.join(CLIP_SUFFIXES)})")
        clips.extend(inside)
    return clips
