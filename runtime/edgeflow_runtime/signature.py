"""What a bundle's graph must take and give, and whether one does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgeflow_runtime.backends.protocol import rows_per_call
from edgeflow_runtime.onnx_graph import FLOAT, UINT8, Port, Shape, read_graph
from edgeflow_runtime.onnx_sizes import sizes_of
from edgeflow_runtime.views import View
from edgeflow_runtime.whole_clips import AudioGraph

AUDIO_INPUTS = {"float32": "samples", "int16": "pcm"}
"""The input of the graph that starts at the samples, by encoding."""


@dataclass(frozen=True)
class Signature:
    """Names, types and sizes of a graph's inputs and outputs, but for the free number of rows."""

    name: str
    """Of its one input."""
    element: int
    """ONNX's number of the input's type."""
    row: Shape
    """One row: a window (T, M), or a clip (samples,) or (samples, 2)."""
    window: Shape
    """(T, M), which the map's cells divide."""
    windows: int | None = None
    """Windows of a clip; ``None`` where each row is one."""

    @classmethod
    def of_flow(cls, view: View) -> Signature:
        """``windows`` (N, T, M) to ``nll`` (N,) and ``nll_map`` (N, t, m)."""
        return cls("windows", FLOAT, view.shape, view.shape)

    @classmethod
    def of_audio(cls, graph: AudioGraph, view: View, frames: int) -> Signature:
        """Clips, of ``frames`` frames each, to ``nll``, ``score`` and ``nll_map``."""
        pairs = (2,) if graph.encoding == "int16" else ()
        return cls(
            AUDIO_INPUTS[graph.encoding],
            UINT8 if pairs else FLOAT,
            (graph.samples, *pairs),
            view.shape,
            view.spec.count(frames),
        )

    @property
    def inputs(self) -> dict[str, Port]:
        """What it takes, by name."""
        return {self.name: Port(self.element, (None, *self.row))}

    def outputs(self, cells: tuple[int | None, ...]) -> dict[str, Port]:
        """What it gives, by name, if its maps have ``cells`` (t, m)."""
        each = () if self.windows is None else (self.windows,)
        outputs = {"nll": (None, *each), "nll_map": (None, *each, *cells)}
        if self.windows is not None:
            outputs["score"] = (None,)
        return {name: Port(FLOAT, shape) for name, shape in outputs.items()}

    def check(self, inputs: Mapping[str, Port], outputs: Mapping[str, Port]) -> None:
        """Refuse other ports than these. Raises :class:`ValueError`."""
        cells = outputs["nll_map"].shape[-2:] if "nll_map" in outputs else ()
        for what, found, wanted in (
            ("takes", inputs, self.inputs),
            ("gives", outputs, self.outputs(cells)),
        ):
            if found != wanted:
                raise ValueError(f"it {what} {_words(found)}, the bundle wants {_words(wanted)}")
        fit = (n and not size % n for n, size in zip(cells, self.window, strict=True))
        if not all(fit):
            raise ValueError(f"a map of {cells} cells does not divide a window of {self.window}")

    def check_graph(self, content: bytes) -> None:
        """Hold a serialised graph to this before anything loads it.

        Raises:
            ValueError: it is none, has what a bundle's graph has not, another signature, or tensors
                that grow too large.
        """
        graph = read_graph(content)
        self.check(graph.inputs, graph.outputs)
        rows = rows_per_call(self.row)
        sizes = sizes_of(graph, {self.name: (rows, *self.row)})
        for name, port in graph.outputs.items():
            if name in graph.constants or name in graph.inputs:
                raise ValueError(f"{name!r} is no result but a constant, or what went in")
            made = sizes.get(name, ())
            if replace(port, shape=(None, *made[1:])) != port or made[:1] != (rows,):
                raise ValueError(f"it says that {name!r} is {port.shape}, and makes {made}")


def _words(ports: Mapping[str, Port]) -> str:
    """Names and sizes, for a message."""
    shown = [
        f"{name[:80]!r} ({', '.join('N' if n is None else str(n) for n in port.shape)})"
        + ("" if port.element == FLOAT else f" of type {port.element}")
        for name, port in sorted(ports.items())[:4]
    ]
    return ", ".join(shown) or "nothing"
