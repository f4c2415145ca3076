"""Flows with random weights, exported as bundles by the code that exports trained ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch

from edgeflow.flows import Flow, FlowSpec, build
from edgeflow_export.audio_onnx import audio_onnx
from edgeflow_export.bundle_writer import write_bundle
from edgeflow_export.calibration import calibrate
from edgeflow_export.conditioners import conditioner_count
from edgeflow_export.onnx_from_flow import onnx_from_flow
from edgeflow_export.parity import MAX_DIFFERENCE
from edgeflow_export.typed_onnx import typed_onnx
from edgeflow_runtime.audio import read_sound
from edgeflow_runtime.backend import OnnxRuntimeBackend, nll_of
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.clips import ClipReader
from edgeflow_runtime.logmel import LogMel, LogMelSpec
from edgeflow_runtime.manifest import (
    FORMAT_VERSION,
    SCORE_UNIT,
    AudioGraph,
    Features,
    Manifest,
    Monitor,
    Threshold,
    Tolerances,
    Training,
)
from edgeflow_runtime.windows import WindowSpec

Array = npt.NDArray[np.float32]

FEATURES = LogMelSpec(filterbank="slaney")
"""Slaney's filterbank, so that the reference, fed by librosa, must come to the same scores."""

NOISE = 0.01
"""Standard deviation of what is added to every parameter: none may stay at a start of zero."""

START_WINDOWS = 256
"""Windows that ActNorm starts from."""


@dataclass(frozen=True)
class Model:
    """A flow in both of its forms."""

    flow: Flow
    """Unfolded, in torch."""
    onnx: bytes
    """Folded, as the bundle holds it."""
    bundle: Path
    """Where the bundle is."""
    window: WindowSpec
    """How frames become windows."""
    mean: Array
    """(bands,) of the log-Mel, in dB."""
    scale: Array
    """(bands,), in dB."""

    def windows(self, clips: Sequence[Path]) -> Array:
        """The standardised windows of sound files, (N, T, M)."""
        reader = ClipReader(FEATURES.bands, LogMel(FEATURES), allow_clipped=True)
        frames = [(reader.read(clip)[0] - self.mean) / self.scale for clip in clips]
        return np.concatenate([self.window.views(part) for part in frames])


def make_model(spec: FlowSpec, hop: int, clips: list[Path], path: Path) -> Model:
    """Build a flow of size ``spec`` from a fixed seed and write its bundle to ``path``.

    Args:
        spec: size of the flow.
        hop: frames from one window to the next.
        clips: sound files at 16 kHz that normalisation and ActNorm start from.
        path: the bundle.
    """
    logmel = LogMel(FEATURES)
    reader = ClipReader(FEATURES.bands, logmel, allow_clipped=True)
    frames = [reader.read(clip)[0] for clip in clips]
    every = np.concatenate(frames)
    mean, scale = every.mean(axis=0), every.std(axis=0)
    window = WindowSpec(spec.frames, hop)
    windows = np.concatenate([window.views((clip - mean) / scale) for clip in frames])
    flow = make_flow(spec, windows)
    graph = onnx_from_flow(flow)
    golden = {"logmel": frames[0], "nll": _scores(graph, windows[: window.count(len(frames[0]))])}
    golden["samples"] = np.zeros(FEATURES.samples(spec.frames), np.float32)
    frontend = {"mean": mean, "scale": scale}
    frontend |= {"window": logmel.window, "filterbank": logmel.filterbank}
    write_bundle(path, make_manifest(spec, window), graph, frontend, golden)
    return Model(flow, graph, path, window, mean, scale)


def clip_samples(clips: Sequence[Path]) -> Array:
    """The samples of sound files, (clips, n), as many of each as the shortest has."""
    sounds = [read_sound(clip, FEATURES.rate_hz) for clip in clips]
    return np.stack([sound[: min(map(len, sounds))] for sound in sounds])


def write_typed(
    model: Model, precision: str, clips: Sequence[Path], path: Path, buckets: Sequence[int]
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
    parts = (LogMel(FEATURES), model.mean, model.scale, model.window)
    audio = audio_onnx(flow, *parts, samples.shape[1], "float32").SerializeToString()
    graph = flow.SerializeToString()
    count = model.window.count(len(whole.golden["logmel"]))
    nll = nll_of(OnnxRuntimeBackend(graph), windows[:count])
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


def make_flow(spec: FlowSpec, windows: Array) -> Flow:
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


def make_manifest(spec: FlowSpec, window: WindowSpec) -> Manifest:
    """A manifest like that of a trained monitor."""
    return Manifest(
        format_version=FORMAT_VERSION,
        monitor=Monitor("fan", "00"),
        features=Features(FEATURES.bands, FEATURES.rate_hz, None, FEATURES),
        window=window,
        precision="fp32",
        score_unit=SCORE_UNIT,
        threshold=Threshold(2.0, "fixed, for a benchmark", 0.01, 0, 10.0),
        training=Training(spec.model, "nll", 0, 0, 0, 0, None, {"torch": torch.__version__}),
        tolerances=Tolerances(logmel_db=1e-3, nll=1e-4),
        members={},
    )


def _scores(graph: bytes, windows: Array) -> Array:
    return OnnxRuntimeBackend(graph).nll(np.ascontiguousarray(windows))
