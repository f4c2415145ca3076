"""What a graph that starts at the samples takes: clips of one length, whole, in its encoding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Array, Rows, Samples
from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import AudioError


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
