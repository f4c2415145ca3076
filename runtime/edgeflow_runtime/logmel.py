"""From samples to log-Mel frames: the one definition, for training, export and the board."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Array
from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import AudioError, ConfigError

DECIBEL_FLOOR = 2.220446049250313e-16
"""Added to every Mel power before the logarithm, as the DCASE 2020 Task 2 baseline does."""

BLOCK = 64
"""Frames transformed at a time: the block stays in the cache. Its shape never changes and frame k
always stands in row k % BLOCK, so each frame takes the same arithmetic path through the matrix
product however the sound arrives, and streams equal whole clips bit for bit."""

GROUP = 16
"""Bands multiplied at a time: the filters are triangles, and neighbours share their bins."""

FILTERBANKS = ("psf", "slaney")

PASSBAND = 0.945
"""The share of the band below half a rate that resampling leaves as it is. What lies above depends
on the rate that a sound was recorded at: up to 36 dB in the highest of 128 bands."""

FRONT_END = 2
"""The newest way from a frame to its spectrum: since 2 a frame's offset is taken out of it."""


@dataclass(frozen=True)
class LogMelSpec(Document):
    """The parameters of log-Mel features; the defaults are those of Dohi et al. (ICASSP 2021)."""

    rate_hz: int = 16000
    """Sample rate that the features are computed at, in Hz."""
    frame: int = 1024
    """Samples in one frame, and points of its Fourier transform."""
    hop: int = 512
    """Samples from one frame to the next."""
    bands: int = 128
    """Mel bands."""
    filterbank: str = "psf"
    """``psf`` (python_speech_features' design) or ``slaney`` (librosa's and DCASE's)."""
    version: int = FRONT_END
    """1: a frame as it is, so that a sound card's offset fills the lowest bands; 2: less its mean,
    weighted by the window."""

    def __post_init__(self) -> None:
        if not 1 <= self.version <= FRONT_END:
            raise ConfigError(
                f"front end {self.version} is not known here, the newest is {FRONT_END}: "
                "update edgeflow"
            )
        if min(self.rate_hz, self.frame, self.hop, self.bands) < 1 or self.frame % 2:
            raise ConfigError(f"log-Mel sizes must be positive and the frame even, found {self}")
        if self.hop > self.frame:
            raise ConfigError(f"hop {self.hop} skips samples: it may be at most frame {self.frame}")
        if self.filterbank not in FILTERBANKS:
            raise ConfigError(
                f"unknown filterbank {self.filterbank!r}: choose one of {', '.join(FILTERBANKS)}"
            )

    @classmethod
    def from_dict(cls, document: object) -> LogMelSpec:
        """Read the parameters; those that tell no version are of 1. See :class:`Document`."""
        told = {"version": 1, **document} if isinstance(document, dict) else document
        return super().from_dict(told)

    def frames(self, samples: int) -> int:
        """How many frames a clip of ``samples`` samples gives (313 from 10 s at 16 kHz)."""
        return 1 + samples // self.hop

    @property
    def fewest(self) -> int:
        """The fewest samples that can be reflected at both ends."""
        return self.frame // 2 + 1

    def samples(self, frames: int) -> int:
        """The fewest samples that give ``frames`` frames and can be reflected at both ends."""
        return max((frames - 1) * self.hop, self.fewest)

    def beyond_passband(self, recorded_hz: int) -> npt.NDArray[np.bool_]:
        """(bands,) which filters reach into what resampling changes of sound at ``recorded_hz``."""
        bins = self.design()[1] > 0
        highest = bins.shape[1] - 1 - bins[:, ::-1].argmax(axis=1)
        limit_hz = PASSBAND * min(recorded_hz, self.rate_hz) / 2
        beyond: npt.NDArray[np.bool_] = highest * (self.rate_hz / self.frame) > limit_hz
        return beyond

    def design(self) -> tuple[Array, Array]:
        """The periodic Hann window (frame,) and the filterbank (bands, frame // 2 + 1)."""
        phase = 2.0 * np.pi * np.arange(self.frame) / self.frame
        window = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
        build = _psf_filterbank if self.filterbank == "psf" else slaney_filterbank
        return window, build(self).astype(np.float32)


