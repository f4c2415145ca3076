"""Text of other people's making, made fit to stand in a line on a terminal."""

from __future__ import annotations

LONGEST = 100
"""Characters of a value that are quoted."""


def printable(text: object) -> str:
    r"""``text`` with all that could break a line or steer a terminal written as Python writes it.

    File names, manifests and what a board says of itself may hold escape codes, line ends, marks
    that turn the direction of writing, and bytes that are no text.

    Example:
        >>> print(printable("fan\x1b[31m\nok"))
        fan\x1b[31m\nok
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in str(text))


def one_line(text: object) -> str:
    """``text`` as one printable line: an error, say, that a library wrote over several."""
    return printable(" ".join(line.strip() for line in str(text).splitlines()))


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


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode()
