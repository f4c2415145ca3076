"""A bundle from a finished run: fold, export, check, set the threshold, write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from edgeflow.models.linear import LinearFlow
from edgeflow.training.run import TrainedRun
from edgeflow_export.audio_from_run import AudioPart, audio_from_run
from edgeflow_export.gate import ClipWindows
from edgeflow_export.onnx_from_model import keep_metadata, model_from_trained
from edgeflow_export.parity import Parity, check_parity, check_replaceable
from edgeflow_export.precision import TypedGraph, check_tolerance, give_precision, nll_tolerance
from edgeflow_export.run_clips import RunClips, evenly
from edgeflow_runtime.arrays import Nll, Scores, Windows
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.backends.protocol import nll_of
from edgeflow_runtime.base import Base
from edgeflow_runtime.bundle_writer import write_bundle
from edgeflow_runtime.calibration import advice, probability
from edgeflow_runtime.errors import ConfigError, ExportError
from edgeflow_runtime.limits import check_claims, check_manifest
from edgeflow_runtime.manifest import (
    FORMAT_VERSION,
    Manifest,
    Threshold,
    Tolerances,
    Training,
)
from edgeflow_runtime.printable import printable

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
    parity: Parity
    """How near the float32 graph is to the trained flow."""
    threshold: Threshold
    """Where normal ends."""
    graph: TypedGraph
    """The graph in its precision, and what that costs."""
    audio: AudioPart | None
    """The graph that starts at the samples."""

    def __str__(self) -> str:
        """What was exported, and how near it is to what was trained."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        parity, graph, gate, audio = self.parity, self.graph, self.graph.gate, self.audio
        yield (
            f"{printable(self.path)}: {len(graph.model.graph.node)} nodes, within "
            f"{parity.worst:.1e} nats/dim of the trained model on {parity.windows} windows, "
            f"threshold {self.threshold.value:.4f}"
        )
        if advised := advice(self.threshold):
            yield advised
        if gate:
            auc = "" if gate.auc_change is None else f"AUC changes by {gate.auc_change:.4f}, "
            yield (
                f"{graph.precision} against float32 on {gate.clips} clips ({gate.anomalous} "
                f"anomalous): {auc}rank correlation {gate.spearman:.5f}, {gate.flips:.1%} of "
                f"verdicts flip, windows within {gate.nll_change:.1e} nats/dim"
            )
        if graph.overrides:
            wider = ", ".join(f"{k} in {precision}" for k, precision in graph.overrides.items())
            yield f"conditioners that could not bear {graph.precision}: {wider}"
        if audio:
            yield (
                f"from {audio.graph.samples} {audio.graph.encoding} samples: within "
                f"{audio.parity.worst:.1e} nats/dim of the two steps on {audio.parity.clips} clips,"
                f" in batches of {', '.join(map(str, audio.graph.buckets))}"
            )


