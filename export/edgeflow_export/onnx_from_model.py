"""ONNX from a trained model: folded, exported, and of operators that every TensorRT takes."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch

from edgeflow.models.folded import FoldedModel
from edgeflow.models.model import Model
from edgeflow_runtime.errors import ExportError, OperatorError
from edgeflow_runtime.onnx_graph import ACCEPTED, DOMAINS, OPSET

SCOPES = "pkg.torch.onnx.name_scopes"
"""Where torch notes which module a node comes from; precision is given by it."""

INPUT = "windows"
OUTPUTS = ("nll", "nll_map")


def model_from_trained(flow: Model) -> onnx.ModelProto:
    """Fold ``flow`` and export it.

    Returns:
        The graph: ``windows`` (N, T, M) float32 to ``nll`` (N,) and ``nll_map`` (N, t, m).

    Raises:
        OperatorError: the graph holds an operator that TensorRT does not take.
    """
    model = onnx_from_folded(flow.fold().cpu().eval(), flow.frames, flow.bands)
    check_operators(model)
    return model


def onnx_from_trained(flow: Model) -> bytes:
    """:func:`model_from_trained`, serialised."""
    content: bytes = model_from_trained(flow).SerializeToString()
    return content


def onnx_from_folded(folded: FoldedModel, frames: int, bands: int) -> onnx.ModelProto:
    """Export a folded flow with a free number of windows."""
    example = torch.zeros(2, frames, bands)
    with _quiet(), _named():
        program = torch.onnx.export(
            folded,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise ExportError("torch.onnx.export returned nothing")
    model = program.model_proto
    keep_metadata(model, SCOPES)
    onnx.checker.check_model(model)
    return model


def keep_metadata(model: onnx.ModelProto, *keys: str) -> None:
    """Drop what torch notes beside the graph, such as stack traces with this machine's paths.

    Args:
        model: changed in place.
        keys: what stays on nodes.
    """
    graph = model.graph
    for item in (model, graph, *graph.input, *graph.output, *graph.initializer, *graph.value_info):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    for node in graph.node:
        node.ClearField("doc_string")
        kept = [entry for entry in node.metadata_props if entry.key in keys]
        node.ClearField("metadata_props")
        node.metadata_props.extend(kept)


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Turn whatever torch's exporter raises into one line, but an interruption into itself."""
    try:
        yield
    except Exception as error:  # torch raises many classes of its own here
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            cause = cause.__cause__ or cause.__context__
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(f"torch cannot export the flow: {first}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's chatter about other libraries' operators off the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def check_operators(model: onnx.ModelProto) -> None:
    """Refuse graphs that TensorRT would refuse.

    Reduction axes must be constants of the graph, too.

    Raises:
        OperatorError: with the name of the first node at fault.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.domain not in DOMAINS or node.op_type not in ACCEPTED:
            operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise OperatorError(
                f"operator {operator} (node {node.name!r}) is not one that TensorRT takes"
            )
        if node.op_type.startswith("Reduce") and len(node.input) > 1:
            axes = node.input[1]
            if axes not in constants:
                raise OperatorError(
                    f"the axes of {node.op_type} (node {node.name!r}) are computed; TensorRT "
                    "wants constants"
                )
