"""From clips to verdicts: windows of many clips share a batch, results keep the clips' order."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.audio import check_finite, check_rate, choose_channel, resample
from edgeflow_runtime.backend import Backend, OnnxRuntimeBackend
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.clips import ClipReader, check_length
from edgeflow_runtime.errors import AudioError, ConfigError, ScoreError

Array = npt.NDArray[np.float32]

NORMAL, ANOMALOUS, UNKNOWN = "normal", "anomalous", "unknown"


@dataclass(frozen=True)
class ClipScore:
    """What a monitor says of one clip."""

    file: str
    """Name of the clip."""
    score: float | None
    """Mean window NLL in nats per dimension; ``None`` if the clip could not be judged."""
    threshold: float
    """The threshold in force; scores above it are anomalous."""
    verdict: str
    """``normal``, ``anomalous`` or ``unknown``."""
    seconds: float | None
    """Length of the clip; ``None`` where an array does not tell."""
    windows: int
    """Windows that were scored."""
    backend: str
    """What ran the flow."""
    device: str
    """Where it ran."""
    error: str | None = None
    """Why the verdict is unknown."""
    logmel: Array | None = field(default=None, repr=False, compare=False)
    """(frames, bands) dB, kept when maps were asked for."""
    nll_map: Array | None = field(default=None, repr=False, compare=False)
    """(windows, time cells, mel cells), kept when maps were asked for."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON-ready record, without the arrays; ``error`` only where there is one."""
        names = ("file", "score", "threshold", "verdict", "seconds", "windows", "backend", "device")
        record = {name: getattr(self, name) for name in names}
        return record | ({"error": self.error} if self.error else {})


@dataclass
class _Pending:
    """A clip on its way: its windows may lie in several batches."""

    file: str
    seconds: float = math.nan
    error: str | None = None
    logmel: Array | None = None
    results: list[Array] = field(default_factory=list)
    windows: int = 0
    missing: int = 0


