"""Writing files so that each is either whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from edgeflow_runtime.errors import StorageError


@contextmanager
def atomic_file(path: str | Path, mode: int | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its place once the block ends well.

    The content is flushed to the disk before the rename, so after a crash or a full disk ``path``
    holds either its old content or the whole new one.

    Args:
        path: the file.
        mode: its permissions; as the system makes them if not given.

    Raises:
        StorageError: the folder cannot be made or the disk refuses the write.

    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> with atomic_file(folder / "score.txt") as file:
        ...     _ = file.write(b"-1.5")
        >>> (folder / "score.txt").read_bytes()
        b'-1.5'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        make_folder(path.parent)
        with open(temporary, "xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"'{path}' could not be written: {reason}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make ``folder`` and those above it, if missing, so that they outlive a power cut.

    Args:
        folder: the folder.
        mode: its permissions, less what the umask takes.

    Raises:
        OSError: it cannot be made.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(mode, parents=True, exist_ok=True)
    for place in made:
        _sync_folder(place.parent)


def _sync_folder(folder: Path) -> None:
    """Make what was named in ``folder`` outlive a power cut, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path: str | Path, content: bytes, mode: int | None = None) -> None:
    """Write ``content`` to ``path``, whole or not at all. Raises :class:`StorageError`."""
    with atomic_file(path, mode) as file:
        file.write(content)


def write_text(path: str | Path, text: str, mode: int | None = None) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all. Raises :class:`StorageError`."""
    write_bytes(path, text.encode(), mode)
