"""How a picture is laid out: a column of cards, frames round them, stores beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drawing import Picture, arrow, card, flows, key, text
from glyphs import cross, tick

Glyph = Callable[[float, float, float, float, str], list[str]]

RUNTIME, WORKSTATION, EXPORT, DISK = "runtime", "workstation", "export", "disk"

ROOMS = {
    RUNTIME: "edgeflow_runtime",
    WORKSTATION: "edgeflow",
    EXPORT: "edgeflow_export",
    DISK: "on disk",
}


class Column:
    """Cards and the ways between them, from the top of a picture down."""

    def __init__(self, picture: Picture, x: float, w: float, y: float = 16) -> None:
        self.picture, self.x, self.w, self.y = picture, x, w, y

    def card(
        self, room: str, file: str, *words: str, glyph: Glyph | None = None
    ) -> tuple[float, float]:
        """Add a card, its glyph on the right; return where it begins and ends downwards."""
        top = self.y
        height = 14 + (17 if file else 0) + 15.5 * len(words)
        self.picture.add(*card(self.x, top, self.w, height, room, file=file, words=words))
        if glyph:
            tall = min(height - 16, 34)
            left = self.x + self.w - 66
            self.picture.add(*glyph(left, top + (height - tall) / 2, 54, tall, room))
        self.y = top + height
        return top, self.y

    def flows(self, what: str = "", shape: str = "", *, length: float = 25) -> None:
        """Add a way down, and what flows along it."""
        self.picture.add(*flows(self.x + 34, self.y, length, what, shape))
        self.y += length

    def skip(self, length: float) -> None:
        """Leave room."""
        self.y += length


def frame(
    picture: Picture, x: float, y: float, w: float, h: float, label: str, *, room: str
) -> None:
    """A dashed frame round the parts that one file puts together."""
    picture.add(
        f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="9" fill="none" '
        f'class="dashed" style="stroke: var(--{room})"/>',
        text(x + 12, y + 17, label, "file", room),
    )


def supply(
    picture: Picture,
    name: str,
    notes: Sequence[tuple[float, Sequence[str]]],
    *,
    top: float,
    bottom: float,
    room: str = DISK,
    both: bool = False,
) -> None:
    """A tall store on the right that hands each stage, at its height, what it needs.

    With ``both``, the stages put it there, too.
    """
    x, w, target = 318, 92, 296
    picture.add(*card(x, top, w, bottom - top, room))
    picture.add(text(x + 13, top + 19, name, "bold"))
    for y, lines in notes:
        picture.add(*arrow([(x, y), (target, y)]))
        if both:
            picture.add(*arrow([(target, y), (x, y)]))
        first = y + 4 - 7 * (len(lines) - 1)
        for k, line in enumerate(lines):
            picture.add(text(x + 13, first + 14 * k, line, "small"))


Outcome = tuple[str, str, Sequence[str]]
"""Room, file and words of what follows."""


def fork(picture: Picture, y: float, yes: Outcome, no: Outcome) -> float:
    """Two outcomes side by side below ``y``; returns where they end."""
    top, height = y + 30, 62.0
    for x, (room, file, words) in ((28, yes), (216, no)):
        refused = x != 28
        at = x + (94 if refused else 82)
        picture.add(*arrow([(at, y), (at, top)], dashed=refused))
        sign = cross(at - 14, y + 14, WORKSTATION) if refused else tick(at - 14, y + 14, RUNTIME)
        picture.add(sign, *card(x, top, 176, height, room, file=file, words=words))
    return top + height


def middle(span: tuple[float, float]) -> float:
    """Half way down a card."""
    return (span[0] + span[1]) / 2


def finish(picture: Picture, y: float, *rooms: str) -> Picture:
    """Close the picture with its key at ``y``."""
    picture.add(*key(y, [(room, ROOMS[room]) for room in rooms]))
    picture.height = y + 16
    return picture
