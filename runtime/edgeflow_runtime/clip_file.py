"""A clip's file before anything is read from it: there, regular, and whatever fails is its own."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeflow_runtime.errors import AudioError, EdgeflowError


@contextmanager
def blamed_on(name: str) -> Iterator[None]:
    """Make whatever goes wrong with one clip an error of that clip, so that others are judged.

    A library that is missing is nobody's clip's fault, and passes.

    Raises:
        AudioError: anything went wrong; the class of what was raised is named.

    Example:
        >>> with blamed_on("fan.wav"):
        ...     raise MemoryError
        Traceback (most recent call last):
        edgeflow_runtime.errors.AudioError: 'fan.wav' cannot be judged: MemoryError
    """
    try:
        yield
    except (EdgeflowError, ImportError):
        raise
    except OSError as error:
        raise AudioError(f"'{name}' cannot be read: {error.strerror or error}") from error
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(" :.")
        raise AudioError(f"'{name}' cannot be judged: {text}") from error


def regular_size(path: Path) -> int:
    """The bytes of a file that may be opened: a pipe or a device would have us wait for ever.

    Raises:
        AudioError: it is missing, empty, or no regular file.
    """
    with blamed_on(str(path)):
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise AudioError(f"'{path}' is missing") from error
    if not stat.S_ISREG(found.st_mode):
        raise AudioError(f"'{path}' is not a file")
    if found.st_size == 0:
        raise AudioError(f"'{path}' is empty")
    return found.st_size
