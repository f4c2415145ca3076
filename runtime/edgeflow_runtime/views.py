"""From a clip's log-Mel to what a model sees of it: standardised windows, or pooled statistics.

A :class:`View` is the one way there. It travels in runs and bundles, and whoever needs to know how
many windows a clip gives, whether it is long enough, or which place of a clip an NLL belongs to
asks it. What a model sees is called a window in both cases: (N, T, M), T being frames of a window,
or statistics of a stretch.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.arrays import Array, Frames, NllMap, Windows
from edgeflow_runtime.documents import Document
from edgeflow_runtime.errors import AudioError, ConfigError
from edgeflow_runtime.pooling import Statistic, statistic
from edgeflow_runtime.printable import quoted

if TYPE_CHECKING:
    from typing_extensions import Self

Table = npt.NDArray[Any]
"""(rows, ...) what is standardised of a clip: its frames, or the statistics of its stretches."""


class ViewSpec(Document):
    """How a clip's frames become what a model sees; each kind has a class, which documents name."""

    kind: str
    """Name of the kind."""
    hop: int
    """Frames from the start of one window to the start of the next; 0 if there is but one."""

    @classmethod
    def from_dict(cls, document: object) -> Self:
        """Read a specification; one that names no kind is of windows. See :class:`Document`."""
        if cls is not ViewSpec or not isinstance(document, dict):
            return super().from_dict(document)
        kind = document.get("kind", WindowSpec.kind)
        if not isinstance(kind, str) or kind not in KINDS:
            raise ConfigError(f"unknown view {quoted(kind)}: choose one of {', '.join(KINDS)}")
        return KINDS[kind].from_dict(document)  # type: ignore[return-value]

    @property
    @abstractmethod
    def rows(self) -> int:
        """T of a window (T, M)."""

    @property
    @abstractmethod
    def fewest(self) -> int:
        """Frames that a clip needs."""

    @property
    @abstractmethod
    def span(self) -> int:
        """Rows of the table that make one window."""

    @abstractmethod
    def standard_shape(self, bands: int) -> tuple[int, ...]:
        """The shape of what is taken off and divided by: of a row of the table."""

    @abstractmethod
    def count(self, frames: int) -> int:
        """How many windows ``frames`` frames give."""

    @abstractmethod
    def measure(self, logmel: Frames) -> Table:
        """What is standardised of (frames, bands) dB."""

    @abstractmethod
    def cut(self, standard: Table) -> Windows:
        """All windows (N, T, M) of a standardised table."""

    @abstractmethod
    def place(self, nll: Array, logmel: Frames, usual: Array) -> Frames:
        """Lay one window's map over the frames that it covers.

        Args:
            nll: (t, m) NLL, in nats per dimension of the whole window.
            logmel: (frames of the window, bands) dB.
            usual: what the view takes off.

        Returns:
            (frames of the window, bands), the NLL of each place, in nats per dimension of it.
        """

    def starts(self, frames: int) -> npt.NDArray[np.int64]:
        """(N,) the first frame of each window in a clip of ``frames`` frames."""
        return np.arange(self.count(frames)) * self.hop

    @abstractmethod
    def first_rows(self, frames: int) -> npt.NDArray[np.int64]:
        """(N,) the first row in a clip's table of each of its windows."""

    def check(self, name: str, frames: int) -> None:
        """Refuse a clip that does not fill one window. Raises :class:`AudioError`."""
        if frames < self.fewest:
            raise AudioError(
                f"'{name}' is too short: it has {frames} frames, one window takes {self.fewest}"
            )


