"""Draws the four ways through the house into docs/pictures/: run it after a change."""

from __future__ import annotations

from pathlib import Path

from board_ways import bundle_to_engine, sound_to_verdict
from desk_ways import recordings_to_run, run_to_bundle
from drawing import Picture

PICTURES = Path(__file__).parent.parent / "pictures"

WAYS = (sound_to_verdict, recordings_to_run, run_to_bundle, bundle_to_engine)


def write(picture: Picture, folder: Path = PICTURES) -> None:
    """Put a picture into its file."""
    (folder / f"{picture.name}.svg").write_text(picture.svg(), encoding="utf-8")


if __name__ == "__main__":
    for draw in WAYS:
        write(draw())
