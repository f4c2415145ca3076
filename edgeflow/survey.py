"""A look over a whole data set: what is in it, and what looks wrong."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from edgeflow.band_spread import BandSpread
from edgeflow.dataset import FEWEST_TRAINING, Dataset, Machine
from edgeflow_runtime.audio import check_rate
from edgeflow_runtime.errors import AudioError, DataError
from edgeflow_runtime.hearing import Hearing
from edgeflow_runtime.logmel import LogMelSpec
from edgeflow_runtime.logmel_array import ARRAY_SUFFIX, read_logmel_array
from edgeflow_runtime.printable import printable
from edgeflow_runtime.progress import track
from edgeflow_runtime.sound_file import OpenSound, open_sound

USUAL_RATE_HZ = 16000

FEWEST_FRAMES = 4
"""Frames of the smallest window."""


@dataclass(frozen=True)
class ClipFacts:
    """What one clip turned out to be."""

    seconds: float
    """Length; 0 if unknown."""
    rate_hz: int
    """Sample rate; 0 for arrays and unreadable clips."""
    channels: int
    """Channels; 0 for arrays and unreadable clips."""
    fault: str | None
    """What is wrong with it."""
    spreads: tuple[BandSpread, ...] = ()
    """How each channel's bands vary; none of clips that cannot be used."""


@dataclass
class MachineFacts:
    """One machine's row."""

    machine: str
    """For example ``fan_id_00``."""
    train: int
    """Training clips."""
    test_normal: int
    """Normal test clips."""
    test_anomalous: int
    """Anomalous test clips."""
    seconds: float
    """Length of all its clips together."""
    rates_hz: list[int]
    """Rates that occur."""
    channels: list[int]
    """Channel counts that occur."""


@dataclass
class Survey:
    """What is in a data set."""

    root: str
    """The folder."""
    arrays: bool
    """Whether clips are log-Mel arrays."""
    machines: list[MachineFacts] = field(default_factory=list)
    """One row a machine."""
    wrong: list[str] = field(default_factory=list)
    """What looks wrong, a line each."""

    def to_table(self) -> str:
        """The survey as text."""
        width = max(len(row.machine) for row in self.machines)
        lines = [
            f"{'machine':<{width}}  train  test normal/anomalous  seconds  rate Hz       channels"
        ]
        for row in self.machines:
            tests = f"{row.test_normal}/{row.test_anomalous}"
            rates = ", ".join(map(str, row.rates_hz)) or "-"
            channels = ", ".join(map(str, row.channels)) or "-"
            lines.append(
                f"{row.machine:<{width}}{row.train:>7}{tests:>23}{row.seconds:>9.0f}  "
                f"{rates:<14}{channels}"
            )
        clips = sum(row.train + row.test_normal + row.test_anomalous for row in self.machines)
        seconds = sum(row.seconds for row in self.machines)
        kind = "log-Mel arrays" if self.arrays else "sounds"
        types = len({row.machine.rpartition("_id_")[0] for row in self.machines})
        lines.append(
            f"{types} types, {len(self.machines)} machines, {clips} {kind}, {seconds:.0f} s"
        )
        lines += [f"! {printable(line)}" for line in self.wrong] or ["nothing looks wrong"]
        return "\n".join(lines)


def survey(dataset: Dataset) -> Survey:
    """Read every clip of ``dataset`` and gather what there is."""
    whole = _kind_of(dataset)
    paths = [path for machine in dataset.machines.values() for path in machine.clips]
    facts = dict(zip(paths, _look_at_all(paths), strict=True))
    for machine in dataset.machines.values():
        whole.machines.append(_row(machine, facts))
        whole.wrong += _machine_faults(machine, dataset)
    whole.wrong += [fact.fault for fact in facts.values() if fact.fault]
    whole.wrong += rate_faults({fact.rate_hz for fact in facts.values() if fact.rate_hz})
    whole.wrong += _band_faults(dataset, facts)
    whole.wrong += [f"'{path}' does not fit the layout and is not used" for path in dataset.strays]
    return whole


def _kind_of(dataset: Dataset) -> Survey:
    try:
        return Survey(str(dataset.root), dataset.holds_arrays)
    except DataError as error:  # both kinds
        return Survey(str(dataset.root), False, wrong=[str(error)])


def _look_at_all(paths: list[Path]) -> list[ClipFacts]:
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "edgeflow-survey")
    try:
        return list(track(pool.map(_look, paths), "reading", len(paths)))
    finally:
        pool.shutdown(cancel_futures=True)


