"""From the NLL of a clip's windows to its score, and from that to a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from edgeflow_runtime.arrays import Array, Frames, NllMap
from edgeflow_runtime.clip_reader import Clip
from edgeflow_runtime.manifest import MachineId

NORMAL, ANOMALOUS, UNKNOWN = "normal", "anomalous", "unknown"

SCHEMA = "edgeflow.clip_result.v1"
"""What a record says it is; ``schemas/clip_result.v1.json`` says what that means."""


@dataclass(frozen=True)
class ClipResult:
    """What a monitor says of one clip."""

    clip: str
    """Name of the clip: a file's path, or ``-`` and the place in a pipe."""
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
    machine: MachineId
    """Which machine the bundle is for."""
    bundle_sha256: str
    """SHA-256 of the bundle's file."""
    backend: str
    """What ran the flow."""
    device: str
    """Where it ran."""
    offset_seconds: float = 0.0
    """Where in its source the clip begins: a stretch in its file, a clip in its pipe; else 0."""
    heard_at: datetime | None = None
    """When its first sample was heard, in UTC; ``None`` where nobody knows, as of a file."""
    error: str | None = None
    """Why the verdict is unknown."""
    stretches: int = 1
    """In how many stretches its sound is judged, of which this is one."""
    label: str = ""
    """What people call it: ``clip`` and, of a stretch, its place."""
    logmel: Frames | None = field(default=None, repr=False, compare=False)
    """(frames, bands) dB, kept when maps were asked for."""
    nll_map: NllMap | None = field(default=None, repr=False, compare=False)
    """(windows, time cells, mel cells), kept when maps were asked for."""

    def to_dict(self) -> dict[str, Any]:
        """The record as :data:`SCHEMA` has it, flat and JSON-ready, without the arrays."""
        return {
            "schema": SCHEMA,
            "heard_at": self.heard_at and self.heard_at.isoformat(timespec="milliseconds"),
            "machine_type": self.machine.machine_type,
            "machine_id": self.machine.machine_id,
            "bundle_sha256": self.bundle_sha256,
            "clip": self.clip,
            "offset_seconds": self.offset_seconds,
            "score": self.score,
            "threshold": self.threshold,
            "verdict": self.verdict,
            "seconds": self.seconds,
            "windows": self.windows,
            "backend": self.backend,
            "device": self.device,
            "error": self.error,
        }


@dataclass(frozen=True)
class Judge:
    """Makes verdicts at one threshold; a score that is no finite number is a fault, never one."""

    threshold: float
    """In nats per dimension."""
    machine: MachineId
    """Which machine is judged, for the record like all that follows."""
    bundle_sha256: str
    """SHA-256 of the bundle's file."""
    backend: str
    """What ran the flow."""
    device: str
    """Where it ran."""

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
                error = f"'{clip.label}' scored {score}, which is no finite number"
                score = None
        maps = nll is not None and nll.ndim > 1
        return ClipResult(
            clip=clip.name,
            score=score,
            threshold=self.threshold,
            verdict=verdict,
            seconds=None if math.isnan(clip.seconds) else clip.seconds,
            windows=0 if nll is None else len(nll),
            machine=self.machine,
            bundle_sha256=self.bundle_sha256,
            backend=self.backend,
            device=self.device,
            offset_seconds=clip.offset_seconds,
            heard_at=clip.heard_at,
            error=error,
            stretches=clip.stretches,
            label=clip.label,
            logmel=clip.logmel if maps else None,
            nll_map=nll if maps else None,
        )
