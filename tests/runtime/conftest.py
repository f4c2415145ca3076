"""What the runtime's tests stand on: committed bundles, sounds of their length, roots of boards.

These tests run on the base install, too, which can train and export nothing: neither torch nor onnx
is imported here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeflow.synth import SynthSpec, synthesise

BOARDS = Path(__file__).parent / "board" / "trees"
BUNDLES = Path(__file__).parents[1] / "bundles"


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the committed bundles, made by ``tests/bundles/make.py``: clips have a second."""
    folder = tmp_path_factory.mktemp("bundles")
    for path in BUNDLES.glob("*.edgeflow"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two fans and two valves, a few clips as long as those that these bundles learned from."""
    folder = tmp_path_factory.mktemp("data") / "sounds"
    synthesise(folder, SynthSpec(("fan", "valve"), machines=2, clips=6, seconds=1.0))
    return folder


@pytest.fixture(scope="session")
def bundle_path(bundles: Path) -> Path:
    """A MAF; its windows are 4 frames of 32 bands."""
    return bundles / "maf.edgeflow"


@pytest.fixture(scope="session")
def audio_bundle_path(bundles: Path) -> Path:
    """The same with the graph that starts at the samples."""
    return bundles / "maf_audio.edgeflow"


@pytest.fixture(scope="session")
def glow_path(bundles: Path) -> Path:
    """A Glow."""
    return bundles / "glow.edgeflow"


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
