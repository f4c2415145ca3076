"""A data set in the layout of DCASE 2020 Task 2: which clips there are, of which machine.

::

    <machine type>/<train|test>/<normal|anomaly>_id_<XX>_<number>.<wav|flac|npy>

Training clips are normal. ``.npy`` files hold (frames, bands) float32 log-Mel in place of sound; a
data set is all sound or all arrays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from edgeflow_runtime.errors import ConfigError, DataError
from edgeflow_runtime.logmel_array import ARRAY_SUFFIX
from edgeflow_runtime.manifest import MachineId

CLIP_NAME = re.compile(r"(normal|anomaly)_id_([\w-]+)_(\d+)\.(?:wav|flac|npy)", re.IGNORECASE)

OTHERWISE = "for recordings of other names there are 'data import' and 'train --normal'"
"""What to say where a data set is wanted."""

FEWEST_TRAINING = 3
"""Training clips that a machine must have."""


@dataclass
class Machine:
    """One machine's clips, each list in the order of the names."""

    id: MachineId
    """Which machine it is."""
    root: Path
    """The data set's folder, where its sisters are."""
    train: list[Path] = field(default_factory=list)
    """Normal clips to train on."""
    test_normal: list[Path] = field(default_factory=list)
    """Normal clips to test on."""
    test_anomalous: list[Path] = field(default_factory=list)
    """Anomalous clips to test on."""

    @property
    def clips(self) -> list[Path]:
        """All its clips."""
        return self.train + self.test_normal + self.test_anomalous


@dataclass
class Dataset:
    """All machines below a folder; make one with :meth:`scan`."""

    root: Path
    """The folder."""
    machines: dict[str, Machine]
    """By name, as ``fan_id_00``, in order."""
    strays: list[Path]
    """Files that look like clips but do not fit the layout."""

    @classmethod
    def scan(cls, root: str | Path) -> Dataset:
        """Find the clips below ``root``.

        Raises:
            DataError: there is no such folder, or no clip in the layout.
        """
        root = Path(root)
        if not root.is_dir():
            raise DataError(
                f"'{root}' is not a folder: {OTHERWISE}"
                if root.exists()
                else f"'{root}' is missing"
            )
        machines: dict[str, Machine] = {}
        strays = []
        for path in sorted(root.glob("*/*/*")):
            if path.suffix.lower() not in (".wav", ".flac", ARRAY_SUFFIX):
                continue
            if not _place(path, machines):
                strays.append(path)
        if not machines:
            raise DataError(
                f"'{root}' holds no clip in the layout "
                f"<type>/<train|test>/<normal|anomaly>_id_<XX>_<number>.<wav|flac|npy>: {OTHERWISE}"
            )
        return cls(root, dict(sorted(machines.items())), strays)

    @property
    def holds_arrays(self) -> bool:
        """Whether clips are log-Mel arrays rather than sound.

        Raises:
            DataError: both kinds are there.
        """
        clips = [clip for machine in self.machines.values() for clip in machine.clips]
        arrays = sum(clip.suffix.lower() == ARRAY_SUFFIX for clip in clips)
        if 0 < arrays < len(clips):
            raise DataError(
                f"'{self.root}' mixes {arrays} log-Mel arrays with {len(clips) - arrays} sounds: "
                "keep them in two data sets"
            )
        return arrays > 0

    @property
    def types(self) -> list[str]:
        """The machine types, in order."""
        return sorted({machine.id.machine_type for machine in self.machines.values()})

    def of_type(self, machine_type: str) -> list[Machine]:
        """The machines of one type.

        Raises:
            DataError: there is none.
        """
        of_this_type = [m for m in self.machines.values() if m.id.machine_type == machine_type]
        if not of_this_type:
            raise DataError(
                f"'{self.root}' holds no machine of type {machine_type!r}; "
                f"it has {', '.join(self.types)}"
            )
        return of_this_type

    def whole_type(self, machine_type: str) -> Machine:
        """All machines of a type as one without an id, which a base is made of.

        Raises:
            DataError: there is none.
        """
        machines = self.of_type(machine_type)
        train = [clip for machine in machines for clip in machine.train]
        return Machine(MachineId(machine_type, ""), machines[0].root, train)

    def machine(self, machine_type: str, machine_id: str) -> Machine:
        """One machine.

        Raises:
            DataError: it is not there.
        """
        by_id = {m.id.machine_id: m for m in self.of_type(machine_type)}
        if machine_id not in by_id:
            raise DataError(
                f"'{self.root}' holds no {machine_type} with id {machine_id!r}; "
                f"it has {', '.join(by_id)}"
            )
        return by_id[machine_id]


def _place(path: Path, machines: dict[str, Machine]) -> bool:
    """Put a clip where it belongs; ``False`` if it fits nowhere."""
    match = CLIP_NAME.fullmatch(path.name)
    split = path.parent.name
    if match is None or split not in ("train", "test"):
        return False
    condition, machine_id = match[1].lower(), match[2]
    if split == "train" and condition == "anomaly":
        return False
    try:
        identity = MachineId(path.parent.parent.name, machine_id)
    except ConfigError:  # a folder's name may hold anything, a machine's may not
        return False
    machine = machines.setdefault(identity.name, Machine(identity, path.parents[2]))
    if split == "train":
        machine.train.append(path)
    elif condition == "normal":
        machine.test_normal.append(path)
    else:
        machine.test_anomalous.append(path)
    return True
