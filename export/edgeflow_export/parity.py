"""Whether the exported graphs give the trained score, on real windows and from real samples."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeflow.models.linear import LinearFlow
from edgeflow.models.model import Model
from edgeflow_export.audio_onnx import AUDIO_OUTPUTS
from edgeflow_runtime.arrays import Array
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.backends.protocol import Backend, filled, nll_of
from edgeflow_runtime.base import FEWEST_OF_EACH, Base
from edgeflow_runtime.errors import ExportError, ParityError
from edgeflow_runtime.limits import ROUNDING
from edgeflow_runtime.linear_fit import Sisters, fit_linear
from edgeflow_runtime.logmel import LogMel
from edgeflow_runtime.onnx_weights import replace_initializers
from edgeflow_runtime.views import View
from edgeflow_runtime.whole_clips import AudioGraph, encode

MAX_DIFFERENCE = ROUNDING
"""Nats per dimension; export refuses above it."""


@dataclass(frozen=True)
class Parity:
    """How far the exported graph is from the trained flow."""

    windows: int
    """Windows that were compared."""
    worst: float
    """Largest difference of a window's NLL, in nats per dimension."""
    worst_clip: str
    """The clip that window is of."""
    worst_window: int
    """Its number in that clip."""


def check_parity(flow: Model, backend: Backend, clips: dict[str, Array]) -> Parity:
    """Compare ``backend`` with the unfolded ``flow``, batch by batch and one window alone.

    Args:
        flow: the trained flow, on the CPU.
        backend: runs the exported graph.
        clips: (n, T, M) standardised windows by clip name.

    Raises:
        ParityError: a window differs by more than 1e-4 nats per dimension; the worst is named.
    """
    parity = Parity(0, 0.0, "", 0)
    for name, windows in clips.items():
        exported = np.concatenate([backend.nll(windows[:1].copy()), nll_of(backend, windows[1:])])
        with torch.no_grad():
            parts = torch.split(torch.from_numpy(windows.copy()), backend.batch)
            trained = torch.cat([flow.score(part) for part in parts]).numpy()
        # A NaN on either side is as far apart as can be.
        difference = np.nan_to_num(np.abs(exported - trained), nan=np.inf)
        worst = int(difference.argmax())
        seen = parity.windows + len(windows)
        if difference[worst] > parity.worst or not parity.windows:
            parity = Parity(seen, float(difference[worst]), name, worst)
        else:
            parity = Parity(seen, parity.worst, parity.worst_clip, parity.worst_window)
    if parity.worst > MAX_DIFFERENCE:
        raise ParityError(
            f"the exported graph differs from the trained flow by {parity.worst:.2e} nats/dim on "
            f"window {parity.worst_window} of '{parity.worst_clip}'; at most {MAX_DIFFERENCE:.0e} "
            "is allowed"
        )
    return parity


def check_replaceable(onnx: bytes, base: Base, flow: LinearFlow, clips: dict[str, Array]) -> None:
    """Enrol a sister as a board does, and compare the graph with torch once more.

    Args:
        onnx: the base's graph.
        base: the sisters.
        flow: the base's flow, which becomes the sister's.
        clips: (n, T, M) standardised windows by clip name.

    Raises:
        BundleError: the graph lacks a constant that a board would write.
        ParityError: with the sister's constants it is not the sister's flow.
    """
    name, *others = base.sisters
    sisters = Sisters([base.sisters[other] for other in others])
    fit = fit_linear(base.sisters[name][:FEWEST_OF_EACH], sisters, base.floor)
    enrolled = copy.deepcopy(flow)
    enrolled.take(fit)
    replaced = replace_initializers(onnx, fit.constants())
    check_parity(enrolled, OnnxRuntimeBackend(replaced), clips)


MAX_AUDIO_DIFFERENCE = 1e-3
"""Nats per dimension between the two paths; export refuses above it."""

MAX_BATCH_DIFFERENCE = 1e-5
"""Nats per dimension that a clip's place in the batch, and its neighbours, may change."""

AudioModel = Callable[[npt.NDArray[Any]], dict[str, Array]]
"""Runs the audio graph on one batch: its input to its outputs by name, as
:meth:`~edgeflow_runtime.backends.onnxruntime.OnnxRuntimeBackend.outputs` does."""


@dataclass(frozen=True)
class TwoSteps:
    """Log-Mel on the CPU, then the flow's own graph: what the audio graph has to equal."""

    logmel: LogMel
    """The features."""
    view: View
    """What the flow sees of them."""
    flow: Backend
    """Runs the flow's graph."""

    def __call__(self, samples: Array) -> dict[str, Array]:
        """(samples,) float32 to ``nll`` (W,), ``score`` () and ``nll_map`` (W, t, m)."""
        windows = self.view(self.logmel(samples))  # (W, T, M)
        starts = range(0, len(windows), self.flow.batch)
        parts = [windows[start : start + self.flow.batch].copy() for start in starts]
        nll = np.concatenate([self.flow.nll(part) for part in parts])
        nll_map = np.concatenate([self.flow.nll_map(part) for part in parts])
        score = np.asarray(nll.mean(dtype=np.float64), np.float32)
        return {"nll": nll, "score": score, "nll_map": nll_map}


