"""Whether an engine gives the golden scores, in every batch size that it was built for."""

from __future__ import annotations

from edgeflow_runtime.backend import Backend
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.engines.record import Proof
from edgeflow_runtime.errors import ProofError
from edgeflow_runtime.golden import allowed_nll, golden_rows, worst_in


def prove(bundle: Bundle, graph: str, backend: Backend, buckets: tuple[int, ...]) -> Proof:
    """Replay the golden recording in each batch size.

    Raises:
        ProofError: a score differs by more than the bundle allows, or is not finite.
    """
    rows, expected = golden_rows(bundle, graph)
    allowed = allowed_nll(bundle, graph)
    worst = 0.0
    for bucket in buckets:
        difference = worst_in(backend, rows, expected, (bucket,))
        if not difference <= allowed:  # a NaN is not within anything
            raise ProofError(
                f"in batches of {bucket} the new engine is {difference:.2e} nats/dim off the "
                f"golden recording, {allowed:.0e} are allowed: it is not used"
            )
        worst = max(worst, difference)
    return Proof(expected.size, buckets, worst, allowed)
