"""Whether an engine gives the golden scores, in every batch size that it was built for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.backend import Backend, Rows
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.engines.record import Proof
from edgeflow_runtime.errors import EngineError

Array = npt.NDArray[np.float32]


def prove(bundle: Bundle, graph: str, backend: Backend, buckets: tuple[int, ...]) -> Proof:
    """Replay the golden recording in each batch size.

    Raises:
        EngineError: a score differs by more than the bundle allows, or is not finite.
    """
    rows, expected = golden_rows(bundle, graph)
    allowed = bundle.manifest.tolerances.nll
    worst = 0.0
    for bucket in buckets:
        difference = worst_in(backend, rows, expected, (bucket,))
        if not difference <= allowed:  # a NaN is not within anything
            raise EngineError(
                f"in batches of {bucket} the new engine is {difference:.2e} nats/dim off the "
                f"golden recording, {allowed:.0e} are allowed: it is not used"
            )
        worst = max(worst, difference)
    return Proof(len(expected), buckets, worst, allowed)


def golden_rows(bundle: Bundle, graph: str) -> tuple[Rows, Array]:
    """What goes into a graph to replay the golden recording, and the NLL it must give."""
    if graph == "audio":
        return bundle.golden["audio"], bundle.golden["audio_nll"]
    standard = bundle.standardise(bundle.golden["logmel"])
    return np.ascontiguousarray(bundle.manifest.window.views(standard)), bundle.golden["nll"]


def worst_in(backend: Backend, rows: Rows, expected: Array, buckets: tuple[int, ...]) -> float:
    """The largest difference of an NLL when ``rows``, over and over, fill batches of these sizes.

    NaN, if there is one.
    """
    worst = [0.0]
    for bucket in buckets:
        whole = -(-max(len(rows), bucket) // bucket) * bucket
        order = np.arange(whole) % len(rows)
        parts = [order[i : i + bucket] for i in range(0, whole, bucket)]
        found = np.concatenate([backend.nll(np.ascontiguousarray(rows[part])) for part in parts])
        worst.append(float(np.abs(found - expected[order]).max()))
    return float(np.max(worst))
