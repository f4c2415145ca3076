"""A bundle from a finished run: fold, export, check, set the threshold, write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from edgeflow.training.run import TrainedRun
from edgeflow_export.bundle_writer import write_bundle
from edgeflow_export.onnx_from_flow import onnx_from_flow
from edgeflow_export.parity import MAX_DIFFERENCE, Parity, check_parity
from edgeflow_export.threshold import threshold_from_scores
from edgeflow_runtime.audio import read_sound
from edgeflow_runtime.backend import OnnxRuntimeBackend, nll_of
from edgeflow_runtime.clips import ClipReader
from edgeflow_runtime.errors import ExportError
from edgeflow_runtime.logmel import LogMel
from edgeflow_runtime.manifest import (
    FORMAT_VERSION,
    SCORE_UNIT,
    Features,
    Manifest,
    Threshold,
    Tolerances,
    Training,
)

Array = npt.NDArray[np.float32]

GOLDEN_SECONDS = 3.0
"""Length of the golden recording, if its window allows."""

PARITY_CLIPS = 32
"""Clips on which torch and the exported graph are compared."""

LOGMEL_TOLERANCE_DB = 1e-3


@dataclass(frozen=True)
class Exported:
    """What an export reports."""

    path: Path
    """The bundle."""
    nodes: int
    """Nodes in its graph."""
    parity: Parity
    """How near it is to the trained flow."""
    threshold: Threshold
    """Where normal ends."""


def bundle_from_run(
    run: TrainedRun,
    path: Path,
    *,
    data: Path | None = None,
    false_alarm_probability: float = 0.01,
    say: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Export ``run`` as the bundle ``path``.

    Args:
        run: a finished run.
        path: where the bundle goes.
        data: the data set, where it has moved since training.
        false_alarm_probability: share of normal clips that may lie above the threshold.
        say: told what is going on.

    Raises:
        ExportError: the graph has a forbidden operator or another score, or clips are missing.
        StorageError: the disk refuses the write.
    """
    root = Path(data or run.record.config.data)
    say("folding and exporting")
    graph = onnx_from_flow(run.flow)
    backend = OnnxRuntimeBackend(graph)
    say("comparing with the trained flow")
    heldout, seconds = _read_clips(run, root, run.record.heldout)
    learned, _ = _read_clips(run, root, run.record.learn)
    compared = dict(list((heldout | learned).items())[:PARITY_CLIPS])
    parity = check_parity(run.flow, backend, {k: _windows(run, v) for k, v in compared.items()})
    say("setting the threshold")
    threshold = threshold_from_scores(
        _scores(run, backend, heldout),
        _scores(run, backend, learned),
        false_alarm_probability,
        seconds,
    )
    golden = _golden(run, backend, root / run.record.heldout[0])
    write_bundle(path, _manifest(run, threshold), graph, _frontend(run), golden)
    nodes = len(onnx.load_from_string(graph).graph.node)
    return Exported(path, nodes, parity, threshold)


def _reader(run: TrainedRun) -> ClipReader:
    config = run.record.config
    logmel = None if run.record.arrays else LogMel(config.logmel)
    rate = run.record.min_rate_hz
    return ClipReader(len(run.mean), logmel, rate, config.channel, allow_clipped=True)


def _read_clips(
    run: TrainedRun, root: Path, names: tuple[str, ...]
) -> tuple[dict[str, Array], float]:
    """Log-Mel (frames, bands) by name, and the median length in seconds (0 for arrays)."""
    reader, found, lengths = _reader(run), {}, []
    for name in names:
        if not (root / name).exists():
            raise ExportError(
                f"'{root / name}', which the run was trained on, is missing: name the data set's "
                "place with --data"
            )
        found[name], seconds = reader.read(root / name)
        lengths.append(0.0 if np.isnan(seconds) else seconds)
    return found, float(np.median(lengths))


def _standardised(run: TrainedRun, logmel: Array) -> Array:
    standard: Array = (logmel - run.mean) / run.scale
    return standard


def _windows(run: TrainedRun, logmel: Array) -> Array:
    return run.record.config.settings.window.views(_standardised(run, logmel))


def _window_scores(run: TrainedRun, backend: OnnxRuntimeBackend, logmel: Array) -> Array:
    return nll_of(backend, _windows(run, logmel))


def _scores(
    run: TrainedRun, backend: OnnxRuntimeBackend, clips: dict[str, Array]
) -> npt.NDArray[np.float64]:
    return np.array(
        [_window_scores(run, backend, logmel).mean(dtype=np.float64) for logmel in clips.values()]
    )


def _golden(run: TrainedRun, backend: OnnxRuntimeBackend, clip: Path) -> dict[str, Array]:
    """A clip of the machine with what it must give: samples, log-Mel, NLL of each window."""
    config, window = run.record.config, run.record.config.settings.window
    if run.record.arrays:
        logmel = _reader(run).read(clip)[0]
        return {"logmel": logmel, "nll": _window_scores(run, backend, logmel)}
    spec = config.logmel
    length = max(int(GOLDEN_SECONDS * spec.rate_hz), spec.samples(window.frames + window.hop))
    whole = read_sound(clip, spec.rate_hz, config.channel, min_rate_hz=run.record.min_rate_hz)
    samples = whole[:length]
    logmel = LogMel(spec)(samples)
    nll = _window_scores(run, backend, logmel)
    return {"samples": np.ascontiguousarray(samples), "logmel": logmel, "nll": nll}


def _frontend(run: TrainedRun) -> dict[str, Array]:
    frontend = {"mean": run.mean, "scale": run.scale}
    if not run.record.arrays:
        logmel = LogMel(run.record.config.logmel)
        frontend |= {"window": logmel.window, "filterbank": logmel.filterbank}
    return frontend


def _manifest(run: TrainedRun, threshold: Threshold) -> Manifest:
    record, config = run.record, run.record.config
    versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    return Manifest(
        format_version=FORMAT_VERSION,
        monitor=config.monitor,
        features=Features(
            bands=len(run.mean),
            min_rate_hz=record.min_rate_hz,
            channel=config.channel,
            logmel=None if record.arrays else config.logmel,
        ),
        window=config.settings.window,
        precision="fp32",
        score_unit=SCORE_UNIT,
        threshold=threshold,
        training=Training(
            model=config.settings.flow.model,
            loss=config.loss.kind,
            epochs=config.settings.schedule.epochs,
            seed=config.seed,
            target_clips=len(record.learn),
            outlier_clips=record.outliers,
            outlier_ceiling=record.ceiling,
            versions=record.versions | versions,
        ),
        tolerances=Tolerances(logmel_db=LOGMEL_TOLERANCE_DB, nll=MAX_DIFFERENCE),
        members={},
    )
