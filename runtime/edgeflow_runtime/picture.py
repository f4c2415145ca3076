"""The explanation of a score: what was unlikely in a clip, over its spectrogram, as a picture.

All pictures of a bundle share one scale, read from its golden recording, which is normal sound, and
its threshold: so normal looks normal, and clips can be compared by eye. NLL is drawn above that of
the likeliest sound, and blurred a little, since a single cell of a normal clip is often unlikely,
and a maximum's share stands at one frame alone.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Frames, NllMap
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.extras import require
from edgeflow_runtime.printable import printable
from edgeflow_runtime.storage import write_bytes
from edgeflow_runtime.verdicts import ClipResult
from edgeflow_runtime.views import PoolSpec

BLUR = (5.0, 1.5)
"""Standard deviations of the blur, in frames and bands."""

USUAL = 0.999
"""Share of the golden recording's places that is not coloured."""

FARTHEST = 100.0
"""NLL above the least at the threshold counts as so many times the golden recording's at most."""

STEEPEST = 4.0
"""From where colour begins to where it is full NLL grows by this factor at least."""

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Told apart by whoever cannot tell red from green. Source: M. Okabe, K. Ito, 2008."""

HERTZ = (100, 200, 500, 1000, 2000, 5000, 10000, 20000)


@dataclass(frozen=True, eq=False)
class MapScale:
    """What normal looks like to a bundle, and how far its colours reach; see :func:`map_scale`."""

    least: float
    """A cell's part of the NLL of the likeliest sound; it is taken off before maps are laid out."""
    usual: float
    """Where colour begins, NLL above the least: half-way, by factors, from what the golden
    recording has to what a clip at the threshold would have, as that may have been learned."""
    full: float
    """Where it is full: as a clip at the threshold would have it."""
    moments: tuple[float, float]
    """Between these the mean NLL over the bands lies in the golden recording, above the least."""
    bands: float
    """As high as this reaches there a band's NLL, above the least."""


def map_scale(bundle: Bundle) -> MapScale:
    """The scale that all pictures of ``bundle`` share.

    Raises:
        BackendError: its graph cannot be run.
    """
    backend, logmel = OnnxRuntimeBackend(bundle.onnx), bundle.golden["logmel"]
    windows = bundle.view(logmel)
    starts = range(0, len(windows), backend.batch)
    parts = [np.ascontiguousarray(windows[k : k + backend.batch]) for k in starts]
    nll_map = np.concatenate([backend.nll_map(part) for part in parts])
    least, score = float(nll_map.min()), float(nll_map.sum(axis=(1, 2)).mean())
    energy = nll_map - np.float32(least)
    local = bundle.view.lay(energy, logmel)
    above = _blurred(local)
    usual = float(np.nanquantile(above, USUAL))
    beyond = bundle.manifest.threshold.value - score
    times = 1 + beyond / max(float(energy.sum(axis=(1, 2)).mean()), 1e-9)
    low, high = np.nanquantile(above.mean(axis=1), (0.01, 0.99))
    bands = float(np.sum([*_profiles(bundle, energy, local).values()], axis=0).max())
    root = math.sqrt(float(np.clip(times, 1, FARTHEST)))
    return MapScale(least, usual * root, usual * root * max(root, STEEPEST), (low, high), bands)


def save_map(result: ClipResult, bundle: Bundle, scale: MapScale, path: Path) -> None:
    """Draw a scored clip as a PNG.

    The log-Mel spectrogram in grey with what was unlikely in colour; to its right the NLL by band,
    below it the NLL over time, beside what the golden recording has.

    Args:
        result: a score that kept its maps.
        bundle: what scored it.
        scale: the bundle's.
        path: where the picture goes.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: the disk refuses the write.
    """
    if result.logmel is None or result.nll_map is None:
        raise ValueError("the score was made without its maps: score_files(..., maps=True)")
    figure = require("matplotlib.figure", "plot").Figure(figsize=(11, 6.5), layout="constrained")
    (above, beside), (below, corner) = figure.subplots(
        2, 2, sharex="col", sharey="row", height_ratios=(3, 1), width_ratios=(5, 1)
    )
    energy = result.nll_map - np.float32(scale.least)
    local = bundle.view.lay(energy, result.logmel)
    seconds = _frame_seconds(bundle)
    blurred = _blurred(local)
    shown = _draw_spectrogram(above, result.logmel, blurred, scale, len(local) * seconds)
    bar = figure.colorbar(shown, ax=(beside, corner), label="NLL above the likeliest (nats/dim)")
    _round_ticks(bar.ax.yaxis)
    _label_bands(above, bundle)
    _draw_bands(beside, _profiles(bundle, energy, local), scale)
    beside.tick_params(labelbottom=True)
    times = (np.arange(len(local)) + 0.5) * seconds
    below.axhspan(*scale.moments, color="0.85")
    below.plot(times, blurred.mean(axis=1), color="black", linewidth=1)
    below.set_ylim(0, 1.1 * max(scale.moments[1], float(np.nanmax(blurred.mean(axis=1)))))
    below.set_ylabel("NLL above the\nlikeliest (nats/dim)")
    below.set_xlabel("seconds" if bundle.manifest.features.logmel else "frames")
    _explain(corner, beside)
    score = float("nan") if result.score is None else result.score
    figure.suptitle(
        f"{printable(Path(result.label).name)}: {result.verdict}, score {score:.3f}, threshold "
        f"{result.threshold:.3f} nats/dim",
        parse_math=False,  # a dollar in a name begins no formula
    )
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_bytes(path, content.getvalue())


