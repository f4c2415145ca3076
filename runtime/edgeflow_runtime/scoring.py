"""From clips to verdicts, by one bundle."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeflow_runtime.audio import (
    check_audible,
    check_finite,
    check_rate,
    choose_channel,
    resample,
)
from edgeflow_runtime.backend import Backend, Rows, processors
from edgeflow_runtime.batching import Pending, map_ahead, run_in_batches
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.choice import open_backend, warn_in_python
from edgeflow_runtime.clips import ClipReader, check_length
from edgeflow_runtime.errors import AudioError, BackendError, ConfigError, ScoreError
from edgeflow_runtime.options import AUTO
from edgeflow_runtime.pcm import encode

Array = npt.NDArray[np.float32]

NORMAL, ANOMALOUS, UNKNOWN = "normal", "anomalous", "unknown"

CLOSED = "the monitor is closed"


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


class Scorer:
    """Scores clips with one bundle.

    On the CPU, calls made in a forked child go on; what holds a GPU says there that it is lost.

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
        audio_in: bool = False,
    ) -> None:
        self.bundle = bundle
        if audio_in:
            bundle.graph("audio")
        self._audio = bundle.manifest.audio if audio_in else None
        self.clip_samples = self._audio.samples if self._audio else None
        self.backend = backend
        self.threshold = _threshold(bundle, threshold)
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
        self._closed = False
        self._start_threads()

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        threshold: float | None = None,
        channel: int | None = None,
        workers: int | None = None,
        allow_clipped: bool = False,
        backend: str = AUTO,
        require_gpu: bool = False,
        audio_in: bool = False,
        warn: Callable[[str], None] = warn_in_python,
    ) -> Scorer:
        """Read a bundle and get it ready to score.

        Args:
            path: the bundle.
            threshold: used in place of the bundle's, in nats per dimension.
            channel: the channel to listen to where a sound has several, the first is 0; the one
                that the monitor learned from if not given.
            workers: threads that run the flow on the CPU; all the processor's if not given.
            allow_clipped: judge clipped sounds, too, in place of calling them ``unknown``.
            backend: ``auto``, ``tensorrt``, ``tensorrt-rtx`` or ``onnxruntime``.
            require_gpu: refuse to score on the CPU.
            audio_in: run the graph that starts at the samples. Clips must have its length; what
                one has beyond it, if less than a hop, as resampling may give, is left out.
            warn: told why ``auto`` passes an engine by; a :class:`RuntimeWarning` if not given.

        Raises:
            BundleError: the bundle cannot be trusted or read, or lacks the graph.
            ConfigError: the threshold tells nothing apart.
            BackendError: no backend as asked for can be opened.
        """
        bundle = Bundle.load(path)
        threshold = _threshold(bundle, threshold)  # before the GPU is taken
        opened = open_backend(
            bundle,
            backend,
            graph="audio" if audio_in else "flow",
            require_gpu=require_gpu,
            workers=workers,
            warn=warn,
        )
        return cls(
            bundle,
            opened,
            threshold=threshold,
            channel=channel,
            allow_clipped=allow_clipped,
            audio_in=audio_in,
        )

    def close(self) -> None:
        """Stop the threads and let the GPU go, if it has one."""
        self._closed = True
        if self._pid == os.getpid():  # what a fork left behind has no threads to stop
            self._readers.shutdown(cancel_futures=True)
            self._pool.shutdown(cancel_futures=True)
        self.backend.close()

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        return self._score_one(self._hear(name, mono, maps=False))

    def judge(self, samples: npt.ArrayLike, rate: int, *, name: str) -> ClipScore:
        """Like :meth:`score`, but a clip that cannot be judged is ``unknown``, not an error."""
        try:
            return self.score(samples, rate, name=name)
        except (AudioError, ScoreError) as error:
            return self._judge(Pending(name, error=str(error)), maps=False)

    def score_logmel(
        self, logmel: Array, *, seconds: float = math.nan, name: str = "log-Mel"
    ) -> ClipScore:
        """Judge one clip given as (frames, bands) float32 log-Mel; see :meth:`score`."""
        if self._audio:
            raise AudioError(f"'{name}' is log-Mel; the graph that runs starts at the samples")
        check_length(name, logmel, self._window)
        return self._score_one(Pending(name, seconds, logmel=logmel))

    def score_files(
        self, paths: Iterable[str | Path], *, maps: bool = False
    ) -> Iterator[ClipScore]:
        """Judge many clips, in their order; a clip that cannot be judged is ``unknown``.

        Args:
            paths: sound files, or ``.npy`` log-Mel.
            maps: keep each clip's log-Mel and NLL map in the result.
        """
        self._check_threads()
        read = partial(self._read, maps=maps)
        ahead = 2 * max(self.backend.workers, processors())
        yield from self._run(map_ahead(self._readers, read, paths, ahead), maps=maps)

    def _start_threads(self) -> None:
        backend = self.backend
        self._pool = self._readers = ThreadPoolExecutor(backend.workers, "edgeflow-score")
        if backend.device != "cpu":  # while the GPU works, the processor's cores make log-Mel
            self._readers = ThreadPoolExecutor(processors(), "edgeflow-read")
        self._pid = os.getpid()

    def _check_threads(self) -> None:
        """Start them anew in a forked child: a fork takes none along, and all would wait."""
        if self._closed:
            raise BackendError(CLOSED)
        if self._pid != os.getpid():
            self._start_threads()

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

    def _read(self, path: str | Path, *, maps: bool) -> Pending:
        name = os.fsencode(path).decode(errors="replace")
        try:
            if self._audio:
                heard = self._hear(str(path), self.reader.read_samples(path)[0], maps=maps)
                return dataclasses.replace(heard, file=name)
            logmel, seconds = self.reader.read(path)
            check_length(str(path), logmel, self._window)
        except AudioError as error:
            return Pending(name, error=os.fsencode(str(error)).decode(errors="replace"))
        return Pending(name, seconds, logmel=logmel)

    def _hear(self, name: str, samples: Array, *, maps: bool) -> Pending:
        """A clip's (n,) samples, as the graph wants them; maps are drawn over log-Mel."""
        seconds = len(samples) / self._rate_hz
        if self._audio is None:
            logmel = self.reader.listen(name, samples)
            check_length(name, logmel, self._window)
            return Pending(name, seconds, logmel=logmel)
        samples = self._crop(samples, self._audio.samples)
        check_audible(name, samples, allow_clipped=self.reader.allow_clipped)
        if len(samples) != self._audio.samples:
            raise AudioError(
                f"'{name}' has {len(samples)} samples; the graph that starts at the samples takes "
                f"clips of {self._audio.samples}: leave --audio-in out for other lengths"
            )
        drawn_over = self.reader.listen(name, samples) if maps else None
        return Pending(name, seconds, logmel=drawn_over, samples=samples)

    def _crop(self, samples: Array, whole: int) -> Array:
        """Leave out what (n,) samples have beyond ``whole``, if it is less than one hop."""
        spec = self.bundle.manifest.features.logmel
        hop = spec.hop if spec else 0
        return samples[:whole] if whole < len(samples) < whole + hop else samples

    def _score_one(self, clip: Pending) -> ClipScore:
        (result,) = self._run([clip], maps=False)
        if result.error:
            raise ScoreError(result.error)
        return result

    def _rows(self, clip: Pending) -> Rows:
        """What a clip sends through the graph: its windows, or itself; nothing if it has neither.

        Returns:
            (n, T, M), or (1, samples) as the graph takes them.
        """
        if self._audio and clip.samples is not None:
            return encode(clip.samples[None], self._audio.encoding)
        if self._audio or clip.logmel is None:
            return np.empty(0)
        return self._window.views(self.bundle.standardise(clip.logmel))

    def _run(self, clips: Iterable[Pending], *, maps: bool) -> Iterator[ClipScore]:
        """Score ``clips``; yield each as soon as it and all before it are done."""
        self._check_threads()
        backend = self.backend
        run = backend.nll_map if maps else backend.nll
        ahead = 2 * backend.workers
        try:
            for clip in run_in_batches(clips, self._rows, run, self._pool, backend.batch, ahead):
                yield self._judge(clip, maps)
        except (RuntimeError, CancelledError) as error:  # what a pool says that is shut down
            if not self._closed:
                raise
            raise BackendError(CLOSED) from error

    def _judge(self, clip: Pending, maps: bool) -> ClipScore:
        """The verdict on a clip whose windows are all scored, or whose reading failed."""
        found: Array | None = np.concatenate(clip.results) if clip.results else None
        score, verdict, error = None, UNKNOWN, clip.error
        if found is not None:
            found = found[0] if self._audio else found  # (windows,), for maps (windows, t, m)
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
            windows=0 if found is None else len(found),
            backend=self.backend.name,
            device=self.backend.device,
            error=error,
            logmel=clip.logmel if maps else None,
            nll_map=found if maps else None,
        )


def _threshold(bundle: Bundle, given: float | None) -> float:
    """The threshold in force: the one given, or else the bundle's."""
    threshold = bundle.manifest.threshold.value if given is None else given
    if not math.isfinite(threshold):
        raise ConfigError(f"a threshold of {threshold} tells nothing apart")
    return threshold
