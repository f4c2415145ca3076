"""Log-Mel features of a data set, computed once in parallel and kept by content."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from platformdirs import user_cache_dir
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edgeflow_runtime.arrays import Frames
from edgeflow_runtime.clip_file import blamed_on, regular_size
from edgeflow_runtime.clip_reader import ClipReader
from edgeflow_runtime.errors import AudioError, DataError, StorageError
from edgeflow_runtime.logmel import LogMel
from edgeflow_runtime.logmel_array import ARRAY_SUFFIX
from edgeflow_runtime.manifest import Features
from edgeflow_runtime.progress import track
from edgeflow_runtime.storage import write_bytes

FEATURES_VERSION = 2
"""Raised when the same sound and parameters give other features, or are refused, so that old ones
are not used."""


def cache_root() -> Path:
    """Where features and pre-trained models are kept: ``$EDGEFLOW_CACHE`` or the user's cache."""
    return Path(os.environ.get("EDGEFLOW_CACHE") or user_cache_dir("edgeflow"))


class FeatureStore:
    """Reads clips as log-Mel, through a cache keyed by their content and the parameters.

    Args:
        features: what a monitor is fed; its channel is taken of every sound.
        root: the cache's folder.
    """

    def __init__(self, features: Features, root: Path | None = None) -> None:
        self.logmel = LogMel(features.logmel) if features.logmel else None
        self.reader = ClipReader(
            features.bands, features.intake(features.channel), allow_clipped=True
        )
        self._folder = (root or cache_root()) / "logmel" / _version(features, self.logmel)

    def read_all(self, paths: list[Path], label: str) -> list[Frames]:
        """The log-Mel of every clip, in order: (frames, bands) float32 each.

        Raises:
            DataError: clips cannot be used; the first is named.
        """
        pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "edgeflow-logmel")
        try:
            results = pool.map(self._try_read, paths)
            clips = list(track(results, f"log-Mel of {label}", len(paths)))
        finally:
            pool.shutdown(cancel_futures=True)
        faults = [result for result in clips if isinstance(result, AudioError)]
        if faults:
            more = f" (and {len(faults) - 1} more clips)" if len(faults) > 1 else ""
            raise DataError(f"{faults[0]}{more}")
        return [result for result in clips if not isinstance(result, AudioError)]

    def _try_read(self, path: Path) -> Frames | AudioError:
        try:
            return self.read(path)
        except AudioError as error:
            return error

    def read(self, path: Path) -> Frames:
        """The log-Mel of one clip, from the cache if it is there.

        Raises:
            AudioError: the clip cannot be read.
        """
        if path.suffix.lower() == ARRAY_SUFFIX:
            return self._made(path)
        kept = self._folder / f"{_content_key(path)}.safetensors"
        try:
            return load(kept.read_bytes())["logmel"]
        except (OSError, SafetensorError, KeyError):
            logmel = self._made(path)  # not there yet, or damaged: made anew
        try:
            write_bytes(kept, save({"logmel": logmel}))
        except StorageError as error:
            raise StorageError(f"{error}; choose another cache with EDGEFLOW_CACHE") from error
        return logmel

    def _made(self, path: Path) -> Frames:
        clip = self.reader.read(path)
        if clip.logmel is not None:
            return clip.logmel
        assert self.logmel is not None
        with blamed_on(str(path)):
            assert clip.samples is not None
            return self.logmel(clip.samples)


def _version(features: Features, logmel: LogMel | None) -> str:
    """A name for all that log-Mel depends on but the sound."""
    spec = features.logmel.to_dict() if features.logmel else None
    parameters = [FEATURES_VERSION, spec, features.channel, features.min_rate_hz]
    version = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    if logmel:
        version.update(logmel.window.tobytes() + logmel.filterbank.tobytes())
    return version.hexdigest()[:16]


def _content_key(path: Path) -> str:
    regular_size(path)
    digest = hashlib.blake2b(digest_size=20)
    with blamed_on(str(path)), path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
