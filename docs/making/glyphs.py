"""The small drawings in the pictures: a sound, its spectrogram, windows, networks, files."""

from __future__ import annotations

import math
from collections.abc import Sequence

COLUMNS, BANDS = 20, 10
"""Tiles of a spectrogram."""


def _path(points: Sequence[tuple[float, float]], colour: str, width: float = 1.4) -> str:
    way = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return (
        f'<path d="{way}" fill="none" stroke="var(--{colour})" stroke-width="{width}" '
        'stroke-linejoin="round"/>'
    )


def _box(
    x: float, y: float, w: float, h: float, colour: str, *, filled: float = 0.0, rx: float = 2
) -> str:
    """An outlined box, its inside as strong as ``filled`` (0 to 1)."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{rx:g}" '
        f'fill="var(--{colour})" fill-opacity="{filled:g}" stroke="var(--{colour})" '
        'stroke-width="1.2"/>'
    )


def wave(x: float, y: float, w: float, h: float, colour: str) -> list[str]:
    """A sound: a hum in which something knocks three times."""

    def level(t: float) -> float:
        knock = sum(math.exp(-16 * (t - at)) for at in (0.1, 0.42, 0.74) if t >= at)
        hum = 0.1 * math.sin(70 * t) + 0.06 * math.sin(143 * t + 1)
        return hum + 0.85 * knock * math.cos(150 * t)

    steps = int(3 * w)
    points = [(x + k / 3, y + h / 2 - h / 2 * level(k / steps)) for k in range(steps + 1)]
    return [_path(points, colour, 1)]


def _loudness(column: int, band: int) -> float:
    """A tile of the spectrogram of :func:`wave`, 0 to 1: two tones, and three broad knocks."""
    hum = 0.75 * math.exp(-((band - 2) ** 2) / 0.8) + 0.45 * math.exp(-((band - 5) ** 2) / 0.6)
    since = min((column - at) % COLUMNS for at in (3, 9, 15))
    return min(1.0, 0.08 + hum + 0.85 * math.exp(-since / 0.9) * (1 - 0.05 * band))


def spectrogram(
    x: float, y: float, w: float, h: float, colour: str, strength: float = 1.0
) -> list[str]:
    """Tiles of time and Mel bands in five steps of strength."""
    tile_w, tile_h = w / COLUMNS, h / BANDS
    steps: dict[int, list[str]] = {}
    for column in range(COLUMNS):
        for band in range(BANDS):
            left, top = x + column * tile_w, y + h - (band + 1) * tile_h
            square = f"M{left:.1f} {top:.1f}h{tile_w:.2f}v{tile_h:.2f}h-{tile_w:.2f}z"
            steps.setdefault(round(4 * _loudness(column, band)), []).append(square)
    return [
        f'<path d="{"".join(squares)}" fill="var(--{colour})" '
        f'fill-opacity="{strength * (0.08 + 0.23 * step):.2f}"/>'
        for step, squares in sorted(steps.items())
    ]


def windows(x: float, y: float, w: float, h: float, colour: str) -> list[str]:
    """A faded spectrogram, and windows that overlap on it."""
    boxes = [
        _box(x + 0.18 * w * k, y - 3 + 3 * k, 0.42 * w, h, colour, filled=0.0) for k in range(4)
    ]
    return spectrogram(x, y, w, h + 3, colour, 0.45) + boxes


def coupling(x: float, y: float, w: float, h: float, colour: str) -> list[str]:
    """Two couplings: each half shifts the other by a network."""
    upper, lower = y + 0.2 * h, y + 0.8 * h
    parts = [_path([(x, row), (x + w, row)], "line") for row in (upper, lower)]
    for at, start, end in ((0.28, upper, lower), (0.72, lower, upper)):
        middle = x + at * w
        parts.append(_path([(middle, start), (middle, end)], "line"))
        parts.append(_box(middle - 8, y + h / 2 - 7, 16, 14, colour, filled=0.25))
        parts.append(
            f'<circle cx="{middle:g}" cy="{end:g}" r="5" fill="var(--card)" '
            f'stroke="var(--{colour})" stroke-width="1.2"/>'
        )
        parts.append(_path([(middle - 3, end), (middle + 3, end)], colour, 1.2))
        parts.append(_path([(middle, end - 3), (middle, end + 3)], colour, 1.2))
    return parts


def judged(x: float, y: float, w: float, h: float, colour: str) -> list[str]:
    """Scores of clips as bars, a threshold, and one above it."""
    heights = (0.3, 0.42, 0.35, 0.28, 0.9, 0.4, 0.33)
    step, line = w / len(heights), y + 0.4 * h
    parts = []
    for k, share in enumerate(heights):
        top, left = y + h * (1 - share), x + k * step
        filled = 0.9 if top < line else 0.25
        parts.append(_box(left + 1, top, step - 3, h * share, colour, filled=filled, rx=1))
    threshold = f"M{x - 2:g} {line:g}h{w + 4:g}"
    return [*parts, f'<path class="way dashed" d="{threshold}" style="stroke: var(--ink)"/>']


def machines(x: float, y: float, w: float, h: float, colour: str) -> list[str]:
    """Recordings of four machines of a type; the first is the one to watch."""
    parts, row = [], h / 4
    for machine in range(4):
        top = y + machine * row
        tone = colour if machine == 0 else "line"
        for clip in range(5):
            left = x + clip * w / 5
            filled = 0.85 if machine == 0 else 0.2
            parts.append(_box(left, top, w / 5 - 3, row - 3.5, tone, filled=filled, rx=1.5))
    return parts


def strip(x: float, y: float, w: float, h: float, colour: str) -> list[str]:
    """One long tensor, its end hatched as held out, and windows as views into it."""
    top, tall, kept = y + 0.4 * h, 0.6 * h, 0.76 * w
    parts = spectrogram(x, top, kept, tall, colour, 0.8)
    for at in range(3, int(w - kept), 4):
        parts.append(_path([(x + kept + at - 3, y + h), (x + kept + at, top)], colour, 0.9))
    parts.append(_box(x, top, w, tall, colour, rx=0))
    for k in range(3):
        above = top - 4 - 4 * k
        parts.append(_path([(x + 6 * k, above), (x + 6 * k + 18, above)], colour, 1.6))
    return parts


def curves(x: float, y: float, w: float, h: float, colour: str) -> list[str]:
    """NLL by epoch: the target's falls, the outliers' rises."""
    steps = [k / 20 for k in range(21)]
    falling = [(x + t * w, y + h * (0.45 + 0.45 * (1 - math.exp(-4 * t)))) for t in steps]
    rising = [(x + t * w, y + h * (0.45 - 0.4 * (1 - math.exp(-3 * t)))) for t in steps]
    axes = _path([(x, y - 2), (x, y + h), (x + w, y + h)], "line", 1)
    dashed = _path(rising, "line").replace("<path", '<path stroke-dasharray="3 2.5"')
    return [axes, _path(falling, colour, 2), dashed]


def folding(x: float, y: float, w: float, h: float, colour: str) -> list[str]:
    """Seven layers become three."""
    parts, thin = [], 0.055 * w
    for k in range(7):
        filled = 0.8 if k % 3 == 1 else 0.15
        parts.append(_box(x + 1.35 * thin * k, y, thin, h, colour, filled=filled, rx=1))
    middle, row = x + 10.2 * thin, y + h / 2
    parts.append(_path([(middle, row), (middle + 8, row)], "ink"))
    parts.append(_path([(middle + 5, row - 3), (middle + 8, row), (middle + 5, row + 3)], "ink"))
    for k in range(3):
        left = x + w - (3 - k) * 1.6 * thin + 0.6 * thin
        parts.append(_box(left, y, thin, h, colour, filled=0.8, rx=1))
    return parts


def balance(x: float, y: float, w: float, h: float, colour: str) -> list[str]:
    """Two results weighed against each other."""
    middle, pan = x + w / 2, 0.3 * w
    parts = [
        _path([(middle, y), (middle, y + h), (middle - 8, y + h), (middle + 8, y + h)], colour),
        _path([(middle - pan, y + 5), (middle + pan, y + 5)], colour),
    ]
    for side in (-1, 1):
        at, low = middle + side * pan, y + 0.62 * h
        parts.append(_path([(at - 9, low), (at, y + 5), (at + 9, low)], colour, 1))
        parts.append(
            f'<path d="M{at - 10:g} {low:g}h20a10 7 0 0 1 -20 0z" fill="var(--{colour})" '
            'fill-opacity="0.6"/>'
        )
    return parts


def bits(x: float, y: float, w: float, h: float, colour: str) -> list[str]:
    """The same number in 32, 16 and 8 bits."""
    parts, row, step = [], h / 3, w / 16
    for k, count in enumerate((16, 8, 4)):
        for bit in range(count):
            strength = 0.9 if (7 * bit + 3 * k) % 5 < 2 else 0.3
            parts.append(
                f'<rect x="{x + bit * step:.1f}" y="{y + k * row:.1f}" width="{step - 1:.1f}" '
                f'height="{row - 3:.1f}" fill="var(--{colour})" fill-opacity="{strength}"/>'
            )
    return parts


def sheets(x: float, y: float, w: float, h: float, colour: str) -> list[str]:
    """A folder's files."""
    parts = []
    for k in range(3):
        left, top = x + k * w / 4, y + k * 4
        wide, tall, fold = w / 2.2, h - 8, 7
        outline = f"M{left:g} {top:g}h{wide - fold:g}l{fold} {fold}v{tall - fold:g}h-{wide:g}z"
        parts.append(
            f'<path d="{outline}" fill="var(--card)" stroke="var(--{colour})" stroke-width="1.3"/>'
        )
    left += 5
    for row in range(3):
        parts.append(
            _path([(left, top + 12 + 6 * row), (left + wide - 11, top + 12 + 6 * row)], colour, 1)
        )
    return parts