def _look(path: Path) -> ClipFacts:
    if path.suffix.lower() == ARRAY_SUFFIX:
        return _look_at_array(path)
    try:
        with open_sound(path) as sound:
            info = sound.info
            spreads = [BandSpread() for _ in range(info.channels)]
            fault = _fault_of_channels(sound, spreads)
    except AudioError as error:
        return ClipFacts(0, 0, 0, str(error))
    if not fault and info.seconds * USUAL_RATE_HZ < LogMelSpec().samples(FEWEST_FRAMES):
        fault = f"'{path}' is too short: {info.seconds:.3f} s"
    whole = () if fault else tuple(spreads)
    return ClipFacts(info.seconds, info.rate_hz, info.channels, fault, whole)


def _fault_of_channels(sound: OpenSound, spreads: list[BandSpread]) -> str | None:
    """What is wrong with the first channel that is faulty; the file is read once for all.

    Each channel's frames are added to its one of ``spreads``.
    """
    rate_hz, channels = sound.info.rate_hz, sound.info.channels
    names = [sound.name if channels == 1 else f"{sound.name}, channel {k}" for k in range(channels)]
    hearings = [Hearing(name, rate_hz, min(rate_hz, USUAL_RATE_HZ)) for name in names]
    try:
        check_rate(sound.name, rate_hz, 0)
        for block in sound.blocks():
            for hearing, spread, column in zip(hearings, spreads, block.T, strict=True):
                spread.hear(hearing.hear(column), rate_hz)
        for hearing in hearings:
            hearing.check()
    except AudioError as error:
        return str(error)
    return None


def _look_at_array(path: Path) -> ClipFacts:
    try:
        logmel = read_logmel_array(path, LogMelSpec().bands)
    except AudioError as error:
        return ClipFacts(0, 0, 0, str(error))
    if len(logmel) < FEWEST_FRAMES:
        return ClipFacts(0, 0, 0, f"'{path}' is too short: {len(logmel)} frames")
    return ClipFacts(0, 0, 0, None, (BandSpread().add(logmel),))


def _row(machine: Machine, facts: dict[Path, ClipFacts]) -> MachineFacts:
    mine = [facts[path] for path in machine.clips]
    return MachineFacts(
        machine=machine.id.name,
        train=len(machine.train),
        test_normal=len(machine.test_normal),
        test_anomalous=len(machine.test_anomalous),
        seconds=sum(fact.seconds for fact in mine),
        rates_hz=sorted({fact.rate_hz for fact in mine if fact.rate_hz}),
        channels=sorted({fact.channels for fact in mine if fact.channels}),
    )


def _machine_faults(machine: Machine, dataset: Dataset) -> list[str]:
    name, faults = machine.id.name, []
    if len(machine.train) < FEWEST_TRAINING:
        faults.append(
            f"{name} has {len(machine.train)} training clip(s); at least {FEWEST_TRAINING} are "
            "needed"
        )
    if not machine.test_normal or not machine.test_anomalous:
        faults.append(f"{name} lacks normal or anomalous test clips, so it has no AUC")
    if len(dataset.of_type(machine.id.machine_type)) < 2:
        faults.append(f"{name} is alone of its type: no outliers, so only --loss nll")
    return faults


def rate_faults(rates_hz: set[int]) -> list[str]:
    """What looks wrong with the rates that occur in a data set."""
    rates = sorted(rates_hz)
    faults = []
    if len(rates) > 1:
        faults.append(f"the rates differ: {', '.join(map(str, rates))} Hz; all are resampled")
    if rates and rates[0] < USUAL_RATE_HZ:
        faults.append(f"some clips are below {USUAL_RATE_HZ} Hz: their upper bands are empty")
    return faults


def _band_faults(dataset: Dataset, facts: dict[Path, ClipFacts]) -> list[str]:
    """What looks wrong with the bands of each type's training clips, channel by channel."""
    faults: list[str] = []
    for machine_type in dataset.types:
        clips = [path for machine in dataset.of_type(machine_type) for path in machine.train]
        heard = [facts[path].spreads for path in clips]
        for channel in range(channels := max(map(len, heard), default=0)):
            name = f"{machine_type}, channel {channel}" if channels > 1 else machine_type
            mine = (spreads[channel] for spreads in heard if len(spreads) > channel)
            faults += BandSpread().merge(mine).faults(name)
    return faults
