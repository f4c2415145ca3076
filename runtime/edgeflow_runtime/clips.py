"""From a clip's file to its log-Mel, whether the file holds sound or log-Mel itself."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.audio import SOUND_SUFFIXES, check_audible, read_sound
from edgeflow_runtime.errors import AudioError
from edgeflow_runtime.logmel import LogMel
from edgeflow_runtime.windows import WindowSpec

Array = npt.NDArray[np.float32]

ARRAY_SUFFIX = ".npy"
"""Files that hold (frames, bands) float32 log-Mel in place of sound."""

NPY_MAGIC = b"\x93NUMPY"
"""What such a file begins with."""

HEADER_LOCK = threading.Lock()
"""NumPy reads a header with Python's parser, which in 3.11 fails when threads take turns in it."""

CLIP_SUFFIXES = (*SOUND_SUFFIXES, ARRAY_SUFFIX)
"""Files that are clips."""


@dataclass(frozen=True)
class ClipReader:
    """Reads clips the way one monitor listens."""

    bands: int
    """Mel bands that it expects."""
    logmel: LogMel | None
    """How it turns sound into log-Mel; ``None`` if it only takes arrays."""
    min_rate_hz: int = 0
    """Recordings at a lower rate are refused, faster ones brought down to it first."""
    channel: int | None = None
    """The channel to listen to."""
    allow_clipped: bool = False
    """Whether clipped sounds are read, too: an evaluation must not leave out the loud ones."""
    usual_channel: int | None = None
    """The channel of sounds with several that is taken if none is chosen."""

    def read(self, path: str | Path) -> tuple[Array, float]:
        """The log-Mel of a clip, and its seconds (NaN where an array does not tell).

        Returns:
            (frames, bands) float32.

        Raises:
            AudioError: the clip cannot be read or judged.
        """
        path = Path(path)
        if path.suffix.lower() == ARRAY_SUFFIX:
            return read_logmel_array(path, self.bands), float("nan")
        samples, seconds = self.read_samples(path)
        return self.listen(str(path), samples), seconds

    def read_samples(self, path: str | Path) -> tuple[Array, float]:
        """The sound of a clip, and its seconds.

        Returns:
            (n,) float32 at the monitor's rate.

        Raises:
            AudioError: the clip cannot be read, or is no sound.
        """
        if self.logmel is None or Path(path).suffix.lower() == ARRAY_SUFFIX:
            wanted = (
                "the graph that runs starts at the samples: it takes sound"
                if self.logmel
                else "this monitor was trained on log-Mel arrays made elsewhere: give it "
                f"{ARRAY_SUFFIX} files of (frames, {self.bands}) float32"
            )
            raise AudioError(f"'{path}' is {'no sound' if self.logmel else 'sound'}, but {wanted}")
        samples = read_sound(
            path,
            self.logmel.spec.rate_hz,
            self.channel,
            usual_channel=self.usual_channel,
            min_rate_hz=self.min_rate_hz,
        )
        return samples, len(samples) / self.logmel.spec.rate_hz

    def listen(self, name: str, samples: Array) -> Array:
        """(n,) float32 samples at the monitor's rate to (frames, bands) log-Mel.

        Raises:
            AudioError: the sound is silent, clipped or too short; ``name`` says which one.
        """
        if self.logmel is None:
            raise AudioError(f"'{name}' is sound, but this monitor takes log-Mel arrays only")
        check_audible(name, samples, allow_clipped=self.allow_clipped)
        fewest = self.logmel.spec.frame // 2 + 1
        if len(samples) < fewest:
            raise AudioError(f"'{name}' is too short: {len(samples)} of {fewest} samples needed")
        return self.logmel(samples)


def check_length(name: str, logmel: Array, window: WindowSpec) -> None:
    """Refuse a clip that does not fill one window. Raises :class:`AudioError`."""
    if len(logmel) < window.frames:
        raise AudioError(
            f"'{name}' is too short: it has {len(logmel)} frames, one window takes {window.frames}"
        )


def read_logmel_array(path: Path, bands: int) -> Array:
    """Read (frames, bands) float32 log-Mel from a ``.npy`` file.

    Raises:
        AudioError: the file is missing, damaged, of another shape or type, or holds a NaN.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(NPY_MAGIC)) != NPY_MAGIC:
                raise AudioError(f"'{path}' is not a NumPy array")
            file.seek(0)
            with HEADER_LOCK:
                array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"'{path}' is not a whole NumPy array: {reason}") from error
    if array.ndim != 2 or array.shape[1] != bands or array.dtype != np.float32:
        raise AudioError(
            f"'{path}' holds {array.dtype} of shape {array.shape}; "
            f"expected float32 of shape (frames, {bands})"
        )
    if not np.isfinite(array).all():
        raise AudioError(f"'{path}' holds values that are NaN or infinite")
    if np.ptp(array) == 0:
        raise AudioError(f"'{path}' is silent: all its values are equal")
    return np.ascontiguousarray(array)


def find_clips(paths: list[Path]) -> list[Path]:
    """The clips that ``paths`` name: files as given, folders searched in sorted order."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in CLIP_SUFFIXES)
        if not inside:
            raise AudioError(f"'{path}' holds no clip ({', '.join(CLIP_SUFFIXES)})")
        found.extend(inside)
    return found
