"""An archive is read only if it is nothing but a bundle's members, one behind the other."""

from __future__ import annotations

import io
import resource
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow_runtime.archive import END, ENTRY, LOCAL, MOST_MEMBERS, members_of
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.errors import BundleIntegrityError

PARTS = {"manifest.json": b"{}", "flow.onnx": b"x" * 40, "empty": b""}


def zipped(parts: dict[str, bytes] = PARTS, **options: object) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


names = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=60)


@given(
    st.dictionaries(names.filter(lambda n: n == n.strip("/")), st.binary(), min_size=1, max_size=9)
)
def test_what_was_stored_is_read(parts: dict[str, bytes]):
    found = members_of(memoryview(zipped(parts)))
    assert {name: bytes(content) for name, content in found.items()} == parts


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_byte_is_refused_or_means_nothing(data: st.DataObject):
    content = bytearray(zipped())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = members_of(memoryview(bytes(content)))
    except ValueError:
        return
    assert sum(map(len, found.values())) <= len(content)


@given(st.binary(max_size=400))
def test_anything_is_an_archive_or_none(content: bytes):
    with pytest.raises(ValueError, match="it "):
        members_of(memoryview(content + b"."))


def overlapped() -> bytes:
    """Two names of one content, as in zip bombs."""
    whole = zipped({"a": b"x" * 9})
    start = whole.index(b"PK\1\2")
    entry = whole[start : -END.size]
    other = entry.replace(b"a", b"b")
    end = END.pack(b"PK\5\6", 0, 0, 2, 2, 2 * len(entry), start, 0)
    return whole[:start] + entry + other + end


def twice() -> bytes:
    return zipped({"a": b"1", "b": b"2"}).replace(b"b", b"a")


class Unseekable(io.RawIOBase):
    """A pipe, into which zips are written with sizes behind the data."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, part: bytes) -> int:
        self.content += bytes(part)
        return len(part)


def streamed() -> bytes:
    pipe = Unseekable()
    with zipfile.ZipFile(pipe, "w") as archive:
        archive.writestr("a", b"1")
    return pipe.content


def patched(place: Callable[[bytes], int], kind: str, value: int) -> bytes:
    content = bytearray(zipped())
    struct.pack_into(kind, content, place(bytes(content)), value)
    return bytes(content)


def first(mark: bytes, offset: int) -> Callable[[bytes], int]:
    return lambda content: content.index(mark) + offset


def with_comment() -> bytes:
    return zipped()[:-2] + b"\2\0hi"


def hidden() -> bytes:
    """Something between the members and the directory."""
    content = zipped()
    start = content.index(b"PK\1\2")
    end = list(END.unpack(content[-END.size :]))
    end[6] += 4
    return content[:start] + b"evil" + content[start : -END.size] + END.pack(*end)


REFUSED = {
    "overlap": (overlapped, "b overlaps another member"),
    "twice": (twice, "holds 'a' twice"),
    "streamed": (streamed, "encrypted, streamed"),
    "encrypted": (lambda: patched(first(b"PK\1\2", 8), "<H", 1), "encrypted"),
    "compressed": (lambda: zipped(compression=zipfile.ZIP_DEFLATED), "is compressed"),
    "absurd size": (lambda: patched(first(b"PK\1\2", 24), "<L", 2**32 - 1), "is compressed"),
    "another size inside": (lambda: patched(first(b"PK\3\4", 22), "<L", 9), "not what the dir"),
    "another name inside": (lambda: patched(first(b"PK\3\4", 30), "<B", 65), "another name"),
    "another checksum": (lambda: patched(first(b"PK\1\2", 16), "<L", 9), "not what the directory"),
    "many": (lambda: zipped({f"{k}": b"" for k in range(MOST_MEMBERS + 1)}), "names 17 members"),
    "none": (lambda: zipped({}), "names 0 members"),
    "a million": (lambda: patched(first(b"PK\5\6", 8), "<HH"[:2], 60000), "elsewhere than it says"),
    "long name": (lambda: zipped({"a" * 65: b""}), "directory is damaged"),
    "escape codes": (lambda: zipped({"a\x1b[2J": b""}), r"names a member 'a\\x1b\[2J'"),
    "another language": (lambda: zipped({"ä": b""}), "names a member"),
    "comment": (with_comment, "does not end as an archive"),
    "before": (lambda: b"#!/bin/sh\n" + zipped(), "elsewhere than it says"),
    "behind": (lambda: zipped() + b"x", "does not end as an archive"),
    "between": (hidden, "something between its members"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_whatever_a_bundle_has_not_is_refused(fault: str):
    make, message = REFUSED[fault]
    with pytest.raises(ValueError, match=message):
        members_of(memoryview(make()))


def bomb(path: Path, names: int = 1400) -> Path:
    """2.2 MB that unpack to 3.1 GB where entries may overlap."""
    size = 1 << 21
    local = LOCAL.pack(b"PK\3\4", 20, 0, 0, 0, 33, 0, size, size, 4, 0)
    entries = b"".join(
        ENTRY.pack(b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, size, size, 4, 0, 0, 0, 0, 0, 0)
        + f"{k:04}".encode()
        for k in range(names)
    )
    body = local + b"0000" + b"x" * size
    path.write_bytes(
        body + entries + END.pack(b"PK\5\6", 0, 0, names, names, len(entries), len(body), 0)
    )
    return path


def little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))


def test_a_bomb_takes_no_more_memory_than_itself(tmp_path: Path):
    path = bomb(tmp_path / "bomb.edgeflow")
    with pytest.raises(BundleIntegrityError, match="names 1400 members"):
        Bundle.load(path)
    code = (
        "import sys, resource\n"
        "from edgeflow_runtime.bundle import Bundle\n"
        "from edgeflow_runtime.errors import BundleIntegrityError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: Bundle.load(sys.argv[1])\n"
        "except BundleIntegrityError: pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        env={"PYTHONPATH": ":".join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        preexec_fn=little_memory,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 3 * path.stat().st_size
