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
from edgeflow_runtime.arrays import Array, Frames, Rows
from edgeflow_runtime.backends.names import AUDIO, AUTO, FLOW
from edgeflow_runtime.backends.protocol import Backend
from edgeflow_runtime.backends.select import open_backend, warn_in_python
from edgeflow_runtime.batch_runner import BatchRunner
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.clip_file import blamed_on
from edgeflow_runtime.clip_reader import Clip, ClipReader, attempt
from edgeflow_runtime.errors import AudioError, ConfigError, ScoreError
from edgeflow_runtime.logmel_array import check_logmel
from edgeflow_runtime.pipe import PcmFormat
from edgeflow_runtime.score_stream import ScoreStream
from edgeflow_runtime.stretches import Piece, Stretches, judged_seconds, warn_of_other_length
from edgeflow_runtime.verdicts import ANOMALOUS, ClipResult, Judge
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
        every: float | None = None,
        allow_clipped: bool = False,
        allow_short: bool = False,
        audio_in: bool = False,
        warn: Callable[[str], None] = warn_in_python,
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
        seconds = judged_seconds(bundle, every, audio_in=audio_in)
        self.stretches = Stretches(self.reader, seconds, allow_short=allow_short, warn=warn)
        warn_of_other_length(bundle, seconds, warn)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        threshold: float | None = None,
        channel: int | None = None,
        workers: int | None = None,
        every: float | None = None,
        allow_clipped: bool = False,
        allow_short: bool = False,
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
            every: seconds that are judged at a time: longer sounds are cut into such stretches. As
                long as the clips that the threshold was set from, if not given.
            allow_clipped: judge clipped sounds, too, in place of calling them ``unknown``.
            allow_short: judge sounds, too, that are more than a tenth shorter than that.
            backend: ``auto``, ``tensorrt``, ``tensorrt-rtx`` or ``onnxruntime``.
            require_gpu: refuse to score on the CPU.
            audio_in: run the graph that starts at the samples. Sounds are judged at its length;
                what one has beyond it, if less than a hop, as resampling may give, is left out.
            prove: replay a little of the golden recording first, on the backend that will score.
            warn: told why ``auto`` passes an engine by, and where the threshold may not hold; a
                :class:`RuntimeWarning` if not given.

        Raises:
            BundleError: the bundle cannot be trusted or read, lacks the graph, or is a base.
            ConfigError: the threshold tells nothing apart, or ``every`` is no length, or none for
                the graph.
            BackendError: no backend as asked for can be opened, or it does not give the golden
                scores.
        """
        bundle = Bundle.load(path)
        bundle.check_judges()
        threshold = _threshold(bundle, threshold)  # before the GPU is taken
        judged_seconds(bundle, every, audio_in=audio_in)
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
            threshold=threshold, channel=channel, every=every, allow_clipped=allow_clipped,
            allow_short=allow_short, audio_in=audio_in, warn=warn,
        )  # fmt: skip

    @property
    def backend(self) -> Backend:
        """What runs the graph."""
        return self.runner.backend

    @property
    def clip_seconds(self) -> float:
        """The length in seconds that a verdict is for; 0 for any, as of log-Mel arrays."""
        return self.stretches.seconds

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
        """Judge one clip; of a longer sound each stretch, and give the worst.

        That is the anomalous one with the highest score. If none is anomalous and one cannot be
        judged, its fault is raised; so neither hides the other. :meth:`score_files` gives all.

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
            return self._worst(self.stretches.of_file(sound))
        if rate is None:
            raise ConfigError(f"'{name}' is an array of samples: give its rate, in Hz, as well")
        return self._worst(self.stretches.of_samples(name, sound, rate))

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
            paths: sound files, each of which gives as many results as it has stretches, in
                order; or ``.npy`` log-Mel, which is judged whole.
            maps: keep each clip's log-Mel and NLL map in the result.
        """

        def hear(piece: Piece) -> Clip:
            return attempt(piece.known, lambda: self._hear(piece.read(), maps=maps))

        clips = self.runner.map_ahead(hear, self.stretches.of_files(paths))
        for clip, nll in self.runner.run_clips(clips, self._rows, maps=maps):
            yield self.judge(clip, self._of_clip(nll))

    def score_pipe(
        self,
        pipe: BinaryIO,
        fmt: PcmFormat,
        timeout_s: float | None = None,
    ) -> Iterator[ClipResult]:
        """Judge what comes through a pipe, clip by clip, each as soon as it is there.

        What is left at its end, too short for a verdict, is dropped, unless it is all that came.

        Args:
            pipe: raw PCM, or WAV.
            fmt: what raw bytes mean.
            timeout_s: how long a clip may be waited for; three clips' length if not given. Then it
                is ``unknown``, and listening goes on.

        Raises:
            AudioError: the pipe gives no sound, or none that this monitor takes.
            ConfigError: the format, the length or the timeout make no sense.
        """
        first = True
        for clip in self.reader.read_pipe(pipe, fmt, self.clip_seconds, timeout_s):
            if not first and self.stretches.drops(clip):
                return
            first = False
            heard = clip if clip.error else attempt(clip, partial(self._hear, clip))
            yield self.judge(heard, None if heard.error else self._nll(heard))

    def stream(self) -> ScoreStream:
        """The NLL of windows as sound comes in, for those who form no clips."""
        if self.logmel is None or self._whole:
            raise AudioError("only a monitor that makes log-Mel of sound can follow a stream")
        return ScoreStream(self.logmel.stream(), self.view.stream(), self.runner)

    def _worst(self, pieces: Iterable[Piece]) -> ClipResult:
        """See :meth:`score`."""
        worst: ClipResult | None = None
        fault: AudioError | ScoreError | None = None
        for piece in pieces:
            try:
                result = self._score(piece.read())
            except (AudioError, ScoreError) as error:
                fault = fault or error
                continue
            if worst is None or worst.score is None or worst.score < (result.score or 0):
                worst = result
        if fault and (worst is None or worst.verdict != ANOMALOUS):
            raise fault
        assert worst is not None
        return worst

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
        if clip.samples is not None:
            self.stretches.check(clip)
        if self._whole and clip.samples is not None:
            self._whole.check(clip.label, len(clip.samples))
            if not maps:
                return clip
        if self.logmel and clip.samples is not None:
            with blamed_on(clip.label):
                clip = replace(clip, logmel=self.logmel(clip.samples))
        if not self._whole and clip.logmel is not None:
            self.view.spec.check(clip.label, len(clip.logmel))
            clip = replace(clip, samples=None)  # which many clips that wait would hold
        return clip

    def _nll(self, clip: Clip) -> Array | None:
        """The NLLs of one clip that was heard."""
        rows = self._rows(clip)
        return None if rows is None else self._of_clip(self.runner.run(rows))

    def _rows(self, clip: Clip) -> Rows | None:
        """What a clip that was heard sends through the graph; ``None`` if it could not be.

        Returns:
            (n, T, M), or (1, samples) as the graph takes them.
        """
        with blamed_on(clip.label):
            if self._whole and clip.samples is not None:
                return self._whole(clip.samples)
            return None if clip.logmel is None else self.view(clip.logmel)

    def _of_clip(self, nll: Array | None) -> Array | None:
        """What the graph gave, window by window: one that takes whole clips gives (1, windows)."""
        return nll[0] if self._whole and nll is not None else nll


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
