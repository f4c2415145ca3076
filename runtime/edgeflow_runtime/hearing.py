"""What no healthy microphone gives: silence, a rail, a block again and again, a dead channel.

Real sound has noise in it. So what repeats exactly, stands still, or lacks half its spectrum is a
driver, a cable or a converter that has failed, however normal it looks to a monitor. A cheap test
that misses none of them goes first; the costly one decides, only where the cheap one hits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Array, Samples
from edgeflow_runtime.errors import AudioError

STEP = 1 / 32768
"""One step of 16 bits."""

SILENCE = 2 * STEP
"""A clip whose samples all lie within two steps of 16 bits holds no sound."""

LOUDEST = 1e4
"""Full scale is 1; samples beyond this are no sound but numbers gone wrong."""

FULL_SCALE = 32767 / 32768
"""Samples at or above this magnitude lie on the converter's rail."""

CLIPPED_SHARE = 0.01
"""The share of samples on the rail from which a clip is called clipped."""

FAULTY_SHARE = 0.1
"""The share of a clip that may be no sound. One buffer lost in ten seconds leaves a clip that can
be judged; where a tenth is gone, its score is of the fault as much as of the machine."""

BLOCK = 32
"""Changes of value that must come again, exactly, to be called a repeat: by chance they never do,
even where a quiet sound has three levels."""

STRIDE = 256
"""Samples from one mark of the cheap test for repeats to the next."""

STILL_S = 0.01
"""A run of equal samples of this length is no sound."""

QUIET = 64 * STEP
"""Sounds within this range stand still at times because a step of 16 bits is coarse for them."""

FEW_LEVELS = 8
"""Sounds that take no more values, though they span more steps of 16 bits, are stuck."""

DEAD_DB = 90.0
"""How far the upper half of the spectrum may lie below the lower one. Of 240 real recordings of
machines none had 30 dB; a recording made at half the rate has 100 and more where 16 bits or the
microphone's own noise do not fill it."""

PROBES, PROBE = 8, 1024
"""Stretches, and samples in each, whose spectrum is looked at."""

GLANCE = 128
"""Samples of each of them that the cheap tests look at."""

COMBS = (2, 3, 4)
"""Every so many samples one may be dead: channels that were torn apart in the wrong place."""

FAULTS = {
    "repeats": "repeats itself exactly in {share:.0%} of its length: is the driver stuck?",
    "still": "stands still for {share:.0%} of its length: is the cable loose?",
    "comb": "has a value that never changes in every few samples: is its channel count right?",
    "levels": "takes a handful of values only: is the converter stuck?",
    "bits": "has a bit that never changes: is the converter stuck?",
    "half": "lacks the upper half of its spectrum: was it made at a lower rate? Give it at that",
}
"""What errors say of each fault, worst first."""

_Codes = npt.NDArray[np.uint32]
"""(n,) samples by their bits, or numbers that stand for several of them."""


