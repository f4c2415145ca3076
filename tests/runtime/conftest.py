"""Roots of boards, built from the trees in ``board/trees``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

BOARDS = Path(__file__).parent / "board" / "trees"


@pytest.fixture
def plant(tmp_path: Path) -> Callable[[str], Path]:
    """Build the root of a board by name: its files, then its links as on the real board."""

    def build(name: str) -> Path:
        root = tmp_path / name
        shutil.copytree(BOARDS / name, root)
        for line in (BOARDS / f"{name}.links").read_text().splitlines():
            path, target = line.split(" -> ")
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(target)
        return root

    return build
