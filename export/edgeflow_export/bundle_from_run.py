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
from edgeflow_export.audio_from_run import AudioPart, audio_from_run
from edgeflow_export.bundle_writer import write_bundle
from edgeflow_export.gate import ClipWindows
from edgeflow_export.onnx_from_flow import keep_metadata, model_from_flow
from edgeflow_export.parity import Parity, check_parity
from edgeflow_export.precision import check_tolerance, give_precision, nll_tolerance
from edgeflow_export.precision_search import Found
from edgeflow_export.run_clips import RunClips, evenly
from edgeflow_export.threshold import threshold_from_scores
from edgeflow_runtime.arrays import Array
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.backends.protocol import nll_of
from edgeflow_runtime.errors import ExportError
from edgeflow_runtime.logmel import LogMel
from edgeflow_runtime.manifest import (
    FORMAT_VERSION,
    Gate,
    Manifest,
    Threshold,
    Tolerances,
    Training,
)

GOLDEN_SECONDS = 3.0
"""Length of the golden recording, if its window allows."""

PARITY_CLIPS = 32
"""Clips on which torch and the exported graph are compared, and on which int8 is calibrated."""

GATE_CLIPS = 100
"""Labelled test clips, normal and anomalous each, on which a precision is compared with float32."""

LOGMEL_TOLERANCE_DB = 1e-3


@dataclass(frozen=True)
class ExportOptions:
    """What may be chosen at export."""

    data: Path | None = None
    """The data set, where it has moved since training."""
    false_alarm_probability: float = 0.01
    """Share of normal clips that may lie above the threshold."""
    precision: str = "fp32"
    """``fp32``, ``fp16``, ``int8`` or ``auto``."""
    audio_in: str | None = None
    """``float32`` or ``int16`` to add a graph that starts at such samples."""


@dataclass(frozen=True)
class Exported:
    """What an export reports."""

    path: Path
    """The bundle."""
    nodes: int
    """Nodes in its graph."""
    parity: Parity
    """How near the float32 graph is to the trained flow."""
    threshold: Threshold
    """Where normal ends."""
    precision: str
    """Of the conditioners."""
    overrides: dict[str, str]
    """Conditioners that stay wider, by number, and their precision."""
    gate: Gate | None
    """What the precision costs; ``None`` for float32."""
    audio: AudioPart | None
    """The graph that starts at the samples."""


def export(
    run: TrainedRun | str | Path,
    path: str | Path,
    *,
    data: str | Path | None = None,
    false_alarm_probability: float = 0.01,
    precision: str = "fp32",
    audio_in: str | None = None,
) -> Exported:
    """Export a run as a bundle for the board; see :class:`ExportOptions` for what may be chosen.

    Args:
        run: a finished run, or its folder.
        path: where the bundle goes.
        data: the data set, where it has moved since training.
        false_alarm_probability: share of normal clips that may lie above the threshold.
        precision: ``fp32``, ``fp16``, ``int8`` or ``auto``.
        audio_in: ``float32`` or ``int16`` to add a graph that starts at such samples.

    Raises:
        ExportError: as :func:`bundle_from_run` does.
    """
    options = ExportOptions(
        Path(data) if data else None, false_alarm_probability, precision, audio_in
    )
    loaded = run if isinstance(run, TrainedRun) else TrainedRun.load(run)
    return bundle_from_run(loaded, Path(path), options)


