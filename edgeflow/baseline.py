"""The one-second baseline that every flow is shown beside: Mahalanobis distance of the clip mean.

It is itself a linear flow: a Gaussian fitted to the mean log-Mel spectrum of each training clip. A
flow that does not beat it does not earn its watts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Array


class MahalanobisBaseline:
    """Distance of a clip's mean spectrum from those of the training clips.

    Args:
        clips: log-Mel (frames, bands) of each training clip.

    References:
        O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance
        matrices", Journal of Multivariate Analysis 88, 2004.
    """

    def __init__(self, clips: list[Array]) -> None:
        from sklearn.covariance import LedoitWolf

        self._gaussian = LedoitWolf().fit(_clip_means(clips))

    def scores(self, clips: list[Array]) -> npt.NDArray[np.float64]:
        """The squared Mahalanobis distance of each clip, (n,)."""
        distances: npt.NDArray[np.float64] = self._gaussian.mahalanobis(_clip_means(clips))
        return distances


def _clip_means(clips: list[Array]) -> npt.NDArray[np.float64]:
    return np.stack([clip.mean(axis=0, dtype=np.float64) for clip in clips])
