"""Roots of boards, built from the trees in ``board/trees``; bundles that somebody forged."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edgeflow_runtime.bundle import DIGEST, MANIFEST, canonical_digest

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


Forge = Callable[..., Path]


@pytest.fixture
def forge(bundle_path: Path, tmp_path: Path) -> Forge:
    """Writes the bundle with other members and another manifest, every hash right.

    ``edit`` changes the manifest's document in place; members are given by stem, as ``flow``.
    """
    return partial(forged, bundle_path, tmp_path / "forged.edgeflow")


@pytest.fixture
def forge_from(tmp_path: Path) -> Callable[[Path], Forge]:
    """The same with another bundle."""
    return lambda source: partial(forged, source, tmp_path / "forged.edgeflow")


def forged(
    source: Path,
    target: Path,
    edit: Callable[[dict[str, Any]], object] = lambda _: None,
    **members: bytes,
) -> Path:
    """See :func:`forge`."""
    with zipfile.ZipFile(source) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content |= {name: members[Path(name).stem] for name in content if Path(name).stem in members}
    document = json.loads(content.pop(MANIFEST))
    document["members"] = {n: hashlib.sha256(part).hexdigest() for n, part in content.items()}
    edit(document)
    document.pop(DIGEST)
    document[DIGEST] = canonical_digest(document)
    with zipfile.ZipFile(target, "w") as archive:
        for name, part in {MANIFEST: json.dumps(document).encode(), **content}.items():
            archive.writestr(name, part)
    return target
