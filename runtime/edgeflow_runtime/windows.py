"""How a clip's log-Mel frames are cut into the windows that a flow sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.config import StrictConfig
from edgeflow_runtime.errors import ConfigError


@dataclass(frozen=True)
class WindowSpec(StrictConfig):
    """The cut, the same in training, manifest and runtime.

    Example:
        >>> WindowSpec(frames=32, hop=4).count(313)
        71
    """

    frames: int
    """Frames in one window."""
    hop: int
    """Frames from the start of one window to the start of the next."""

    def __post_init__(self) -> None:
        if self.frames < 1 or self.hop < 1:
            raise ConfigError(
                f"a window needs at least 1 frame and a hop of at least 1, found "
                f"{self.frames} frames and hop {self.hop}"
            )

    def count(self, frames: int) -> int:
        """How many whole windows fit into ``frames`` frames."""
        return max(0, (frames - self.frames) // self.hop + 1)

    def views(self, logmel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """All windows of a clip, as a read-only view that copies nothing.

        Args:
            logmel: (frames, bands) float32.

        Returns:
            (N, self.frames, bands) float32, N = ``self.count(frames)``.
        """
        if len(logmel) < self.frames:
            return np.empty((0, self.frames, logmel.shape[1]), logmel.dtype)
        every = np.lib.stride_tricks.sliding_window_view(logmel, self.frames, axis=0)
        return every[:: self.hop].transpose(0, 2, 1)  # (N, T, M)