def chip(x: float, y: float, w: float, h: float, colour: str) -> list[str]:
    """A processor with its pins."""
    side = min(w, h) - 10
    left, top = x + (w - side) / 2, y + (h - side) / 2
    parts = [_box(left, top, side, side, colour, filled=0.2, rx=3)]
    parts.append(_box(left + 8, top + 8, side - 16, side - 16, colour, filled=0.7))
    for k in range(4):
        at = 5 + k * (side - 10) / 3
        for pin in (
            [(left + at, top - 5), (left + at, top)],
            [(left + at, top + side), (left + at, top + side + 5)],
            [(left - 5, top + at), (left, top + at)],
            [(left + side, top + at), (left + side + 5, top + at)],
        ):
            parts.append(_path(pin, colour))
    return parts


def tick(x: float, y: float, colour: str) -> str:
    """A tick about (x, y)."""
    return _path([(x - 5, y), (x - 1.5, y + 4), (x + 5, y - 5)], colour, 2.2)


def cross(x: float, y: float, colour: str) -> str:
    """A cross about (x, y)."""
    arms = f"M{x - 4:g} {y - 4:g}l8 8M{x + 4:g} {y - 4:g}l-8 8"
    return f'<path d="{arms}" fill="none" stroke="var(--{colour})" stroke-width="2.2"/>'


def question(x: float, y: float, colour: str) -> str:
    """A question mark about (x, y)."""
    return (
        f'<text x="{x:g}" y="{y + 6:g}" class="middle" '
        f'style="font-size: 17px; font-weight: 700; fill: var(--{colour})">?</text>'
    )
