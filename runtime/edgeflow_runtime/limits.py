"""What a bundle may be at most: its sizes, the numbers and texts of its manifest, its claims.

A manifest says what it likes, and hashes are no signature. So each number has a range, wide enough
for whatever a monitor can be, and narrow enough that nothing overflows or takes memory without end.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeflow_runtime.arrays import Nll
from edgeflow_runtime.audio import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.signature import AUDIO_INPUTS

if TYPE_CHECKING:
    from edgeflow_runtime.manifest import Manifest

LARGEST_BUNDLE = 1 << 29
"""Bytes; that of the paper's MAF in float32, with a graph that starts at the samples, has 2^24."""

LARGEST_MANIFEST = 1 << 20
"""Bytes; a manifest has about two thousand."""

LARGEST_TENSORS = 1 << 26
"""Bytes of the front end's tensors, and of the golden recording's; both have some hundred thousand.
Log-Mel arrays are recorded whole: an hour of them fits."""

LARGEST_WINDOW = 1 << 22
"""Cells, frames times bands, of a window; the paper's Glow has 2^12."""

LONGEST_TEXT = 1000
"""Characters; the method of a threshold has about a hundred."""

MOST_ENTRIES = 1000
"""Of a list or a table: versions, batch sizes, conditioners."""

PRECISIONS = ("fp32", "fp16", "int8")

RANGES: dict[str, tuple[float, float]] = {
    "Features.bands": (1, 4096),
    "Features.min_rate_hz": (0, HIGHEST_RATE_HZ),
    "Features.channel": (0, 65535),
    "LogMelSpec.rate_hz": (LOWEST_RATE_HZ, HIGHEST_RATE_HZ),
    "LogMelSpec.frame": (2, 1 << 16),
    "LogMelSpec.hop": (1, 1 << 16),
    "LogMelSpec.bands": (1, 4096),
    "WindowSpec.frames": (1, 1 << 16),
    "WindowSpec.hop": (1, 1 << 16),
    "PoolSpec.frames": (0, 1 << 20),
    "PoolSpec.hop": (0, 1 << 20),
    "Threshold.false_alarm_probability": (0, 1),
    "Threshold.clip_seconds": (0, 86400),
    "Threshold.usual_spread": (0, 10),
    "Tolerances.logmel_db": (0, 0.1),
    "Tolerances.nll": (0, 1),
    "Gate.auc_change": (0, 1),
    "Gate.spearman": (-1, 1),
    "Gate.flips": (0, 1),
    "AudioGraph.samples": (1, 1 << 26),
    "AudioGraph.buckets": (1, 1 << 16),
    "AudioGraph.tolerance": (0, 1),
}
"""The least and the most of a number, by document and field. Others only tell how it was trained,
but for the threshold, which :func:`check_claims` looks at."""

ROUNDING = 1e-4
"""Nats per dimension by which a window's NLL may differ between two machines in float32."""

FARTHEST = 100.0
"""How far a threshold may lie from the golden NLLs, as a multiple of their own size plus one."""


def check_manifest(manifest: Manifest) -> None:
    """Hold each number to its range, each text to a line, and what belongs together to each other.

    Raises:
        ConfigError: it says which is out of range, and what the range is.
    """
    _check_document(manifest)
    features, view, audio = manifest.features, manifest.view, manifest.audio
    spec = features.logmel
    if spec is not None and spec.bands != features.bands:
        raise ConfigError(f"log-Mel of {spec.bands} bands, and features of {features.bands}")
    if view.rows * features.bands > LARGEST_WINDOW:
        raise ConfigError(f"windows of {view.rows} x {features.bands} cells are too large")
    precisions = {manifest.precision, *manifest.overrides.values()}
    if not precisions <= set(PRECISIONS):
        raise ConfigError(f"the precision is one of {', '.join(PRECISIONS)}, found {precisions}")
    if audio is None:
        return
    if spec is None or audio.encoding not in AUDIO_INPUTS or not audio.buckets:
        raise ConfigError("the graph that starts at the samples wants log-Mel and an encoding")
    if audio.samples < spec.samples(view.fewest):
        raise ConfigError(f"a clip of {audio.samples} samples holds no window")


def _check_document(document: Document) -> None:
    name = type(document).__name__
    for field in dataclasses.fields(document):  # type: ignore[arg-type]
        _check_value(f"{name}.{field.name}", getattr(document, field.name))


def _check_value(where: str, value: Any) -> None:  # noqa: ANN401
    if isinstance(value, Document):
        return _check_document(value)
    if isinstance(value, (tuple, dict)):
        if len(value) > MOST_ENTRIES:
            raise ConfigError(f"{where}: at most {MOST_ENTRIES} entries, found {len(value)}")
        for item in (*value, *value.values()) if isinstance(value, dict) else value:
            _check_value(where, item)
    if isinstance(value, str) and (len(value) > LONGEST_TEXT or not value.isprintable()):
        raise ConfigError(
            f"{where}: expected at most {LONGEST_TEXT} characters that can be printed, found "
            f"{value[:80]!r}"
        )
    if isinstance(value, (int, float)):
        low, high = RANGES.get(where, (-math.inf, math.inf))
        if not low <= value <= high:
            raise ConfigError(f"{where}: expected {low:g} to {high:g}, found {value!r}")
    return None


def told_apart(golden: Nll) -> float:
    """A tolerance within which no backend could say the same of every golden window.

    It is half of what the best constant is off, in nats per dimension.

    Args:
        golden: (windows,) the NLLs that a replay must give.
    """
    return float(np.ptp(golden)) / 4


def check_claims(threshold: float, tolerance: float, golden: Nll) -> None:
    """Hold a threshold and a tolerance against the scores of normal sound that came with them.

    A clip's score seldom leaves that of others of its kind by more than their own size; a threshold
    of few clips and for few false alarms may lie some tens beyond. What lies two orders of
    magnitude away calls everything normal, or everything anomalous.

    Args:
        threshold: where normal ends, in nats per dimension.
        tolerance: how far a replay may be off.
        golden: (windows,) NLLs of a normal clip.

    Raises:
        ConfigError: the threshold is none, or the replay proves nothing.
    """
    if not golden.size or not np.isfinite(golden).all():
        raise ConfigError("the golden recording has no NLLs, or some that are not finite")
    centre = float(golden.mean(dtype=np.float64))
    farthest = FARTHEST * (1 + float(np.abs(golden).max()))
    if not math.isfinite(threshold) or abs(threshold - centre) > farthest:
        raise ConfigError(
            f"a threshold of {threshold:g} tells nothing apart: normal sound scores about "
            f"{centre:.4g} here, and the threshold lies within {farthest:.4g} of that"
        )
    if tolerance > max(ROUNDING, told_apart(golden)):
        raise ConfigError(
            f"a tolerance of {tolerance:g} proves nothing: a graph that says the same of every "
            "golden window would pass"
        )
