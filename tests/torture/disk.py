"""A disk that forgets what was not synced: the calls that a command made, played back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Call:
    """One call that reached a watched folder."""

    op: str
    """What was asked for, such as ``write``."""
    path: str
    """Of what."""
    other: str
    """The new name, of a rename."""
    offset: int
    """Where in the file; the new length of a resize."""
    content: bytes
    """What was written."""


@dataclass
class _File:
    now: bytearray = field(default_factory=bytearray)
    """What a reader sees."""
    synced: bytes = b""
    """What the disk surely holds."""


Entry = _File | None
"""What a name stands for: a file, or a folder."""


def calls_in(log: bytes) -> Iterator[Call]:
    """The calls that the preloaded library wrote down, in order."""
    place = 0
    while place < len(log):
        end = log.index(b"\n", place)
        op, path, other, offset, size = log[place:end].decode(errors="surrogateescape").split("\t")
        place = end + 1 + int(size)
        yield Call(op, path, other, int(offset), log[end + 1 : place])


class Disk:
    """Names and contents, as they are seen and as they would outlive a power cut.

    Args:
        root: a folder whose present content is safe.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.names: dict[str, Entry] = {self.root: None}
        for path in root.rglob("*"):
            content = None if path.is_dir() else path.read_bytes()
            self.names[str(path)] = None if content is None else _File(bytearray(content), content)
        self.synced = dict(self.names)
        self.faults: list[str] = []
        """Renames of a content that was not synced: after a power cut the old file is gone, and the
        new one is empty."""

    def play(self, call: Call) -> None:
        """Do what ``call`` does, if it can be done."""
        act = getattr(self, f"_{call.op}", None)
        inside = call.path == self.root or call.path.startswith(f"{self.root}/")
        if act and inside:
            act(call)

    def after_power_cut(self, *, names_kept: bool) -> dict[str, bytes | None]:
        """What stands then, ``None`` for a folder: of the contents only what was synced.

        Args:
            names_kept: whether the file system had written the folders of its own accord.
        """
        names = self.names if names_kept else self.synced
        kept = {self.root}
        for path in sorted(names):
            if path.rpartition("/")[0] in kept:
                kept.add(path)
        return {
            path[len(self.root) + 1 :]: None if (file := names[path]) is None else file.synced
            for path in sorted(kept - {self.root})
        }

    def lost(self) -> list[str]:
        """Files whose name or content would not outlive a power cut now."""
        left = self.after_power_cut(names_kept=False)
        seen = {p[len(self.root) + 1 :]: f for p, f in self.names.items() if f is not None}
        return [path for path, file in seen.items() if left.get(path) != bytes(file.now)]

    def _create(self, call: Call) -> None:
        if self._has_folder(call.path):
            self.names.setdefault(call.path, _File())

    def _truncate(self, call: Call) -> None:
        self._create(call)
        if file := self.names.get(call.path):
            file.now.clear()

    def _write(self, call: Call) -> None:
        if file := self.names.get(call.path):
            file.now[call.offset : call.offset + len(call.content)] = call.content

    def _resize(self, call: Call) -> None:
        if file := self.names.get(call.path):
            del file.now[call.offset :]

    def _fsync(self, call: Call) -> None:
        if file := self.names.get(call.path):
            file.synced = bytes(file.now)
            return
        for path in {*self.names, *self.synced}:
            if path.rpartition("/")[0] == call.path:
                if path in self.names:
                    self.synced[path] = self.names[path]
                else:
                    del self.synced[path]

    def _rename(self, call: Call) -> None:
        if call.path not in self.names:
            return
        file = self.names.pop(call.path)
        self.names[call.other] = file
        if file and file.synced != bytes(file.now):
            self.faults.append(f"{call.other} was renamed before it was synced")

    def _unlink(self, call: Call) -> None:
        self.names.pop(call.path, None)

    def _mkdir(self, call: Call) -> None:
        if self._has_folder(call.path):
            self.names.setdefault(call.path, None)

    def _rmdir(self, call: Call) -> None:
        if not any(path.startswith(f"{call.path}/") for path in self.names):
            self.names.pop(call.path, None)

    def _has_folder(self, path: str) -> bool:
        folder = path.rpartition("/")[0]
        return folder in self.names and self.names[folder] is None
