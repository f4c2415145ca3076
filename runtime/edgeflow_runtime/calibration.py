"""Where normal ends: a threshold from normal clips that the model has not learned, and its promise.

A promise is a rate of false alarms, p. With n clips, the k-th smallest score of k = ceil((n + 1)
(1 - p)) is exceeded by one more clip with probability p or less, whatever the scores' distribution:
so n clips carry 1 / (n + 1) and no less. Beyond that the tail is a guess, and said to be one: the
scores' distances from the likeliest sound are taken to be log-normal.
"""

from __future__ import annotations

import math
import re

import numpy as np

from edgeflow_runtime.arrays import Scores
from edgeflow_runtime.errors import ConfigError, DataError
from edgeflow_runtime.manifest import Threshold

CONFORMAL = "conformal: the {rank} smallest of {clips} scores"
STUDENT = (
    "extrapolated: Student's t on the logarithm of the distance from the likeliest sound; "
    "{clips} clips carry {carried:.2%} at best"
)

CONFIDENCE = 0.9
"""Of the interval in which the rate lies that a threshold really gives."""

DRAWS = 20_000
"""Of what n log-normal scores might have been, from which that interval is read."""

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800, "month": 2629800}

USUAL_FREEDOM = 10
"""What is known of a model's usual spread counts as much as that of so many clips and one."""


def threshold_from_scores(
    scores: Scores,
    false_alarm_probability: float,
    clip_seconds: float,
    least: float | None = None,
    usual_spread: float | None = None,
) -> Threshold:
    r"""The score that one more normal clip exceeds with the given probability at most.

    Beyond what the clips carry, with :math:`y = \log(s - s_0)`:

    .. math:: s_0 + \exp\Big(\bar y + t_{\nu, 1-p} \, \hat\sigma \sqrt{1 + 1/n}\Big), \quad
              \hat\sigma^2 = \frac{\nu_0 \sigma_0^2 + (n - 1) \hat\sigma_y^2}{\nu}, \quad
              \nu = \nu_0 + n - 1

    where few clips alone cannot tell how far scores spread, and the model's usual spread helps.

    Args:
        scores: (n,) of normal clips that were not learned, n at least 2.
        false_alarm_probability: p, between 0 and 0.5.
        clip_seconds: length of these clips, for the record.
        least: s_0, the score of the likeliest sound; the scores themselves are extrapolated if
            there is none.
        usual_spread: sigma_0, how far y usually spreads in this kind of model, if known.

    Raises:
        ConfigError: p is out of range.
        DataError: there are too few clips, or a score is not finite.

    Source: V. Vovk et al., "Algorithmic Learning in a Random World", Springer 2005, section 2.2;
    G. Hahn, W. Meeker, "Statistical Intervals", Wiley 1991, section 4.8.
    """
    p, n = false_alarm_probability, len(scores)
    if not 0 < p < 0.5:
        raise ConfigError(f"the rate of false alarms lies between 0 and 0.5, found {p}")
    if n < 2:
        raise DataError(f"a threshold needs 2 clips that were not learned, found {n}")
    if not np.isfinite(scores).all():
        raise DataError("a normal clip's score is not finite: the model cannot be deployed")
    if n >= fewest_clips(p):
        rank = math.ceil((n + 1) * (1 - p) - 1e-9)
        value = float(np.sort(scores)[rank - 1])
        method = CONFORMAL.format(rank=f"{rank}th", clips=n)
        low, high = _conformal_interval(n, rank)
    else:
        value, low, high = _extrapolated(scores, p, least, usual_spread)
        method = STUDENT.format(clips=n, carried=1 / (n + 1))
    return Threshold(value, method, p, n, clip_seconds, low, high, least, usual_spread)


def _extrapolated(
    scores: Scores, p: float, least: float | None, usual_spread: float | None
) -> tuple[float, float, float]:
    """A threshold beyond what the clips carry, and the interval of its rate."""
    from scipy.stats import t

    n = len(scores)
    logs = scores if least is None else np.log(np.maximum(scores - least, 1e-12))
    usual = 0.0 if least is None or usual_spread is None else usual_spread
    known = USUAL_FREEDOM if usual else 0
    variance = (known * usual**2 + (n - 1) * float(logs.var(ddof=1))) / (known + n - 1)
    reach = float(t.ppf(1 - p, known + n - 1)) * math.sqrt(1 + 1 / n)
    bound = float(logs.mean()) + reach * math.sqrt(variance)
    with np.errstate(over="ignore"):
        value = bound if least is None else least + float(np.exp(bound))
    if not math.isfinite(value):
        raise DataError(
            f"{n} clips say nothing of a rate of {percent(p)}, they can promise "
            f"{percent(1 / (n + 1))}: record more, or promise less"
        )
    return value, *_student_interval(n, reach, known)


def fewest_clips(false_alarm_probability: float) -> int:
    """How many clips carry a promise, whatever their scores' distribution.

    Example:
        >>> fewest_clips(0.01), fewest_clips(0.05)
        (99, 19)
    """
    return math.ceil(1 / false_alarm_probability - 1 - 1e-9)


