"""The precision that a model is exported in: the one asked for, or the cheapest that will do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx

from edgeflow_export.conditioners import calibrate, conditioner_count
from edgeflow_export.gate import ClipWindows, Reference, refusals, require, require_finite
from edgeflow_export.parity import MAX_DIFFERENCE
from edgeflow_export.typed_onnx import PRECISIONS, emulated, typed_onnx
from edgeflow_runtime.arrays import Array
from edgeflow_runtime.backends.names import BUCKETS
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.backends.protocol import Backend, nll_of
from edgeflow_runtime.errors import PrecisionError
from edgeflow_runtime.limits import told_apart
from edgeflow_runtime.manifest import Gate


def give_precision(
    model: onnx.ModelProto,
    precision: str,
    exact: Backend,
    learned: Sequence[Array],
    tests: Sequence[ClipWindows],
    threshold: float,
    say: Callable[[str], None],
) -> TypedGraph:
    """Write ``precision`` into a float32 graph, or refuse.

    Args:
        model: the float32 graph.
        precision: ``fp32``, ``fp16``, ``int8`` or ``auto``.
        exact: runs it.
        learned: windows (n, T, M) of clips that the flow learned from; int8 is calibrated on them.
        tests: clips that it did not learn from.
        threshold: where normal ends, in nats per dimension.
        say: told what is going on.

    Raises:
        PrecisionError: the precision costs more than the gate allows, or a score is not finite.
    """
    count = conditioner_count(model)
    if precision == "fp32":
        return TypedGraph(model, ("fp32",) * count, None, 0)
    ranges: dict[str, float] = {}
    if precision != "fp16":
        say("measuring the range of activations")
        ranges = calibrate(model, np.concatenate(learned))
    say(f"scoring {len(tests)} clips in float32")
    reference = Reference(exact, tests, threshold)
    if precision == "auto":
        graph = search_precisions(model, ranges, reference, say=say)
    else:
        typed = typed_onnx(model, (precision,) * count, ranges)
        say(f"scoring them in {precision}")
        gate = reference.compare(emulating_backend(typed))
        require(gate, precision)
        graph = TypedGraph(typed, (precision,) * count, gate, 1)
    backend = emulating_backend(graph.model)
    require_finite(backend, tests[0].windows, BUCKETS["flow"], nll_tolerance(graph.gate))
    return graph


def check_tolerance(tolerance: float, golden: Array) -> None:
    """Refuse a tolerance within which a backend could say the same of every golden window.

    Args:
        tolerance: in nats per dimension.
        golden: the NLL of the windows that are replayed.

    Raises:
        PrecisionError: it is.
    """
    allowed = told_apart(golden)
    if tolerance > allowed:
        raise PrecisionError(
            f"a replay would have to allow {tolerance:.1e} nats/dim, and the golden recording "
            f"varies too little to tell that from nothing (at most {allowed:.1e}): choose a wider "
            "--precision"
        )


def nll_tolerance(gate: Gate | None) -> float:
    """How far a replay of the golden recording may be off, in nats per dimension.

    A GPU rounds elsewhere than a CPU does: in a reduced precision it may move a score about as far
    as the precision itself does, on clips like the golden one.
    """
    return max(MAX_DIFFERENCE, 2 * gate.heldout_change) if gate else MAX_DIFFERENCE


SAMPLE_WINDOWS = 32
"""Windows on which the cost of rounding a single conditioner is measured."""

INT8, FP16, FP32 = PRECISIONS

Widening = tuple[int, str]
"""A conditioner and the wider precision that it is given."""


def emulating_backend(model: onnx.ModelProto) -> Backend:
    """Runs ``model`` on this computer's CPU with all of its roundings."""
    return OnnxRuntimeBackend(emulated(model).SerializeToString())


@dataclass(frozen=True)
class TypedGraph:
    """What a search decided on."""

    model: onnx.ModelProto
    """The graph."""
    precisions: tuple[str, ...]
    """Of each conditioner, in order."""
    gate: Gate | None
    """How near it is to float32; ``None`` where it is float32."""
    trials: int
    """Graphs that went through the gate."""

    @property
    def precision(self) -> str:
        """The cheapest precision among them."""
        return min(self.precisions, key=PRECISIONS.index)

    @property
    def overrides(self) -> dict[str, str]:
        """The conditioners that are wider than that, by number from 0, and their precision."""
        base = self.precision
        return {str(k): p for k, p in enumerate(self.precisions) if p != base}


def search_precisions(
    model: onnx.ModelProto,
    ranges: Mapping[str, float],
    reference: Reference,
    *,
    load: Callable[[onnx.ModelProto], Backend] = emulating_backend,
    say: Callable[[str], None] = lambda _: None,
) -> TypedGraph:
    """Find the cheapest precision for each conditioner that together pass the gate.

    All int8 is tried first. If it costs too much, the price of each conditioner's rounding is
    measured alone, and conditioners are widened in the order of what that saves; bisection finds
    how few will do. The last resort, all float32, passes by definition. With n conditioners that
    is at most 2 + log2(2 n) trials, and n or 2 n measurements on :data:`SAMPLE_WINDOWS` windows.

    Args:
        model: the float32 graph.
        ranges: from :func:`~edgeflow_export.conditioners.calibrate`.
        reference: the clips, and what float32 makes of them.
        load: runs a graph; the default carries out float16's roundings on a CPU.
        say: told what is going on.
    """
    return _Search(model, ranges, reference, load, say).decided()