def _psf_filterbank(spec: LogMelSpec) -> npt.NDArray[np.float64]:
    from python_speech_features.base import get_filterbanks

    bank: npt.NDArray[np.float64] = get_filterbanks(
        nfilt=spec.bands, nfft=spec.frame, samplerate=spec.rate_hz, lowfreq=0
    )
    return bank


def slaney_filterbank(spec: LogMelSpec) -> npt.NDArray[np.float64]:
    r"""Triangles on Slaney's Mel scale, each of unit area.

    The scale is linear below 1 kHz (3 Mel per 200 Hz) and logarithmic above:

    .. math:: m(f) = 15 + 27 \ln(f / 1000) / \ln 6.4 \quad (f \ge 1000)

    Returns:
        (bands, frame // 2 + 1) float64.

    Source: M. Slaney, Auditory Toolbox, Interval Research TR 1998-010.
    """
    top = _hz_to_mel(spec.rate_hz / 2)
    edges = _mel_to_hz(np.linspace(0.0, top, spec.bands + 2))  # (bands + 2,) Hz
    bins = np.arange(spec.frame // 2 + 1) * (spec.rate_hz / spec.frame)
    slopes = (bins[None, :] - edges[:, None]) / np.diff(edges, append=np.inf)[:, None]
    rising = slopes[:-2]
    falling = 1.0 - slopes[1:-1]
    area = 2.0 / (edges[2:] - edges[:-2])
    bank: npt.NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling)) * area[:, None]
    return bank


def _hz_to_mel(hz: float) -> float:
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * float(np.log(hz / 1000) / np.log(6.4))


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


