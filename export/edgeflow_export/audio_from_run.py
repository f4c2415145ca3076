"""The graph that starts at the samples, for one run: joined, and held against the two steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx

from edgeflow_export.audio_onnx import audio_onnx
from edgeflow_export.onnx_from_model import keep_metadata
from edgeflow_export.parity import (
    MAX_AUDIO_DIFFERENCE,
    AudioParity,
    TwoSteps,
    check_audio_parity,
)
from edgeflow_export.precision import TypedGraph, nll_tolerance
from edgeflow_export.run_clips import RunClips
from edgeflow_runtime.arrays import Samples
from edgeflow_runtime.backends.names import BUCKETS
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.whole_clips import AudioGraph, encode

PARITY_CLIPS = 4
"""Clips on which the two ways are compared: each is run some ten times."""


@dataclass(frozen=True)
class AudioPart:
    """What an export with ``--audio-in`` adds to a bundle."""

    onnx: bytes
    """The graph."""
    graph: AudioGraph
    """What it takes."""
    parity: AudioParity
    """How near it is to the two steps."""
    golden: dict[str, npt.NDArray[Any]]
    """A clip as the graph takes it, ``audio`` (1, ...), and its ``audio_nll`` (1, W)."""


def audio_from_run(
    clips: RunClips, model: onnx.ModelProto, typed: TypedGraph, encoding: str, seconds: float
) -> AudioPart:
    """Put the log-Mel of ``clips`` before the flow.

    The float32 flow shows that the log-Mel is right, the flow in its precision that the two go
    together.

    Args:
        clips: of the run, which must listen to sound.
        model: the float32 flow.
        typed: the flow in its precision.
        encoding: ``float32`` or ``int16``.
        seconds: length of a clip.

    Raises:
        ExportError: no clip is long enough.
        ParityError: the graph gives other scores than the two steps.
    """
    assert clips.logmel is not None
    graph = AudioGraph(
        samples=round(seconds * clips.logmel.spec.rate_hz),
        encoding=encoding,
        buckets=BUCKETS["audio"],
        # A millionth of a decibel tips an int8 activation into its next step.
        tolerance=max(MAX_AUDIO_DIFFERENCE, nll_tolerance(typed.gate)),
    )
    sounds = _sounds(clips, graph)
    parity, content = _checked(clips, model, graph, sounds, MAX_AUDIO_DIFFERENCE)
    if typed.model is not model:
        parity, content = _checked(clips, typed.model, graph, sounds, graph.tolerance)
    rows = encode(next(iter(sounds.values()))[None, : graph.samples], encoding)
    nll = OnnxRuntimeBackend(content).nll(rows)
    return AudioPart(content, graph, parity, {"audio": rows, "audio_nll": nll})


def _sounds(clips: RunClips, graph: AudioGraph) -> dict[str, Samples]:
    """Some of the machine's clips that are long enough, those first that it did not learn from."""
    sounds: dict[str, Samples] = {}
    for name in (*clips.run.record.heldout, *clips.run.record.learn):
        samples = clips.samples(name)
        if len(samples) >= graph.samples:
            sounds[name] = samples
        if len(sounds) == PARITY_CLIPS:
            break
    return sounds


def _checked(
    clips: RunClips,
    flow: onnx.ModelProto,
    graph: AudioGraph,
    sounds: dict[str, Samples],
    allowed: float,
) -> tuple[AudioParity, bytes]:
    """The joined graph of ``flow``, and how near it is to log-Mel and ``flow`` in two steps."""
    view, logmel = clips.run.view, clips.logmel
    assert logmel is not None
    parts = (logmel, view)
    joined = audio_onnx(flow, *parts, graph.samples, graph.encoding)
    keep_metadata(joined)
    content = joined.SerializeToString()
    steps = TwoSteps(*parts, OnnxRuntimeBackend(flow.SerializeToString()))
    audio = OnnxRuntimeBackend(content).outputs
    return check_audio_parity(audio, steps, graph, sounds, allowed=allowed), content
