"""Whatever is done to a bundle, what comes of it is a monitor or one line, in time and memory."""

from __future__ import annotations

import copy
import json
import os
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeflow_runtime import Scorer
from edgeflow_runtime.bundle import MANIFEST
from edgeflow_runtime.errors import EdgeflowError

SMALL = Path(__file__).parents[1] / "bundles" / "maf_audio.edgeflow"

Forge = Callable[..., Path]

unhurried = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

SECONDS = 20
"""A bundle that is refused, or loaded and proven, takes some milliseconds."""


def comes_to_something(path: Path) -> None:
    """A scorer or one line of ours, in time; anything else is raised."""
    started = time.monotonic()
    for audio_in in (False, True):
        with suppress(EdgeflowError):
            Scorer.load(path, audio_in=audio_in, workers=1).close()
    assert time.monotonic() - started < SECONDS


def members() -> dict[str, bytes]:
    with zipfile.ZipFile(SMALL) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


PARTS = {Path(name).stem: content for name, content in members().items() if name != MANIFEST}


@unhurried
@given(data=st.data())
def test_bytes_of_the_file(tmp_path: Path, data: st.DataObject):
    content = bytearray(SMALL.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = tmp_path / "b.edgeflow"
    path.write_bytes(content)
    comes_to_something(path)


@unhurried
@given(data=st.data())
def test_bytes_of_a_member_with_its_hashes_made_right(
    old: Callable[..., Path], data: st.DataObject
):
    name = data.draw(st.sampled_from(sorted(PARTS)))
    content = bytearray(PARTS[name])
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(
            st.integers(0, min(len(content) - 1, data.draw(st.sampled_from([99, 1 << 30]))))
        )
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    comes_to_something(old(**{name: bytes(content)}))


@unhurried
@given(names=st.permutations(sorted(PARTS)))
def test_members_in_each_other_s_place(old: Callable[..., Path], names: list[str]):
    comes_to_something(old(**dict(zip(names, PARTS.values(), strict=True))))


def places(document: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield at
    if isinstance(document, dict):
        for key, value in document.items():
            yield from places(value, (*at, key))


DOCUMENT = json.loads(members()[MANIFEST])
PLACES = [place for place in places(DOCUMENT) if place and place[0] not in ("sha256", "members")]

numbers = (
    st.integers(-3, 300)
    | st.sampled_from([2**k for k in range(8, 70)])
    | st.sampled_from([10**400, -1, 0])
    | st.floats()
)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(unhurried, max_examples=400)
@given(data=st.data())
def test_fields_of_the_manifest_with_its_hash_made_right(
    old: Callable[..., Path], data: st.DataObject
):
    def edit(document: dict[str, Any]) -> None:
        for _ in range(data.draw(st.integers(1, 3))):
            *folders, name = data.draw(st.sampled_from(PLACES))
            inner = document
            for folder in folders:
                inner = inner.get(folder) if isinstance(inner, dict) else None
            if isinstance(inner, dict):
                change = data.draw(st.sampled_from(["replace", "replace", "drop", "rename"]))
                value = inner.pop(name, None)
                if change == "replace":
                    inner[name] = data.draw(values)
                elif change == "rename":
                    inner[data.draw(st.text(max_size=5))] = copy.deepcopy(value)

    comes_to_something(old(edit))


@pytest.fixture
def old(tmp_path: Path, forge_from: Callable[..., Forge]) -> Callable[..., Path]:
    """Forges the small bundle with a graph that starts at the samples."""
    return forge_from(SMALL)


def bands_of(document: dict[str, Any], bands: int) -> None:
    document["features"]["logmel"]["bands"] = bands


MANY = [str(k) for k in range(200_000)]

HUNGRY = {
    "window of 2^40 frames": lambda d: d["view"].update(frames=1 << 40),
    "window of 2^16 frames": lambda d: d["view"].update(frames=1 << 16),
    "a hop of 1": lambda d: d["view"].update(hop=1),
    "frames of 2^16 samples": lambda d: d["features"]["logmel"].update(frame=1 << 16),
    "clips of 2^26 samples": lambda d: d["audio"].update(samples=1 << 26),
    "clips of 2^60 samples": lambda d: d["audio"].update(samples=1 << 60),
    "2^12 bands": lambda d: (
        d["features"].update(bands=4096),
        d["features"]["logmel"].update(bands=4096),
    ),
    "many versions": lambda d: d["training"].update(versions={str(k): "1" for k in range(200_000)}),
}


def little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))


@pytest.mark.parametrize("hunger", HUNGRY)
def test_what_asks_for_memory_gets_none(old: Callable[..., Path], hunger: str):
    path = old(HUNGRY[hunger])
    code = (
        "import sys\n"
        "from edgeflow_runtime import Scorer\n"
        "from edgeflow_runtime.errors import EdgeflowError\n"
        "for audio_in in (False, True):\n"
        "    try: Scorer.load(sys.argv[1], audio_in=audio_in, workers=1).close()\n"
        "    except EdgeflowError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        preexec_fn=little_memory,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2
