"""The explanation of a score: its NLL map over the log-Mel spectrogram, as a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from edgeflow_runtime.arrays import Frames
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.extras import require
from edgeflow_runtime.printable import printable
from edgeflow_runtime.storage import write_bytes
from edgeflow_runtime.verdicts import ClipResult


def save_map(result: ClipResult, bundle: Bundle, path: Path) -> None:
    """Draw a scored clip as a PNG.

    Above, the log-Mel spectrogram in grey with what was unlikely in red; below, the NLL over time
    beside the threshold.

    Args:
        result: a score that kept its maps.
        bundle: what scored it.
        path: where the picture goes.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: the disk refuses the write.
    """
    if result.logmel is None or result.nll_map is None:
        raise ValueError("the score was made without its maps: score_files(..., maps=True)")
    figure = require("matplotlib.figure", "plot").Figure(figsize=(10, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    local = bundle.view.lay(result.nll_map, result.logmel)
    seconds = _frame_seconds(bundle)
    extent = (0, len(local) * seconds, 0, local.shape[1])
    dark, light = np.percentile(result.logmel, (1, 99.5))
    above.imshow(
        result.logmel.T, origin="lower", aspect="auto", cmap="gray", extent=extent,
        vmin=dark, vmax=light,
    )  # fmt: skip
    excess = local - result.threshold
    strength = np.clip(np.nan_to_num(excess) / _scale(excess), 0, 1)
    shown = above.imshow(
        np.maximum(np.nan_to_num(excess), 0).T,
        origin="lower", aspect="auto", cmap="autumn_r", extent=extent,
        alpha=0.8 * strength.T, vmin=0, vmax=_scale(excess),
    )  # fmt: skip
    figure.colorbar(shown, ax=above, label="NLL above the threshold (nats/dim)")
    _label_bands(above, bundle)
    score = float("nan") if result.score is None else result.score
    name = printable(Path(result.label).name)
    title = f"{name}: {result.verdict}, score {score:.3f} nats/dim"
    above.set_title(title, parse_math=False)  # a dollar in a name begins no formula
    times = (np.arange(len(local)) + 0.5) * seconds
    below.plot(times, local.mean(axis=1), color="black", linewidth=1)
    below.axhline(result.threshold, color="red", linewidth=1, linestyle="--")
    below.set_ylabel("NLL (nats/dim)")
    below.set_xlabel("seconds" if bundle.manifest.features.logmel else "frames")
    edge = below.get_yaxis_transform()  # 1 is the right edge, whatever the time
    mark = below.text(1.01, result.threshold, "threshold", transform=edge, color="red", va="center")
    mark.set_in_layout(False)  # it stands in the colour bar's column
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_bytes(path, content.getvalue())


def _frame_seconds(bundle: Bundle) -> float:
    spec = bundle.manifest.features.logmel
    return spec.hop / spec.rate_hz if spec else 1.0


def _scale(excess: Frames) -> float:
    """The excess that is drawn at full strength: the largest, but for a few outlying cells."""
    return max(float(np.nanpercentile(excess, 99.8)), 1e-3)


def _label_bands(axes: Any, bundle: Bundle) -> None:  # noqa: ANN401
    spec = bundle.manifest.features.logmel
    if spec is None:
        axes.set_ylabel("Mel band")
        return
    peaks = bundle.frontend["filterbank"].argmax(axis=1) * (spec.rate_hz / spec.frame)
    bands = np.linspace(0, spec.bands - 1, 7).round().astype(int)
    axes.set_yticks(bands + 0.5, [f"{peaks[band]:.0f}" for band in bands])
    axes.set_ylabel("Hz")
