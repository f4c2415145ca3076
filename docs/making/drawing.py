"""What the pictures are drawn with: SVG that reads alike in light and dark, alone and in a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH = 420
"""Units across every picture: a phone shows them at three quarters, a desk at four thirds."""

SHOWN = 4 / 3
"""Pixels a unit where nothing narrows the picture."""

LIGHT = {
    "paper": "#f5f7f9",
    "card": "#ffffff",
    "ink": "#1b2129",
    "soft": "#535d69",
    "line": "#7b8794",
    "faint": "#d3d9e0",
    "runtime": "#0067a3",
    "workstation": "#b04a00",
    "export": "#00705a",
    "disk": "#535d69",
}
DARK = {
    "paper": "#151b23",
    "card": "#222a34",
    "ink": "#e8edf3",
    "soft": "#aab4c0",
    "line": "#7f8b99",
    "faint": "#3a4552",
    "runtime": "#62b6ee",
    "workstation": "#f0a13c",
    "export": "#45cda4",
    "disk": "#aab4c0",
}
"""Blue, orange and bluish green of Okabe and Ito, moved until text has a contrast of 4.5."""

TEXT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif'
MONO = (
    'ui-monospace, SFMono-Regular, Menlo, Consolas, "Noto Sans Mono", "DejaVu Sans Mono", monospace'
)

RULES = f"""\
.drawing text {{ font: 12px {TEXT}; fill: var(--ink); }}
.drawing .soft {{ fill: var(--soft); }}
.drawing .bold {{ font-weight: 600; }}
.drawing .mono {{ font: 11.5px {MONO}; }}
.drawing .file {{ font: 600 12px {MONO}; }}
.drawing .small {{ font-size: 10.5px; }}
.drawing .middle {{ text-anchor: middle; }}
.drawing .card {{ fill: var(--card); stroke: var(--faint); }}
.drawing .way {{ fill: none; stroke: var(--line); stroke-width: 1.5; }}
.drawing .dashed {{ stroke-dasharray: 4 3; }}
.drawing .tip {{ fill: var(--line); }}"""


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in colours.items())


def style() -> str:
    """The colours by the reader's system, and by the site's own switch where a picture is in it."""
    light, dark = _variables(LIGHT), _variables(DARK)
    return "\n".join(
        [
            f".drawing {{ {light} }}",
            f"@media (prefers-color-scheme: dark) {{ .drawing {{ {dark} }} }}",
            f'[data-md-color-scheme="default"] .drawing {{ {light} }}',
            f'[data-md-color-scheme="slate"] .drawing {{ {dark} }}',
            RULES,
        ]
    )


@dataclass
class Picture:
    """One drawing, from the top down: a title and a description for whoever cannot see it."""

    name: str
    """Of its file, and what its identifiers begin with."""
    title: str
    """What it shows, in a few words."""
    story: str
    """The whole way in sentences."""
    parts: list[str] = field(default_factory=list)
    """Its elements, one a line."""
    height: float = 0.0
    """Units down."""

    def add(self, *parts: str) -> None:
        """Draw over what is there."""
        self.parts.extend(parts)

    def svg(self) -> str:
        """The file's content."""
        name, height = self.name, round(self.height)
        size = f'width="{WIDTH * SHOWN:.0f}" height="{height * SHOWN:.0f}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" {size} '
                f'viewBox="0 0 {WIDTH} {height}" role="img" '
                f'aria-labelledby="{name}-title {name}-story">',
                f'<title id="{name}-title">{escape(self.title)}</title>',
                f'<desc id="{name}-story">{escape(self.story)}</desc>',
                f"<style>\n{style()}\n</style>",
                f'<rect width="{WIDTH}" height="{height}" rx="10" fill="var(--paper)"/>',
                *self.parts,
                "</svg>\n",
            ]
        )


def text(x: float, y: float, words: str, kind: str = "", colour: str | None = None) -> str:
    """A line of text that begins at (x, y); ``kind`` names classes of :data:`RULES`."""
    painted = f' style="fill: var(--{colour})"' if colour else ""
    classes = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{classes}{painted}>{escape(words, quote=False)}</text>'


def card(
    x: float, y: float, w: float, h: float, room: str, *, file: str = "", words: Sequence[str] = ()
) -> list[str]:
    """A piece of the house: its room as the colour of its edge, its file, and what it does."""
    parts = [
        f'<rect class="card" x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="6"/>',
        f'<path d="M{x + 6:g} {y:g}h-1a5 5 0 0 0 -5 5v{h - 10:g}a5 5 0 0 0 5 5h1z" '
        f'fill="var(--{room})"/>',
    ]
    left, line = x + 16, y + 20
    if file:
        parts.append(text(left, line, file, "file", room))
        line += 17
    for sentence in words:
        parts.append(text(left, line, sentence))
        line += 15.5
    return parts


def arrow(points: Sequence[tuple[float, float]], *, dashed: bool = False) -> list[str]:
    """A way along ``points`` with a tip at its end; the last stretch is level or upright."""
    (x0, y0), (x1, y1) = points[-2:]
    right, down = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
    ends = [*points[:-1], (x1 - 6 * right, y1 - 6 * down)]
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in ends)
    across, along = 4, 7
    wings = [
        (x1 - along * right + sign * across * down, y1 - along * down + sign * across * right)
        for sign in (1, -1)
    ]
    tip = " ".join(f"{x:g},{y:g}" for x, y in [(x1, y1), *wings])
    kind = "way dashed" if dashed else "way"
    return [f'<path class="{kind}" d="{path}"/>', f'<polygon class="tip" points="{tip}"/>']


def flows(x: float, y: float, length: float, what: str = "", shape: str = "") -> list[str]:
    """A downward arrow, and beside it what flows along it and its shape."""
    parts = arrow([(x, y), (x, y + length)])
    if what or shape:
        named = f'<tspan class="bold">{escape(what)}</tspan>' if what else ""
        shaped = f'<tspan class="mono soft" dx="6">{escape(shape)}</tspan>' if shape else ""
        parts.append(f'<text x="{x + 12:g}" y="{y + length / 2 + 4:g}">{named}{shaped}</text>')
    return parts


def key(y: float, rooms: Sequence[tuple[str, str]]) -> list[str]:
    """Which colour is which room, along the foot of a picture."""
    parts, x = [], 18.0
    for room, name in rooms:
        parts.append(
            f'<rect x="{x:g}" y="{y - 9:g}" width="6" height="12" rx="2" fill="var(--{room})"/>'
        )
        parts.append(text(x + 11, y + 1, name, "small soft"))
        x += 27 + 6.6 * len(name)
    return parts