@dataclass(frozen=True)
class AudioParity:
    """How far the audio graph is from the two steps."""

    clips: int
    """Clips that were compared, in every bucket."""
    worst: float
    """Largest difference of a clip's score, of a window's NLL or of a cell of its map, in nats per
    dimension."""
    worst_clip: str
    """The clip it was found in."""
    bucket: int
    """The batch size it was found at."""
    moved: float
    """Largest change of a clip's result with its place and neighbours, in nats per dimension."""


def check_audio_parity(
    audio: AudioModel,
    steps: TwoSteps,
    graph: AudioGraph,
    clips: Mapping[str, Array],
    *,
    allowed: float = MAX_AUDIO_DIFFERENCE,
) -> AudioParity:
    """Compare ``audio`` with ``steps`` on every clip, in batches of each of the graph's buckets.

    Every batch runs three times: as it is, and twice turned round with every other clip replaced by
    noise, which may not change what is said of the others.

    Args:
        audio: runs the audio graph.
        steps: the other path.
        graph: samples in a clip, encoding and buckets; where it is ``int16``, both paths are fed
            the same quantised samples.
        clips: float32 samples by clip name, cropped here.
        allowed: nats per dimension. An int8 flow wants more of it: a millionth of a decibel tips an
            activation into its next step, so single windows move where scores hardly do.

    Raises:
        ExportError: a clip is shorter than the graph's, or there is none.
        ParityError: a result is more than ``allowed`` off, or changes by more than 1e-5 with its
            place; the worst clip is named.
    """
    sounds = {name: _heard(name, samples, graph) for name, samples in clips.items()}
    if not sounds:
        raise ExportError("there is no clip to compare the audio graph on")
    expected = {name: steps(sound) for name, sound in sounds.items()}
    apart: list[tuple[float, str, int]] = []
    moved: list[tuple[float, str, int]] = []
    for bucket in graph.buckets:
        for places in filled(len(sounds), bucket):
            names = [list(sounds)[place] for place in places]
            batch = encode(np.stack([sounds[name] for name in names]), graph.encoding)
            results = _by_clip(audio(batch), bucket)
            for name, result in zip(names, results, strict=True):
                apart.append((_difference(result, expected[name]), name, bucket))
            moved += [
                (_difference(result, results[row]), names[row], bucket)
                for row, result in _elsewhere(audio, batch, graph.encoding)
            ]
    _refuse(max(apart), allowed, "differs from log-Mel and flow in two steps")
    _refuse(max(moved), MAX_BATCH_DIFFERENCE, "changes with a clip's place and neighbours")
    return AudioParity(len(sounds), *max(apart), moved=max(moved)[0])


def _heard(name: str, samples: Array, graph: AudioGraph) -> Array:
    """What the graph hears of a clip, (graph.samples,) float32."""
    if len(samples) < graph.samples:
        raise ExportError(
            f"'{name}' has {len(samples)} samples; the audio graph takes {graph.samples}"
        )
    cropped = np.ascontiguousarray(samples[: graph.samples], np.float32)
    if graph.encoding == "float32":
        return cropped
    whole = encode(cropped, "int16").view("<i2")[:, 0]
    exact: Array = whole.astype(np.float32) / np.float32(32768)
    return exact


def _elsewhere(
    audio: AudioModel, batch: npt.NDArray[Any], encoding: str
) -> Iterator[tuple[int, dict[str, Array]]]:
    """Each row of ``batch`` with its result at another place, between strangers."""
    size = len(batch)
    noise = np.random.default_rng(0).uniform(-1, 1, batch.shape[:2]).astype(np.float32)
    strangers = encode(noise, encoding)
    for first in (0, 1):
        mixed = batch[::-1].copy()
        mixed[first::2] = strangers[first::2]
        results = _by_clip(audio(mixed), size)
        yield from ((size - 1 - place, results[place]) for place in range(1 - first, size, 2))


def _by_clip(outputs: dict[str, Array], bucket: int) -> list[dict[str, Array]]:
    """A batch's outputs, clip by clip."""
    for name in AUDIO_OUTPUTS:
        if name not in outputs or len(outputs[name]) != bucket:
            have = f"of shape {outputs[name].shape}" if name in outputs else "missing"
            raise ParityError(f"the audio graph's {name!r} is {have} for {bucket} clips")
    return [{name: outputs[name][row] for name in AUDIO_OUTPUTS} for row in range(bucket)]


def _difference(result: dict[str, Array], expected: dict[str, Array]) -> float:
    """The largest difference of any output; what is not a number is infinitely far off."""
    worst = 0.0
    for name in AUDIO_OUTPUTS:
        if result[name].shape != expected[name].shape:
            raise ParityError(
                f"the audio graph's {name!r} has shape {result[name].shape} for a clip, not "
                f"{expected[name].shape}"
            )
        with np.errstate(invalid="ignore"):  # two infinities differ by NaN
            gap = np.abs(result[name] - expected[name])
        worst = max(worst, float(np.where(np.isnan(gap), np.inf, gap).max()))
    return worst


def _refuse(worst: tuple[float, str, int], allowed: float, what: str) -> None:
    difference, name, bucket = worst
    if difference > allowed:
        raise ParityError(
            f"the audio graph's result {what} by {difference:.2e} nats/dim on '{name}' in a batch "
            f"of {bucket}; at most {allowed:.0e} is allowed"
        )
