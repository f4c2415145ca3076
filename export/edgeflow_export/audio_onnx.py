"""From samples to scores in one ONNX graph: log-Mel, windows and flow, for one engine."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from edgeflow_export.onnx_from_model import INPUT, OUTPUTS, check_operators
from edgeflow_runtime.errors import ExportError
from edgeflow_runtime.logmel import DECIBEL_FLOOR, LogMel, LogMelSpec
from edgeflow_runtime.signature import AUDIO_INPUTS
from edgeflow_runtime.views import View

AUDIO_OUTPUTS = ("nll", "score", "nll_map")
"""(clips, W), (clips,) and (clips, W, t, m) for W windows per clip, in nats per dimension."""

DECODED = "audio/samples"
"""The tensor that holds the samples read from ``pcm``, (clips, samples) float32, full scale 1."""

FLOW_PREFIX = "flow/"
"""What the names of the flow's own nodes and tensors start with."""


def audio_onnx(
    flow: onnx.ModelProto,
    logmel: LogMel,
    view: View,
    samples: int,
    encoding: str,
) -> onnx.ModelProto:
    """Put log-Mel, standardisation and windows before ``flow``, and a clip's mean behind it.

    An engine of it must be built without TF32, which TensorRT uses unless told otherwise: with 10
    bits of mantissa, what lies far below a spectrum's peak moves by decibels.

    Args:
        flow: ``windows`` (N, T, M) to ``nll`` (N,) and ``nll_map`` (N, t, m), of any precision;
            what is put around it stays float32.
        logmel: the features, with their window and filterbank.
        view: what the flow sees of them.
        samples: length of a clip, at the features' rate.
        encoding: ``float32``: the input is ``samples`` (clips, samples), full scale 1; ``int16``:
            it is ``pcm`` (clips, samples, 2) uint8, the little-endian bytes of 16-bit samples.

    Returns:
        The graph, with a free number of clips: ``nll`` (clips, W), ``score`` (clips,), the mean of
        a clip's windows, and ``nll_map`` (clips, W, t, m).

    Raises:
        ExportError: the encoding is unknown, a clip holds no whole window, or the parts do not fit.
        OperatorError: the graph holds an operator that TensorRT does not take.
    """
    _check_fit(flow, logmel.spec, view, samples, encoding)
    graph, frames = _Graph(), logmel.spec.frames(samples)
    wave = AUDIO_INPUTS[encoding] if encoding == "float32" else _decoded(graph, samples)
    cut = _frames(graph, wave, logmel.spec, samples)  # (clips, F, frame)
    bands = _standardised(graph, _logmel(graph, cut, logmel), view)  # (clips, F, M)
    _windows(graph, bands, view, frames)  # (clips * W, T, M)
    inner = compose.add_prefix(flow, FLOW_PREFIX)
    graph.nodes.extend(inner.graph.node)
    graph.constants.extend(inner.graph.initializer)
    cells = _static_shape(flow.graph.output, OUTPUTS[1])[1:]
    outputs = _outputs(graph, view.spec.count(frames), cells)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes, "audio", [_input(samples, encoding)], outputs, graph.constants
        ),
        opset_imports=flow.opset_import,
        ir_version=flow.ir_version,
        producer_name="edgeflow",
    )
    onnx.checker.check_model(model, full_check=True)
    check_operators(model)
    return model


