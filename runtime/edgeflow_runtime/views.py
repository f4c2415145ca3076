"""From a clip to what a graph sees of it: its log-Mel standardised and cut into windows, mostly.

A :class:`View` is the one way there. It travels in runs and bundles, and whoever needs to know how
many windows a clip gives, whether it is long enough, or which frames a window covers asks it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Array, Frames, NllMap, Rows, Samples, Windows
from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import AudioError, ConfigError


@dataclass(frozen=True)
class WindowSpec(Document):
    """Windows of some frames, one every few frames.

    Example:
        >>> WindowSpec(frames=32, hop=4).count(313)
        71
    """

    frames: int
    """Frames in one window."""
    hop: int
    """Frames from the start of one window to the start of the next."""

    def __post_init__(self) -> None:
        if self.frames < 1 or self.hop < 1:
            raise ConfigError(
                f"a window needs at least 1 frame and a hop of at least 1, found "
                f"{self.frames} frames and hop {self.hop}"
            )

    def count(self, frames: int) -> int:
        """How many whole windows fit into ``frames`` frames."""
        return max(0, (frames - self.frames) // self.hop + 1)

    def starts(self, frames: int) -> npt.NDArray[np.int64]:
        """(N,) the first frame of each window in a clip of ``frames`` frames."""
        return np.arange(self.count(frames)) * self.hop

    def check(self, name: str, frames: int) -> None:
        """Refuse a clip that does not fill one window. Raises :class:`AudioError`."""
        if frames < self.frames:
            raise AudioError(
                f"'{name}' is too short: it has {frames} frames, one window takes {self.frames}"
            )

    def cut(self, standard: Frames) -> Windows:
        """All windows of standardised (frames, bands), as a read-only view that copies nothing.

        Returns:
            (N, self.frames, bands), N = ``self.count(frames)``.
        """
        if len(standard) < self.frames:
            return np.empty((0, self.frames, standard.shape[1]), standard.dtype)
        every = np.lib.stride_tricks.sliding_window_view(standard, self.frames, axis=0)
        return every[:: self.hop].transpose(0, 2, 1)  # (N, T, M)


@dataclass(frozen=True, eq=False)
class View:
    """What one model sees: its own standardisation, then its windows.

    Example:
        >>> view = View(WindowSpec(4, 4), np.zeros(128, np.float32), np.ones(128, np.float32))
        >>> view(np.zeros((313, 128), np.float32)).shape
        (78, 4, 128)
    """

    spec: WindowSpec
    """How frames become windows."""
    mean: Array
    """(bands,) float32 in dB, taken off."""
    scale: Array
    """(bands,) float32 in dB, divided by."""

    def __call__(self, logmel: Frames) -> Windows:
        """(frames, bands) log-Mel in dB to its windows (N, T, M), N = 0 if it is too short."""
        return self.spec.cut(self.standardise(logmel))

    def standardise(self, logmel: Frames) -> Frames:
        """(frames, bands) in dB to zero mean and unit scale, as in training."""
        standard: Frames = (logmel - self.mean) / self.scale
        return standard

    @property
    def shape(self) -> tuple[int, int]:
        """(T, M) of one window."""
        return self.spec.frames, len(self.mean)

    def spread(self, nll_map: NllMap, frames: int) -> Frames:
        """Lay the maps of a clip's windows side by side, overlapping ones averaged.

        Args:
            nll_map: (N, time cells, mel cells) NLL, in nats per dimension of the whole window.
            frames: frames of the clip.

        Returns:
            (frames, bands) NLL of each place, in nats per dimension of that place; NaN where no
            window reaches.
        """
        rows, columns = nll_map.shape[1:]
        length, bands = self.shape
        local = nll_map * (rows * columns)
        local = local.repeat(length // rows, axis=1).repeat(bands // columns, axis=2)
        total = np.zeros((frames, bands), np.float64)
        cover = np.zeros((frames, 1))
        for start, window in zip(self.spec.starts(frames), local, strict=True):
            total[start : start + length] += window
            cover[start : start + length] += 1
        return np.where(cover > 0, total / np.maximum(cover, 1), np.nan).astype(np.float32)

    def stream(self) -> ViewStream:
        """A stream whose windows, put together, are those of the whole clip."""
        return ViewStream(self)


class ViewStream:
    """Takes log-Mel frames as they come and gives the windows that they complete."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._pending: Frames = np.empty((0, view.shape[1]), np.float32)
        self._skip = 0  # frames to come that no window reaches, where the hop exceeds the window

    def push(self, logmel: Frames) -> Windows:
        """Take (k, bands) frames; return the (n, T, M) windows they complete, n may be 0."""
        spec = self._view.spec
        fresh = self._view.standardise(logmel)[self._skip :]
        self._skip = max(0, self._skip - len(logmel))
        pending = np.concatenate([self._pending, fresh])
        windows = spec.cut(pending).copy()
        used = len(windows) * spec.hop
        self._skip += max(0, used - len(pending))
        self._pending = pending[used:].copy()
        return windows


@dataclass(frozen=True)
class AudioGraph(Document):
    """What the graph that starts at the samples takes: ``audio.onnx``."""

    samples: int
    """Samples in a clip, at the monitor's rate."""
    encoding: str
    """``float32`` (clips, samples) with full scale 1, or ``int16``: the little-endian bytes of
    16-bit samples as uint8 (clips, samples, 2), since TensorRT takes no 16-bit integers."""
    buckets: tuple[int, ...]
    """Batch sizes, in clips, in which parity was checked."""
    tolerance: float
    """How far a replay of its golden clip may be off, in nats per dimension."""


@dataclass(frozen=True)
class WholeClips:
    """What a graph that starts at the samples sees: clips of one length, whole."""

    graph: AudioGraph
    """Its clips' length, and their encoding."""
    hop: int
    """Of the log-Mel, in samples: less than that may be left out, as resampling may give it."""

    def check(self, name: str, samples: int) -> None:
        """Refuse a clip of another length. Raises :class:`AudioError`."""
        whole = self.graph.samples
        if not whole <= samples < whole + self.hop:
            raise AudioError(
                f"'{name}' has {samples} samples; the graph that starts at the samples takes "
                f"clips of {whole}: leave --audio-in out for other lengths"
            )

    def __call__(self, samples: Samples) -> Rows:
        """(n,) samples of a clip that was checked to a row (1, ...) as the graph takes it."""
        return encode(samples[None, : self.graph.samples], self.graph.encoding)


def encode(samples: Array, encoding: str) -> Rows:
    """Whole clips as the graph that starts at their samples takes them.

    Args:
        samples: (clips, n) float32 with full scale 1.
        encoding: ``float32``, or ``int16`` for the little-endian bytes of 16-bit integers.

    Returns:
        (clips, n) float32, or (clips, n, 2) uint8.

    Example:
        >>> encode(np.array([[0.5, -1.0]], np.float32), "int16").tolist()
        [[[0, 64], [0, 128]]]
    """
    if encoding == "float32":
        return samples
    whole = np.clip(np.rint(samples * np.float32(32768)), -32768, 32767).astype("<i2")
    pairs: npt.NDArray[np.uint8] = whole.view(np.uint8)
    return pairs.reshape(*samples.shape, 2)
