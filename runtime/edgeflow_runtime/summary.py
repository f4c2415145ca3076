"""What the stretches of one sound come to: how many are anomalous, and the worst of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from edgeflow_runtime.verdicts import ANOMALOUS, NORMAL, UNKNOWN, ClipResult

MOST_PLACES = 5
"""So many places are named."""


@dataclass
class Summary:
    """The verdict on a whole sound, of as many stretches as were judged so far."""

    clip: str
    """Its name."""
    stretches: int
    """In how many it is judged."""
    anomalous: int = 0
    """How many of them are."""
    unknown: list[ClipResult] = field(default_factory=list)
    """Those that could not be judged."""
    worst: ClipResult | None = None
    """The one with the highest score; ``None`` if none has one."""

    @property
    def verdict(self) -> str:
        """An alarm stands whatever else could not be heard; normal is only what was all heard."""
        if self.anomalous:
            return ANOMALOUS
        return UNKNOWN if self.unknown or self.worst is None else NORMAL

    def add(self, result: ClipResult) -> None:
        """Count one more stretch."""
        self.anomalous += result.verdict == ANOMALOUS
        if result.score is None:
            self.unknown.append(result)
        elif self.worst is None or self.worst.score is None or result.score > self.worst.score:
            self.worst = result

    def __str__(self) -> str:
        """One line for people."""
        text = f"'{self.clip}': {self.verdict}: {self.anomalous} of {self.stretches} stretches are"
        text = f"{text} anomalous, {len(self.unknown)} unknown"
        if self.unknown:
            places = [f"{result.offset_seconds:g} s" for result in self.unknown[:MOST_PLACES]]
            more = ", ..." if len(self.unknown) > MOST_PLACES else ""
            text = f"{text} (at {', '.join(places)}{more})"
        if self.worst is None:
            return text
        return f"{text}; the worst scored {self.worst.score:.4f} at {self.worst.offset_seconds:g} s"


def summaries(results: Iterable[ClipResult]) -> Iterator[Summary]:
    """A summary of each sound, as soon as its last stretch came; most sounds have but one.

    A sound that is damaged gives none after the stretch that could not be read: then the next
    sound, or the end, closes it.
    """
    summary: Summary | None = None
    judged = 0
    for result in results:
        if summary and (result.clip != summary.clip or result.offset_seconds == 0):
            yield summary
            summary = None
        if summary is None:
            summary, judged = Summary(result.clip, result.stretches), 0
        summary.add(result)
        judged += 1
        if judged == summary.stretches:
            yield summary
            summary = None
    if summary:
        yield summary