class _Search:
    def __init__(
        self,
        model: onnx.ModelProto,
        ranges: Mapping[str, float],
        reference: Reference,
        load: Callable[[onnx.ModelProto], Backend],
        say: Callable[[str], None],
    ) -> None:
        self._model, self._ranges, self._reference = model, ranges, reference
        self._load, self._say = load, say
        self._count = conditioner_count(model)
        self._trials = 0

    def decided(self) -> TypedGraph:
        """See :func:`search_precisions`."""
        return replace(self._cheapest(), trials=self._trials)

    def _cheapest(self) -> TypedGraph:
        passed = self._trial((INT8,) * self._count)
        if passed is not None:
            return passed
        half = self._trial((FP16,) * self._count)
        widenings = self._widenings(half is not None)
        best = half or self._all_float32()
        low, high = 0, len(widenings)  # int8 failed, and ``best`` is what all of them lead to
        while high - low > 1:
            middle = (low + high) // 2
            trial = self._trial(self._widened(widenings[:middle]))
            if trial is None:
                low = middle
            else:
                high, best = middle, trial
        return best

    def _all_float32(self) -> TypedGraph:
        return TypedGraph(self._model, (FP32,) * self._count, None, 0)

    def _widened(self, widenings: Sequence[Widening]) -> tuple[str, ...]:
        return tuple((dict.fromkeys(range(self._count), INT8) | dict(widenings)).values())

    def _trial(self, precisions: tuple[str, ...]) -> TypedGraph | None:
        """What passes the gate; ``None`` if it does not."""
        self._trials += 1
        named = ", ".join(f"{precisions.count(p)} {p}" for p in PRECISIONS if p in precisions)
        try:
            typed = typed_onnx(self._model, precisions, self._ranges)
            gate = self._reference.compare(self._load(typed))
        except PrecisionError as error:
            self._say(f"{named}: {error}")
            return None
        against = refusals(gate)
        self._say(f"{named}: {'; '.join(against) or 'passes the gate'}")
        return None if against else TypedGraph(typed, precisions, gate, 0)

    def _widenings(self, half_passes: bool) -> list[Widening]:
        """Every step from all int8 to what is known to pass, the most useful first."""
        windows = _sample(self._reference)
        exact = nll_of(self._load(self._model), windows)
        costs = self._costs(INT8, windows, exact)
        if half_passes:
            return [(k, FP16) for k in np.argsort(-costs, kind="stable").tolist()]
        return ordered_widenings(costs, self._costs(FP16, windows, exact))

    def _costs(self, precision: str, windows: Array, exact: Array) -> npt.NDArray[np.float64]:
        """How far the NLL moves if one conditioner alone has ``precision``, for each (n,)."""
        self._say(f"measuring what {precision} costs in each of {self._count} conditioners")
        costs = np.full(self._count, np.inf)
        for k in range(self._count):
            alone = tuple(precision if i == k else FP32 for i in range(self._count))
            try:
                typed = typed_onnx(self._model, alone, self._ranges)
            except PrecisionError:
                continue
            change = nll_of(self._load(typed), windows).astype(np.float64) - exact
            if np.isfinite(change).all():
                costs[k] = np.sqrt(np.mean(change**2))
        return costs


def ordered_widenings(
    int8: npt.NDArray[np.float64], fp16: npt.NDArray[np.float64]
) -> list[Widening]:
    """Steps from int8 to float32 by what each saves; a conditioner goes over fp16 if that helps.

    Args:
        int8: (n,) what int8 costs in each conditioner; infinite where it cannot be computed.
        fp16: (n,) the same for fp16.

    Example:
        >>> ordered_widenings(np.array([9.0, 1.0]), np.array([0.1, np.inf]))
        [(0, 'fp16'), (1, 'fp32'), (0, 'fp32')]
    """
    steps: list[tuple[float, Widening]] = []
    for k, (rough, fine) in enumerate(zip(int8.tolist(), fp16.tolist(), strict=True)):
        if rough - fine > fine:  # else fp16 saves less than float32 does after it
            steps += [(rough - fine, (k, FP16)), (fine, (k, FP32))]
        else:
            steps.append((rough, (k, FP32)))
    return [step for _, step in sorted(steps, key=lambda pair: -pair[0])]


def _sample(reference: Reference) -> Array:
    """Windows spread evenly over all clips, (n, T, M)."""
    share = -(-SAMPLE_WINDOWS // len(reference.clips))
    picked = []
    for clip in reference.clips[:: -(-len(reference.clips) // SAMPLE_WINDOWS)]:
        places = np.linspace(0, len(clip.windows) - 1, min(share, len(clip.windows)))
        picked.append(clip.windows[places.round().astype(int)])
    return np.concatenate(picked)
