"""How a machine's training clips are divided: to learn, to judge epochs by, to set a threshold."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgeflow.dataset import Machine

VALIDATION_SHARE = 0.1
"""Of the training clips, by which a trained model's epochs are judged."""

FEWEST_VALIDATED = 4
"""Clips of which one can be spared for that, beside two for the threshold and one to learn."""

FEWEST_STARTED = 6
"""Likewise where training starts from the linear flow, which is fitted to what is left."""


@dataclass(frozen=True)
class Split:
    """A machine's training clips in three sets that share none."""

    machine: Machine
    """The machine."""
    learn: list[Path]
    """Clips to learn from."""
    heldout: list[Path]
    """Clips kept aside to set the threshold with."""
    validation: list[Path] = field(default_factory=list)
    """Clips that tell which epoch is the best."""

    @property
    def unlearned(self) -> list[Path]:
        """All that was not learned from."""
        return self.validation + self.heldout


def split_clips(machine: Machine, share: float, seed: int, validation: float = 0.0) -> Split:
    """Divide the training clips.

    Of three clips and more ``share`` is held out, at least two; of four and more ``validation`` is
    kept to judge epochs by, at least one, if that leaves one to learn from. The choice depends on
    the seed and the machine alone, so every training of a type agrees.
    """
    clips, n = machine.train, len(machine.train)
    heldout = min(max(2, round(share * n)), n - 1) if n >= 3 and share else 0
    judging = 0
    if n >= FEWEST_VALIDATED and validation:
        judging = min(max(1, round(validation * n)), n - 1 - heldout)
    digest = hashlib.sha256(f"{machine.id.name} {seed}".encode()).digest()
    order = np.random.default_rng(list(digest)).permutation(n).tolist()
    sets = order[heldout + judging :], order[:heldout], order[heldout : heldout + judging]
    return Split(machine, *([clips[i] for i in sorted(chosen)] for chosen in sets))