def export(
    run: TrainedRun | str | Path,
    path: str | Path,
    *,
    data: str | Path | None = None,
    false_alarm_probability: float | str = 0.01,
    listen: str | None = None,
    precision: str = "fp32",
    audio_in: str | None = None,
) -> Exported:
    """Export a run as a bundle for the board; see :class:`ExportOptions` for what may be chosen.

    Args:
        run: a finished run, or its folder.
        path: where the bundle goes.
        data: the data set, where it has moved since training.
        false_alarm_probability: share of normal clips that may lie above the threshold; a number,
            ``"1%"``, or a rate per time as ``"1 per week"``.
        listen: with a rate per time, how often a clip is judged: ``"every 10 s"``.
        precision: ``fp32``, ``fp16``, ``int8`` or ``auto``.
        audio_in: ``float32`` or ``int16`` to add a graph that starts at such samples.

    Raises:
        ExportError: as :func:`bundle_from_run` does.
        ConfigError: the rate is none.
    """
    rate = probability(false_alarm_probability, listen)
    options = ExportOptions(Path(data) if data else None, rate, precision, audio_in)
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
        ExportError: the graph has a forbidden operator or another score, clips are missing, or the
            threshold tells nothing apart.
        PrecisionError: the precision costs more than the gate allows.
        StorageError: the disk refuses the write.
    """
    clips = RunClips(run, options.data or run.data)
    base = run.base()
    _check_options(options, base, clips)
    say("folding and exporting")
    model = model_from_trained(run.model)
    exact = OnnxRuntimeBackend(model.SerializeToString())
    say("comparing with the trained flow")
    heldout, learned = clips.windows(run.record.heldout), clips.windows(run.record.learn)
    compared = dict(list((heldout | learned).items())[:PARITY_CLIPS])
    parity = check_parity(run.model, exact, compared)
    if base:
        assert isinstance(run.model, LinearFlow)
        say("comparing with another trained flow once its constants are written into the graph")
        check_replaceable(model.SerializeToString(), base, run.model, compared)
    say("setting the threshold")
    seconds = clips.seconds([*run.record.heldout, *run.record.learn])
    threshold = run.threshold(
        lambda names: _scores(exact, [heldout[name] for name in names]),
        options.false_alarm_probability,
        seconds,
    )
    graph = _typed(clips, model, exact, heldout, learned, threshold.value, options, say)
    audio = None
    if options.audio_in:
        say("joining log-Mel and flow in one graph, and comparing it with the two")
        audio = audio_from_run(clips, model, graph, options.audio_in, seconds)
    keep_metadata(graph.model)
    onnx_flow = graph.model.SerializeToString()
    golden = clips.golden(OnnxRuntimeBackend(onnx_flow)) | (audio.golden if audio else {})
    if graph.gate:
        check_tolerance(nll_tolerance(graph.gate), golden["nll"])
    manifest = _manifest(run, threshold, graph, audio, base)
    _check_claims(manifest, golden["nll"])
    onnx_audio, tensors = audio.onnx if audio else None, base.tensors() if base else None
    write_bundle(path, manifest, onnx_flow, clips.frontend(), golden, onnx_audio, tensors)
    return Exported(path, parity, threshold, graph, audio)


def _check_claims(manifest: Manifest, golden: Nll) -> None:
    """Refuse here what a board would refuse later."""
    try:
        check_manifest(manifest)
        check_claims(manifest.threshold.value, manifest.tolerances.nll, golden)
    except ConfigError as error:
        raise ExportError(f"no board would take this bundle: {error}") from error


def _check_options(options: ExportOptions, base: Base | None, clips: RunClips) -> None:
    """Refuse what this run cannot become, before minutes go by."""
    if base and (options.audio_in or options.precision != "fp32"):
        raise ExportError(
            "a base is exported in float32 and without --audio-in: a board writes a machine's "
            "constants into its graph"
        )
    if options.audio_in and clips.logmel is None:
        raise ExportError(
            "--audio-in needs a monitor that listens to sound: this one takes log-Mel arrays"
        )


def _typed(
    clips: RunClips,
    model: onnx.ModelProto,
    exact: OnnxRuntimeBackend,
    heldout: dict[str, Windows],
    learned: dict[str, Windows],
    threshold: float,
    options: ExportOptions,
    say: Callable[[str], None],
) -> TypedGraph:
    """The graph in the precision asked for, compared on clips that the flow did not learn from."""
    normal = heldout or learned  # a closed form holds nothing out
    tests = [ClipWindows(part, anomalous=False, heldout=True) for part in normal.values()]
    if options.precision != "fp32":
        for names, anomalous in zip(clips.tests(GATE_CLIPS), (False, True), strict=True):
            tests += [ClipWindows(part, anomalous) for part in clips.windows(names).values()]
    calibration = evenly(list(learned.values()), PARITY_CLIPS)
    return give_precision(model, options.precision, exact, calibration, tests, threshold, say)


def _scores(backend: OnnxRuntimeBackend, clips: Iterable[Windows]) -> Scores:
    return np.array([nll_of(backend, part).mean(dtype=np.float64) for part in clips])


def _manifest(
    run: TrainedRun,
    threshold: Threshold,
    graph: TypedGraph,
    audio: AudioPart | None,
    base: Base | None,
) -> Manifest:
    record, recipe = run.record, run.record.recipe
    versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    return Manifest(
        format_version=FORMAT_VERSION,
        machine=recipe.machine,
        features=run.features,
        view=run.view.spec,
        precision=graph.precision,
        score_unit=run.model.unit,
        threshold=threshold,
        training=Training(
            model=recipe.settings.model.name,
            loss=recipe.loss.kind,
            epochs=run.epoch,
            seed=recipe.seed,
            target_clips=len(record.learn),
            outlier_clips=record.outliers,
            outlier_ceiling=record.ceiling,
            versions=record.versions | versions,
        ),
        tolerances=Tolerances(LOGMEL_TOLERANCE_DB, nll_tolerance(graph.gate)),
        members={},
        overrides=graph.overrides,
        gate=graph.gate,
        audio=audio.graph if audio else None,
        enrolment=base.record(blend=1.0) if base else None,
    )
