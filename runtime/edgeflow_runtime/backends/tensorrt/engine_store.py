"""The folder of engines beside a bundle: written whole, read only if they fit this machine.

::

    fan_id_00.edgeflow
    fan_id_00.engines/
        flow-tensorrt.json               what stands there counts: it names the engine's file
        flow-tensorrt-1a2b3c4d5e6f.engine
        tensorrt.timing                  TensorRT's timing cache, to build faster the next time
        .lock                            held by whoever builds
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path

from edgeflow_runtime.backends.names import ENGINES, GRAPHS
from edgeflow_runtime.backends.tensorrt.engine_record import RECORD_VERSION, EngineKey, EngineRecord
from edgeflow_runtime.documents import parsed
from edgeflow_runtime.errors import ConfigError, EngineError, StorageError
from edgeflow_runtime.storage import make_folder, write_text

OURS = 0o644
"""Permissions of engines and records, whatever the umask."""

LEFT = re.compile(r"\.(\.[a-z-]+\.building\.|[a-z-]+\.building|[a-z-]+\.(json|timing)\.)")
"""What the names of half-written files begin with."""

LARGEST_SIDECAR = 100_000
"""Bytes; a record has about one thousand."""


class EngineStore:
    """The engines of one bundle.

    Args:
        bundle: path of the bundle; it need not exist.
    """

    def __init__(self, bundle: str | Path) -> None:
        self.bundle = Path(bundle)
        name = self.bundle.name.removesuffix(".edgeflow")
        self.folder = self.bundle.with_name(f"{name}.engines")

    def timing(self, backend: str) -> Path | None:
        """Where the timing cache of ``backend`` is kept; TensorRT-RTX has none."""
        return self.folder / "tensorrt.timing" if backend == "tensorrt" else None

    def record(self, graph: str, backend: str) -> EngineRecord | None:
        """What is said of the engine of ``graph`` for ``backend``; ``None`` if there is none.

        Raises:
            EngineError: the record is damaged or of a newer edgeflow.
        """
        path = self._sidecar(graph, backend)
        try:
            document = parsed(_read(path, LARGEST_SIDECAR))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, ConfigError) as error:
            raise EngineError(f"'{path}' cannot be read: {self._mend}") from error
        version = document.get("record_version") if isinstance(document, dict) else None
        if version != RECORD_VERSION:
            raise EngineError(
                f"'{path}' has version {version!r}, this edgeflow reads {RECORD_VERSION}: "
                f"{self._mend}"
            )
        try:
            record = EngineRecord.from_dict(document)
        except ConfigError as error:
            raise EngineError(f"'{path}': {error}: {self._mend}") from error
        expected = EngineKey(**{**record.key.to_dict(), "graph": graph, "backend": backend})
        if record.file != self.name_for(expected, record.sha256):
            raise EngineError(f"'{path}' names {record.file!r}, which is not its own: {self._mend}")
        return record

    def load(self, key: EngineKey) -> tuple[EngineRecord, bytes] | None:
        """The engine for ``key``, its hash checked; ``None`` if none was ever built.

        Raises:
            EngineError: the engine is stale, foreign, damaged, or has never run; it is named.
        """
        for _ in range(2):  # a build may put another engine in place between the two readings
            record = self.record(key.graph, key.backend)
            if record is None:
                return None
            path = self._fitting(record, key)
            try:
                content = _read(path)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                raise EngineError(f"'{path}' cannot be read: {error}: {self._mend}") from error
            if hashlib.sha256(content).hexdigest() != record.sha256:
                raise EngineError(f"'{path}' is damaged: its hash differs: {self._mend}")
            return record, content
        raise EngineError(f"'{path}' is missing: {self._mend}")

    def _fitting(self, record: EngineRecord, key: EngineKey) -> Path:
        """The engine's file, if the engine fits ``key`` and has run.

        Raises:
            EngineError: it does not.
        """
        path = self.folder / record.file
        differences = record.key.differences(key)
        if differences:
            raise EngineError(f"'{path}' was built for {'; for '.join(differences)}: {self._mend}")
        if record.proof is None:
            raise EngineError(f"'{path}' has never run (it is a {record.label}): {self._mend}")
        return path

    def keep(self, record: EngineRecord, candidate: Path) -> Path:
        """Put a built engine in its place; the one before stays until this moment.

        Args:
            record: what to say of it, with ``file`` as :meth:`name_for` gives it.
            candidate: the engine's file, in this folder; it is moved.

        Raises:
            StorageError: the disk refuses.
        """
        target = self.folder / record.file
        had = target.exists()
        try:
            os.chmod(candidate, OURS)
            os.replace(candidate, target)
        except OSError as error:
            raise StorageError(f"'{target}' could not be written: {error.strerror}") from error
        sidecar = self._sidecar(record.key.graph, record.key.backend)
        try:
            write_text(sidecar, json.dumps(record.to_dict(), indent=2) + "\n", OURS)
        except StorageError:
            if not had:
                target.unlink(missing_ok=True)
            raise
        self._sweep()
        return target

    def name_for(self, key: EngineKey, sha256: str) -> str:
        """The file name of an engine."""
        return f"{key.graph}-{key.backend}-{sha256[:12]}.engine"

    @contextmanager
    def building(self) -> Iterator[None]:
        """Hold the folder while an engine is built; what a killed build left is swept first.

        Raises:
            EngineError: another process is building here.
            StorageError: the folder cannot be written.
        """
        try:
            make_folder(self.folder, 0o755)
            handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(f"'{self.folder}' cannot be written: {error.strerror}") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                builder = os.read(handle, 20).decode(errors="replace").strip() or "unknown"
                raise EngineError(
                    f"process {builder} is building engines of '{self.bundle}': wait for it"
                ) from error
            except OSError as error:
                raise StorageError(f"'{self.folder}' cannot be locked: {error.strerror}") from error
            _check_owner(self.folder, self.folder.stat())
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
            self._sweep()
            yield
        finally:
            os.close(handle)

    @property
    def _mend(self) -> str:
        return f"run edgeflow build '{self.bundle}'"

    def _sidecar(self, graph: str, backend: str) -> Path:
        return self.folder / f"{graph}-{backend}.json"

    def _sweep(self) -> None:
        """Remove what a killed build left half-written, and engines that no record names."""
        named: set[str] = set()
        for graph, backend in product(GRAPHS, ENGINES):
            try:
                record = self.record(graph, backend)
            except EngineError:  # it may name any of its kind
                named |= {path.name for path in self.folder.glob(f"{graph}-{backend}-*")}
            else:
                named.add(record.file if record else "")
        for path in self.folder.iterdir():
            half = LEFT.match(path.name)
            if half or (path.suffix == ".engine" and path.name not in named):
                with suppress(OSError):
                    path.unlink()


def _read(path: Path, most: int | None = None) -> bytes:
    """The content of a plain file; nothing else, such as a pipe, which could keep us waiting.

    Raises:
        EngineError: others may write it.
        OSError: it is none, cannot be read, or is longer than ``most`` bytes.
        ValueError: the system takes no such name.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or (most is not None and status.st_size > most):
            raise OSError("it is no plain file, or too large")
        _check_owner(path.parent, path.parent.stat())
        _check_owner(path, status)
        return file.read()


def _check_owner(path: Path, status: os.stat_result) -> None:
    """Engines are executable code: whoever may write here could run theirs as this user.

    Raises:
        EngineError: others may.
    """
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid not in (0, os.geteuid()):
        raise EngineError(
            f"others may write '{path}', and engines are executable code: make it yours alone "
            f"(chmod go-w '{path}', or chown) and build again"
        )
