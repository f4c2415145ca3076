"""Text of other people's making, made fit to stand in a line on a terminal."""

from __future__ import annotations

LONGEST = 100
"""Characters of a value that are quoted."""


def printable(text: str) -> str:
    r"""``text`` without what could break a line or steer a terminal.

    Example:
        >>> printable("fan\x1b[31m\nok")
        'fan [31m ok'
    """
    return "".join(c if c.isprintable() else " " for c in text)


def quoted(value: object) -> str:
    """A value as Python writes it, unless that is long or deep: then what it is.

    Example:
        >>> quoted("512"), quoted(10**400), quoted([[1]])
        ("'512'", 'a number of 1329 bits', 'a list')
    """
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__}"
    shown = repr(value)
    return printable(shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}...")
