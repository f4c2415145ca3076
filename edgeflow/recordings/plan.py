"""The plan of an import: what becomes which clip, what is left out, and what to expect of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from edgeflow.dataset import FEWEST_TRAINING
from edgeflow.recordings.cutting import TEST, TRAIN, CutSpec, LeftOut, PlannedClip
from edgeflow.recordings.listening import Heard
from edgeflow.recordings.sources import Source
from edgeflow.survey import rate_faults
from edgeflow_runtime.calibration import shortfall
from edgeflow_runtime.errors import DataError
from edgeflow_runtime.manifest import MachineId
from edgeflow_runtime.printable import one_line, printable

USUAL_PROMISE = 0.01
"""The share of false alarms that an export promises if nothing else is said."""

SHOWN = 20
"""Stretches left out that a plan lists; the record of the data set holds all."""


@dataclass
class Plan:
    """What becomes of recordings; prints as text, nothing is written before :meth:`write`."""

    spec: CutSpec
    """How they are cut."""
    sources: list[Source]
    """What was asked for."""
    recordings: list[Heard] = field(default_factory=list)
    """Recordings that can be read, in order."""
    clips: list[PlannedClip] = field(default_factory=list)
    """What is to be cut, machine by machine, in order."""
    left_out: list[LeftOut] = field(default_factory=list)
    """What becomes no clip, and why."""
    faults: list[str] = field(default_factory=list)
    """Recordings that cannot be read at all, a line each."""
    rests_s: float = 0.0
    """Seconds of rests that were shorter than a clip."""
    standing: Mapping[str, int] = field(default_factory=dict)
    """Training clips, by machine, of the data set that clips are added to."""
    dropped: int = 0
    """Clips that were dropped as they overlap the test."""

    @property
    def machines(self) -> list[MachineId]:
        """The machines, those without any clip, too, in order."""
        return list(dict.fromkeys(heard.source.machine for heard in self.recordings))

    @property
    def size_bytes(self) -> int:
        """What the clips take at most."""
        return sum(clip.samples * clip.heard.bytes_per_sample for clip in self.clips)

    def count(self, machine: MachineId, part: str, *, anomalous: bool = False) -> int:
        """How many clips of a machine there are of a kind."""
        return sum(c.machine == machine and c.kind == (part, anomalous) for c in self.clips)

    def require_training(self, machine: MachineId) -> None:
        """Refuse a plan from which ``machine`` cannot be trained. Raises :class:`DataError`."""
        count = self.count(machine, TRAIN)
        if count >= FEWEST_TRAINING:
            return
        lengths_s = [h.seconds for h in self.recordings if h.source.machine == machine]
        shorter = _seconds_for(lengths_s, math.ceil(self.spec.seconds) - 1)
        raise DataError(
            f"the recordings of {machine.name} give {count} clip(s) of {self.spec.seconds:g} s to "
            f"learn from, at least {FEWEST_TRAINING} are needed: record more"
            + (f", or cut shorter clips, with --seconds {shorter}" if shorter else "")
        )

    def notes(self) -> Iterator[str]:
        """What to know before it is written, a line each."""
        for place, machine in enumerate(self.machines):
            learned = self.count(machine, TRAIN) + self.standing.get(machine.name, 0)
            few = shortfall(learned, USUAL_PROMISE)
            if learned < FEWEST_TRAINING:
                yield (
                    f"{machine.name} has {learned} training clip(s); at least {FEWEST_TRAINING} "
                    "are needed"
                )
            elif few and not place:  # the machine to watch; its sisters come after it
                yield f"{machine.name}: {few}"
        if self.spec.hop_s < self.spec.seconds:
            yield "the clips overlap: they tell less than their number, and promise too much"
        yield from rate_faults({heard.rate_hz for heard in self.recordings})

    def __str__(self) -> str:
        return self.to_text(SHOWN)

    def to_text(self, most: int | None = None) -> str:
        """The plan as text, with at most ``most`` of the stretches that are left out."""
        return "\n".join([*self._table(), *self._losses(most), *(f"! {n}" for n in self.notes())])

    def _table(self) -> Iterator[str]:
        if not self.recordings:
            yield "no recording can be read"
            return
        width = max([len("machine"), *(len(machine.name) for machine in self.machines)])
        yield f"{'machine':<{width}}  recordings   minutes  train  test normal/abnormal"
        for machine in self.machines:
            mine = [heard for heard in self.recordings if heard.source.machine == machine]
            minutes = sum(heard.seconds for heard in mine) / 60
            tests = f"{self.count(machine, TEST)}/{self.count(machine, TEST, anomalous=True)}"
            yield (
                f"{machine.name:<{width}}{len(mine):>12}{minutes:>10.1f}"
                f"{self.count(machine, TRAIN):>7}{tests:>22}"
            )
        hop = "" if self.spec.hop_s == self.spec.seconds else f" every {self.spec.hop_s:g} s"
        size = self.size_bytes / 1e6
        yield f"{len(self.clips)} clips of {self.spec.seconds:g} s{hop}, at most {size:.1f} MB"

    def _losses(self, most: int | None) -> Iterator[str]:
        parts = list(merged(self.left_out))
        if parts:
            total = sum(part.end_s - part.start_s for part in parts)
            yield f"left out, {total:.1f} s:"
        for part in parts[:most]:
            yield (
                f"  {clock(part.start_s)} to {clock(part.end_s)} of {printable(part.path)}: "
                f"{one_line(part.reason)}"
            )
        if most is not None and len(parts) > most:
            yield f"  and {len(parts) - most} more"
        if self.rests_s >= 0.05:
            yield f"rests shorter than a clip: {self.rests_s:.1f} s"
        if self.dropped:
            yield f"dropped, as they overlap the test clips: {self.dropped} clips"


def merged(parts: Iterable[LeftOut]) -> Iterator[LeftOut]:
    """Stretches that follow each other for the same reason as one."""
    last: LeftOut | None = None
    for part in parts:
        why = _in_short(part.reason)
        follows = last and last.path == part.path and part.start_s <= last.end_s
        if last and follows and _in_short(last.reason) == why:
            last = LeftOut(last.path, last.start_s, part.end_s, why)
            continue
        if last:
            yield last
        last = part
    if last:
        yield last


def _in_short(reason: str) -> str:
    """A reason without its figures: what it is, and the mend."""
    parts = reason.split(": ")
    return ": ".join(dict.fromkeys((parts[0], parts[-1])))


def _seconds_for(lengths_s: Sequence[float], most: int) -> int | None:
    """The longest clip, of at most so many seconds, of which recordings give enough."""
    for seconds in range(most, 0, -1):
        if sum(int(length_s / seconds) for length_s in lengths_s) >= FEWEST_TRAINING:
            return seconds
    return None


def clock(seconds: float) -> str:
    """A place in a recording.

    Example:
        >>> clock(3725.25)
        '1:02:05.2'
    """
    minutes, tenths = divmod(round(10 * seconds), 600)
    return f"{minutes // 60}:{minutes % 60:02d}:{tenths / 10:04.1f}"