class Hearing:
    """Watches the samples of one clip, block by block, for what no healthy microphone gives.

    Repeats are looked for within a block, so blocks should have some seconds; a clip in one piece
    is one block.

    Args:
        name: what errors call the clip.
        rate_hz: the rate that it was recorded at.
        band_hz: the rate whose spectrum counts, at most ``rate_hz``.
        allow_clipped: let clipped sounds pass.

    Example:
        >>> buffer = np.random.default_rng(0).standard_normal(1024, np.float32) / 10
        >>> hearing = Hearing("fan.wav", 16000)
        >>> _ = hearing.hear(np.tile(buffer, 10))
        >>> hearing.check()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        edgeflow_runtime.errors.AudioError: 'fan.wav' repeats itself exactly ... stuck?
    """

    def __init__(
        self, name: str, rate_hz: float, band_hz: float = 0, *, allow_clipped: bool = False
    ) -> None:
        self._name, self._rate_hz, self._band_hz = name, rate_hz, band_hz or rate_hz
        self._allow_clipped = allow_clipped
        self._samples = self._clipped = 0
        self._low, self._high = np.inf, -np.inf
        self._faulty = dict.fromkeys(FAULTS, 0)

    def hear(self, samples: Samples) -> Samples:
        """Take the next (n,) float32 samples, and give them back in one piece of memory.

        Raises:
            AudioError: one is no number that sound has.
        """
        samples = np.ascontiguousarray(samples)
        if not len(samples):
            return samples
        low, high = float(samples.min()), float(samples.max())
        if not -LOUDEST <= low <= high <= LOUDEST:
            self._refuse_numbers(samples)
        if max(-low, high) >= FULL_SCALE:
            self._clipped += int(np.count_nonzero(np.abs(samples) >= FULL_SCALE))
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._samples += len(samples)
        for name, count in _faults(samples, high - low, self._rate_hz, self._band_hz):
            self._faulty[name] += count
        return samples

    def check(self) -> None:
        """Say what is wrong with all that was heard.

        Raises:
            AudioError: it is empty, silent, clipped, repeats itself, or a part of it is dead.
        """
        if not self._samples:
            raise AudioError(f"'{self._name}' holds no samples")
        if self._high - self._low <= SILENCE:
            raise AudioError(f"'{self._name}' is silent: is the microphone connected?")
        clipped = self._clipped / self._samples
        if clipped > CLIPPED_SHARE and not self._allow_clipped:
            raise AudioError(
                f"'{self._name}' is clipped: {clipped:.1%} of its samples are at full scale: "
                "lower the gain"
            )
        if self._high - self._low <= QUIET:
            self._faulty["still"] = 0
        for name, text in FAULTS.items():
            share = self._faulty[name] / self._samples
            if share >= FAULTY_SHARE:
                raise AudioError(f"'{self._name}' {text.format(share=share)}")

    def _refuse_numbers(self, samples: Samples) -> None:
        bad = np.flatnonzero(~np.isfinite(samples))
        if len(bad):
            raise AudioError(
                f"'{self._name}' holds {len(bad)} sample(s) that are NaN or infinite, the first "
                f"at {self._samples + bad[0]}"
            )
        peak = float(np.abs(samples).max())
        raise AudioError(f"'{self._name}' holds samples up to {peak:.1e}, where full scale is 1")


def _faults(samples: Samples, span: float, rate_hz: float, band_hz: float) -> list[tuple[str, int]]:
    """What is wrong with (n,) finite samples, and how many of them have it."""
    whole = len(samples)
    counts = [("repeats", _repeats(samples)), ("still", _still(samples, round(STILL_S * rate_hz)))]
    probes = _probes(samples)
    glance = probes[:, :GLANCE]
    tests: dict[str, Callable[[], bool]] = {
        "comb": lambda: _is_comb(glance[0]) and _is_comb(samples),
        "levels": lambda: _has_few_levels(glance.ravel()) and _has_few_levels(samples),
        "bits": lambda: _has_stuck_bit(glance.ravel()) and _has_stuck_bit(samples),
        "half": lambda: _lacks_half(probes, band_hz / rate_hz),
    }
    return counts + [(name, whole) for name, test in tests.items() if span > SILENCE and test()]


def _probes(samples: Samples) -> Array:
    """(probes, p) stretches spread over the samples."""
    size = min(PROBE, len(samples))
    starts = np.linspace(0, len(samples) - size, PROBES).astype(np.int64)
    return np.lib.stride_tricks.sliding_window_view(samples, size)[starts]


