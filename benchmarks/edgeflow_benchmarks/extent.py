"""How much is measured: the whole, or a smoke run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeflow.models.spec import ModelSpec


@dataclass(frozen=True)
class Extent:
    """How much of each thing, and how often."""

    clips: int
    """Different clips of ten seconds."""
    together: int
    """Clips scored in one go."""
    many: int
    """Clips of the command that scores many."""
    rounds: int
    """Repeats, where nothing else is said."""
    logmel_rounds: int
    """Repeats of log-Mel."""
    command_rounds: int
    """Repeats of a command."""
    matrix: int
    """Rows and columns of the square matrices."""
    windows: tuple[int, ...]
    """Batch sizes of windows."""
    sounds: tuple[int, ...]
    """Batch sizes of clips, for the graph that starts at the samples."""
    small: bool
    """Whether flows are small and goals are left out."""

    def specs(self) -> dict[str, ModelSpec]:
        """The flows that are measured, by the name that rows call them."""
        from edgeflow.models.glow import GlowSpec
        from edgeflow.models.maf import MAFSpec

        if self.small:
            return {
                "Glow": GlowSpec(blocks=2, steps=1, hidden=16),
                "MAF": MAFSpec(blocks=2, hidden=32),
            }
        return {"Glow": GlowSpec(), "MAF": MAFSpec()}

    def make_clips(self, folder: Path) -> list[Path]:
        """Synthesise the clips into ``folder``."""
        from edgeflow.synth import SynthSpec, synthesise

        synthesise(folder, SynthSpec(types=("fan",), machines=1, clips=self.clips))
        return sorted((folder / "fan" / "train").glob("*.wav"))


FULL = Extent(8, 4, 20, 7, 21, 5, 2048, (1, 16, 80), (1, 4), small=False)
QUICK = Extent(2, 2, 3, 2, 2, 1, 256, (1, 4), (1, 2), small=True)
