"""A machine's files under a root, read tolerantly and never from outside it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

READ_LIMIT = 64 << 20
"""Bytes at which reading stops: a list of all packages of a system has less than 10 million."""

LINK_LIMIT = 40
"""Links followed on one path; Linux too gives up after 40."""

LIBRARY_FOLDERS = (
    "opt/nvidia/l4t-gpu-libs/nvgpu",  # JetPack 7.2 and newer, Orin
    "opt/nvidia/l4t-gpu-libs/openrm",  # JetPack 7.2 and newer, Thor
    "usr/lib/aarch64-linux-gnu/nvidia",
    "usr/lib/aarch64-linux-gnu/tegra",  # JetPack 5 and older
    "usr/lib/aarch64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/local/lib",
    "usr/local/cuda/lib64",
    "usr/lib/wsl/lib",
)
"""Where libraries usually are; the loader's own list comes first."""


class RootedFiles:
    r"""Files under ``root`` as the machine that starts from this root would see them.

    Links are followed inside the root, absolute ones too, so nothing is read from the machine that
    looks. What is missing, in a loop of links or no plain file reads as ``None``; so does what may
    not be read, and ``unreadable`` then names it. Paths have no leading slash.

    Example:
        >>> from tempfile import mkdtemp
        >>> root = Path(mkdtemp())
        >>> (root / "release").symlink_to("/etc/release")
        >>> (root / "etc").mkdir()
        >>> _ = (root / "etc/release").write_text("36.4.3\n")
        >>> RootedFiles(root).text("release")
        '36.4.3'
    """

    def __init__(self, root: str | Path) -> None:
        self.root = os.path.realpath(root)
        self._unreadable: set[str] = set()

    @property
    def unreadable(self) -> tuple[str, ...]:
        """What exists but may not be read, sorted."""
        return tuple(sorted(self._unreadable))

    def real(self, path: str) -> str | None:
        """``path`` with all links followed, again without a leading slash; None in a loop."""
        done: list[str] = []
        pending = path.split("/")[::-1]
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                del done[-1:]  # above the root there is nothing
            elif part not in ("", "."):
                done.append(part)
                target = self._link("/".join(done))
                if target is not None:
                    links += 1
                    if links > LINK_LIMIT:
                        return None
                    del done[0 if target.startswith("/") else -1 :]
                    pending += target.split("/")[::-1]
        return "/".join(done)

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes | None:
        """The first ``limit`` bytes of a plain file."""
        real = self.real(path)
        if real is None:
            return None
        try:
            if not stat.S_ISREG(os.stat(self._host(real)).st_mode):
                return None
            with open(self._host(real), "rb") as file:
                return file.read(limit)
        except PermissionError:
            self._unreadable.add(path)
        except (OSError, ValueError):
            pass
        return None

    def text(self, path: str) -> str | None:
        """A plain file as text, undecodable bytes replaced, without NULs and spaces around it."""
        content = self.read(path)
        return None if content is None else content.decode(errors="replace").strip("\0 \t\r\n")

    def names(self, folder: str) -> list[str]:
        """The names in ``folder``, sorted; none if there is no such folder."""
        real = self.real(folder)
        try:
            return [] if real is None else sorted(os.listdir(self._host(real)))
        except PermissionError:
            self._unreadable.add(folder)
        except (OSError, ValueError):
            pass
        return []

    def is_full_file(self, path: str) -> bool:
        """Whether ``path`` is a plain file that is not empty.

        Containers hold empty files in place of the driver's libraries until they are started with
        NVIDIA's runtime.
        """
        real = self.real(path)
        try:
            status = None if real is None else os.stat(self._host(real))
        except (OSError, ValueError):
            return False
        return status is not None and stat.S_ISREG(status.st_mode) and status.st_size > 0

    def libraries(self, stem: str) -> Iterator[str]:
        """Paths of the libraries ``STEM.so.NUMBERS``, in the loader's order of folders."""
        pattern = re.compile(re.escape(stem) + r"\.so((\.\d{1,9})+)", re.ASCII)
        for folder in dict.fromkeys((*self._loader_folders(), *LIBRARY_FOLDERS)):
            for name in self.names(folder):
                if pattern.fullmatch(name) and self.is_full_file(f"{folder}/{name}"):
                    yield f"{folder}/{name}"

    def _loader_folders(self) -> Iterator[str]:
        for name in self.names("etc/ld.so.conf.d"):
            if name.endswith(".conf"):
                text = self.text(f"etc/ld.so.conf.d/{name}") or ""
                for line in text.splitlines():
                    if line.startswith("/"):
                        yield line.strip().strip("/")

    def _link(self, path: str) -> str | None:
        try:
            return os.readlink(self._host(path))
        except (OSError, ValueError):
            return None

    def _host(self, path: str) -> str:
        return os.path.join(self.root, path)