def _repeats(samples: Samples) -> int:
    """How many samples belong to stretches that occur more than once, exactly."""
    codes = samples.view(np.uint32)
    if len(codes) < 2 * STRIDE:
        return 0
    rows = samples[: len(samples) // STRIDE * STRIDE].reshape(-1, STRIDE)
    marks = rows.argmax(axis=1) + np.arange(0, rows.size, STRIDE)  # peaks, wherever they lie
    marks = marks[marks <= len(codes) - BLOCK // 2]
    found = np.lib.stride_tricks.sliding_window_view(codes, BLOCK // 2)[marks]
    found = found ^ (found >> np.uint32(15))  # (marks, 16): few samples use their low bits
    twins = _twins((found * _KEYS).sum(axis=1, dtype=np.uint32))
    if twins < max(2, 0.2 * FAULTY_SHARE * len(marks)):
        return 0
    starts, runs = _runs(samples)
    marks = _marks(codes[starts] * _KEYS[0] + runs.astype(np.uint32) * _KEYS[1])
    return len(codes) * _twins(marks) // max(1, len(marks))


def _marks(codes: _Codes) -> _Codes:
    """Numbers for some of the blocks of codes, chosen by what is in them and not by their place.

    Those with the least number among their neighbours are chosen (winnowing: Schleimer, Wilkerson,
    Aiken, SIGMOD 2003), so the same sound gives the same numbers wherever it stands.
    """
    hashes, step = codes, 1
    while step < BLOCK:  # of 2, 4, 8, ... codes
        hashes = hashes[:-step] * _KEYS[step % len(_KEYS)] + hashes[step:]
        hashes = hashes ^ (hashes >> np.uint32(15))
        step *= 2
    least, step = hashes, 1
    while step < BLOCK:
        least = np.minimum(least[:-step], least[step:])
        step *= 2
    middle = hashes[BLOCK // 2 : BLOCK // 2 + len(least)]
    chosen: _Codes = middle[middle == least]
    return chosen


def _twins(codes: _Codes) -> int:
    """How many of them are there more than once."""
    ordered = np.sort(codes)
    equal = np.concatenate([[False], ordered[1:] == ordered[:-1], [False]])
    return int(np.count_nonzero(equal[1:] | equal[:-1]))


def _runs(samples: Samples) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where runs of equal samples begin, and how long they are."""
    starts = np.concatenate([[0], np.flatnonzero(samples[1:] != samples[:-1]) + 1])
    return starts, np.diff(starts, append=len(samples))


def _still(samples: Samples, shortest: int) -> int:
    """How many samples lie in runs of equal ones, of at least ``shortest`` and ``GLANCE``."""
    few = samples[:: GLANCE // 4]  # of which three in a row lie in any such run
    if np.count_nonzero(few[1:] == few[:-1]) < 0.5 * FAULTY_SHARE * len(few):
        return 0
    runs = _runs(samples)[1]
    return int(runs[runs >= max(shortest, GLANCE)].sum())


def _is_comb(samples: Samples) -> bool:
    """Whether every second, third or fourth sample has one value."""
    combs = (samples[start::every] for every in COMBS for start in range(every))
    return any(len(teeth) > 1 and bool((teeth == teeth[0]).all()) for teeth in combs)


def _has_few_levels(samples: Samples) -> bool:
    """Whether they take a handful of values that lie far apart."""
    levels = np.unique(samples)
    return len(levels) <= FEW_LEVELS and float(levels[-1] - levels[0]) > FEW_LEVELS * STEP


def _has_stuck_bit(samples: Samples) -> bool:
    """Whether a bit never changes though some above it and some below it do.

    It can be told of integers of up to 24 bits; unused low bits, and high ones, are no fault.
    """
    scaled = samples * np.float32(1 << 23)
    if np.abs(scaled).max() > 1 << 23:
        return False
    whole = scaled.astype(np.int32)
    if not (whole == scaled).all():
        return False
    changing = int(np.bitwise_or.reduce(whole) & ~np.bitwise_and.reduce(whole)) & 0xFFFFFF
    if not changing:
        return False
    used = changing // (changing & -changing)  # its lowest bit changes
    return used & (used + 1) != 0


def _lacks_half(probes: Array, band: float) -> bool:
    """Whether the upper half of the band, a share of all there is, is empty in every probe."""
    from scipy.fft import rfft

    size = probes.shape[1]
    window = _HANN if size == PROBE else np.hanning(size).astype(np.float32)
    power = (np.abs(rfft((probes - probes.mean(axis=1, keepdims=True)) * window)) ** 2).sum(axis=0)
    top = int(band * size / 2)
    lower, upper = float(power[1 : top // 2].sum()), float(power[top // 2 : top].sum())
    return lower > upper * 10 ** (DEAD_DB / 10)


_HANN = np.hanning(PROBE).astype(np.float32)

_KEYS = np.random.default_rng(0).integers(0, 2**32, BLOCK // 2, np.uint32) | np.uint32(1)
"""Odd numbers that codes are multiplied with."""