def _draw_spectrogram(
    axes: Any,  # noqa: ANN401
    logmel: Frames,
    above: Frames,
    scale: MapScale,
    end: float,
) -> Any:  # noqa: ANN401
    """The spectrogram, and over it the NLL above the least; returns what is coloured."""
    colours = require("matplotlib.colors", "plot")
    extent = (0, end, 0, logmel.shape[1])
    dark, light = np.percentile(logmel, (1, 99.5))
    axes.imshow(
        logmel.T, origin="lower", aspect="auto", cmap="gray", extent=extent, vmin=dark, vmax=light
    )
    norm = colours.LogNorm(scale.usual, scale.full, clip=True)
    level = np.nan_to_num(above, nan=0.0)
    strength = np.where(level > scale.usual, 0.3 + 0.4 * norm(level), 0.0)
    return axes.imshow(
        np.maximum(level, scale.usual).T, origin="lower", aspect="auto", extent=extent, norm=norm,
        cmap=colours.LinearSegmentedColormap.from_list("unlikely", ["#F0E442", "#D55E00"]),
        alpha=strength.T,
    )  # fmt: skip


def _draw_bands(
    axes: Any,  # noqa: ANN401
    profiles: dict[str, npt.NDArray[Any]],
    scale: MapScale,
) -> None:
    """The NLL by band, of each statistic where there are some, one upon the other."""
    start = np.zeros(len(next(iter(profiles.values()))))
    at = np.arange(len(start)) + 0.5
    axes.axvspan(0, scale.bands, color="0.85", label="golden recording")
    for (name, part), colour in zip(profiles.items(), (*COLOURS, *COLOURS), strict=False):
        axes.fill_betweenx(at, start, start + part, color=colour, label=name, linewidth=0)
        start = start + part
    axes.set_xlim(0, max(2 * scale.bands, float(start.max())))
    axes.set_xlabel("by band")


def _explain(corner: Any, bands: Any) -> None:  # noqa: ANN401
    """What the colours of the other axes mean, where nothing is drawn."""
    handles, labels = bands.get_legend_handles_labels()
    corner.axis("off")
    corner.legend(handles, labels, loc="lower center", fontsize="small", frameon=False)


def _profiles(bundle: Bundle, energy: NllMap, local: Frames) -> dict[str, npt.NDArray[Any]]:
    """NLL above the least by band (bands,), of each statistic of a pooled view or of all frames."""
    spec = bundle.manifest.view
    if isinstance(spec, PoolSpec) and energy.shape[1:] == bundle.view.shape:
        each = energy.mean(axis=0) * energy.shape[2]
        return dict(zip(spec.statistics, each, strict=True))
    return {"NLL": np.nanmean(local, axis=0)}


def _blurred(local: Frames) -> Frames:
    """(frames, bands) blurred by :data:`BLUR`; NaN where it was."""
    from scipy.ndimage import gaussian_filter

    known = np.isfinite(local)
    weight = gaussian_filter(known.astype(np.float64), BLUR)
    total = gaussian_filter(np.where(known, local, 0.0), BLUR)
    return np.where(known, total / np.maximum(weight, 1e-9), np.nan).astype(np.float32)


def _frame_seconds(bundle: Bundle) -> float:
    spec = bundle.manifest.features.logmel
    return spec.hop / spec.rate_hz if spec else 1.0


def _round_ticks(axis: Any) -> None:  # noqa: ANN401
    """Ticks at few-digit numbers, written in full, as close as one decade of colour needs."""
    ticker = require("matplotlib.ticker", "plot")
    axis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(ticker.NullLocator())


def _label_bands(axes: Any, bundle: Bundle) -> None:  # noqa: ANN401
    spec = bundle.manifest.features.logmel
    if spec is None:
        axes.set_ylabel("Mel band")
        return
    peaks = bundle.frontend["filterbank"].argmax(axis=1) * (spec.rate_hz / spec.frame)
    shown = [hertz for hertz in HERTZ if peaks[0] <= hertz <= peaks[-1] * 1.02]
    bands = np.interp(shown, peaks, np.arange(len(peaks)) + 0.5)
    axes.set_yticks(bands, [f"{hertz}" for hertz in shown])
    axes.set_ylabel("Hz")
