"""Where normal ends: a threshold from the scores of normal clips that were kept from training."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.errors import ExportError
from edgeflow_runtime.manifest import Threshold

METHOD = (
    "upper prediction limit for one more normal clip: mean of the held-out clips, spread pooled "
    "over held-out and training clips, Student's t"
)


def threshold_from_scores(
    heldout: npt.NDArray[np.float64],
    learned: npt.NDArray[np.float64],
    false_alarm_probability: float,
    clip_seconds: float,
) -> Threshold:
    r"""The score that one more normal clip exceeds with the given probability.

    .. math:: \bar s_h + t_{\nu, 1-p} \, \hat\sigma \sqrt{1 + 1/n_h}, \quad
              \hat\sigma^2 = \frac{\sum_h (s - \bar s_h)^2 + \sum_l (s - \bar s_l)^2}{\nu}, \quad
              \nu = n_h + n_l - 2

    The mean comes from held-out clips alone, since a flow scores what it learned too well. Their
    spread alone is too uncertain when they are few, so that of the learned clips is pooled with it.

    Args:
        heldout: (n_h,) scores of held-out normal clips, at least one.
        learned: (n_l,) scores of the clips learned from, at least two.
        false_alarm_probability: p, between 0 and 0.5.
        clip_seconds: length of these clips, for the record.

    Raises:
        ExportError: there are too few clips, or a score is not finite.

    Source: G. Hahn, W. Meeker, "Statistical Intervals", Wiley 1991, section 4.8.
    """
    from scipy.stats import t

    if not 0 < false_alarm_probability < 0.5:
        raise ExportError(
            f"the false alarm probability lies between 0 and 0.5, found {false_alarm_probability}"
        )
    if len(heldout) < 1 or len(learned) < 2:
        raise ExportError(
            f"a threshold needs 1 held-out and 2 learned clips, found {len(heldout)} and "
            f"{len(learned)}"
        )
    if not (np.isfinite(heldout).all() and np.isfinite(learned).all()):
        raise ExportError("a normal clip's score is not finite: the flow cannot be deployed")
    freedom = len(heldout) + len(learned) - 2
    squares = np.sum((heldout - heldout.mean()) ** 2) + np.sum((learned - learned.mean()) ** 2)
    spread = math.sqrt(float(squares) / freedom)
    quantile = float(t.ppf(1 - false_alarm_probability, freedom))
    value = float(heldout.mean()) + quantile * spread * math.sqrt(1 + 1 / len(heldout))
    return Threshold(
        value=value,
        method=METHOD,
        false_alarm_probability=false_alarm_probability,
        heldout_clips=len(heldout),
        clip_seconds=clip_seconds,
    )
