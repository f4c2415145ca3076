"""Replaying a bundle's golden recording, to see that this machine gives what the export gave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow_runtime.backend import Backend, nll_of
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import BundleIntegrityError


@dataclass(frozen=True)
class Replay:
    """How far the replay is from the record, each beside what is allowed."""

    windows: int
    """Windows that were replayed."""
    logmel_db: float
    """Largest difference of a log-Mel value in dB; 0 where the bundle takes arrays."""
    logmel_allowed_db: float
    """The bundle's tolerance for it."""
    nll: float
    """Largest difference of a window's NLL, in nats per dimension."""
    nll_allowed: float
    """The bundle's tolerance for it."""

    @property
    def passed(self) -> bool:
        """Whether both lie within their tolerance; a NaN does not."""
        return self.logmel_db <= self.logmel_allowed_db and self.nll <= self.nll_allowed


def replay(bundle: Bundle, backend: Backend) -> Replay:
    """Run the golden recording through this machine's log-Mel and ``backend``.

    Raises:
        BundleIntegrityError: the golden record does not fit the bundle.
        BackendError: the flow cannot be run.
    """
    golden, logmel = bundle.golden, bundle.logmel
    expected = golden["logmel"]
    found = expected if logmel is None else logmel(golden["samples"])
    windows = bundle.manifest.window.views(bundle.standardise(found))
    if found.shape != expected.shape or len(windows) != len(golden["nll"]) or not len(windows):
        raise BundleIntegrityError(f"'{bundle.path}': the golden record does not fit the window")
    nll = nll_of(backend, windows)
    allowed = bundle.manifest.tolerances
    return Replay(
        windows=len(windows),
        logmel_db=float(np.abs(found - expected).max()),
        logmel_allowed_db=allowed.logmel_db,
        nll=float(np.abs(nll - golden["nll"]).max()),
        nll_allowed=allowed.nll,
    )