class LogMel:
    r"""Log-Mel features in dB with a given window and filterbank.

    Frame ``k`` is centred on sample ``k * hop``; both ends of the clip are reflected.

    .. math:: 10 \log_{10}(B \, |\mathrm{rfft}(w \odot x)|^2 + 2.2 \cdot 10^{-16})

    Args:
        spec: sizes and rate.
        window: (frame,) float32; designed by ``spec`` if not given.
        filterbank: (bands, frame // 2 + 1) float32; designed by ``spec`` if not given.

    Example:
        >>> tone = np.sin(np.arange(160000, dtype=np.float32))
        >>> LogMel(LogMelSpec())(tone).shape
        (313, 128)
    """

    def __init__(
        self, spec: LogMelSpec, window: Array | None = None, filterbank: Array | None = None
    ) -> None:
        if window is None or filterbank is None:
            window, filterbank = spec.design()
        shapes = (spec.frame,), (spec.bands, spec.frame // 2 + 1)
        if (window.shape, filterbank.shape) != shapes:
            raise ConfigError(
                f"window {window.shape} and filterbank {filterbank.shape} do not fit {spec}"
            )
        self.spec = spec
        self.window = np.ascontiguousarray(window, np.float32)
        self.filterbank = np.ascontiguousarray(filterbank, np.float32)

    def __call__(self, samples: Array) -> Array:
        """The features of a whole clip.

        Args:
            samples: (n,) float32 at ``spec.rate_hz``.

        Returns:
            (1 + n // hop, bands) float32, in dB.

        Raises:
            AudioError: the clip is too short to be reflected.
        """
        half = self.spec.frame // 2
        if len(samples) <= half:
            raise AudioError(
                f"{len(samples)} samples are too short: log-Mel needs more than {half}"
            )
        left, right = samples[half:0:-1], samples[-2 : -half - 2 : -1]
        padded = np.concatenate([left, samples, right], dtype=np.float32)
        return self._transform(padded, 0, self.spec.frames(len(samples)))

    def stream(self) -> LogMelStream:
        """A stream whose frames, put together, equal those of the whole clip bit for bit."""
        return LogMelStream(self)

    @cached_property
    def _groups(self) -> list[tuple[slice, slice, Array]]:
        """Bands in groups of 16 with the bins they reach and their part of the filterbank."""
        groups = []
        for first in range(0, self.spec.bands, GROUP):
            bands = slice(first, min(first + GROUP, self.spec.bands))
            reached = np.flatnonzero(self.filterbank[bands].any(axis=0))
            low, high = (reached[0], reached[-1] + 1) if len(reached) else (0, 1)
            bins = slice(int(low), int(high))
            groups.append((bins, bands, np.ascontiguousarray(self.filterbank[bands, bins].T)))
        return groups

    def _transform(self, padded: Array, first: int, count: int) -> Array:
        """Frames ``first`` to ``first + count`` of the clip, the first of them at ``padded[0]``.

        Returns:
            (count, bands) float32, in dB.
        """
        from scipy.fft import rfft

        spec = self.spec
        frames = np.lib.stride_tricks.sliding_window_view(padded, spec.frame)[:: spec.hop]
        logmel = np.empty((count, spec.bands), np.float32)
        windowed = np.zeros((BLOCK, spec.frame), np.float32)
        power = np.empty((BLOCK, spec.frame // 2 + 1), np.float32)
        mel = np.empty((BLOCK, spec.bands), np.float32)
        done = 0
        while done < count:
            row = (first + done) % BLOCK
            size = min(BLOCK - row, count - done)
            rows, block = slice(row, row + size), slice(done, done + size)
            np.multiply(frames[block], self.window, out=windowed[rows])
            spectrum = rfft(windowed)
            if spec.version > 1:
                _take_out_offset(spectrum)
            parts = spectrum.view(np.float32)  # (BLOCK, 2 * bins): real, imaginary, ...
            np.multiply(parts, parts, out=parts)
            np.add(parts[:, 0::2], parts[:, 1::2], out=power)
            for bins, bands, weights in self._groups:
                np.matmul(power[:, bins], weights, out=mel[:, bands])
            mel += np.float32(DECIBEL_FLOOR)
            np.log10(mel, out=mel)
            np.multiply(mel[rows], np.float32(10.0), out=logmel[block])
            done += size
        return logmel


def _take_out_offset(spectrum: npt.NDArray[np.complex64]) -> None:
    r"""Make a spectrum (frames, bins) that of frames less their mean, weighted by the window.

    A constant under a periodic Hann window has no bins but 0 and 1, the second being -1/2 of the
    first: so with the mean gone, :math:`X_1` becomes :math:`X_1 + X_0 / 2` and :math:`X_0` 0.
    """
    spectrum[:, 1] += spectrum[:, 0] / 2
    spectrum[:, 0] = 0


class LogMelStream:
    """Log-Mel frames of a sound that arrives in chunks of any size.

    Example:
        >>> logmel = LogMel(LogMelSpec())
        >>> sound = np.sin(np.arange(16000, dtype=np.float32))
        >>> stream = logmel.stream()
        >>> frames = [stream.push(chunk) for chunk in np.array_split(sound, 7)] + [stream.finish()]
        >>> bool((np.concatenate(frames) == logmel(sound)).all())
        True
    """

    def __init__(self, logmel: LogMel) -> None:
        self._logmel = logmel
        self._half = logmel.spec.frame // 2
        self._pending: Array = np.empty(0, np.float32)
        self._latest: Array = self._pending  # what the end is reflected from
        self._samples = 0
        self._emitted = 0

    def push(self, chunk: Array) -> Array:
        """Take (n,) float32 samples; return the (k, bands) frames they complete, k may be 0."""
        chunk = np.asarray(chunk, np.float32)
        started = self._samples > self._half
        self._pending = np.concatenate([self._pending, chunk])
        self._latest = np.concatenate([self._latest, chunk])[-self._half - 1 :]
        self._samples += len(chunk)
        if not started:
            if self._samples <= self._half:
                return self._nothing()
            left = self._pending[self._half : 0 : -1]
            self._pending = np.concatenate([left, self._pending])
        spec = self._logmel.spec
        return self._emit((len(self._pending) - spec.frame) // spec.hop + 1)

    def finish(self) -> Array:
        """Reflect the end and return the last (k, bands) frames; the stream is then spent.

        Raises:
            AudioError: fewer samples arrived than can be reflected.
        """
        if self._samples <= self._half:
            raise AudioError(
                f"{self._samples} samples are too short: log-Mel needs more than {self._half}"
            )
        self._pending = np.concatenate([self._pending, self._latest[-2::-1]])
        return self._emit(self._logmel.spec.frames(self._samples) - self._emitted)

    def _emit(self, count: int) -> Array:
        if count < 1:
            return self._nothing()
        frames = self._logmel._transform(self._pending, self._emitted, count)
        # Copied, so that an endless stream does not hold on to what it has used.
        self._pending = self._pending[count * self._logmel.spec.hop :].copy()
        self._emitted += count
        return frames

    def _nothing(self) -> Array:
        return np.empty((0, self._logmel.spec.bands), np.float32)
