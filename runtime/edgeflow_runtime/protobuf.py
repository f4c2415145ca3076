"""The wire format of protocol buffers, read without believing it: fields, numbers and text.

Nothing is recursive, and what is large is not copied. What a lenient reader would merge, skip or
take the last of is refused, so that no two readers can see two things.

Source: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from typing import TypeAlias

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types; 3 and 4, the groups of old, are not read."""

SIZES = {FIXED64: 8, FIXED32: 4}

MOST_FIELDS = 1 << 16
"""Of one message: each becomes an object, which takes far more memory than the two bytes of the
smallest field. The graph of the largest flow has some thousands."""

Bytes: TypeAlias = "bytes | memoryview"
"""Slices of a ``memoryview`` copy nothing, those of ``bytes`` are faster where there is little."""

Message: TypeAlias = "dict[int, list[int | bytes | memoryview]]"
"""The values of each field, by its number: unsigned integers, or bytes."""


def message(content: Bytes, once: dict[int, int], often: dict[int, int]) -> Message:
    """The fields of a message, by number.

    Args:
        content: its bytes.
        once: wire types of the fields that may be there once, by number.
        often: those of repeated fields; of integers also many in one, packed.

    Raises:
        ValueError: it is none, another field is there, one has another type, or is there too often.

    Example:
        >>> message(bytes([8, 150, 1]), {1: VARINT}, {})
        {1: [150]}
    """
    found: Message = {}
    place, end = 0, len(content)
    for _ in range(MOST_FIELDS):
        if place == end:
            return found
        key, place = _varint(content, place)
        number, wire = key >> 3, key & 7
        wanted = often.get(number)
        if wanted is None:
            wanted = once.get(number)
            if wanted is None or number in found:
                raise ValueError(f"field {number} is there twice, or not one that is read here")
        value: int | Bytes
        value, place = _value(content, place, wire)
        if wire == wanted:
            found.setdefault(number, []).append(value)
        elif number in often and wanted == VARINT and not isinstance(value, int):
            found.setdefault(number, []).extend(_packed(value))
        else:
            raise ValueError(f"field {number} has wire type {wire}")
    raise ValueError(f"a message has more than {MOST_FIELDS} fields")


def _value(content: Bytes, place: int, wire: int) -> tuple[int | Bytes, int]:
    """An integer or some bytes, and where they end."""
    size = SIZES.get(wire, 0)
    if wire in (VARINT, BYTES):
        size, place = _varint(content, place)
        if wire == VARINT:
            return size, place
    if not size and wire != BYTES:
        raise ValueError(f"there is no wire type {wire} here")
    if size > len(content) - place:
        raise ValueError("a field is cut off")
    return content[place : place + size], place + size


def integer(found: Message, number: int, missing: int = 0) -> int:
    """A field's signed 64-bit integer."""
    return integers(found, number)[0] if number in found else missing


def integers(found: Message, number: int) -> list[int]:
    """The signed 64-bit integers of a repeated field."""
    values = [value for value in found.get(number, ()) if isinstance(value, int)]
    return [value - (1 << 64) if value >> 63 else value for value in values]


def text(found: Message, number: int) -> str:
    """A field's text; empty if it is missing. Raises :class:`ValueError` where it is none."""
    all_of_it = texts(found, number)
    return all_of_it[0] if all_of_it else ""


def texts(found: Message, number: int) -> list[str]:
    """The texts of a repeated field. Raises :class:`ValueError` where one is none."""
    return [str(value, "utf-8") for value in parts(found, number)]


def parts(found: Message, number: int) -> list[Bytes]:
    """The bytes of a field: messages, texts or data."""
    return [value for value in found.get(number, ()) if not isinstance(value, int)]


def _packed(content: Bytes) -> list[int]:
    """Many integers in one field; each has a byte at least."""
    if len(content) > MOST_FIELDS:
        raise ValueError(f"{len(content)} bytes of numbers are packed in one field")
    values, place = [], 0
    while place < len(content):
        value, place = _varint(content, place)
        values.append(value)
    return values


def _varint(content: Bytes, place: int) -> tuple[int, int]:
    """An unsigned integer of at most 64 bits, and where it ends."""
    if place < len(content) and (only := content[place]) < 128:  # most of them
        return only, place + 1
    value = 0
    for shift, byte in enumerate(content[place : place + 10]):
        if byte < 128:
            value |= byte << 7 * shift
            if value >> 64:
                break
            return value, place + shift + 1
        value |= (byte & 127) << 7 * shift
    raise ValueError("a number is cut off, or has more than 64 bits")
