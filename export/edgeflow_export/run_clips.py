"""The clips of a run, as its monitor hears them: learned from, held out, or there to test on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from edgeflow.dataset import Dataset
from edgeflow.training.run import TrainedRun
from edgeflow_runtime.audio import read_sound
from edgeflow_runtime.clips import ClipReader
from edgeflow_runtime.errors import ExportError
from edgeflow_runtime.logmel import LogMel

Array = npt.NDArray[np.float32]
Item = TypeVar("Item")


class RunClips:
    """Reads the clips of ``run``.

    Args:
        run: a finished run.
        root: where its data set is.
    """

    def __init__(self, run: TrainedRun, root: Path) -> None:
        self.run, self.root = run, root
        config, record = run.record.config, run.record
        self.logmel = None if record.arrays else LogMel(config.logmel)
        self._reader = ClipReader(
            len(run.mean), self.logmel, record.min_rate_hz, config.channel, allow_clipped=True
        )

    def read(self, names: Sequence[str]) -> tuple[dict[str, Array], float]:
        """Log-Mel (frames, bands) by name, and the median length in seconds (0 for arrays).

        Raises:
            ExportError: a clip is missing.
            AudioError: a clip cannot be read.
        """
        found, lengths = {}, []
        for name in names:
            found[name], seconds = self._reader.read(self._present(name))
            lengths.append(0.0 if np.isnan(seconds) else seconds)
        return found, float(np.median(lengths))

    def samples(self, name: str) -> Array:
        """A clip's (n,) samples at the monitor's rate. Raises as :meth:`read` does."""
        config = self.run.record.config
        return read_sound(
            self._present(name),
            config.logmel.rate_hz,
            config.channel,
            min_rate_hz=self.run.record.min_rate_hz,
        )

    def windows(self, logmel: Array) -> Array:
        """(frames, bands) log-Mel to its standardised windows (n, T, M)."""
        standard = (logmel - self.run.mean) / self.run.scale
        return self.run.record.config.settings.window.views(standard)

    def tests(self, most: int) -> tuple[list[str], list[str]]:
        """The machine's labelled test clips, normal and anomalous, at most ``most`` of each."""
        monitor = self.run.record.config.monitor
        machine = Dataset.scan(self.root).machine(monitor.machine_type, monitor.machine_id)
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