class _Graph:
    """Nodes and constants in the making, each under a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        """The name of a new constant."""
        name = f"audio/constant_{len(self.constants)}"
        array = np.array(values, dtype, order="C")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, outputs: tuple[str, ...] = (), **given: int) -> str:
        """Append a node; the name of its first output."""
        name = f"audio/{operator}_{len(self.nodes)}"
        node = helper.make_node(operator, list(inputs), list(outputs or (name,)), name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in given.items())
        self.nodes.append(node)
        return outputs[0] if outputs else name

    def cut(self, x: str, start: int, end: int, axis: int, step: int = 1) -> str:
        """``x[start:end:step]`` along ``axis``."""
        bounds = [self.constant([value], np.int64) for value in (start, end, axis, step)]
        return self.add("Slice", x, *bounds)

    def reshape(self, x: str, *shape: int, output: str = "") -> str:
        """``x`` in another shape; -1 stands for the free size."""
        outputs = (output,) if output else ()
        return self.add("Reshape", x, self.constant(shape, np.int64), outputs=outputs)


def _check_fit(
    flow: onnx.ModelProto,
    spec: LogMelSpec,
    view: View,
    samples: int,
    encoding: str,
) -> None:
    if encoding not in AUDIO_INPUTS:
        raise ExportError(
            f"unknown encoding {encoding!r}: choose one of {', '.join(sorted(AUDIO_INPUTS))}"
        )
    length = view.spec.frames
    if samples < (fewest := spec.samples(length)):
        raise ExportError(
            f"a clip of {samples} samples is too short: a window of {length} frames needs "
            f"at least {fewest}"
        )
    wanted, taken = (length, spec.bands), _static_shape(flow.graph.input, INPUT)[1:]
    if taken != wanted:
        raise ExportError(f"the flow takes windows of {taken}, not of {wanted} frames and bands")
    for name, array in {"mean": view.mean, "scale": view.scale}.items():
        if array.shape != (spec.bands,):
            raise ExportError(f"{name} has shape {array.shape}, not {(spec.bands,)}")


def _static_shape(values: Iterable[onnx.ValueInfoProto], name: str) -> tuple[int, ...]:
    """The shape of the value ``name``, 0 where it is free."""
    for value in values:
        if value.name == name:
            return tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
    raise ExportError(f"the flow has no {name.removeprefix(FLOW_PREFIX)!r}")


def _decoded(graph: _Graph, samples: int) -> str:
    """Samples from the bytes of 16-bit ones, exactly: (clips, samples, 2) to (clips, samples)."""
    read = graph.add("Cast", AUDIO_INPUTS["int16"], to=TensorProto.FLOAT)
    parts = ("audio/low", "audio/high")
    graph.add("Split", read, outputs=parts, axis=2, num_outputs=2)
    low, high = (graph.reshape(part, -1, samples) for part in parts)
    over = graph.add("Sub", high, graph.constant(127))
    negative = graph.add("Clip", over, graph.constant(0), graph.constant(1))  # 1 from 128 on
    signed = graph.add("Sub", high, graph.add("Mul", negative, graph.constant(256)))
    whole = graph.add("Add", low, graph.add("Mul", signed, graph.constant(256)))
    return graph.add("Mul", whole, graph.constant(1 / 32768), outputs=(DECODED,))


def _frames(graph: _Graph, wave: str, spec: LogMelSpec, samples: int) -> str:
    """Overlapping frames, the ends reflected: (clips, samples) to (clips, F, frame).

    The sound is laid in blocks of one hop, and a frame is as many neighbouring blocks as it needs.
    """
    count, ratio, half = spec.frames(samples), -(-spec.frame // spec.hop), spec.frame // 2
    total = (count + ratio - 1) * spec.hop
    source = np.abs(np.arange(total) - half)
    source = np.clip(np.where(source < samples, source, 2 * (samples - 1) - source), 0, None)
    body = wave if total >= half + samples else graph.cut(wave, 0, total - half, 1)
    parts = [graph.add("Gather", wave, graph.constant(source[:half], np.int32), axis=1), body]
    if total > half + samples:
        tail = graph.constant(source[half + samples :], np.int32)
        parts.append(graph.add("Gather", wave, tail, axis=1))
    padded = graph.add("Concat", *parts, axis=1)  # (clips, total)
    blocks = graph.reshape(padded, -1, count + ratio - 1, spec.hop)
    pieces = [graph.cut(blocks, first, first + count, 1) for first in range(ratio)]
    frames = graph.add("Concat", *pieces, axis=2)  # (clips, F, ratio * hop)
    return frames if spec.frame == ratio * spec.hop else graph.cut(frames, 0, spec.frame, 2)


def _logmel(graph: _Graph, frames: str, logmel: LogMel) -> str:
    r"""The natural logarithm of the Mel power: (clips, F, frame) to (clips, F, M).

    TensorRT takes neither STFT nor DFT, so the spectrum is a product with a fixed basis. Only its
    power is wanted, so its phase may be counted from the frame's middle, :math:`c = (N - 1) / 2`:

    .. math:: |X_k|^2 = \Big(\sum_n w_n x_n \cos \tfrac{2 \pi k (n - c)}{N}\Big)^2
                      + \Big(\sum_n w_n x_n \sin \tfrac{2 \pi k (n - c)}{N}\Big)^2

    Cosines are then even about that middle and sines odd; about the middle of either half they are
    even or odd as well, by the parity of k. So the frame folds twice, onto its first quarter: a
    quarter of the products of a plain basis are left, and a quarter of its size.
    """
    size, filters = logmel.spec.frame, logmel.filterbank.T
    even, odd = _folded(graph, graph.add("Mul", frames, graph.constant(logmel.window)), size)
    (cosines, sines), powers = _basis(size), []
    (ee, eo), (oe, oo) = _folded(graph, even, size // 2), _folded(graph, odd, size // 2)
    for parity, real, imaginary in ((0, ee, oo), (1, eo, oe)):  # (clips, F, frame / 4)
        squares = []
        for part, basis in ((real, cosines), (imaginary, sines)):
            product = graph.add("MatMul", part, graph.constant(basis[:, parity::2]))
            squares.append(graph.add("Mul", product, product))
        power = graph.add("Add", *squares)  # (clips, F, bins of this parity)
        powers.append(graph.add("MatMul", power, graph.constant(filters[parity::2])))
    mel = graph.add("Add", graph.add("Add", *powers), graph.constant(DECIBEL_FLOOR))
    return graph.add("Log", mel)


def _folded(graph: _Graph, x: str, size: int) -> tuple[str, str]:
    """Sum and difference of ``x`` and its mirror image, (clips, F, size) to half that size.

    Where ``size`` is odd, the sum holds the middle twice.
    """
    kept = (size + 1) // 2
    near, far = graph.cut(x, 0, kept, 2), graph.cut(x, -1, -kept - 1, 2, -1)
    return graph.add("Add", near, far), graph.add("Sub", near, far)


def _basis(frame: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Cosines and sines, ceil(frame / 4) samples x (frame / 2 + 1) bins."""
    half = frame // 2
    steps = np.arange((half + 1) // 2) - (frame - 1) / 2
    angles = 2 * np.pi / frame * np.outer(steps, np.arange(half + 1))
    once = np.ones((len(steps), 1))
    if half % 2:
        once[-1] = 0.5  # the middle, which the folded frame holds twice
    return np.cos(angles) * once, np.sin(angles) * once


def _standardised(graph: _Graph, nepers: str, view: View) -> str:
    """(clips, F, M) to the same in dB, less the view's mean, in units of its scale."""
    decibels = graph.add("Mul", nepers, graph.constant(10 / np.log(10)))
    centred = graph.add("Sub", decibels, graph.constant(view.mean))
    return graph.add("Div", centred, graph.constant(view.scale))


def _windows(graph: _Graph, x: str, view: View, frames: int) -> None:
    """The flow's input: (clips, F, M) to (clips * W, T, M)."""
    index = (view.spec.starts(frames)[:, None] + np.arange(view.spec.frames)).reshape(-1)
    gathered = graph.add("Gather", x, graph.constant(index, np.int32), axis=1)  # (clips, W * T, M)
    graph.reshape(gathered, -1, *view.shape, output=FLOW_PREFIX + INPUT)


def _outputs(graph: _Graph, windows: int, cells: tuple[int, ...]) -> list[onnx.ValueInfoProto]:
    """What the flow found, by clip: :data:`AUDIO_OUTPUTS`."""
    nll, score, nll_map = AUDIO_OUTPUTS
    graph.reshape(FLOW_PREFIX + OUTPUTS[0], -1, windows, output=nll)
    graph.reshape(FLOW_PREFIX + OUTPUTS[1], -1, windows, *cells, output=nll_map)
    axis = graph.constant([1], np.int64)
    graph.add("ReduceMean", nll, axis, outputs=(score,), keepdims=0)
    shapes: dict[str, tuple[int, ...]] = {nll: (windows,), score: (), nll_map: (windows, *cells)}
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["clips", *shape])
        for name, shape in shapes.items()
    ]


def _input(samples: int, encoding: str) -> onnx.ValueInfoProto:
    shape: tuple[str | int, ...] = ("clips", samples)
    kind = TensorProto.FLOAT
    if encoding == "int16":
        shape, kind = (*shape, 2), TensorProto.UINT8
    return helper.make_tensor_value_info(AUDIO_INPUTS[encoding], kind, shape)
