"""From samples to scores in one graph: the same as in two steps, whatever is heard."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeflow.models import build
from edgeflow.models.glow import GlowSpec
from edgeflow.models.linear import LinearSpec
from edgeflow.models.maf import MAFSpec
from edgeflow_export.audio_onnx import DECODED, audio_onnx
from edgeflow_export.onnx_from_model import ACCEPTED, onnx_from_trained
from edgeflow_export.parity import (
    MAX_AUDIO_DIFFERENCE,
    AudioModel,
    TwoSteps,
    check_audio_parity,
)
from edgeflow_runtime.audio import Intake, read_sound
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.errors import BackendError, ExportError, OperatorError, ParityError
from edgeflow_runtime.logmel import LogMel, LogMelSpec
from edgeflow_runtime.views import PoolSpec, View, ViewSpec, WindowSpec
from edgeflow_runtime.whole_clips import AudioGraph, encode

SPECS = {
    "glow": (GlowSpec(frames=16, blocks=2, steps=2, hidden=8), WindowSpec(frames=16, hop=8)),
    "maf": (MAFSpec(frames=4, hidden=32, blocks=2), WindowSpec(frames=4, hop=4)),
    "linear": (
        LinearSpec(frames=5),
        PoolSpec(("mean", "max", "gwrp:0.9", "ranks:0.01-0.1", "spread:8")),
    ),
    "stretches": (LinearSpec(frames=2), PoolSpec(("max", "spread:8"), 20, 15)),
}
SAMPLES = 12_345
BUCKETS = (1, 4, 16)
FULL = 32767 / 32768


@pytest.fixture(scope="module", params=SPECS)
def flow(request: pytest.FixtureRequest) -> tuple[onnx.ModelProto, ViewSpec]:
    """An exported flow whose networks are no longer zero, and its window."""
    spec, window = SPECS[request.param]
    torch.manual_seed(0)
    found = build(spec)
    for parameter in found.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    found.initialize(torch.randn(64, spec.frames, spec.bands))
    return onnx.load_from_string(onnx_from_trained(found)), window


def hearing(frames: int, bands: int, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A fake flow whose map is its input, passed through another type, and its NLL their sum."""
    nodes = [
        helper.make_node("Cast", ["windows"], ["typed"], "in", to=kind),
        helper.make_node("Cast", ["typed"], ["nll_map"], "out", to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["nll_map", "axes"], ["nll"], "sum", keepdims=0),
    ]
    shapes = {"windows": ["N", frames, bands], "nll": ["N"], "nll_map": ["N", frames, bands]}
    source, *targets = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    )
    axes = numpy_helper.from_array(np.array([1, 2]), "axes")
    graph = helper.make_graph(nodes, "hearing", [source], targets, [axes])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def heard(spec: LogMelSpec, clips: np.ndarray, encoding: str = "float32") -> np.ndarray:
    """The log-Mel of (clips, samples) inside the graph, (clips, F, M) in dB."""
    count = spec.frames(clips.shape[1])
    zero = np.zeros(spec.bands, np.float32)
    fake, window = hearing(count, spec.bands), WindowSpec(count, 1)
    model = audio_onnx(fake, LogMel(spec), View(window, zero, zero + 1), clips.shape[1], encoding)
    found = OnnxRuntimeBackend(model.SerializeToString()).outputs(encode(clips, encoding))
    return found["nll_map"][:, 0]


def quantised(samples: np.ndarray) -> np.ndarray:
    """(n,) float32 samples as 16 bits hold them."""
    return encode(samples, "int16").view("<i2")[:, 0] / np.float32(32768)


def noise(clips: int, samples: int = SAMPLES) -> np.ndarray:
    rng = np.random.default_rng(clips)
    return (0.1 * rng.standard_normal((clips, samples))).astype(np.float32)


