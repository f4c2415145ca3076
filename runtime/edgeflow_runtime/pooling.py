"""The statistics of a clip's frames that a pooled view stacks: one number a band each.

They differ in what they hear. A mean hears a machine that runs steadily, a maximum or a mean of the
loudest frames hears knocks, and the spread within short stretches hears what comes and goes.

A statistic is written as its name, and a number or two: ``mean``, ``max``, ``gwrp:0.9`` (ranking
pooling with decay 0.9), ``ranks:0.01-0.1`` (the mean of those frames that rank between the first
1 % and the first 10 %), ``spread:32``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Frames
from edgeflow_runtime.errors import ConfigError

Bands = npt.NDArray[Any]
"""(bands,) one number a band."""


class Statistic(ABC):
    """Makes one number a band of a stretch of frames."""

    fewest = 1
    """Frames that it needs."""

    @abstractmethod
    def __call__(self, frames: Frames) -> Bands:
        """(frames, bands) dB to (bands,) dB."""

    @abstractmethod
    def parts(self, frames: Frames, usual: Bands) -> npt.NDArray[Any]:
        """What each frame has to do with the number: (frames, bands), 0 or more, of any sum.

        Args:
            frames: (frames, bands) dB.
            usual: (bands,) dB, the number that normal clips give.
        """


@dataclass(frozen=True)
class Ranked(Statistic):
    """A weighted mean of a band's frames in falling order.

    Source: Global weighted ranking pooling, Kolesnikov and Lampert, "Seed, Expand and Constrain",
    ECCV 2016: decay 1 is the mean, decay 0 the maximum.
    """

    first: float = 0.0
    """The share of the frames that comes before those that count."""
    last: float = 1.0
    """The share of the frames after which none counts."""
    decay: float = 1.0
    """What a frame weighs beside the one that ranks before it."""

    def weights(self, count: int) -> npt.NDArray[Any]:
        """(count,) of the frames in falling order, adding up to 1."""
        start = min(round(self.first * count), count - 1)
        stop = max(round(self.last * count), start + 1)
        weights = np.zeros(count)
        weights[start:stop] = self.decay ** np.arange(stop - start)
        weights /= weights.sum()
        return weights

    def __call__(self, frames: Frames) -> Bands:
        """See :class:`Statistic`."""
        if self == MEAN:
            mean: Bands = frames.mean(axis=0, dtype=np.float64)
            return mean
        if self == MAX:
            loudest: Bands = frames.max(axis=0)
            return loudest
        pooled: Bands = self.weights(len(frames)) @ -np.sort(-frames, axis=0)
        return pooled

    def parts(self, frames: Frames, usual: Bands) -> npt.NDArray[Any]:
        """A frame's weight, times how far it lies on the side to which the number went."""
        rank = np.argsort(np.argsort(-frames, axis=0, kind="stable"), axis=0)
        weights = self.weights(len(frames))[rank]
        side = np.where(self(frames) < usual, -1.0, 1.0)
        pulled = weights * np.maximum(side * (frames - usual), 0)
        return np.where(pulled.sum(axis=0) > 0, pulled, weights)


@dataclass(frozen=True)
class Spread(Statistic):
    """The standard deviation within stretches of frames, averaged over the stretches."""

    stretch: int
    """Frames in a stretch; what is left over at the end does not count."""

    @property
    def fewest(self) -> int:  # type: ignore[override]
        """See :class:`Statistic`."""
        return self.stretch

    def __call__(self, frames: Frames) -> Bands:
        """See :class:`Statistic`."""
        spread: Bands = self._stretches(frames).std(axis=1).mean(axis=0)
        return spread

    def parts(self, frames: Frames, usual: Bands) -> npt.NDArray[Any]:
        """A frame's squared distance from the mean of its stretch."""
        stretches = self._stretches(frames)
        inside = (stretches - stretches.mean(axis=1, keepdims=True)) ** 2
        parts = np.zeros(frames.shape)
        parts[: inside.shape[0] * self.stretch] = inside.reshape(-1, frames.shape[1])
        return np.where(parts.sum(axis=0) > 0, parts, 1.0)

    def _stretches(self, frames: Frames) -> npt.NDArray[np.float32]:
        """(stretches, frames of one, bands)."""
        whole = len(frames) // self.stretch * self.stretch
        return frames[:whole].reshape(-1, self.stretch, frames.shape[1])


MEAN, MAX = Ranked(), Ranked(decay=0.0)


@cache
def statistic(text: str) -> Statistic:
    """The statistic that ``text`` writes; see this module.

    Raises:
        ConfigError: it writes none.

    Example:
        >>> statistic("spread:32")
        Spread(stretch=32)
    """
    name, _, given = text.partition(":")
    try:
        numbers = [float(part) for part in given.split("-")] if given else []
    except ValueError:
        numbers = [math.nan]
    match name, numbers:
        case "mean", []:
            return MEAN
        case "max", []:
            return MAX
        case "gwrp", [decay] if 0 <= decay <= 1:
            return Ranked(decay=decay)
        case "ranks", [first, last] if 0 <= first < last <= 1:
            return Ranked(first, last)
        case "spread", [stretch] if stretch >= 2 and stretch.is_integer():
            return Spread(int(stretch))
    raise ConfigError(
        f"unknown statistic {text!r}: choose mean, max, gwrp:DECAY, ranks:FIRST-LAST (shares of "
        "the frames) or spread:FRAMES"
    )
