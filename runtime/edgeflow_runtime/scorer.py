"""From clips to verdicts, by one bundle: reader, view, runner and judge put together."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from edgeflow_runtime import golden
from edgeflow_runtime.arrays import Array, Frames, Nll, Rows, Samples, Windows
from edgeflow_runtime.backends.names import AUDIO, AUTO, FLOW
from edgeflow_runtime.backends.protocol import Backend
from edgeflow_runtime.backends.select import open_backend, warn_in_python
from edgeflow_runtime.batch_runner import BatchRunner
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.clip_file import blamed_on
from edgeflow_runtime.clip_reader import Clip, ClipReader, attempt
from edgeflow_runtime.errors import AudioError, ConfigError, ScoreError
from edgeflow_runtime.logmel import LogMel
from edgeflow_runtime.logmel_array import check_logmel
from edgeflow_runtime.pipe import PcmFormat
from edgeflow_runtime.verdicts import ClipResult, Judge
from edgeflow_runtime.whole_clips import WholeClips


class Scorer:
    """Scores clips with one bundle.

    On the CPU, calls made in a forked child go on; what holds a GPU says there that it is lost.

    Example::

        scorer = Scorer.load("fan_id_00.edgeflow")
        print(scorer.score("clip.wav").verdict)
        print(scorer.score(samples, rate=16000).score)
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
        self.view, self.logmel = bundle.view, bundle.logmel
        self.runner = BatchRunner(backend)
        self.judge = Judge(
            _threshold(bundle, threshold),
            bundle.manifest.machine,
            bundle.sha256,
            backend.name,
            backend.device,
        )
        self._whole: WholeClips | None = None
        if audio_in:
            graph = bundle.audio_graph()
            assert self.logmel is not None
            self._whole = WholeClips(graph, self.logmel.spec.hop)
        features = bundle.manifest.features
        intake = features.intake(_channel(channel))
        self.reader = ClipReader(features.bands, intake, allow_clipped, self._whole)

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
        prove: bool = True,
        warn: Callable[[str], None] = warn_in_python,
    ) -> Scorer:
        """Read a bundle, prove it on this machine, and get it ready to score.

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
            prove: replay a little of the golden recording first, on the backend that will score.
            warn: told why ``auto`` passes an engine by; a :class:`RuntimeWarning` if not given.

        Raises:
            BundleError: the bundle cannot be trusted or read, lacks the graph, or is a base.
            ConfigError: the threshold tells nothing apart.
            BackendError: no backend as asked for can be opened, or it does not give the golden
                scores.
        """
        bundle = Bundle.load(path)
        bundle.check_judges()
        threshold = _threshold(bundle, threshold)  # before the GPU is taken
        graph = AUDIO if audio_in else FLOW
        opened = open_backend(
            bundle,
            backend,
            graph=graph,
            require_gpu=require_gpu,
            workers=workers,
            warn=warn,
        )
        if prove:
            _prove(bundle, graph, opened)
        return cls(
            bundle, opened,
            threshold=threshold, channel=channel, allow_clipped=allow_clipped, audio_in=audio_in
        )  # fmt: skip

    @property
    def backend(self) -> Backend:
        """What runs the graph."""
        return self.runner.backend

    @property
    def clip_seconds(self) -> float | None:
        """The one length that clips must have; ``None`` unless the graph starts at the samples."""
        if self._whole is None or self.logmel is None:
            return None
        return self._whole.graph.samples / self.logmel.spec.rate_hz

    def close(self) -> None:
        """Stop the threads and let the GPU go, if it has one."""
        self.runner.close()

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def score(
        self,
        sound: str | os.PathLike[str] | npt.ArrayLike,
        rate: float | None = None,
        *,
        name: str = "samples",
    ) -> ClipResult:
        """Judge one clip.

        Args:
            sound: a file; or (n,) or (n, channels) samples, floats with full scale 1 or 16-bit
                integers, with their ``rate``.
            rate: sample rate in Hz of an array.
            name: what errors call an array.

        Raises:
            AudioError: it is no sound; or it is silent, clipped, too short, not finite, too low in
                rate, or what no healthy microphone gives.
            ConfigError: an array comes without its rate.
            ScoreError: the score is not a finite number.
        """
        if isinstance(sound, (str, os.PathLike)):
            return self._score(self.reader.read(sound))
        if rate is None:
            raise ConfigError(f"'{name}' is an array of samples: give its rate, in Hz, as well")
        return self._score(self.reader.hear(name, sound, rate))

    def score_logmel(
        self, logmel: Frames, *, seconds: float = math.nan, name: str = "log-Mel"
    ) -> ClipResult:
        """Judge one clip given as (frames, bands) float32 log-Mel, in dB; see :meth:`score`."""
        if self._whole:
            raise AudioError(f"'{name}' is log-Mel; the graph that runs starts at the samples")
        checked = check_logmel(name, logmel, self.bundle.manifest.features.bands)
        return self._score(Clip(name, seconds, logmel=checked))

    def score_files(
        self, paths: Iterable[str | Path], *, maps: bool = False
    ) -> Iterator[ClipResult]:
        """Judge many clips, in their order; a clip that cannot be judged is ``unknown``.

        Args:
            paths: sound files, or ``.npy`` log-Mel.
            maps: keep each clip's log-Mel and NLL map in the result; not of sounds so long that
                they are read in blocks.
        """

        def hear(path: str | Path) -> Clip:
            return attempt(Clip(str(path)), lambda: self._hear(self.reader.read(path), maps=maps))

        clips = self.runner.map_ahead(hear, paths)
        for clip, nll in self.runner.run_clips(clips, self._rows, maps=maps):
            yield self.judge(clip, self._of_clip(nll))

    def score_pipe(
        self,
        pipe: BinaryIO,
        fmt: PcmFormat,
        seconds: float | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[ClipResult]:
        """Judge what comes through a pipe, clip by clip, each as soon as it is there.

        Args:
            pipe: raw PCM, or WAV.
            fmt: what raw bytes mean.
            seconds: length of a clip; as long as those that the threshold was set from, if not
                given, and always that of a graph that starts at the samples.
            timeout_s: how long a clip may be waited for; three clips' length if not given. Then it
                is ``unknown``, and listening goes on.

        Raises:
            AudioError: the pipe gives no sound, or none that this monitor takes.
            ConfigError: the format, the length or the timeout make no sense.
        """
        usual = self.clip_seconds or seconds or self.bundle.manifest.threshold.clip_seconds
        for clip in self.reader.read_pipe(pipe, fmt, usual, timeout_s):
            heard = clip if clip.error else attempt(clip, partial(self._hear, clip))
            yield self.judge(heard, None if heard.error else self._nll(heard))

    def stream(self) -> ScoreStream:
        """The NLL of windows as sound comes in, for those who form no clips."""
        return ScoreStream(self)

    def _score(self, clip: Clip) -> ClipResult:
        """One clip, straight through. Raises what :meth:`score` does."""
        heard = self._hear(clip)
        result = self.judge(heard, self._nll(heard))
        if result.error:
            raise ScoreError(result.error)
        return result

    def _hear(self, clip: Clip, *, maps: bool = False) -> Clip:
        """A clip with its log-Mel, unless the graph starts at the samples and no map is drawn.

        Raises:
            AudioError: it is too short, or has another length than the graph's.
        """
        if self._whole and clip.samples is not None:
            self._whole.check(clip.name, len(clip.samples))
            if not maps:
                return clip
        if self.logmel and clip.samples is not None:
            with blamed_on(clip.name):
                clip = replace(clip, logmel=self.logmel(clip.samples))
        if not self._whole and clip.logmel is not None:
            self.view.spec.check(clip.name, len(clip.logmel))
        return clip

    def _nll(self, clip: Clip) -> Array | None:
        """The NLLs of one clip that was heard. Raises as :meth:`_rows` does."""
        pieces = (self.runner.run(rows) for rows in self._rows(clip) if len(rows))
        return self._of_clip(np.concatenate(list(pieces)))

    def _rows(self, clip: Clip) -> Iterator[Rows]:
        """What a clip that was heard sends through the graph; nothing if it could not be.

        Yields:
            (n, T, M), all of them but for a long sound; or (1, samples) as the graph takes them.

        Raises:
            AudioError: something is wrong with a sound that is read in blocks.
        """
        with blamed_on(clip.name):
            if self._whole and clip.samples is not None:
                yield self._whole(clip.samples)
            elif clip.blocks is not None and self.logmel:
                yield from self._rows_of_blocks(clip.name, self.logmel, clip.blocks)
            elif clip.logmel is not None:
                yield self.view(clip.logmel)

    def _rows_of_blocks(
        self, name: str, logmel: LogMel, blocks: Iterator[Samples]
    ) -> Iterator[Rows]:
        """The windows of a long sound, as it is read; see :meth:`_rows`."""
        windows, count = self.view.stream(), 0
        for frames in logmel.of_blocks(blocks):
            count += len(frames)
            yield windows.push(frames)
        self.view.spec.check(name, count)
        yield windows.finish()

    def _of_clip(self, nll: Array | None) -> Array | None:
        """What the graph gave, window by window: one that takes whole clips gives (1, windows)."""
        return nll[0] if self._whole and nll is not None else nll


class ScoreStream:
    """Takes samples as they come and gives the NLL of the windows that they complete.

    Put together, the NLLs are those of the whole clip; their mean is its score.
    """

    def __init__(self, scorer: Scorer) -> None:
        logmel = scorer.logmel
        if logmel is None or scorer.clip_seconds:
            raise AudioError("only a monitor that makes log-Mel of sound can follow a stream")
        self._frames, self._windows = logmel.stream(), scorer.view.stream()
        self._runner = scorer.runner

    def push(self, samples: Array) -> Nll:
        """Take (n,) float32 samples at the monitor's rate; return the (k,) NLLs, k may be 0."""
        return self._score(self._windows.push(self._frames.push(samples)))

    def finish(self) -> Nll:
        """The last (k,) NLLs; the stream is then spent. Raises :class:`AudioError` if too short."""
        last = self._windows.push(self._frames.finish())
        return self._score(np.concatenate([last, self._windows.finish()]))

    def _score(self, windows: Windows) -> Nll:
        return self._runner.run(windows) if len(windows) else np.empty(0, np.float32)


def _prove(bundle: Bundle, graph: str, backend: Backend) -> None:
    """Replay a little of the golden recording; a backend that fails is let go."""
    try:
        golden.prove(bundle, graph, backend)
    except BaseException:
        backend.close()
        raise


def _threshold(bundle: Bundle, given: float | None) -> float:
    """The threshold in force: the one given, or else the bundle's."""
    threshold = bundle.manifest.threshold.value if given is None else given
    if not isinstance(threshold, (int, float, np.number)) or not math.isfinite(threshold):
        raise ConfigError(f"a threshold of {threshold} tells nothing apart")
    return threshold


def _channel(given: int | None) -> int | None:
    """The channel asked for, if it can be one."""
    if given is not None and (isinstance(given, bool) or not isinstance(given, (int, np.integer))):
        raise ConfigError(f"a channel of {given!r} is none: give a number, the first is 0")
    return given