class Scorer:
    """Scores clips with one bundle.

    Example::

        scorer = Scorer.load("fan_id_00.edgeflow")
        result = scorer.score(samples, rate=16000)
        print(result.score, result.verdict)
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        *,
        threshold: float | None = None,
        channel: int | None = None,
        allow_clipped: bool = False,
    ) -> None:
        self.bundle = bundle
        self.backend = backend
        self.threshold = bundle.manifest.threshold.value if threshold is None else threshold
        if not math.isfinite(self.threshold):
            raise ConfigError(f"a threshold of {self.threshold} tells nothing apart")
        features = bundle.manifest.features
        self.reader = ClipReader(
            features.bands,
            bundle.logmel,
            features.min_rate_hz,
            channel,
            allow_clipped,
            features.channel,
        )
        self._window = bundle.manifest.window
        self._pool = ThreadPoolExecutor(backend.workers, "edgeflow-score")

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        threshold: float | None = None,
        channel: int | None = None,
        workers: int | None = None,
        allow_clipped: bool = False,
    ) -> Scorer:
        """Read a bundle and get it ready to score.

        Args:
            path: the bundle.
            threshold: used in place of the bundle's, in nats per dimension.
            channel: the channel to listen to where a sound has several, the first is 0; the one
                that the monitor learned from if not given.
            workers: threads that run the flow; all the processor's if not given.
            allow_clipped: judge clipped sounds, too, in place of calling them ``unknown``.

        Raises:
            BundleError: the bundle cannot be trusted or read.
            BackendError: its flow cannot be loaded.
        """
        bundle = Bundle.load(path)
        backend = OnnxRuntimeBackend(bundle.onnx, workers)
        return cls(
            bundle, backend, threshold=threshold, channel=channel, allow_clipped=allow_clipped
        )

    def score(self, samples: npt.ArrayLike, rate: int, *, name: str = "samples") -> ClipScore:
        """Judge one clip.

        Args:
            samples: (n,) or (n, channels) float samples with full scale 1, or 16-bit integers.
            rate: their sample rate in Hz.
            name: what errors call the clip.

        Raises:
            AudioError: the sound is silent, clipped, too short, not finite or too low in rate.
            ScoreError: the score is not a finite number.
        """
        mono = self._mono(name, np.asarray(samples), rate)
        logmel = self.reader.listen(name, mono)
        seconds = len(mono) / self._rate_hz
        return self.score_logmel(logmel, seconds=seconds, name=name)

    def judge(self, samples: npt.ArrayLike, rate: int, *, name: str) -> ClipScore:
        """Like :meth:`score`, but a clip that cannot be judged is ``unknown``, not an error."""
        try:
            return self.score(samples, rate, name=name)
        except (AudioError, ScoreError) as error:
            return self._judge(_Pending(name, error=str(error)), maps=False)

    def score_logmel(
        self, logmel: Array, *, seconds: float = math.nan, name: str = "log-Mel"
    ) -> ClipScore:
        """Judge one clip given as (frames, bands) float32 log-Mel; see :meth:`score`."""
        clip = _Pending(name, seconds, logmel=logmel)
        check_length(name, logmel, self._window)
        (result,) = self._run([clip], maps=False)
        if result.error:
            raise ScoreError(result.error)
        return result

    def score_files(
        self, paths: Iterable[str | Path], *, maps: bool = False
    ) -> Iterator[ClipScore]:
        """Judge many clips, in their order; a clip that cannot be judged is ``unknown``.

        Args:
            paths: sound files, or ``.npy`` log-Mel.
            maps: keep each clip's log-Mel and NLL map in the result.
        """
        ahead = 2 * self.backend.workers
        yield from self._run(_map_ahead(self._pool, self._read, paths, ahead), maps=maps)

    @property
    def _rate_hz(self) -> int:
        spec = self.bundle.manifest.features.logmel
        if spec is None:
            raise AudioError("this monitor was trained on log-Mel arrays; it hears no sound")
        return spec.rate_hz

    def _mono(self, name: str, samples: npt.NDArray[Any], rate: int) -> Array:
        """One channel of ``samples`` as float32 at the monitor's rate."""
        if samples.dtype == np.int16:
            samples = samples / np.float32(32768)
        elif not np.issubdtype(samples.dtype, np.floating):
            raise AudioError(f"'{name}' is of type {samples.dtype}: give floats or 16-bit integers")
        if samples.ndim not in (1, 2):
            raise AudioError(f"'{name}' has shape {samples.shape}; expected (n,) or (n, channels)")
        check_rate(name, rate, self.reader.min_rate_hz)
        columns = samples if samples.ndim == 2 else samples[:, None]
        column = choose_channel(
            name, columns.shape[1], self.reader.channel, self.reader.usual_channel
        )
        mono = check_finite(name, columns[:, column].astype(np.float32))
        return resample(mono, rate, self._rate_hz, self.reader.min_rate_hz)

    def _read(self, path: str | Path) -> _Pending:
        name = os.fsencode(path).decode(errors="replace")
        try:
            logmel, seconds = self.reader.read(path)
            check_length(str(path), logmel, self._window)
        except AudioError as error:
            return _Pending(name, error=os.fsencode(str(error)).decode(errors="replace"))
        return _Pending(name, seconds, logmel=logmel)

    def _run(self, clips: Iterable[_Pending], *, maps: bool) -> Iterator[ClipScore]:
        """Score ``clips`` batch by batch; yield each as soon as it and all before it are done."""
        run = self.backend.nll_map if maps else self.backend.nll
        waiting: deque[_Pending] = deque()
        flying: deque[tuple[Future[Array], list[tuple[_Pending, int]]]] = deque()
        try:
            for batch, shares in self._batches(clips, waiting):
                flying.append((self._pool.submit(run, batch), shares))
                if len(flying) > 2 * self.backend.workers:
                    _land(*flying.popleft())
                yield from self._done(waiting, maps)
            while flying:
                _land(*flying.popleft())
                yield from self._done(waiting, maps)
            yield from self._done(waiting, maps)
        finally:
            for result, _ in flying:
                result.cancel()

    def _batches(
        self, clips: Iterable[_Pending], waiting: deque[_Pending]
    ) -> Iterator[tuple[Array, list[tuple[_Pending, int]]]]:
        """Fill batches with windows across clips; each comes with how many are whose."""
        size = self.backend.batch
        parts: list[Array] = []
        shares: list[tuple[_Pending, int]] = []
        room = size
        for clip in clips:
            waiting.append(clip)
            if clip.logmel is None:
                continue
            windows = self._window.views(self.bundle.standardise(clip.logmel))  # (N, T, M)
            clip.windows = clip.missing = len(windows)
            while len(windows):
                part, windows = windows[:room], windows[room:]
                parts.append(part)
                shares.append((clip, len(part)))
                room -= len(part)
                if room == 0:
                    yield np.concatenate(parts), shares
                    parts, shares, room = [], [], size
        if parts:
            yield np.concatenate(parts), shares

    def _done(self, waiting: deque[_Pending], maps: bool) -> Iterator[ClipScore]:
        while waiting and waiting[0].missing == 0:
            yield self._judge(waiting.popleft(), maps)

    def _judge(self, clip: _Pending, maps: bool) -> ClipScore:
        """The verdict on a clip whose windows are all scored, or whose reading failed."""
        found = np.concatenate(clip.results) if clip.results else None
        score, verdict, error = None, UNKNOWN, clip.error
        if found is not None:
            score = float(np.mean(found.reshape(len(found), -1).sum(axis=1), dtype=np.float64))
            if math.isfinite(score):
                verdict = ANOMALOUS if score > self.threshold else NORMAL
            else:
                error = f"'{clip.file}' scored {score}, which is no finite number"
                score = None
        return ClipScore(
            file=clip.file,
            score=score,
            threshold=self.threshold,
            verdict=verdict,
            seconds=None if math.isnan(clip.seconds) else clip.seconds,
            windows=clip.windows,
            backend=self.backend.name,
            device=self.backend.device,
            error=error,
            logmel=clip.logmel if maps else None,
            nll_map=found if maps else None,
        )


def _land(result: Future[Array], shares: list[tuple[_Pending, int]]) -> None:
    """Hand each clip its share of a batch's result."""
    values, start = result.result(), 0
    for clip, count in shares:
        clip.results.append(values[start : start + count])
        clip.missing -= count
        start += count


def _map_ahead(
    pool: ThreadPoolExecutor,
    read: Callable[[str | Path], _Pending],
    paths: Iterable[str | Path],
    ahead: int,
) -> Iterator[_Pending]:
    """``map`` in order, at most ``ahead`` clips in memory before they are wanted."""
    queue: deque[Future[_Pending]] = deque()
    try:
        for path in paths:
            queue.append(pool.submit(read, path))
            if len(queue) > ahead:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
    finally:
        for result in queue:
            result.cancel()
