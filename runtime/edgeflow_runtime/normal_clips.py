"""Normal clips that a board learns a machine or a threshold from, each as long as scores are of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.clip_reader import Clip, ClipReader, attempt
from edgeflow_runtime.errors import AudioError, DataError
from edgeflow_runtime.pipe import PcmFormat
from edgeflow_runtime.stretches import SLACK, Stretches


class NormalClips:
    """Reads them as a bundle's monitor hears, and takes longer sounds apart into stretches.

    Args:
        bundle: whose.
        channel: the channel to listen to; the one that it learned from if not given.
        warn: told of each clip that is left out, and why.
    """

    def __init__(self, bundle: Bundle, channel: int | None, warn: Callable[[str], None]) -> None:
        features = bundle.manifest.features
        self._reader = ClipReader(features.bands, features.intake(channel))
        self._logmel, self._view, self._warn = bundle.logmel, bundle.view.spec, warn
        self._seconds = bundle.manifest.threshold.clip_seconds
        self._stretches = Stretches(self._reader, self._seconds)

    def of_files(self, paths: Iterable[Path]) -> list[Clip]:
        """The clips, with their log-Mel, of sound files or ``.npy`` log-Mel.

        Raises:
            AudioError: a file is missing.
            DataError: no clip is left.
        """
        return self._left(clip for path in paths for clip in self._of_file(path))

    def of_pipe(self, pipe: BinaryIO, fmt: PcmFormat) -> list[Clip]:
        """The same of what comes through a pipe until it ends.

        Raises:
            AudioError: the pipe gives no sound, or none that this monitor takes.
            DataError: no clip is left.
        """
        if self._logmel is None:
            raise AudioError("this monitor was trained on log-Mel arrays; it hears no pipe")
        return self._left(self._reader.read_pipe(pipe, fmt, self._seconds))

    def _of_file(self, path: Path) -> Iterator[Clip]:
        """A file's clips; one that cannot be read is a clip with an error.

        The last stretch of a sound, if it overlaps the one before, is no clip of its own.
        """
        if not path.exists():
            raise AudioError(f"'{path}' is missing")
        end = 0.0
        for piece in self._stretches.of_file(path):
            known = piece.known
            if known.offset_seconds < end - 1e-6:
                return
            end = known.offset_seconds + known.seconds
            clip = attempt(known, piece.read)
            yield replace(clip, name=clip.label, stretches=1)

    def _left(self, clips: Iterable[Clip]) -> list[Clip]:
        """Those that can be used, with their log-Mel."""
        used = []
        for clip in clips:
            measured = attempt(clip, partial(self._measured, clip))
            if measured.error:
                self._warn(f"left out: {measured.error}")
            else:
                used.append(measured)
        if not used:
            raise DataError("there is no clip that can be used")
        return used

    def _measured(self, clip: Clip) -> Clip:
        """A clip with its log-Mel. Raises :class:`AudioError` where its score would mislead."""
        if clip.error:
            raise AudioError(clip.error)
        if clip.samples is not None and self._logmel is not None:
            if self._seconds and abs(clip.seconds / self._seconds - 1) > SLACK:
                raise AudioError(
                    f"'{clip.name}' has {clip.seconds:.1f} s; this bundle's scores are of clips of "
                    f"{self._seconds:.1f} s: give such, or longer recordings, which are cut"
                )
            clip = replace(clip, logmel=self._logmel(clip.samples))
        assert clip.logmel is not None
        self._view.check(clip.name, len(clip.logmel))
        return clip
