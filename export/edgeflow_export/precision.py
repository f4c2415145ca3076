"""The precision that a flow is exported in: the one asked for if the gate lets it, or the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx

from edgeflow_export.activation_ranges import calibrate
from edgeflow_export.conditioners import conditioner_count
from edgeflow_export.gate import ClipWindows, Reference, require, require_finite
from edgeflow_export.parity import MAX_DIFFERENCE
from edgeflow_export.precision_search import Found, emulating_backend, search_precisions
from edgeflow_export.typed_onnx import typed_onnx
from edgeflow_runtime.arrays import Array
from edgeflow_runtime.backends.names import BUCKETS
from edgeflow_runtime.backends.protocol import Backend
from edgeflow_runtime.errors import PrecisionError
from edgeflow_runtime.manifest import Gate


def give_precision(
    model: onnx.ModelProto,
    precision: str,
    exact: Backend,
    learned: Sequence[Array],
    tests: Sequence[ClipWindows],
    threshold: float,
    say: Callable[[str], None],
) -> Found:
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
        return Found(model, ("fp32",) * count, None, 0)
    ranges: dict[str, float] = {}
    if precision != "fp16":
        say("measuring the range of activations")
        ranges = calibrate(model, np.concatenate(learned))
    say(f"scoring {len(tests)} clips in float32")
    reference = Reference(exact, tests, threshold)
    if precision == "auto":
        found = search_precisions(model, ranges, reference, say=say)
    else:
        typed = typed_onnx(model, (precision,) * count, ranges)
        say(f"scoring them in {precision}")
        gate = reference.compare(emulating_backend(typed))
        require(gate, precision)
        found = Found(typed, (precision,) * count, gate, 1)
    backend = emulating_backend(found.model)
    require_finite(backend, tests[0].windows, BUCKETS["flow"], nll_tolerance(found.gate))
    return found


def check_tolerance(tolerance: float, golden: Array) -> None:
    """Refuse a tolerance within which a backend could say the same of every golden window.

    Args:
        tolerance: in nats per dimension.
        golden: the NLL of the windows that are replayed.

    Raises:
        PrecisionError: it is more than half of what the best constant is off.
    """
    allowed = float(np.ptp(golden)) / 4
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