def steps_of(
    flow: tuple[onnx.ModelProto, ViewSpec], spec: LogMelSpec, learned: np.ndarray
) -> TwoSteps:
    model, window = flow
    logmel = LogMel(spec)
    frames = np.concatenate([window.measure(logmel(clip)) for clip in learned])
    spread = frames.std(axis=0)
    scale = np.where(spread < 1e-3, 1e9, spread).astype(np.float32)  # as a Corpus has it
    backend = OnnxRuntimeBackend(model.SerializeToString(), 1)
    return TwoSteps(logmel, View(window, frames.mean(axis=0), scale), backend)


def audio_of(
    flow: tuple[onnx.ModelProto, ViewSpec], steps: TwoSteps, samples: int, encoding: str
) -> AudioModel:
    model = audio_onnx(flow[0], steps.logmel, steps.view, samples, encoding)
    return OnnxRuntimeBackend(model.SerializeToString()).outputs


def assert_same_power(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal to 1e-4 dB, or to 120 dB below the frame's loudest band, where float32 itself ends."""
    seen, wanted = (10 ** (logmel.astype(np.float64) / 20) for logmel in (found, expected))
    allowed = 1e-5 * wanted + 1e-6 * wanted.max(axis=-1, keepdims=True)
    assert (np.abs(seen - wanted) / allowed).max() < 1


@pytest.mark.parametrize("encoding", ["float32", "int16"])
@pytest.mark.parametrize("filterbank", ["psf", "slaney"])
def test_scores_as_in_two_steps_in_every_bucket(flow, filterbank: str, encoding: str):
    clips = noise(5)
    steps = steps_of(flow, LogMelSpec(filterbank=filterbank), clips)
    audio = audio_of(flow, steps, SAMPLES, encoding)
    named = {f"{number}.wav": clip for number, clip in enumerate(clips)}
    found = check_audio_parity(audio, steps, AudioGraph(SAMPLES, encoding, BUCKETS, 1e-3), named)
    assert found.clips == 5
    assert found.worst < 2e-5
    assert found.moved < 2e-6
    assert found.worst_clip in named
    assert found.bucket in BUCKETS


@pytest.mark.parametrize("encoding", ["float32", "int16"])
def test_real_recordings_score_as_in_two_steps(flow, mimii: Path, encoding: str):
    learned = np.stack(
        [read_sound(clip, Intake(16000)) for clip in sorted(mimii.glob("*/train/*"))[::20]]
    )
    clips = {
        str(clip): read_sound(clip, Intake(16000)) for clip in sorted(mimii.glob("*/test/*"))[::8]
    }
    steps = steps_of(flow, LogMelSpec(), learned)
    audio = audio_of(flow, steps, 160_000, encoding)
    found = check_audio_parity(audio, steps, AudioGraph(160_000, encoding, (1, 4), 1e-3), clips)
    assert found.clips == 16
    assert found.worst < MAX_AUDIO_DIFFERENCE / 4
    assert found.moved < 2e-6


@pytest.mark.parametrize(
    ("frame", "hop"),
    [(1024, 512), (1024, 256), (1024, 300), (1024, 700), (1024, 1024), (400, 160), (250, 100)],
)
def test_any_hop_gives_the_one_log_mel(frame: int, hop: int):
    spec, clips = LogMelSpec(frame=frame, hop=hop, bands=40), noise(2)
    expected = np.stack([LogMel(spec)(clip) for clip in clips])
    np.testing.assert_allclose(heard(spec, clips), expected, atol=5e-3)
    assert_same_power(heard(spec, clips), expected)


@settings(max_examples=40, deadline=None)
@example(frame=4, hop=4, excess=0, samples=0, encoding="float32")
@example(frame=1024, hop=512, excess=0, samples=0, encoding="int16")
@given(
    frame=st.integers(2, 128).map(lambda half: 2 * half),
    hop=st.integers(1, 256),
    excess=st.integers(0, 40),
    samples=st.integers(0, 3000),
    encoding=st.sampled_from(["float32", "int16"]),
)
def test_any_sizes_give_the_one_log_mel(frame, hop, excess, samples, encoding):
    spec = LogMelSpec(frame=frame, hop=min(hop, frame), bands=8, filterbank="slaney")
    sound = noise(1, max(spec.samples(1) + excess, samples))
    expected = LogMel(spec)(quantised(sound[0]))
    if encoding == "float32":
        expected = LogMel(spec)(sound[0])
    assert_same_power(heard(spec, sound, encoding)[0], expected)


@pytest.mark.parametrize("window", [WindowSpec(3, 1), WindowSpec(3, 3), WindowSpec(3, 5)])
def test_windows_are_the_clips_own(window: WindowSpec):
    spec, clips = LogMelSpec(bands=8), noise(3)
    mean, scale = np.arange(8, dtype=np.float32), np.linspace(1, 5, 8, dtype=np.float32)
    view = View(window, mean, scale)
    model = audio_onnx(hearing(3, 8), LogMel(spec), view, SAMPLES, "float32")
    found = OnnxRuntimeBackend(model.SerializeToString()).outputs(clips)
    expected = np.stack([view(LogMel(spec)(clip)) for clip in clips])
    np.testing.assert_allclose(found["nll_map"], expected, atol=1e-3)
    np.testing.assert_allclose(found["nll"], expected.sum(axis=(2, 3)), atol=1e-2)
    np.testing.assert_allclose(found["score"], found["nll"].mean(axis=1), rtol=1e-6)


def tone(hz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hz / 16000 * np.arange(48_000))


EDGES = {
    "hiss at -90 dBFS": 10 ** (-90 / 20) * np.random.default_rng(1).standard_normal(48_000),
    "tone at -90 dBFS": 10 ** (-90 / 20) * tone(997.0),
    "square": FULL * np.sign(tone(123.4) + 1e-9),
    "clipped": np.clip(10 * tone(700.3), -1, FULL),
    "tone": 0.9 * tone(1000.3),
    "tone on a bin": 0.9 * tone(1000.0),
    "silence": np.zeros(48_000),
    "hiss on an offset": 0.02 + 0.05 * np.random.default_rng(2).standard_normal(48_000),
    "click": np.eye(1, 48_000, 24_000)[0] * FULL,
}


@pytest.mark.parametrize("encoding", ["float32", "int16"])
@pytest.mark.parametrize("filterbank", ["psf", "slaney"])
@pytest.mark.parametrize("name", EDGES)
def test_quiet_and_loud_sounds(name: str, filterbank: str, encoding: str):
    spec, sound = LogMelSpec(filterbank=filterbank), EDGES[name].astype(np.float32)
    if encoding == "int16":
        sound = quantised(sound)
    found, expected = heard(spec, sound[None], encoding)[0], LogMel(spec)(sound)
    assert_same_power(found, expected)


def test_every_16_bit_sample_is_read_exactly():
    spec, every = LogMelSpec(), np.arange(-32768, 32768).astype("<i2")
    zero, fake = np.zeros(128, np.float32), hearing(4, 128)
    window = WindowSpec(4, 4)
    model = audio_onnx(fake, LogMel(spec), View(window, zero, zero + 1), len(every), "int16")
    shape = ["clips", len(every)]
    model.graph.output.append(helper.make_tensor_value_info(DECODED, TensorProto.FLOAT, shape))
    session = OnnxRuntimeBackend(model.SerializeToString())._session
    pcm = np.stack([every, every[::-1]]).view(np.uint8).reshape(2, -1, 2)
    (found,) = session.run([DECODED], {"pcm": pcm})
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], every / np.float32(32768))
    np.testing.assert_array_equal(found[1], found[0][::-1])


