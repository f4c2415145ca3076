"""How large the activations become that int8 rounds, measured on real windows."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from edgeflow_export.conditioners import conditioners_of
from edgeflow_export.onnx_from_flow import INPUT
from edgeflow_runtime.arrays import Array
from edgeflow_runtime.errors import ExportError

HEADROOM = 2.0
"""int8 reaches this many times as far as the largest activation that was seen. Normal clips are
calibrated on, anomalous ones go beyond them, and what is cut off is what would have told them
apart: cutting costs more than the coarser step does."""

BATCH_CELLS = 9 * 32 * 128
"""Cells (frames x bands) that are measured at a time, whatever the number of windows."""


def calibrate(model: onnx.ModelProto, windows: Array) -> dict[str, float]:
    """The range of each tensor that int8 would round: the largest magnitude with its headroom.

    The largest magnitude is taken inside of the graph, so memory does not grow with the windows.

    Args:
        model: a float32 graph, as ``onnx_from_folded`` gives it.
        windows: (N, T, M) standardised windows of normal clips.

    Raises:
        ExportError: there are no windows, the graph is not understood, or an activation is not
            finite.
    """
    if not len(windows):
        raise ExportError("int8 is calibrated on windows of real clips, found none")
    names = _rounded_tensors(model)
    session = _session(_measured(model, names))
    batch = max(1, BATCH_CELLS // windows[0].size)
    largest = np.zeros(len(names), np.float32)
    for start in range(0, len(windows), batch):
        part = np.ascontiguousarray(windows[start : start + batch], np.float32)
        nll, *found = session.run(["nll", *(f"{name}.largest" for name in names)], {INPUT: part})
        largest = np.maximum(largest, found)
        if not (np.isfinite(nll).all() and np.isfinite(largest).all()):
            raise ExportError(
                f"the float32 graph gives a number that is not finite on windows {start} to "
                f"{start + len(part) - 1} of those that int8 is calibrated on"
            )
    return {name: HEADROOM * float(value) for name, value in zip(names, largest, strict=True)}


def _rounded_tensors(model: onnx.ModelProto) -> list[str]:
    layers = [layer for part in conditioners_of(model) for layer in part.layers()]
    return list(dict.fromkeys(layer.input[0] for layer in layers))


def _measured(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The graph with the largest magnitude () of each named tensor as further outputs.

    ONNX Runtime's ReduceMax loses a NaN, so the NLL must be looked at as well.
    """
    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    graph = measured.graph
    for name in names:
        magnitude, largest = f"{name}.magnitude", f"{name}.largest"
        graph.node.append(helper.make_node("Abs", [name], [magnitude]))
        graph.node.append(helper.make_node("ReduceMax", [magnitude], [largest], keepdims=0))
        graph.output.append(helper.make_tensor_value_info(largest, TensorProto.FLOAT, []))
    return measured


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
