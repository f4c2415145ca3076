"""Where clips are cut from a recording, and what of it is left out and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeflow.recordings.listening import Heard, runs
from edgeflow.recordings.sound import open_recording
from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import AudioError, ConfigError
from edgeflow_runtime.manifest import MachineId

SHORTEST_S = 1.0
"""Shorter clips hold too few frames for any view."""

SHARE_BESIDE_ABNORMAL = 0.2
"""Share of the normal clips to test on where there are abnormal ones, which tell nothing alone."""

TRAIN, TEST = "train", "test"


@dataclass(frozen=True)
class CutSpec(Document):
    """How recordings become clips."""

    seconds: float = 10.0
    """Length of a clip."""
    hop: float | None = None
    """Seconds from the beginning of one clip to that of the next; ``None``: one after the other."""
    channel: int | None = None
    """The channel that is listened to; clips keep all channels."""
    test_share: float | None = None
    """Share of a machine's normal clips to test on, the last ones; ``None``: a fifth where it has
    abnormal ones, else none."""
    keep_bursts: bool = False
    """Whether bursts are left in."""

    def __post_init__(self) -> None:
        if not SHORTEST_S <= self.seconds <= 3600:
            raise ConfigError(f"a clip has 1 to 3600 seconds, found {self.seconds}")
        if not 0.1 <= self.hop_s <= 86400:
            raise ConfigError(f"clips begin 0.1 s apart or more, found {self.hop_s}")
        if self.test_share is not None and not 0 <= self.test_share < 1:
            raise ConfigError(f"the share to test on is 0 to below 1, found {self.test_share}")

    @property
    def hop_s(self) -> float:
        """Seconds from one clip's beginning to the next one's."""
        return self.seconds if self.hop is None else self.hop


@dataclass(frozen=True)
class PlannedClip:
    """A clip to be cut."""

    heard: Heard
    """The recording."""
    start: int
    """First sample."""
    samples: int
    """Length."""
    split: str = TRAIN
    """``train`` or ``test``."""

    @property
    def machine(self) -> MachineId:
        """What it is of."""
        return self.heard.source.machine

    @property
    def kind(self) -> tuple[str, bool]:
        """Split, and whether something is wrong in it."""
        return self.split, self.heard.source.anomalous


@dataclass(frozen=True)
class LeftOut:
    """A stretch of a recording that becomes no clip."""

    path: Path
    """The recording."""
    start_s: float
    """Where it begins."""
    end_s: float
    """Where it ends."""
    reason: str
    """Why, in words."""


def cut(
    heard: Heard, spec: CutSpec, limit_db: float
) -> tuple[list[PlannedClip], list[LeftOut], float]:
    """Lay clips over what can be used of a recording.

    Silence is left out, and bursts above ``limit_db``; clips then lie in what is between, from its
    beginning on. Clips that a monitor could not judge are left out, too.

    Args:
        heard: the recording.
        spec: length and hop.
        limit_db: see :func:`~edgeflow.recordings.listening.burst_limit_db`.

    Returns:
        The clips, what was left out, and the seconds of rests that are shorter than a clip.

    Raises:
        AudioError: the recording cannot be read any more.
    """
    if heard.seconds < spec.seconds:
        reason = f"is shorter than a clip of {spec.seconds:g} s"
        return [], [_left_out(heard, 0, heard.samples, reason)], 0.0
    silences, bursts = heard.silences(), heard.bursts(limit_db)
    left_out = [_left_out(heard, *_span(heard, a, b), "silence") for a, b in runs(silences)]
    for first, end in runs(bursts & ~silences):
        above = np.nanmax(np.nan_to_num(heard.excess_db[first:end], posinf=999.0)) - limit_db
        reason = f"a burst {above:.0f} dB above the limit: handling noise?"
        left_out.append(_left_out(heard, *_span(heard, first, end), reason))
    usable, rest, clips = ~(silences | bursts), 0.0, []
    for first, end in runs(usable):
        start, stop = _span(heard, first, end)
        laid = list(_lay(heard, spec, start, stop))
        clips += laid
        rest += (stop - (laid[-1].start + laid[-1].samples if laid else start)) / heard.rate_hz
    judged, faulty = _judge(heard, clips)
    return judged, sorted(left_out + faulty, key=lambda part: part.start_s), max(0.0, rest)


def _lay(heard: Heard, spec: CutSpec, start: int, stop: int) -> Iterator[PlannedClip]:
    """Clips from ``start`` on that end by ``stop``."""
    length = round(spec.seconds * heard.rate_hz)
    for number in range(1 + int((stop - start) / (spec.hop_s * heard.rate_hz))):
        begin = start + round(number * spec.hop_s * heard.rate_hz)
        if begin + length <= stop:
            yield PlannedClip(heard, begin, length)


def _judge(heard: Heard, clips: list[PlannedClip]) -> tuple[list[PlannedClip], list[LeftOut]]:
    """The clips that a monitor can judge, and the others. Loud anomalies are not left out."""
    good, bad = [], []
    with open_recording(heard.source.path) as sound:
        for clip in clips:
            try:
                sound.check(
                    clip.start, clip.samples, heard.channel, allow_clipped=heard.source.anomalous
                )
                good.append(clip)
            except AudioError as error:
                reason = str(error).removeprefix(f"'{sound.name}' ")
                bad.append(_left_out(heard, clip.start, clip.start + clip.samples, reason))
    return good, bad


def _span(heard: Heard, first: int, end: int) -> tuple[int, int]:
    """The samples of frames; what follows the last whole frame belongs to it."""
    last = end >= len(heard.levels_db)
    return int(first) * heard.frame, heard.samples if last else int(end) * heard.frame


def _left_out(heard: Heard, start: int, stop: int, reason: str) -> LeftOut:
    return LeftOut(heard.source.path, start / heard.rate_hz, stop / heard.rate_hz, reason)


def split(clips: list[PlannedClip], share: float | None) -> tuple[list[PlannedClip], int]:
    """Set the last share of a machine's normal clips aside to test on, and all abnormal ones.

    The last ones, as a monitor judges what comes after it has learned. Where clips overlap, those
    that reach into the test are dropped.

    Args:
        clips: of one machine, in order.
        share: as :class:`CutSpec` has it.

    Returns:
        The clips, and how many were dropped.
    """
    normal = [clip for clip in clips if not clip.heard.source.anomalous]
    abnormal = [_with(clip, TEST) for clip in clips if clip.heard.source.anomalous]
    if share is None:
        share = SHARE_BESIDE_ABNORMAL if abnormal else 0.0
    count = min(max(1, round(share * len(normal))), len(normal)) if share else 0
    learn, test = normal[: len(normal) - count], normal[len(normal) - count :]
    kept = [clip for clip in learn if not (test and _reaches(clip, test[0]))]
    return [*kept, *(_with(clip, TEST) for clip in test), *abnormal], len(learn) - len(kept)


def _reaches(clip: PlannedClip, first: PlannedClip) -> bool:
    return clip.heard is first.heard and clip.start + clip.samples > first.start


def _with(clip: PlannedClip, part: str) -> PlannedClip:
    return PlannedClip(clip.heard, clip.start, clip.samples, part)
