"""Log-Mel that was made elsewhere: read or handed over, and refused where it is none."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Frames
from edgeflow_runtime.clip_file import blamed_on, regular_size
from edgeflow_runtime.errors import AudioError
from edgeflow_runtime.hearing import FAULTY_SHARE

ARRAY_SUFFIX = ".npy"
"""Files that hold (frames, bands) float32 log-Mel in place of sound."""

NPY_MAGIC = b"\x93NUMPY"
"""What such a file begins with."""

QUIETEST_DB, LOUDEST_DB = -400.0, 300.0
"""What log-Mel can be. Ours lies from -157 dB (its floor) to 55 dB (full scale), and to 135 dB with
the loudest samples that are taken. Made elsewhere, the smallest power that float32 holds is -379
dB, and 32-bit integers at full scale in frames of 8192 samples come to 259 dB."""

HEADER_LOCK = threading.Lock()
"""NumPy reads a header with Python's parser, which in 3.11 fails when threads take turns in it."""


def read_logmel_array(path: Path, bands: int) -> Frames:
    """Read (frames, bands) float32 log-Mel from a ``.npy`` file.

    Raises:
        AudioError: the file is missing or damaged, or :func:`check_logmel` refuses what it holds.
    """
    regular_size(path)
    with blamed_on(str(path)), path.open("rb") as file:
        if file.read(len(NPY_MAGIC)) != NPY_MAGIC:
            raise AudioError(f"'{path}' is not a NumPy array")
        file.seek(0)
        array = _load(path, file)
    return check_logmel(str(path), array, bands)


def _load(path: Path, file: BinaryIO) -> npt.NDArray[Any]:
    try:
        with HEADER_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that Python 2 wrote it
            array: npt.NDArray[Any] = np.load(file, allow_pickle=False)
    except Exception as error:  # it parses the header as Python, which fails in many ways
        text = " ".join(str(error).split())
        raise AudioError(
            f"'{path}' is not a whole NumPy array: {type(error).__name__}: {text}"
        ) from error
    return array


def check_logmel(name: str, array: npt.NDArray[Any], bands: int) -> Frames:
    """Log-Mel as a monitor takes it, contiguous in memory.

    Args:
        name: what errors call it.
        array: should be (frames, bands) float32, in dB.
        bands: Mel bands that it must have.

    Raises:
        AudioError: it is of another shape or type, silent, outside what log-Mel can be, not finite,
            or repeats its frames.
    """
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise AudioError(f"'{name}' is a {type(array).__name__}; expected a plain NumPy array")
    if array.ndim != 2 or array.shape[1] != bands or array.dtype != np.float32:
        raise AudioError(
            f"'{name}' holds {array.dtype} of shape {array.shape}; "
            f"expected float32 of shape (frames, {bands})"
        )
    if not len(array):
        raise AudioError(f"'{name}' holds no frames")
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise AudioError(f"'{name}' holds values that are NaN or infinite")
    if not QUIETEST_DB <= low <= high <= LOUDEST_DB:
        raise AudioError(
            f"'{name}' holds values from {low:.3g} to {high:.3g}; log-Mel lies from "
            f"{QUIETEST_DB:.0f} to {LOUDEST_DB:.0f} dB: is it in dB?"
        )
    if low == high:
        raise AudioError(f"'{name}' is silent: all its values are equal")
    frames: Frames = np.ascontiguousarray(array)
    _check_repeats(name, frames)
    return frames


def _check_repeats(name: str, frames: Frames) -> None:
    """Refuse what no sound gives: the same frame, to the last bit, again and again."""
    rows = frames.view(np.dtype((np.void, frames.dtype.itemsize * frames.shape[1])))[:, 0]
    share = 1 - len(set(rows.tolist())) / len(rows)
    if share >= FAULTY_SHARE:
        raise AudioError(f"'{name}' repeats {share:.0%} of its frames exactly: is it stuck?")
