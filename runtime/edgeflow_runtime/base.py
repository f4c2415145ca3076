"""What machines of a type are enrolled from: clips of their sisters, as the view measures them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Array
from edgeflow_runtime.bundle import SISTER
from edgeflow_runtime.errors import DataError
from edgeflow_runtime.linear_fit import Rows
from edgeflow_runtime.manifest import Enrolment

FEWEST_SISTERS, FEWEST_OF_EACH = 2, 3
"""Fewer machines do not tell how machines differ; fewer clips not how clips do."""

SAME = 1e-3
"""Standardised rows of one clip differ by less, computed on two machines (1.1e-8 on the 28 clips
of the MIMII subset's fans, written and read); those of two of these clips by 2 and more."""


@dataclass(frozen=True, eq=False)
class Base:
    """Standardised rows, one a clip."""

    sisters: dict[str, Rows]
    """(n, D) rows of each machine of the type, by name."""
    floor: npt.NDArray[np.float64]
    """(D,) the least spread of each dimension."""
    own: Rows
    """(n, D) rows of the machine's own clips; none of a base."""

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> Base:
        """As :meth:`tensors` wrote it."""
        exact = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
        sisters = {k.removeprefix(SISTER): v for k, v in exact.items() if k.startswith(SISTER)}
        return cls(sisters, exact["floor"], exact["own"])

    def tensors(self) -> dict[str, Array]:
        """float32, by the names that a bundle has for them."""
        named = {SISTER + name: rows for name, rows in self.sisters.items()}
        every = {"floor": self.floor, "own": self.own, **named}
        return {name: rows.astype(np.float32) for name, rows in every.items()}

    def record(self, blend: float, unlike: tuple[str, ...] = ()) -> Enrolment:
        """What the manifest says of it."""
        sisters = {name: len(rows) for name, rows in self.sisters.items()}
        return Enrolment(sisters, len(self.own), blend, unlike)

    def check_new(self, names: Sequence[str], rows: Rows) -> None:
        """Refuse clips that are known already: they would look better known than they are.

        Args:
            names: of the clips.
            rows: (n, D) of them.

        Raises:
            DataError: one is a sister's, or the machine's own, or is there twice.
        """
        known = {"enrolled already": self.own}
        known |= {f"a clip of the sister {name}": theirs for name, theirs in self.sisters.items()}
        seen = [(row, what) for what, of in known.items() for row in of]
        for name, row in zip(names, rows, strict=True):
            if (what := next((what for one, what in seen if _same(one, row)), None)) is not None:
                raise DataError(
                    f"'{name}' is {what}: give clips that neither base nor machine has learned, "
                    "each once"
                )
            seen.append((row, f"the same as '{name}'"))

    def check(self) -> None:
        """Refuse too few sisters, or too few clips of one. Raises :class:`DataError`."""
        if len(self.sisters) < FEWEST_SISTERS:
            raise DataError(
                f"a base needs {FEWEST_SISTERS} machines of a type or more, found "
                f"{len(self.sisters)}: it learns from them how machines differ"
            )
        for name, rows in self.sisters.items():
            if len(rows) < FEWEST_OF_EACH:
                raise DataError(
                    f"{name} has {len(rows)} training clip(s); a base needs at least "
                    f"{FEWEST_OF_EACH} of each machine: add some, or leave the machine out"
                )


def _same(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> bool:
    """Whether two rows are of one clip, though computed on two machines."""
    return bool(np.abs(one - other).max() < SAME)