@dataclass(frozen=True)
class WindowSpec(ViewSpec):
    """Windows of some frames, one every few frames.

    Example:
        >>> WindowSpec(frames=32, hop=4).count(313)
        71
    """

    frames: int
    """Frames in one window."""
    hop: int
    """Frames from the start of one window to the start of the next."""
    kind: str = "windows"
    """Always ``windows``."""

    def __post_init__(self) -> None:
        if self.frames < 1 or self.hop < 1:
            raise ConfigError(
                f"a window needs at least 1 frame and a hop of at least 1, found "
                f"{self.frames} frames and hop {self.hop}"
            )

    def __str__(self) -> str:
        """As ``inspect`` says it."""
        return f"windows of {self.frames} frames, one every {self.hop}"

    @property
    def rows(self) -> int:
        """See :class:`ViewSpec`."""
        return self.frames

    @property
    def fewest(self) -> int:
        """See :class:`ViewSpec`."""
        return self.frames

    @property
    def span(self) -> int:
        """See :class:`ViewSpec`."""
        return self.frames

    def standard_shape(self, bands: int) -> tuple[int, ...]:
        """See :class:`ViewSpec`."""
        return (bands,)

    def count(self, frames: int) -> int:
        """How many whole windows fit into ``frames`` frames."""
        return max(0, (frames - self.frames) // self.hop + 1)

    def first_rows(self, frames: int) -> npt.NDArray[np.int64]:
        """See :class:`ViewSpec`."""
        return self.starts(frames)

    def measure(self, logmel: Frames) -> Table:
        """The frames as they are."""
        return logmel

    def cut(self, standard: Table) -> Windows:
        """All windows of standardised (frames, bands), as a read-only view that copies nothing.

        Returns:
            (N, self.frames, bands), N = ``self.count(frames)``.
        """
        if len(standard) < self.frames:
            return np.empty((0, self.frames, standard.shape[1]), standard.dtype)
        every = np.lib.stride_tricks.sliding_window_view(standard, self.frames, axis=0)
        return every[:: self.hop].transpose(0, 2, 1)  # (N, T, M)

    def place(self, nll: Array, logmel: Frames, usual: Array) -> Frames:
        """See :class:`ViewSpec`; each cell covers a rectangle of places."""
        (rows, columns), (frames, bands) = nll.shape, logmel.shape
        local: Frames = nll * (rows * columns)
        return local.repeat(frames // rows, axis=0).repeat(bands // columns, axis=1)


@dataclass(frozen=True)
class PoolSpec(ViewSpec):
    """Statistics over time of a whole clip, or of stretches of it.

    Example:
        >>> PoolSpec(("mean", "max", "spread:32")).rows
        3
    """

    statistics: tuple[str, ...]
    """Each as :mod:`~edgeflow_runtime.pooling` writes it."""
    frames: int = 0
    """Frames in a stretch; 0 for the whole clip."""
    hop: int = 0
    """Frames from the start of one stretch to the start of the next; 0 for the whole clip."""
    kind: str = "pooled"
    """Always ``pooled``."""

    def __post_init__(self) -> None:
        if not self.statistics:
            raise ConfigError("a pooled view needs at least one statistic")
        if (self.frames == 0) != (self.hop == 0) or min(self.frames, self.hop) < 0:
            raise ConfigError(
                f"stretches need frames and a hop of at least 1 (a whole clip 0 of both), found "
                f"{self.frames} frames and hop {self.hop}"
            )
        if self.frames and self.frames < (fewest := max(s.fewest for s in self.each())):
            raise ConfigError(f"stretches of {self.frames} frames are too short for {fewest}")

    def __str__(self) -> str:
        """As ``inspect`` says it."""
        of = f"{self.frames} frames, every {self.hop}" if self.frames else "the whole clip"
        return f"{', '.join(self.statistics)} of {of}"

    def each(self) -> list[Statistic]:
        """The statistics, in order."""
        return [statistic(text) for text in self.statistics]

    @property
    def rows(self) -> int:
        """See :class:`ViewSpec`."""
        return len(self.statistics)

    @property
    def fewest(self) -> int:
        """See :class:`ViewSpec`."""
        return self.frames or max(s.fewest for s in self.each())

    @property
    def span(self) -> int:
        """See :class:`ViewSpec`."""
        return 1

    def standard_shape(self, bands: int) -> tuple[int, ...]:
        """See :class:`ViewSpec`."""
        return (self.rows, bands)

    def count(self, frames: int) -> int:
        """See :class:`ViewSpec`."""
        if not self.frames:
            return int(frames >= self.fewest)
        return max(0, (frames - self.frames) // self.hop + 1)

    def first_rows(self, frames: int) -> npt.NDArray[np.int64]:
        """See :class:`ViewSpec`."""
        return np.arange(self.count(frames))

    def measure(self, logmel: Frames) -> Table:
        """The statistics of each stretch, (N, T, M)."""
        length, each = self.frames or len(logmel), self.each()
        table = np.empty((self.count(len(logmel)), self.rows, logmel.shape[1]), np.float32)
        for row, start in zip(table, self.starts(len(logmel)), strict=True):
            for place, one in zip(row, each, strict=True):
                place[:] = one(logmel[start : start + length])
        return table

    def cut(self, standard: Table) -> Windows:
        """See :class:`ViewSpec`; a row of the table is a window."""
        return standard

    def place(self, nll: Array, logmel: Frames, usual: Array) -> Frames:
        """See :class:`ViewSpec`; each statistic goes back to the frames that made it what it is."""
        nll = np.broadcast_to(nll / (self.rows // len(nll)), usual.shape)
        local = np.zeros(logmel.shape)
        for share, one, at in zip(nll, self.each(), usual, strict=True):
            parts = one.parts(logmel, at)
            local += share * parts / parts.sum(axis=0)
        return (local * local.size).astype(np.float32)


KINDS: dict[str, type[ViewSpec]] = {"windows": WindowSpec, "pooled": PoolSpec}
"""The kinds of views, by what documents call them."""


@dataclass(frozen=True, eq=False)
class View:
    """What one model sees: its own standardisation, and its windows.

    Example:
        >>> view = View(WindowSpec(4, 4), np.zeros(128, np.float32), np.ones(128, np.float32))
        >>> view(np.zeros((313, 128), np.float32)).shape
        (78, 4, 128)
    """

    spec: ViewSpec
    """How frames become windows."""
    mean: Array
    """float32 in dB, taken off: (bands,) of a frame, or (T, bands) of pooled statistics."""
    scale: Array
    """float32 in dB, of the same shape, divided by."""

    def __call__(self, logmel: Frames) -> Windows:
        """(frames, bands) log-Mel in dB to its windows (N, T, M), N = 0 if it is too short."""
        return self.spec.cut(self.standardise(self.spec.measure(logmel)))

    def rehearse(self, logmel: Frames) -> Windows:
        """What a golden recording is replayed by: its windows; of a whole clip, its quarters too.

        One number alone could be told by a graph that always says it.
        """
        if self.spec.hop:
            return self(logmel)
        quarter = max(len(logmel) // 4, self.spec.fewest)
        starts = range(0, len(logmel) - quarter + 1, quarter)
        parts = [logmel, *(logmel[start : start + quarter] for start in starts)]
        return np.concatenate([self(part) for part in parts])

    def standardise(self, table: Table) -> Table:
        """What is measured, in dB, to zero mean and unit scale, as in training."""
        standard: Table = (table - self.mean) / self.scale
        return standard

    @property
    def shape(self) -> tuple[int, int]:
        """(T, M) of one window."""
        return self.spec.rows, self.mean.shape[-1]

    def lay(self, nll_map: NllMap, logmel: Frames) -> Frames:
        """Lay the maps of a clip's windows side by side, overlapping ones averaged.

        Args:
            nll_map: (N, time cells, mel cells) NLL, in nats per dimension of the whole window.
            logmel: (frames, bands) dB of the clip.

        Returns:
            (frames, bands) NLL of each place, in nats per dimension of that place; NaN where no
            window reaches.
        """
        frames = len(logmel)
        length = (self.spec.fewest if self.spec.hop else frames) or frames
        total = np.zeros(logmel.shape, np.float64)
        cover = np.zeros((frames, 1))
        for start, nll in zip(self.spec.starts(frames), nll_map, strict=True):
            stretch = slice(start, start + length)
            total[stretch] += self.spec.place(nll, logmel[stretch], self.mean)
            cover[stretch] += 1
        return np.where(cover > 0, total / np.maximum(cover, 1), np.nan).astype(np.float32)

    def stream(self) -> ViewStream:
        """A stream whose windows, put together, are those of the whole clip."""
        return ViewStream(self)


class ViewStream:
    """Takes log-Mel frames as they come and gives the windows that they complete."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._pending: Frames = np.empty((0, view.shape[1]), np.float32)
        self._heard: list[Frames] = []  # of a clip that is one window
        self._skip = 0  # frames to come that no window reaches, where the hop exceeds the window

    def push(self, logmel: Frames) -> Windows:
        """Take (k, bands) frames; return the (n, T, M) windows they complete, n may be 0."""
        hop = self._view.spec.hop
        if not hop:  # the whole clip is one window, which only its end completes
            self._heard.append(logmel)
            return np.empty((0, *self._view.shape), np.float32)
        pending = np.concatenate([self._pending, logmel[self._skip :]])
        self._skip = max(0, self._skip - len(logmel))
        windows = self._view(pending).copy()
        used = len(windows) * hop
        self._skip += max(0, used - len(pending))
        self._pending = pending[used:].copy()
        return windows

    def finish(self) -> Windows:
        """The (n, T, M) windows that the end completes; the stream is then spent."""
        if self._view.spec.hop:
            return np.empty((0, *self._view.shape), np.float32)
        return self._view(np.concatenate([self._pending, *self._heard]))
