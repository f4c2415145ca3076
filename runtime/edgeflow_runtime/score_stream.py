"""A score that follows a sound as it comes in, window by window, for those who form no clips."""

from __future__ import annotations

import numpy as np

from edgeflow_runtime.arrays import Array, Nll, Windows
from edgeflow_runtime.batch_runner import BatchRunner
from edgeflow_runtime.logmel import LogMelStream
from edgeflow_runtime.views import ViewStream


class ScoreStream:
    """Takes samples as they come and gives the NLL of the windows that they complete.

    Put together, the NLLs are those of the whole clip; their mean is its score.
    """

    def __init__(self, frames: LogMelStream, windows: ViewStream, runner: BatchRunner) -> None:
        self._frames, self._windows, self._runner = frames, windows, runner

    def push(self, samples: Array) -> Nll:
        """Take (n,) float32 samples at the monitor's rate; return the (k,) NLLs, k may be 0."""
        return self._score(self._windows.push(self._frames.push(samples)))

    def finish(self) -> Nll:
        """The last (k,) NLLs; the stream is then spent. Raises :class:`AudioError` if too short."""
        last = self._windows.push(self._frames.finish())
        return self._score(np.concatenate([last, self._windows.finish()]))

    def _score(self, windows: Windows) -> Nll:
        return self._runner.run(windows) if len(windows) else np.empty(0, np.float32)