def bundle_from_run(
    run: TrainedRun,
    path: Path,
    options: ExportOptions = ExportOptions(),
    *,
    say: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Export ``run`` as the bundle ``path``.

    Args:
        run: a finished run.
        path: where the bundle goes.
        options: what may be chosen.
        say: told what is going on.

    Raises:
        ExportError: the graph has a forbidden operator or another score, or clips are missing.
        PrecisionError: the precision costs more than the gate allows.
        StorageError: the disk refuses the write.
    """
    clips = RunClips(run, Path(options.data or run.record.recipe.data))
    if options.audio_in and clips.logmel is None:
        raise ExportError(
            "--audio-in needs a monitor that listens to sound: this one takes log-Mel arrays"
        )
    say("folding and exporting")
    model = model_from_flow(run.model)
    exact = OnnxRuntimeBackend(model.SerializeToString())
    say("comparing with the trained flow")
    heldout, learned = clips.read(run.record.heldout), clips.read(run.record.learn)
    seconds = clips.seconds(run.record.heldout)
    compared = dict(list((heldout | learned).items())[:PARITY_CLIPS])
    parity = check_parity(run.model, exact, {k: clips.windows(v) for k, v in compared.items()})
    say("setting the threshold")
    threshold = threshold_from_scores(
        _scores(clips, exact, heldout),
        _scores(clips, exact, learned),
        options.false_alarm_probability,
        seconds,
    )
    found = _typed(clips, model, exact, heldout, learned, threshold.value, options, say)
    audio = None
    if options.audio_in:
        say("joining log-Mel and flow in one graph, and comparing it with the two")
        audio = audio_from_run(clips, model, found, options.audio_in, seconds)
    keep_metadata(found.model)
    graph = found.model.SerializeToString()
    golden = _golden(clips, OnnxRuntimeBackend(graph), run.record.heldout[0])
    golden |= audio.golden if audio else {}
    if found.gate:
        check_tolerance(nll_tolerance(found.gate), golden["nll"])
    manifest = _manifest(run, threshold, found, audio)
    onnx_audio = audio.onnx if audio else None
    write_bundle(path, manifest, graph, _frontend(run), golden, onnx_audio)
    nodes = len(found.model.graph.node)
    return Exported(
        path, nodes, parity, threshold, found.precision, found.overrides, found.gate, audio
    )


def _typed(
    clips: RunClips,
    model: onnx.ModelProto,
    exact: OnnxRuntimeBackend,
    heldout: dict[str, Array],
    learned: dict[str, Array],
    threshold: float,
    options: ExportOptions,
    say: Callable[[str], None],
) -> Found:
    """The graph in the precision asked for, compared on clips that the flow did not learn from."""
    tests = [ClipWindows(clips.windows(v), anomalous=False, heldout=True) for v in heldout.values()]
    if options.precision != "fp32":
        for names, anomalous in zip(clips.tests(GATE_CLIPS), (False, True), strict=True):
            if names:
                labelled = clips.read(names).values()
                tests += [ClipWindows(clips.windows(v), anomalous) for v in labelled]
    calibration = [clips.windows(learned[n]) for n in evenly(list(learned), PARITY_CLIPS)]
    return give_precision(model, options.precision, exact, calibration, tests, threshold, say)


def _scores(
    clips: RunClips, backend: OnnxRuntimeBackend, logmels: dict[str, Array]
) -> npt.NDArray[np.float64]:
    windows = map(clips.windows, logmels.values())
    return np.array([nll_of(backend, part).mean(dtype=np.float64) for part in windows])


def _golden(clips: RunClips, backend: OnnxRuntimeBackend, name: str) -> dict[str, Array]:
    """A clip of the machine with what it must give: samples, log-Mel, NLL of each window."""
    if clips.logmel is None:
        logmel = clips.read([name])[name]
        return {"logmel": logmel, "nll": nll_of(backend, clips.windows(logmel))}
    spec, view = clips.logmel.spec, clips.run.view.spec
    length = max(int(GOLDEN_SECONDS * spec.rate_hz), spec.samples(view.frames + view.hop))
    samples = np.ascontiguousarray(clips.samples(name)[:length])
    logmel = clips.logmel(samples)
    nll = nll_of(backend, clips.windows(logmel))
    return {"samples": samples, "logmel": logmel, "nll": nll}


def _frontend(run: TrainedRun) -> dict[str, Array]:
    frontend = {"mean": run.view.mean, "scale": run.view.scale}
    if not run.record.arrays:
        logmel = LogMel(run.record.recipe.logmel)
        frontend |= {"window": logmel.window, "filterbank": logmel.filterbank}
    return frontend


def _manifest(
    run: TrainedRun, threshold: Threshold, found: Found, audio: AudioPart | None
) -> Manifest:
    record, recipe = run.record, run.record.recipe
    versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    return Manifest(
        format_version=FORMAT_VERSION,
        machine=recipe.machine,
        features=run.features,
        view=run.view.spec,
        precision=found.precision,
        score_unit=run.model.unit,
        threshold=threshold,
        training=Training(
            model=recipe.settings.model.name,
            loss=recipe.loss.kind,
            epochs=recipe.settings.schedule.epochs,
            seed=recipe.seed,
            target_clips=len(record.learn),
            outlier_clips=record.outliers,
            outlier_ceiling=record.ceiling,
            versions=record.versions | versions,
        ),
        tolerances=Tolerances(LOGMEL_TOLERANCE_DB, nll_tolerance(found.gate)),
        members={},
        overrides=found.overrides,
        gate=found.gate,
        audio=audio.graph if audio else None,
    )
