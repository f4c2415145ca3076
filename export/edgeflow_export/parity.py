"""Whether the exported graph gives the trained flow's score, on real windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from edgeflow.models.model import Model
from edgeflow_runtime.arrays import Array
from edgeflow_runtime.backends.protocol import Backend, nll_of
from edgeflow_runtime.errors import ParityError

MAX_DIFFERENCE = 1e-4
"""Nats per dimension; export refuses above it."""


@dataclass(frozen=True)
class Parity:
    """How far the exported graph is from the trained flow."""

    windows: int
    """Windows that were compared."""
    worst: float
    """Largest difference of a window's NLL, in nats per dimension."""
    worst_clip: str
    """The clip that window is of."""
    worst_window: int
    """Its number in that clip."""


def check_parity(flow: Model, backend: Backend, clips: dict[str, Array]) -> Parity:
    """Compare ``backend`` with the unfolded ``flow``, batch by batch and one window alone.

    Args:
        flow: the trained flow, on the CPU.
        backend: runs the exported graph.
        clips: (n, T, M) standardised windows by clip name.

    Raises:
        ParityError: a window differs by more than 1e-4 nats per dimension; the worst is named.
    """
    found = Parity(0, 0.0, "", 0)
    for name, windows in clips.items():
        exported = np.concatenate([backend.nll(windows[:1].copy()), nll_of(backend, windows[1:])])
        with torch.no_grad():
            parts = torch.split(torch.from_numpy(windows.copy()), backend.batch)
            trained = torch.cat([flow.score(part) for part in parts]).numpy()
        # A NaN on either side is as far apart as can be.
        difference = np.nan_to_num(np.abs(exported - trained), nan=np.inf)
        worst = int(difference.argmax())
        seen = found.windows + len(windows)
        if difference[worst] > found.worst or not found.windows:
            found = Parity(seen, float(difference[worst]), name, worst)
        else:
            found = Parity(seen, found.worst, found.worst_clip, found.worst_window)
    if found.worst > MAX_DIFFERENCE:
        raise ParityError(
            f"the exported graph differs from the trained flow by {found.worst:.2e} nats/dim on "
            f"window {found.worst_window} of '{found.worst_clip}'; at most {MAX_DIFFERENCE:.0e} "
            "is allowed"
        )
    return found
