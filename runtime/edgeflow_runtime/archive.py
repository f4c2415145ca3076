"""Members of a zip archive, stored one after the other: what it says of itself is checked first.

Only what a bundle's writer makes is read: a few members, not compressed, one behind the other from
the first byte on, their directory, and nothing else. So members cannot overlap, nothing can hide
between them, and what is read can never be more than the file.

Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16.
"""

from __future__ import annotations

import struct
from binascii import crc32
from typing import NamedTuple

MOST_MEMBERS = 16
"""A bundle has four or five."""

LONGEST_NAME = 64
"""Bytes; the longest that a bundle has is ``frontend.safetensors``."""

LOCAL = struct.Struct("<4s5H3L2H")
ENTRY = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")


class _Entry(NamedTuple):
    """One member in the directory."""

    mark: bytes
    made_by: int
    needs: int
    flags: int
    method: int
    time: int
    date: int
    crc: int
    stored: int
    size: int
    name_length: int
    extra_length: int
    comment_length: int
    disk: int
    internal: int
    external: int
    place: int


def members_of(content: memoryview) -> dict[str, memoryview]:
    """The members of an archive by name, their checksums compared; nothing is copied.

    Raises:
        ValueError: it is no archive, or has anything that a bundle's has not.

    Example:
        >>> import io, zipfile
        >>> file = io.BytesIO()
        >>> with zipfile.ZipFile(file, "w") as archive:
        ...     archive.writestr("a.txt", "hello")
        >>> {name: bytes(part) for name, part in members_of(file.getbuffer()).items()}
        {'a.txt': b'hello'}
    """
    start, count = _directory(content)
    members: dict[str, memoryview] = {}
    place, entry_at, end = 0, start, len(content) - END.size
    for _ in range(count):
        name, entry, entry_at = _entry(content, entry_at, end)
        if name in members:
            raise ValueError(f"it holds {name!r} twice")
        members[name] = _stored(content, name, entry, place)
        place += LOCAL.size + entry.name_length + entry.size
    if (place, entry_at) != (start, end):
        raise ValueError("there is something between its members and its end")
    return members


def _directory(content: memoryview) -> tuple[int, int]:
    """Where the directory begins, and how many members it names."""
    end = len(content) - END.size
    if end < 0:
        raise ValueError("it is too short")
    mark, *disks, here, count, size, start, comment = END.unpack_from(content, end)
    if mark != b"PK\5\6" or comment:
        raise ValueError("it does not end as an archive does")
    if any(disks) or here != count or start + size != end:
        raise ValueError("its end is elsewhere than it says")
    if not 1 <= count <= MOST_MEMBERS:
        raise ValueError(f"it names {count} members, a bundle has at most {MOST_MEMBERS}")
    return start, count


def _entry(content: memoryview, at: int, end: int) -> tuple[str, _Entry, int]:
    """A member's name, what the directory says of it, and where the next entry begins."""
    if at + ENTRY.size > end:
        raise ValueError("its directory is cut off")
    entry = _Entry(*ENTRY.unpack_from(content, at))
    after = at + ENTRY.size + entry.name_length
    if entry.mark != b"PK\1\2" or not 1 <= entry.name_length <= LONGEST_NAME or after > end:
        raise ValueError("its directory is damaged")
    name = str(content[at + ENTRY.size : after], "latin-1")
    if not name.isascii() or not name.isprintable():
        raise ValueError(f"it names a member {name!r}")
    if entry.method or entry.stored != entry.size:
        raise ValueError(f"{name} is compressed")
    if entry.flags or entry.extra_length or entry.comment_length or entry.disk:
        raise ValueError(f"{name} is encrypted, streamed or otherwise not as a bundle has it")
    return name, entry, after


def _stored(content: memoryview, name: str, entry: _Entry, place: int) -> memoryview:
    """A member's content, which must begin at ``place``."""
    start = place + LOCAL.size + entry.name_length
    if entry.place != place or start + entry.size > len(content):
        raise ValueError(f"{name} overlaps another member, or is not where it should be")
    mark, _, flags, method, _, _, crc, stored, size, name_length, extra = LOCAL.unpack_from(
        content, place
    )
    said = (flags, method, crc, stored, size, name_length, extra)
    if mark != b"PK\3\4" or said != (0, 0, entry.crc, entry.size, entry.size, len(name), 0):
        raise ValueError(f"{name} is not what the directory says")
    if content[start - len(name) : start] != name.encode():
        raise ValueError(f"{name} has another name where it lies")
    member = content[start : start + entry.size]
    if crc32(member) != entry.crc:
        raise ValueError(f"{name} is damaged: its checksum differs")
    return member