@pytest.mark.parametrize("encoding", ["float32", "int16"])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT])
def test_nothing_but_the_flow_leaves_float32(kind: int, encoding: str):
    zero, fake = np.zeros(8, np.float32), hearing(4, 8, kind)
    logmel, window = LogMel(LogMelSpec(bands=8)), WindowSpec(4, 2)
    model = audio_onnx(fake, logmel, View(window, zero, zero + 1), SAMPLES, encoding)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    types = {info.name: info.type.tensor_type.elem_type for info in inferred.graph.value_info}
    types |= {info.name: info.type.tensor_type.elem_type for info in inferred.graph.output}
    assert types.pop("flow/typed") == kind
    assert set(types.values()) == {TensorProto.FLOAT}
    assert len(types) == len(model.graph.node) + (encoding == "int16") - 1  # Split has two outputs
    casts = [node.name for node in model.graph.node if node.op_type == "Cast"]
    assert len([name for name in casts if not name.startswith("flow/")]) == (encoding == "int16")


def test_the_graph_says_what_it_takes_and_gives(flow):
    model_in, window = flow
    steps = steps_of(flow, LogMelSpec(), noise(2))
    for encoding, name, shape in (("float32", "samples", []), ("int16", "pcm", [2])):
        model = audio_onnx(model_in, steps.logmel, steps.view, SAMPLES, encoding)
        dims = {
            value.name: [
                size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim
            ]
            for value in (*model.graph.input, *model.graph.output)
        }
        count = window.count(LogMelSpec().frames(SAMPLES))
        cells = [size.dim_value for size in model_in.graph.output[1].type.tensor_type.shape.dim][1:]
        assert dims == {
            name: ["clips", SAMPLES, *shape],
            "nll": ["clips", count],
            "score": ["clips"],
            "nll_map": ["clips", count, *cells],
        }
        names = [node.name for node in model.graph.node]
        tensors = [tensor.name for tensor in model.graph.initializer]
        assert len(set(names + tensors)) == len(names + tensors)
        assert {node.op_type for node in model.graph.node} <= ACCEPTED
        assert model.opset_import[0].version == 18


