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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeflow_runtime.engines.record import RECORD_VERSION, EngineKey, EngineRecord
from edgeflow_runtime.errors import ConfigError, EngineError, StorageError
from edgeflow_runtime.storage import write_text


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
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise EngineError(f"'{path}' cannot be read: {self._mend}") from error
        version = document.get("record_version") if isinstance(document, dict) else None
        if version != RECORD_VERSION:
            raise EngineError(
                f"'{path}' has version {version}, this edgeflow reads {RECORD_VERSION}: "
                f"{self._mend}"
            )
        try:
            return EngineRecord.from_dict(document)
        except ConfigError as error:
            raise EngineError(f"'{path}': {error}: {self._mend}") from error

    def load(self, key: EngineKey) -> tuple[EngineRecord, bytes] | None:
        """The engine for ``key``, its hash checked; ``None`` if none was ever built.

        Raises:
            EngineError: the engine is stale, foreign, damaged, or has never run; it is named.
        """
        record = self.record(key.graph, key.backend)
        if record is None:
            return None
        path = self.folder / record.file
        differences = record.key.differences(key)
        if differences:
            raise EngineError(f"'{path}' was built for {'; for '.join(differences)}: {self._mend}")
        if record.proof is None:
            raise EngineError(f"'{path}' has never run (it is a {record.label}): {self._mend}")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise EngineError(f"'{path}' cannot be read: {error.strerror}: {self._mend}") from error
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise EngineError(f"'{path}' is damaged: its hash differs: {self._mend}")
        return record, content

    def keep(self, record: EngineRecord, candidate: Path) -> Path:
        """Put a built engine in its place; the one before stays until this moment.

        Args:
            record: what to say of it, with ``file`` as :meth:`name_for` gives it.
            candidate: the engine's file, in this folder; it is moved.

        Raises:
            StorageError: the disk refuses.
        """
        target = self.folder / record.file
        try:
            os.replace(candidate, target)
        except OSError as error:
            raise StorageError(f"'{target}' could not be written: {error.strerror}") from error
        sidecar = self._sidecar(record.key.graph, record.key.backend)
        write_text(sidecar, json.dumps(record.to_dict(), indent=2) + "\n")
        self._sweep(record)
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
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(f"'{self.folder}' cannot be written: {error.strerror}") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                builder = os.read(handle, 20).decode(errors="replace").strip() or "unknown"
                raise EngineError(
                    f"process {builder} is building engines of '{self.bundle}': wait for it"
                ) from error
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
            for left in self.folder.glob(".*.building"):
                left.unlink(missing_ok=True)
            yield
        finally:
            os.close(handle)

    @property
    def _mend(self) -> str:
        return f"run edgeflow build '{self.bundle}'"

    def _sidecar(self, graph: str, backend: str) -> Path:
        return self.folder / f"{graph}-{backend}.json"

    def _sweep(self, record: EngineRecord) -> None:
        """Remove the engines that the new one replaces."""
        for old in self.folder.glob(f"{record.key.graph}-{record.key.backend}-*.engine"):
            # "flow-tensorrt-rtx-..." also begins as "flow-tensorrt-": its hash part tells.
            name = old.name.removeprefix(f"{record.key.graph}-{record.key.backend}-")
            if old.name != record.file and "-" not in name:
                with suppress(OSError):
                    old.unlink()
