"""Log-Mel of one clip on one core, beside librosa's."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np

from edgeflow_benchmarks.report import Goal, Row
from edgeflow_benchmarks.timing import interleave, one_core, pair_ratio
from edgeflow_runtime.arrays import Array
from edgeflow_runtime.errors import ParityError
from edgeflow_runtime.extras import require
from edgeflow_runtime.logmel import DECIBEL_FLOOR, FILTERBANKS, LogMel, LogMelSpec

ALLOWED_DB = 1e-3
"""How far Slaney's design may be from librosa's."""

OFFSET_BANDS = 2
"""The lowest bands, from which ours take a frame's offset out and librosa's do not."""

GOAL = Goal(2.5, "x")


def librosa_logmel(samples: Array, spec: LogMelSpec) -> Array:
    """Log-Mel as the DCASE baselines compute it: (n,) float32 to (bands, frames), in dB."""
    librosa = require("librosa", "bench")
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=spec.rate_hz,
        n_fft=spec.frame,
        hop_length=spec.hop,
        n_mels=spec.bands,
        power=2.0,
        pad_mode="reflect",
    )
    logmel: Array = 10.0 * np.log10(power + np.float32(DECIBEL_FLOOR))
    return logmel


def librosa_logmel_kept(spec: LogMelSpec) -> Callable[[Array], Array]:
    """The same, with librosa's filterbank built once: what a careful user of librosa does."""
    librosa = require("librosa", "bench")
    bank = librosa.filters.mel(sr=spec.rate_hz, n_fft=spec.frame, n_mels=spec.bands)

    def logmel(samples: Array) -> Array:
        spectrum = librosa.stft(samples, n_fft=spec.frame, hop_length=spec.hop, pad_mode="reflect")
        logmel: Array = 10.0 * np.log10(bank @ np.abs(spectrum) ** 2 + np.float32(DECIBEL_FLOOR))
        return logmel

    return logmel


def check_agreement(samples: Array, spec: LogMelSpec) -> float:
    """The largest difference from librosa, in dB.

    Raises:
        ParityError: it is above 1e-3 dB.
    """
    difference = np.abs(LogMel(spec)(samples) - librosa_logmel(samples, spec).T)[:, OFFSET_BANDS:]
    worst = float(difference.max())
    if not worst <= ALLOWED_DB:
        raise ParityError(
            f"log-Mel is {worst:.1e} dB from librosa's; at most {ALLOWED_DB:.0e} dB is allowed"
        )
    return worst


def measure_logmel(samples: Array, rounds: int) -> list[Row]:
    """Time both filterbanks and librosa on (n,) samples at 16 kHz, on one core.

    Raises:
        ParityError: they do not agree.
    """
    slaney = LogMelSpec(filterbank="slaney")
    worst = check_agreement(samples, slaney)
    ours = {name: LogMel(LogMelSpec(filterbank=name)) for name in FILTERBANKS}
    kept = librosa_logmel_kept(slaney)
    actions: dict[str, Callable[[], object]] = {
        "librosa": lambda: librosa_logmel(samples, slaney),
        "librosa, filterbank kept": lambda: kept(samples),
        "psf": lambda: ours["psf"](samples),
        "slaney": lambda: ours["slaney"](samples),
    }
    with one_core():
        times = interleave(actions, rounds)
    rows = [_row(name, "librosa", times, GOAL) for name in FILTERBANKS]
    rows.append(_row("slaney", "librosa, filterbank kept", times, None))
    agreed = Goal(ALLOWED_DB, "dB", at_most=True)
    rows.append(Row("log-Mel, slaney: largest difference from librosa", worst, "dB", goal=agreed))
    return rows


def _row(name: str, reference: str, times: dict[str, list[float]], goal: Goal | None) -> Row:
    return Row(
        what=f"log-Mel, {name}, 10 s clip, one core",
        edgeflow=1e3 * statistics.median(times[name]),
        unit="ms",
        against=reference,
        reference=1e3 * statistics.median(times[reference]),
        ratio=pair_ratio(times[reference], times[name]),
        goal=goal,
    )