def test_the_flow_given_is_left_as_it_was(flow):
    before = flow[0].SerializeToString(deterministic=True)
    audio_of(flow, steps_of(flow, LogMelSpec(), noise(2)), SAMPLES, "int16")
    assert flow[0].SerializeToString(deterministic=True) == before


def test_a_flow_with_a_forbidden_operator_is_refused():
    fake, zero = hearing(4, 8), np.zeros(8, np.float32)
    fake.graph.node[0].CopyFrom(helper.make_node("Identity", ["windows"], ["typed"], "culprit"))
    logmel, window = LogMel(LogMelSpec(bands=8)), WindowSpec(4, 2)
    with pytest.raises(OperatorError, match="operator Identity \\(node 'flow/culprit'\\)"):
        audio_onnx(fake, logmel, View(window, zero, zero + 1), SAMPLES, "float32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 1535}, "a clip of 1535 samples is too short: a window of 4 frames needs at"),
        ({"encoding": "int8"}, "unknown encoding 'int8': choose one of float32, int16"),
        ({"spec": WindowSpec(3, 2)}, r"takes windows of \(4, 8\), not of \(3, 8\)"),
        ({"mean": np.zeros(7, np.float32)}, r"mean has shape \(7,\), not \(8,\)"),
        ({"scale": np.zeros((8, 1), np.float32)}, r"scale has shape \(8, 1\), not \(8,\)"),
    ],
)
def test_what_cannot_be_put_together_is_refused(change: dict, message: str):
    zero = np.zeros(8, np.float32)
    view = {"spec": WindowSpec(4, 2), "mean": zero, "scale": zero + 1}
    parts = {"samples": 1536, "encoding": "float32"}
    flow, logmel = hearing(4, 8), LogMel(LogMelSpec(bands=8))
    audio_onnx(flow, logmel, View(**view), **parts)
    view |= {name: value for name, value in change.items() if name in view}
    parts |= {name: value for name, value in change.items() if name in parts}
    with pytest.raises(ExportError, match=message):
        audio_onnx(flow, logmel, View(**view), **parts)


def test_a_graph_without_the_flows_outputs_is_refused():
    fake, zero = hearing(4, 8), np.zeros(8, np.float32)
    fake.graph.output[1].name = "map"
    logmel, window = LogMel(LogMelSpec(bands=8)), WindowSpec(4, 2)
    with pytest.raises(ExportError, match="the flow has no 'nll_map'"):
        audio_onnx(fake, logmel, View(window, zero, zero + 1), SAMPLES, "float32")


