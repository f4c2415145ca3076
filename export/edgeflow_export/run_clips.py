"""The clips of a run, as its monitor hears them: learned from, held out, or there to test on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from edgeflow.dataset import Dataset
from edgeflow.features import FeatureStore
from edgeflow.training.run import TrainedRun
from edgeflow_runtime.arrays import Array, Samples, Windows
from edgeflow_runtime.audio import read_sound
from edgeflow_runtime.backends.protocol import Backend, nll_of
from edgeflow_runtime.errors import ExportError
from edgeflow_runtime.sound_file import sound_info

Item = TypeVar("Item")

GOLDEN_SECONDS = 3.0
"""Length of the golden recording, if its window allows."""


class RunClips:
    """Reads the clips of ``run``.

    Args:
        run: a finished run.
        root: where its data set is.
    """

    def __init__(self, run: TrainedRun, root: Path) -> None:
        self.run, self.root = run, root
        self._store = FeatureStore(run.features)
        self.logmel = self._store.logmel

    def windows(self, names: Sequence[str]) -> dict[str, Windows]:
        """What the model sees of clips, by name: their standardised windows (n, T, M).

        Raises:
            ExportError: a clip is missing.
            DataError: a clip cannot be read.
        """
        label = self.run.record.recipe.machine.name
        logmels = self._store.read_all([self._present(name) for name in names], label)
        return {name: self.run.view(x) for name, x in zip(names, logmels, strict=True)}

    def seconds(self, names: Sequence[str]) -> float:
        """The median length of clips, in seconds; 0 for arrays."""
        if self.logmel is None:
            return 0.0
        return float(np.median([sound_info(self._present(name)).seconds for name in names]))

    def samples(self, name: str) -> Samples:
        """A clip's (n,) samples at the monitor's rate. Raises :class:`AudioError`."""
        reader = self._store.reader
        assert reader.intake is not None
        return read_sound(self._present(name), reader.intake, allow_clipped=reader.allow_clipped)

    def golden(self, backend: Backend) -> dict[str, Array]:
        """A clip, held out if one is, with what it must give: samples, log-Mel, NLL.

        Args:
            backend: runs the graph as it is deployed.
        """
        record, view = self.run.record, self.run.view
        name = (*record.heldout, *record.learn)[0]
        if self.logmel is None:
            logmel = self._store.read(self._present(name))
            return {"logmel": logmel, "nll": nll_of(backend, view.rehearse(logmel))}
        spec, samples = self.logmel.spec, self.samples(name)
        if view.spec.hop:  # a few windows are enough; a whole clip is one
            fewest = spec.samples(view.spec.fewest + view.spec.hop)
            samples = samples[: max(int(GOLDEN_SECONDS * spec.rate_hz), fewest)]
        samples = np.ascontiguousarray(samples)
        logmel = self.logmel(samples)
        return {"samples": samples, "logmel": logmel, "nll": nll_of(backend, view.rehearse(logmel))}

    def frontend(self) -> dict[str, Array]:
        """The tensors that turn sound into what the model sees."""
        tensors = {"mean": self.run.view.mean, "scale": self.run.view.scale}
        if self.logmel is not None:
            tensors |= {"window": self.logmel.window, "filterbank": self.logmel.filterbank}
        return tensors

    def tests(self, most: int) -> tuple[list[str], list[str]]:
        """The machine's labelled test clips, normal and anomalous, at most ``most`` of each."""
        target = self.run.record.recipe.machine
        machine = Dataset.scan(self.root).machine(target.machine_type, target.machine_id)
        normal, anomalous = (
            [path.relative_to(self.root).as_posix() for path in evenly(paths, most)]
            for paths in (machine.test_normal, machine.test_anomalous)
        )
        return normal, anomalous

    def _present(self, name: str) -> Path:
        path = self.root / name
        if not path.exists():
            raise ExportError(
                f"'{path}', which the run was trained on, is missing: name the data set's place "
                "with --data"
            )
        return path


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most ``most`` of them, spread over all.

    Example:
        >>> evenly("abcdef", 3)
        ['a', 'c', 'e']
    """
    if len(items) <= most:
        return [*items]
    return [items[k * len(items) // most] for k in range(most)]
