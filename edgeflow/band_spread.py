"""Which bands of recordings never vary, or hardly: a model can learn nothing from them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from edgeflow.standard import DEAD_DB, LEAST_SCALE_DB
from edgeflow_runtime.arrays import Frames, Samples
from edgeflow_runtime.audio import Resampler
from edgeflow_runtime.logmel import LogMel, LogMelSpec

LOGMEL = LogMel(LogMelSpec())
"""What a monitor hears unless it is told otherwise."""

EMPTY = ~LOGMEL.filterbank[:, 1:].any(axis=1)
"""Bands that hold no frequency but 0 Hz, which the front end takes out: dead in every data set."""


class BandSpread:
    """Gathers how much each band varies over frames; sums of these are those of all frames.

    Example:
        >>> spread = BandSpread().add(np.zeros((10, 128), np.float32))
        >>> len(list(spread.faults("fan")))
        1
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = np.zeros(LOGMEL.spec.bands)
        self._squares = np.zeros(LOGMEL.spec.bands)  # of distances from the mean, summed

    def hear(self, samples: Samples, rate_hz: int) -> BandSpread:
        """Add (n,) samples of a recording; a block shorter than a frame tells nothing."""
        resampler = Resampler(rate_hz, LOGMEL.spec.rate_hz)
        heard = np.concatenate([resampler.push(samples), resampler.finish()])
        return self.add(LOGMEL(heard)) if len(heard) >= LOGMEL.spec.frame else self

    def add(self, logmel: Frames) -> BandSpread:
        """Add (frames, bands) in dB."""
        mean = logmel.mean(axis=0, dtype=np.float64)
        squares = np.square(logmel - mean).sum(axis=0)
        return self._join(len(logmel), mean, squares)

    def merge(self, others: Iterable[BandSpread]) -> BandSpread:
        """Add what others have gathered."""
        for other in others:
            self._join(other._count, other._mean, other._squares)
        return self

    def faults(self, name: str) -> Iterable[str]:
        """A line on the bands that never vary, and one on those that hardly do."""
        if not self._count:
            return
        spread = np.sqrt(self._squares / self._count)
        dead = (spread < DEAD_DB) & ~EMPTY
        faint = (spread < LEAST_SCALE_DB) & ~dead & ~EMPTY
        if dead.any():
            yield f"{name}: {_bands(dead)} never vary: nothing is learned of them"
        if faint.any():
            yield (
                f"{name}: {_bands(faint)} vary by less than {LEAST_SCALE_DB} dB: changes there "
                "count for less than elsewhere"
            )

    def _join(
        self, count: int, mean: npt.NDArray[np.float64], squares: npt.NDArray[np.float64]
    ) -> BandSpread:
        """Add moments.

        Source: T. Chan, G. Golub, R. LeVeque, "Algorithms for computing the sample variance", The
        American Statistician 37, 1983, equation (2.1).
        """
        total = self._count + count
        if total:
            away = mean - self._mean
            self._squares += squares + away**2 * (self._count * count / total)
            self._mean += away * (count / total)
            self._count = total
        return self


def _bands(chosen: npt.NDArray[np.bool_]) -> str:
    """Their numbers as ranges, with the frequencies of the outermost: ``bands 3 to 5, 9 (...)``."""
    numbers = np.flatnonzero(chosen)
    parts = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    ranges = [f"{p[0]}" if len(p) == 1 else f"{p[0]} to {p[-1]}" for p in parts]
    reached = np.flatnonzero(LOGMEL.filterbank[chosen].any(axis=0))
    low, high = reached[[0, -1]] * LOGMEL.spec.rate_hz / LOGMEL.spec.frame
    return f"bands {', '.join(ranges)} ({low:.0f} to {high:.0f} Hz)"
