"""Flows with random weights, exported as bundles by the code that exports trained ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from edgeflow.models import build
from edgeflow.models.model import Model
from edgeflow.models.spec import ModelSpec
from edgeflow.standard import LEAST_SCALE_DB
from edgeflow_export.audio_onnx import audio_onnx
from edgeflow_export.conditioners import calibrate, conditioner_count
from edgeflow_export.onnx_from_model import onnx_from_trained
from edgeflow_export.parity import MAX_DIFFERENCE
from edgeflow_export.typed_onnx import typed_onnx
from edgeflow_runtime.arrays import Array, Frames, Windows
from edgeflow_runtime.audio import Intake, read_sound
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.backends.protocol import nll_of
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.bundle_writer import write_bundle
from edgeflow_runtime.logmel import LogMel, LogMelSpec
from edgeflow_runtime.manifest import (
    FORMAT_VERSION,
    SCORE_UNIT,
    Features,
    MachineId,
    Manifest,
    Threshold,
    Tolerances,
    Training,
)
from edgeflow_runtime.views import View, ViewSpec
from edgeflow_runtime.whole_clips import AudioGraph

FEATURES = LogMelSpec(filterbank="slaney", version=1)
"""As librosa computes them, beside which flows are timed."""

NOISE = 0.01
"""Standard deviation of what is added to every parameter: none may stay at a start of zero."""

START_WINDOWS = 256
"""Windows that ActNorm starts from."""


@dataclass(frozen=True)
class RandomModel:
    """A flow in both of its forms."""

    flow: Model
    """Unfolded, in torch."""
    onnx: bytes
    """Folded, as the bundle holds it."""
    bundle: Path
    """Where the bundle is."""
    view: View
    """What the flow sees of a clip."""

    def windows(self, clips: Sequence[Path]) -> Windows:
        """The standardised windows of sound files, (N, T, M)."""
        return np.concatenate([self.view(logmel) for logmel in clip_logmels(clips)])


def make_model(spec: ModelSpec, view_spec: ViewSpec, clips: list[Path], path: Path) -> RandomModel:
    """Build a flow of size ``spec`` from a fixed seed and write its bundle to ``path``.

    Args:
        spec: size of the flow.
        view_spec: what it sees of a clip.
        clips: sound files at 16 kHz that normalisation and ActNorm start from.
        path: the bundle.
    """
    logmel = LogMel(FEATURES)
    frames = clip_logmels(clips)
    every = np.concatenate([view_spec.measure(clip) for clip in frames])
    scale = np.maximum(every.std(axis=0), LEAST_SCALE_DB)
    view = View(view_spec, every.mean(axis=0), scale)
    windows = np.concatenate([view(clip) for clip in frames])
    flow = make_flow(spec, windows)
    graph = onnx_from_trained(flow)
    golden = {
        "logmel": frames[0],
        "nll": _scores(graph, view.rehearse(frames[0])),
    }
    golden["samples"] = read_sound(clips[0], Intake(FEATURES.rate_hz))
    frontend = {"mean": view.mean, "scale": view.scale}
    frontend |= {"window": logmel.window, "filterbank": logmel.filterbank}
    write_bundle(path, make_manifest(spec, view.spec), graph, frontend, golden)
    return RandomModel(flow, graph, path, view)


def clip_logmels(clips: Sequence[Path]) -> list[Frames]:
    """The log-Mel of sound files, (frames, bands) each."""
    logmel = LogMel(FEATURES)
    return [logmel(read_sound(clip, Intake(FEATURES.rate_hz))) for clip in clips]


def clip_samples(clips: Sequence[Path]) -> Array:
    """The samples of sound files, (clips, n), as many of each as the shortest has."""
    sounds = [read_sound(clip, Intake(FEATURES.rate_hz)) for clip in clips]
    return np.stack([sound[: min(map(len, sounds))] for sound in sounds])


def write_typed(
    model: RandomModel, precision: str, clips: Sequence[Path], path: Path, buckets: Sequence[int]
) -> None:
    """Write a model's bundle in a precision, with the graph that starts at float32 samples.

    Args:
        model: the model.
        precision: ``fp32``, ``fp16`` or ``int8``, of every conditioner; nothing is refused.
        clips: sound files, int8 is calibrated on them.
        path: the bundle.
        buckets: batch sizes of clips, for the manifest.
    """
    whole = Bundle.load(model.bundle)
    windows, samples = model.windows(clips), clip_samples(clips[:1])
    exact = onnx.load_from_string(model.onnx)
    precisions = (precision,) * conditioner_count(exact)
    flow = typed_onnx(exact, precisions, calibrate(exact, windows[::4]))
    parts = (LogMel(FEATURES), model.view)
    audio = audio_onnx(flow, *parts, samples.shape[1], "float32").SerializeToString()
    graph = flow.SerializeToString()
    rehearsed = model.view.rehearse(whole.golden["logmel"])
    nll = nll_of(OnnxRuntimeBackend(graph), rehearsed)
    change = float(np.abs(nll - whole.golden["nll"]).max())
    tolerance = max(MAX_DIFFERENCE, 2 * change)
    manifest = dataclasses.replace(
        whole.manifest,
        precision=precision,
        tolerances=Tolerances(1e-3, tolerance),
        audio=AudioGraph(samples.shape[1], "float32", tuple(buckets), max(1e-3, tolerance)),
    )
    golden = whole.golden | {"nll": nll}
    golden |= {"audio": samples, "audio_nll": OnnxRuntimeBackend(audio).nll(samples)}
    write_bundle(path, manifest, graph, whole.frontend, golden, audio)


def make_flow(spec: ModelSpec, windows: Array) -> Model:
    """A flow with random weights, its ActNorms started from (N, T, M) ``windows``."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        flow = build(spec).eval()
        for parameter in flow.parameters():
            parameter.add_(NOISE * torch.randn(parameter.shape, generator=generator))
        chosen = np.linspace(0, len(windows) - 1, START_WINDOWS).astype(int)
        flow.initialize(torch.from_numpy(windows[chosen]))
    return flow.requires_grad_(False)


def make_manifest(spec: ModelSpec, view: ViewSpec) -> Manifest:
    """A manifest like that of a trained monitor."""
    return Manifest(
        format_version=FORMAT_VERSION,
        machine=MachineId("fan", "00"),
        features=Features(FEATURES.bands, FEATURES.rate_hz, None, FEATURES),
        view=view,
        precision="fp32",
        score_unit=SCORE_UNIT,
        threshold=Threshold(2.0, "fixed, for a benchmark", 0.01, 0, 10.0),
        training=Training(spec.name, "nll", 0, 0, 0, 0, None, {"torch": torch.__version__}),
        tolerances=Tolerances(logmel_db=1e-3, nll=1e-4),
        members={},
    )


def _scores(graph: bytes, windows: Array) -> Array:
    return OnnxRuntimeBackend(graph).nll(np.ascontiguousarray(windows))
