"""Clip scores straight from a trained run, unexported: what parity is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from edgeflow.features import FeatureStore
from edgeflow.training.run import TrainedRun
from edgeflow_runtime.arrays import Frames, Scores
from edgeflow_runtime.errors import DataError
from edgeflow_runtime.progress import track

CHUNK = 44
"""Windows scored at a time: on a CPU the activations of more do not stay in the cache."""


class RunScores:
    """Scores clips with a run's model in torch.

    Args:
        run: the finished run.
        store: reads the clips as the run's training did.
        device: where the model runs.
    """

    def __init__(self, run: TrainedRun, store: FeatureStore, device: torch.device) -> None:
        self._run = run
        self._store = store
        self._model = run.model.to(device)
        self._device = device

    def __call__(self, paths: Sequence[Path]) -> Scores:
        """Mean window NLL of each clip, (n,), in nats per dimension.

        Raises:
            DataError: a clip cannot be read or fills no window.
        """
        name = self._run.record.recipe.machine.name
        clips = self._store.read_all(list(paths), name)
        scores = []
        for path, logmel in track(zip(paths, clips, strict=True), f"scoring {name}", len(clips)):
            scores.append(self._score(path, logmel))
        return np.array(scores)

    @torch.no_grad()
    def _score(self, path: Path, logmel: Frames) -> float:
        windows = self._run.view(logmel)  # (N, T, M)
        if not len(windows):
            raise DataError(f"'{path}' is too short: it does not fill one window")
        every = torch.from_numpy(windows.copy()).to(self._device)
        parts = [self._model.score(part) for part in torch.split(every, CHUNK)]
        return float(torch.cat(parts).double().mean())