class Damaged:
    """A fake that says something else of some rows."""

    def __init__(self, audio: AudioModel, damage) -> None:
        self._audio, self._damage = audio, damage

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        found = {name: values.copy() for name, values in self._audio(batch).items()}
        return self._damage(found, batch) or found


def spoil(name: str, error: float, size: int):
    def damage(found: dict[str, np.ndarray], batch: np.ndarray) -> None:
        if len(batch) == size:
            found[name].reshape(len(batch), -1)[-1, -1] += error

    return damage


def listen_to_neighbours(found: dict[str, np.ndarray], batch: np.ndarray) -> None:
    found["score"] += 1e-4 * batch.std(axis=1).max()


def mind_the_place(found: dict[str, np.ndarray], batch: np.ndarray) -> None:
    found["nll"][-1] += 2e-5 * (len(batch) == 16)


@pytest.fixture(scope="module")
def tiny() -> tuple[AudioModel, TwoSteps, dict[str, np.ndarray]]:
    clips, model = noise(3, 4000), hearing(4, 8)
    steps = steps_of((model, WindowSpec(4, 2)), LogMelSpec(bands=8), clips)
    named = {f"{number}.wav": clip for number, clip in enumerate(clips)}
    return audio_of((model, WindowSpec(4, 2)), steps, 4000, "float32"), steps, named


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (spoil("score", 2e-3, 4), r"differs .* in a batch of 4; at most 1e-03"),
        (spoil("nll_map", np.nan, 16), r"differs .* by inf nats/dim on '0\.wav' in a batch of 16"),
        (spoil("nll", np.inf, 1), r"differs .* by inf nats/dim on '2\.wav' in a batch of 1;"),
        (listen_to_neighbours, r"changes with a clip's place and neighbours .* at most 1e-05"),
        (mind_the_place, r"changes with a clip's place .* in a batch of 16"),
        (lambda found, _: found.pop("score") and None, "'score' is missing for 1 clips"),
        (lambda found, _: {k: v[:, None] for k, v in found.items()}, r"'nll' has shape \(1, 3\)"),
    ],
)
def test_parity_refuses_what_is_off(tiny, damage, message: str):
    audio, steps, clips = tiny
    graph = AudioGraph(4000, "float32", BUCKETS, 1e-3)
    assert check_audio_parity(audio, steps, graph, clips).worst < 5e-4
    with pytest.raises(ParityError, match=message):
        check_audio_parity(Damaged(audio, damage), steps, graph, clips)


def test_parity_refuses_another_mean(tiny):
    audio, steps, clips = tiny
    moved = dataclasses.replace(steps.view, mean=steps.view.mean + np.float32(0.1))
    other = dataclasses.replace(steps, view=moved)
    graph = AudioGraph(4000, "float32", (1,), 1e-3)
    with pytest.raises(ParityError, match="differs from log-Mel and flow in two steps"):
        check_audio_parity(audio, other, graph, clips)
    loose = check_audio_parity(
        audio, other, AudioGraph(4000, "float32", (1,), 1e-3), clips, allowed=10
    )
    assert loose.worst > MAX_AUDIO_DIFFERENCE


def test_parity_needs_whole_clips(tiny):
    audio, steps, clips = tiny
    graph = AudioGraph(4000, "float32", (1,), 1e-3)
    longer = {name: np.append(clip, clip) for name, clip in clips.items()}
    assert check_audio_parity(audio, steps, graph, longer) == check_audio_parity(
        audio, steps, graph, clips
    )
    with pytest.raises(ExportError, match=r"'short\.wav' has 3999 samples; .* takes 4000"):
        check_audio_parity(audio, steps, graph, {"short.wav": clips["0.wav"][:-1]})
    with pytest.raises(ExportError, match="no clip"):
        check_audio_parity(audio, steps, graph, {})


def test_a_graph_that_cannot_be_loaded_is_named():
    with pytest.raises(BackendError, match="cannot load the flow"):
        OnnxRuntimeBackend(b"nothing")
