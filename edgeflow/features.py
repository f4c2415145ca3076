"""Log-Mel features of a data set, computed once in parallel and kept by content."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edgeflow_runtime.clips import ARRAY_SUFFIX, ClipReader
from edgeflow_runtime.errors import AudioError, DataError, StorageError
from edgeflow_runtime.logmel import LogMel, LogMelSpec
from edgeflow_runtime.progress import track
from edgeflow_runtime.storage import write_bytes

Array = npt.NDArray[np.float32]


FEATURES_VERSION = 1
"""Raised when the same sound and parameters give other features, so that old ones are not used."""


def cache_root() -> Path:
    """Where features and pre-trained flows are kept: ``$EDGEFLOW_CACHE`` or the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("EDGEFLOW_CACHE") or Path(home) / "edgeflow")


class FeatureStore:
    """Reads clips as log-Mel, through a cache keyed by their content and the parameters.

    Args:
        spec: how log-Mel is computed.
        channel: the channel to listen to where a sound has several.
        min_rate_hz: the rate that faster recordings are brought down to first.
        root: the cache's folder.
    """

    def __init__(
        self,
        spec: LogMelSpec,
        channel: int | None = None,
        min_rate_hz: int = 0,
        root: Path | None = None,
    ) -> None:
        logmel = LogMel(spec)
        self._reader = ClipReader(spec.bands, logmel, min_rate_hz, channel, allow_clipped=True)
        parameters = json.dumps(
            [FEATURES_VERSION, spec.to_dict(), channel, min_rate_hz], sort_keys=True
        )
        version = hashlib.sha256(parameters.encode())
        version.update(logmel.window.tobytes() + logmel.filterbank.tobytes())
        self._folder = (root or cache_root()) / "logmel" / version.hexdigest()[:16]

    def read_all(self, paths: list[Path], label: str) -> list[Array]:
        """The log-Mel of every clip, in order: (frames, bands) float32 each.

        Raises:
            DataError: clips cannot be used; the first is named.
        """
        pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "edgeflow-logmel")
        try:
            results = pool.map(self._try_read, paths)
            found = list(track(results, f"log-Mel of {label}", len(paths)))
        finally:
            pool.shutdown(cancel_futures=True)
        faults = [result for result in found if isinstance(result, AudioError)]
        if faults:
            more = f" (and {len(faults) - 1} more clips)" if len(faults) > 1 else ""
            raise DataError(f"{faults[0]}{more}")
        return [result for result in found if not isinstance(result, AudioError)]

    def _try_read(self, path: Path) -> Array | AudioError:
        try:
            return self.read(path)
        except AudioError as error:
            return error

    def read(self, path: Path) -> Array:
        """The log-Mel of one clip, from the cache if it is there.

        Raises:
            AudioError: the clip cannot be read.
        """
        if path.suffix.lower() == ARRAY_SUFFIX:
            return self._reader.read(path)[0]
        kept = self._folder / f"{_content_key(path)}.safetensors"
        try:
            return load(kept.read_bytes())["logmel"]
        except (OSError, SafetensorError, KeyError):
            logmel = self._reader.read(path)[0]  # not there yet, or damaged: made anew
        try:
            write_bytes(kept, save({"logmel": logmel}))
        except StorageError as error:
            raise StorageError(f"{error}; choose another cache with EDGEFLOW_CACHE") from error
        return logmel


def _content_key(path: Path) -> str:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=20).hexdigest()
    except OSError as error:
        raise AudioError(f"'{path}' cannot be read: {error.strerror}") from error
