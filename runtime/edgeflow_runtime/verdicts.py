"""From the NLL of a clip's windows to its score, and from that to a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeflow_runtime.arrays import Array, Frames, NllMap
from edgeflow_runtime.clip_reader import Clip

NORMAL, ANOMALOUS, UNKNOWN = "normal", "anomalous", "unknown"


@dataclass(frozen=True)
class ClipResult:
    """What a monitor says of one clip."""

    file: str
    """Name of the clip."""
    score: float | None
    """Mean window NLL in nats per dimension; ``None`` if the clip could not be judged."""
    threshold: float
    """The threshold in force; scores above it are anomalous."""
    verdict: str
    """``normal``, ``anomalous`` or ``unknown``."""
    seconds: float | None
    """Length of the clip; ``None`` where an array does not tell."""
    windows: int
    """Windows that were scored."""
    backend: str
    """What ran the flow."""
    device: str
    """Where it ran."""
    error: str | None = None
    """Why the verdict is unknown."""
    logmel: Frames | None = field(default=None, repr=False, compare=False)
    """(frames, bands) dB, kept when maps were asked for."""
    nll_map: NllMap | None = field(default=None, repr=False, compare=False)
    """(windows, time cells, mel cells), kept when maps were asked for."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON-ready record, without the arrays; ``error`` only where there is one."""
        names = ("file", "score", "threshold", "verdict", "seconds", "windows", "backend", "device")
        record = {name: getattr(self, name) for name in names}
        return record | ({"error": self.error} if self.error else {})


@dataclass(frozen=True)
class Judge:
    """Makes verdicts at one threshold; a score that is no finite number is a fault, never one."""

    threshold: float
    """In nats per dimension."""
    backend: str
    """What ran the flow, for the record."""
    device: str
    """Where it ran, for the record."""

    def __call__(self, clip: Clip, nll: Array | None) -> ClipResult:
        """The verdict on a clip.

        Args:
            clip: what was heard, or why nothing was.
            nll: (windows,) of its windows, or their maps (windows, t, m), which are then kept;
                ``None`` where it could not be read.
        """
        score, verdict, error = None, UNKNOWN, clip.error
        if nll is not None:
            score = float(np.mean(nll.reshape(len(nll), -1).sum(axis=1), dtype=np.float64))
            if math.isfinite(score):
                verdict = ANOMALOUS if score > self.threshold else NORMAL
            else:
                error = f"'{clip.name}' scored {score}, which is no finite number"
                score = None
        maps = nll is not None and nll.ndim > 1
        return ClipResult(
            file=clip.name,
            score=score,
            threshold=self.threshold,
            verdict=verdict,
            seconds=None if math.isnan(clip.seconds) else clip.seconds,
            windows=0 if nll is None else len(nll),
            backend=self.backend,
            device=self.device,
            error=error,
            logmel=clip.logmel if maps else None,
            nll_map=nll if maps else None,
        )
