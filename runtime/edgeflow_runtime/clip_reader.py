"""From a file, an array or a pipe to a clip: sound at the monitor's rate, or log-Mel as it is."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Frames, Samples
from edgeflow_runtime.audio import Intake, read_sound, take_samples
from edgeflow_runtime.clip_file import blamed_on
from edgeflow_runtime.errors import AudioError
from edgeflow_runtime.logmel_array import ARRAY_SUFFIX, read_logmel_array
from edgeflow_runtime.pipe import NoSound, PcmFormat, cut_pipe
from edgeflow_runtime.whole_clips import WholeClips

SOUND_SUFFIXES = (".wav", ".flac")
"""File names that a folder is searched for."""

CLIP_SUFFIXES = (*SOUND_SUFFIXES, ARRAY_SUFFIX)
"""Files that are clips."""

STALLED_CLIPS = 3
"""A pipe that gives nothing for the length of so many clips is reported."""


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
    """Where in its source it begins; 0 but for stretches, and clips that were cut from a pipe."""
    stretches: int = 1
    """In how many stretches its sound is judged, of which it is one."""
    heard_at: datetime | None = None
    """When its first sample was heard, in UTC; ``None`` where nobody knows, as of a file."""

    @property
    def label(self) -> str:
        """What errors and pictures call it: its name and, of a stretch, its place."""
        place = f" @ {self.offset_seconds:.1f}s" if self.stretches > 1 else ""
        return f"{self.name}{place}"


@dataclass(frozen=True)
class ClipReader:
    """Reads clips the way one monitor listens."""

    bands: int
    """Mel bands that arrays must have."""
    intake: Intake | None
    """Its rate and channel; ``None`` if it takes arrays only."""
    allow_clipped: bool = False
    """Whether clipped sounds are read, too: an evaluation must not leave out the loud ones."""
    whole: WholeClips | None = None
    """What the graph takes, if it starts at the samples, so that log-Mel is of no use."""

    def read(self, path: str | os.PathLike[str]) -> Clip:
        """A clip from a sound file, or from a ``.npy`` file of log-Mel.

        Raises:
            AudioError: the clip cannot be read or judged.
        """
        path = Path(path)
        is_array = path.suffix.lower() == ARRAY_SUFFIX
        if is_array and not self.whole:
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
        samples = read_sound(path, self.intake, allow_clipped=self.allow_clipped)
        return Clip(str(path), len(samples) / self.intake.rate_hz, samples)

    def hear(self, name: str, samples: npt.ArrayLike, rate_hz: float) -> Clip:
        """A clip from (n,) or (n, channels) samples; raises as :meth:`read` does."""
        if self.intake is None:
            raise AudioError("this monitor was trained on log-Mel arrays; it hears no sound")
        if isinstance(samples, np.ma.MaskedArray) and np.ma.is_masked(samples):
            raise AudioError(f"'{name}' has samples that are masked: fill them, or leave them out")
        with blamed_on(name):
            array = np.asarray(samples)
            taken = take_samples(
                name, array, rate_hz, self.intake, allow_clipped=self.allow_clipped
            )
        return Clip(name, len(taken) / self.intake.rate_hz, taken)

    def read_pipe(
        self, pipe: BinaryIO, fmt: PcmFormat, seconds: float, timeout_s: float | None = None
    ) -> Iterator[Clip]:
        """Clips of ``seconds`` from a pipe, each as soon as it is there, faults and all.

        What is left at its end is a shorter one. Where nothing comes for ``timeout_s`` (three
        clips' length, if not given), that is a clip's fault, too.

        Raises:
            AudioError: what comes is no sound that this monitor takes at all.
            ConfigError: the format, the length or the timeout make no sense.
        """
        if self.intake is None:
            raise AudioError("this monitor was trained on log-Mel arrays; it hears no sound")
        timeout_s = STALLED_CLIPS * seconds if timeout_s is None else timeout_s
        fits = False
        for piece in cut_pipe(pipe, fmt, seconds, timeout_s):
            name = f"-@{piece.offset_seconds:.1f}s"
            known = Clip(name, offset_seconds=piece.offset_seconds, heard_at=piece.heard_at)
            if isinstance(piece, NoSound):
                yield replace(known, error=f"'{name}': no data: {piece.reason}")
                continue
            samples, rate_hz = piece.channels, piece.rate_hz
            if not fits:  # wrong for the first clip is wrong for all of the pipe
                self.intake.column("-", samples.shape[1], rate_hz)
                fits = True
            known = replace(known, seconds=len(samples) / rate_hz)
            clip = attempt(known, partial(self.hear, name, samples, rate_hz))
            yield replace(known, samples=clip.samples, error=clip.error)


def attempt(known: Clip, read: Callable[[], Clip]) -> Clip:
    """The clip that ``read`` gives, or what is ``known`` of it and why there is no more."""
    try:
        return read()
    except AudioError as error:
        return replace(known, error=str(error))


def find_clips(paths: list[Path]) -> list[Path]:
    """The clips that ``paths`` name: files as given, folders searched in sorted order.

    Raises:
        AudioError: a folder holds none.
    """
    clips: list[Path] = []
    for path in paths:
        if not path.is_dir():
            clips.append(path)
            continue
        inside = files_inside(path, CLIP_SUFFIXES)
        if not inside:
            raise AudioError(f"'{path}' holds no clip ({', '.join(CLIP_SUFFIXES)})")
        clips.extend(inside)
    return clips


def files_inside(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files in a folder and its folders with one of these suffixes, sorted; no hidden ones."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
