"""A verdict is for the length that was learned: longer sounds are cut into stretches of it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.audio import whole_rate
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.clip_file import blamed_on
from edgeflow_runtime.clip_reader import Clip, ClipReader
from edgeflow_runtime.errors import AudioError, ConfigError
from edgeflow_runtime.logmel_array import ARRAY_SUFFIX
from edgeflow_runtime.sound_file import open_sound

SLACK = 0.1
"""The share by which a sound may be longer or shorter and still be one clip."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A clip that is still to be read: a whole file or array, or a stretch of one."""

    known: Clip
    """What is known of it before."""
    read: Callable[[], Clip]
    """Reads it. Raises :class:`AudioError` if it cannot be judged."""


class Stretches:
    """Cuts what one monitor is given into the length that its verdicts are for.

    A sound of nearly that length is one clip. Of a longer one, the last stretch ends where the
    sound does, and may overlap the one before, so that nothing stays unheard.

    Args:
        reader: reads whole sounds, and hears stretches.
        seconds: the length; 0 for any. A graph that starts at the samples takes no other.
        allow_short: judge shorter sounds, too.
        warn: told once that a shorter one is judged.

    Example:
        >>> from edgeflow_runtime.audio import Intake
        >>> stretches = Stretches(ClipReader(128, Intake(16000)), 10.0)
        >>> stretches.starts(35 * 16000, 16000), stretches.starts(11 * 16000, 16000)
        ([0, 160000, 320000, 400000], [0])
    """

    def __init__(
        self,
        reader: ClipReader,
        seconds: float,
        *,
        allow_short: bool = False,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.seconds = seconds
        self._reader, self._allow_short, self._warn = reader, allow_short, warn
        alone = reader.intake and replace(reader.intake, channel=None)
        self._of_one_channel = replace(reader, intake=alone)
        self._least, self._most = (1 - SLACK) * seconds, (1 + SLACK) * seconds
        if reader.whole and reader.intake:
            sample, whole = 1 / reader.intake.rate_hz, reader.whole
            self._least, self._most = seconds - sample, seconds + (whole.hop - 1) * sample
        if not seconds:
            self._most = math.inf

    def starts(self, samples: int, rate_hz: int) -> list[int]:
        """The first sample of each stretch of a sound that has ``samples`` at ``rate_hz``."""
        count = self._count(rate_hz)
        if samples <= self._most * rate_hz + 1e-6:  # floats: 1.0079375 s are 16126.9... samples
            return [0]
        return [*range(0, samples - count, count), samples - count]

    def drops(self, clip: Clip) -> bool:
        """Whether a clip that is left at the end of a pipe is too short for a verdict."""
        return clip.seconds < self._least and not (self._allow_short and not self._reader.whole)

    def check(self, clip: Clip) -> None:
        """Refuse a clip that is too short, or warn of it.

        Raises:
            AudioError: it is, and short ones are not allowed.
        """
        if self._reader.whole or not clip.seconds < self._least:
            return  # the graph that starts at the samples speaks for itself
        found = (
            f"'{clip.name}' has {clip.seconds:.4g} s; this monitor judges {self.seconds:.4g} s at "
            "a time, and its threshold does not hold for less"
        )
        if not self._allow_short:
            raise AudioError(f"{found}: --allow-short judges it all the same")
        warn, self._warn = self._warn, lambda _: None
        warn(f"{found}: it is judged all the same, as other short ones are")

    def of_files(self, paths: Iterable[str | Path]) -> Iterator[Piece]:
        """The pieces of many files, in order; a file is opened once all before it were cut."""
        for path in paths:
            yield from self.of_file(path)

    def of_file(self, path: str | os.PathLike[str]) -> Iterator[Piece]:
        """A file as one piece, or as its stretches, each read when it is asked for.

        What makes a long file unreadable is raised by its last piece, which is where that is.
        """
        path = Path(path)
        whole = Piece(Clip(str(path)), partial(self._reader.read, path))
        if path.suffix.lower() == ARRAY_SUFFIX or self._reader.intake is None:
            yield whole
            return
        begun: Clip | None = None
        try:
            with open_sound(path) as sound:
                info = sound.info
                starts, count = self.starts(info.samples, info.rate_hz), self._count(info.rate_hz)
                if len(starts) > 1:
                    column = self._reader.intake.column(str(path), info.channels, info.rate_hz)
                    samples, end = np.empty(0, np.float32), 0
                    for begun, start in _known(str(path), starts, count, info.rate_hz):
                        fresh = sound.take(column, start + count - end)
                        samples = np.concatenate([samples[len(fresh) :], fresh])
                        hear = self._of_one_channel.hear
                        yield _piece(begun, partial(hear, begun.label, samples, info.rate_hz))
                        end = start + count
                    return
        except AudioError as error:
            if begun:
                yield Piece(begun, partial(_refuse, begun, error))
                return
        yield whole  # which says what is wrong, if anything is

    def of_samples(self, name: str, samples: npt.ArrayLike, rate_hz: float) -> Iterator[Piece]:
        """The same of (n,) or (n, channels) samples."""
        try:
            with blamed_on(name):
                samples = np.asanyarray(samples)
            hz = whole_rate(name, rate_hz)
            starts = self.starts(len(samples), hz) if samples.ndim in (1, 2) else [0]
        except AudioError:  # which is told when it is heard
            starts = [0]
        if len(starts) == 1:
            yield Piece(Clip(name), partial(self._reader.hear, name, samples, rate_hz))
            return
        assert isinstance(samples, np.ndarray)
        count = self._count(hz)
        for known, start in _known(name, starts, count, hz):
            part = samples[start : start + count]
            yield _piece(known, partial(self._reader.hear, known.label, part, hz))

    def _count(self, rate_hz: int) -> int:
        """Samples in a stretch; never too few for a graph that takes one length."""
        return math.ceil(self.seconds * rate_hz - 1e-6)


def judged_seconds(bundle: Bundle, every: float | None, *, audio_in: bool) -> float:
    """The length that a monitor's verdicts are for: ``every`` if given, else the learned one.

    Returns:
        Seconds; 0 for any length, as of log-Mel arrays.

    Raises:
        ConfigError: ``every`` is no length, or not that of the graph that starts at the samples.
    """
    if every is not None and not (isinstance(every, (int, float)) and 0 < every < math.inf):
        raise ConfigError(f"stretches of {every!r} seconds are none")
    spec = bundle.manifest.features.logmel
    if spec is None:
        if every:
            raise ConfigError(f"--every {every:g}: log-Mel arrays are judged whole: leave it out")
        return 0
    if not audio_in:
        return every or bundle.manifest.threshold.clip_seconds
    seconds = bundle.audio_graph().samples / spec.rate_hz
    if every and not math.isclose(every, seconds, abs_tol=1e-5):
        raise ConfigError(
            f"--every {every:g}: the graph that starts at the samples takes clips of {seconds:g} s:"
            " leave --every out, or --audio-in"
        )
    return seconds


def warn_of_other_length(bundle: Bundle, seconds: float, warn: Callable[[str], None]) -> None:
    """Warn where scores of ``seconds`` do not compare with the bundle's threshold."""
    learned = bundle.manifest.threshold.clip_seconds
    if seconds and learned and abs(seconds - learned) > SLACK * learned:
        warn(
            f"this monitor's threshold is for {learned:.4g} s; scores of {seconds:.4g} s do not "
            "compare with it"
        )


def _known(name: str, starts: list[int], count: int, rate_hz: int) -> Iterator[tuple[Clip, int]]:
    """What is known of each stretch, and its first sample."""
    whole = Clip(name, count / rate_hz, stretches=len(starts))
    for start in starts:
        yield replace(whole, offset_seconds=start / rate_hz), start


def _piece(known: Clip, hear: Callable[[], Clip]) -> Piece:
    """A stretch, to be heard."""
    return Piece(known, lambda: replace(known, samples=hear().samples))


def _refuse(known: Clip, error: AudioError) -> NoReturn:
    raise AudioError(
        f"{error}; nothing of it from {known.offset_seconds:.1f} s on was heard"
    ) from error
