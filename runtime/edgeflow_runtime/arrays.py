"""The arrays that flow through the house, named once by what they hold and how they are shaped."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]
"""float32 of any shape."""

Samples: TypeAlias = npt.NDArray[np.float32]
"""(n,) float32 sound of one channel, full scale is 1."""

Channels: TypeAlias = npt.NDArray[np.float32]
"""(n, channels) float32 sound, full scale is 1."""

Frames: TypeAlias = npt.NDArray[np.float32]
"""(frames, bands) float32 log-Mel, in dB."""

Windows: TypeAlias = npt.NDArray[np.float32]
"""(N, T, M) float32: what a flow sees, standardised; N windows of T frames and M bands."""

Rows: TypeAlias = npt.NDArray[Any]
"""(N, ...): what a graph takes, windows or the samples of whole clips."""

Nll: TypeAlias = npt.NDArray[np.float32]
"""(N,) float32, in nats per dimension; (clips, windows) of a graph that takes whole clips."""

NllMap: TypeAlias = npt.NDArray[np.float32]
"""(N, time cells, mel cells) float32 that adds up to :data:`Nll` over the cells."""

Scores: TypeAlias = npt.NDArray[np.float64]
"""(n,) float64, one a clip, higher is more anomalous."""