def percent(share: float) -> str:
    """A share of clips as people write it, however small.

    Example:
        >>> percent(0.01), percent(1 / 60480)
        ('1%', '0.00165%')
    """
    return f"{100 * share:.3g}%"


def advice(threshold: Threshold) -> str | None:
    """What to say where fewer clips were heard than the promise needs; ``None`` if enough were."""
    return shortfall(threshold.heldout_clips, threshold.false_alarm_probability)


def shortfall(clips: int, false_alarm_probability: float) -> str | None:
    """:func:`advice` for so many clips that were not learned.

    Example:
        >>> shortfall(30, 0.01)
        '30 clips can promise 3.23%, not 1%: beyond, the tail is a guess; for 1% record 99'
    """
    p = false_alarm_probability
    if clips >= fewest_clips(p):
        return None
    return (
        f"{clips} clips can promise {percent(1 / (clips + 1))}, not {percent(p)}: beyond, the tail "
        f"is a guess; for {percent(p)} record {fewest_clips(p)}"
    )


def binomial_interval(count: int, of: int) -> tuple[float, float]:
    """Where a rate lies, with :data:`CONFIDENCE`, that showed itself ``count`` times ``of`` times.

    Raises:
        DataError: there were no times.

    Source: C. Clopper, E. Pearson, "The use of confidence or fiducial limits illustrated in the
    case of the binomial", Biometrika 26, 1934.

    Example:
        >>> low, high = binomial_interval(1, 30)
        >>> round(low, 3), round(high, 3)
        (0.002, 0.149)
    """
    from scipy.stats import beta

    if of < 1:
        raise DataError("a rate needs at least one clip, found none")
    tail = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, count, of - count + 1)) if count else 0.0
    return low, float(beta.ppf(1 - tail, count + 1, of - count)) if count < of else 1.0


def probability(rate: float | str | None, listen: str | None = None) -> float:
    """The share of clips that a rate of false alarms means.

    Args:
        rate: ``0.01``, ``"1%"``, or ``"1 per week"`` of clips that are judged every so often.
        listen: how often, as ``every 10 s``; for a rate per time, which needs it.

    Raises:
        ConfigError: the words say nothing, or no share between 0 and 0.5.

    Example:
        >>> probability("1%"), round(probability("1 per week", "every 10 s") * 60480, 9)
        (0.01, 1.0)
    """
    text = "" if rate is None else str(rate)
    if match := re.fullmatch(r"\s*([\d.eE+-]+)\s*(?:per|/|a)\s*([a-z]+?)s?\s*", text):
        if match[2] not in SECONDS:
            raise ConfigError(f"{text!r}: give a rate per {', '.join(SECONDS)}")
        if listen is None:
            raise ConfigError(f"{text!r}: say how often a clip is judged: --listen 'every 10 s'")
        value = _number(text, match[1]) * interval_seconds(listen) / SECONDS[match[2]]
    else:
        if listen is not None:
            raise ConfigError(
                f"--listen {listen!r} belongs to a rate per time, such as '1 per week'; found "
                f"{text!r}: leave it out"
            )
        percent = text.strip().endswith("%")
        value = _number(text, text.strip().removesuffix("%")) / (100 if percent else 1)
    if not 0 < value < 0.5:
        raise ConfigError(f"{text!r} is {value:.3g} of the clips; give more than 0, less than 0.5")
    return value


def interval_seconds(text: str) -> float:
    """The seconds in ``every 10 s``, ``10`` or ``2 minutes``. Raises :class:`ConfigError`."""
    match = re.fullmatch(r"\s*(?:every\s+)?(\d+\.?\d*|\.\d+)\s*([a-z]*)\s*", text)
    units = {"": 1, "s": 1, "min": 60, "h": 3600} | SECONDS
    unit = match[2] if match else "?"
    factor = units.get(unit, units.get(unit.removesuffix("s")))
    if match is None or factor is None or not float(match[1]) > 0:
        raise ConfigError(f"{text!r} says no interval: write 'every 10 s' or 'every 2 minutes'")
    return float(match[1]) * factor


def _number(text: str, digits: str) -> float:
    try:
        number = float(digits)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{text!r} is no rate: write 1%, 0.01 or '1 per week'")
    return number


def _conformal_interval(clips: int, rank: int) -> tuple[float, float]:
    """Where the true rate beyond the ``rank``-th smallest of ``clips`` scores lies."""
    from scipy.stats import beta

    tail = (1 - CONFIDENCE) / 2
    low, high = beta.ppf([tail, 1 - tail], clips + 1 - rank, rank)
    return float(low), float(high)


def _student_interval(clips: int, reach: float, known: int) -> tuple[float, float]:
    """Where the true rate lies, if the logarithms are normal and spread as they usually do."""
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    mean = rng.standard_normal(DRAWS) / math.sqrt(clips)
    spread = np.sqrt((known + rng.chisquare(clips - 1, DRAWS)) / (known + clips - 1))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(norm.sf(mean + reach * spread), [tail, 1 - tail])
    return float(low), float(high)
