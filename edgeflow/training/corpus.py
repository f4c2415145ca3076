"""The training data as one tensor on the device, and the windows in it as views."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeflow.dataset import FEWEST_TRAINING, Dataset, Machine
from edgeflow.features import FeatureStore
from edgeflow.losses import LossSpec
from edgeflow.training.recipe import Recipe
from edgeflow_runtime.arrays import Frames
from edgeflow_runtime.errors import AudioError, DataError
from edgeflow_runtime.manifest import Features
from edgeflow_runtime.sound_file import sound_info
from edgeflow_runtime.views import View, ViewSpec

DEAD_DB = 1e-3
"""A band whose training values spread less than this holds no information."""

DEAD_SCALE = 1e9
"""What such a band is divided by, so that it is zero whatever is heard in it."""

LEAST_SCALE_DB = 0.3
"""What every other band is divided by at least: one that hardly varied while it was learned would
otherwise be thousands of standard deviations off at the first change."""


@dataclass(frozen=True)
class Split:
    """A machine's training clips, divided into those to learn from and those held out."""

    machine: Machine
    """The machine."""
    learn: list[Path]
    """Clips to learn from."""
    heldout: list[Path]
    """Clips kept aside, to watch training and to set the threshold with."""


def split_clips(machine: Machine, share: float, seed: int) -> Split:
    """Hold out ``share`` of the training clips, at least two of three, none of fewer.

    The choice depends on the seed and the machine alone, so every training of a type agrees.
    """
    clips = machine.train
    if len(clips) < 3 or not share:
        return Split(machine, clips, [])
    count = min(max(2, round(share * len(clips))), len(clips) - 1)
    digest = hashlib.sha256(f"{machine.id.name} {seed}".encode()).digest()
    order = np.random.default_rng(list(digest)).permutation(len(clips))
    chosen = set(order[:count].tolist())
    learn = [clip for i, clip in enumerate(clips) if i not in chosen]
    return Split(machine, learn, [clips[i] for i in sorted(chosen)])


class Corpus:
    """Features of all machines of a type, standardised, in one tensor.

    Its rows are what the view measures: frames (F, M), or the statistics of clips. A band that
    never varies has no density, and one that resampling changes has that of a recorder. They are
    filled with unit noise, once, so that the model learns to leave them alone; when scoring they
    are 0.

    Args:
        splits: one per machine of the type.
        logmels: of each machine's learn and held-out clips, by path.
        spec: how frames become windows.
        features: how the log-Mel was made.
        device: where the tensor lives.
        seed: of the noise.
    """

    def __init__(
        self,
        splits: list[Split],
        logmels: dict[Path, Frames],
        spec: ViewSpec,
        features: Features,
        device: torch.device,
        seed: int,
    ) -> None:
        self.features = features
        self.splits = {split.machine.id.name: split for split in splits}
        paths = [path for split in splits for path in split.learn + split.heldout]
        measured = {path: spec.measure(logmels[path]) for path in paths}
        self._first = dict(
            zip(paths, np.cumsum([0] + [len(measured[path]) for path in paths]), strict=False)
        )
        self._frames = {path: len(logmels[path]) for path in paths}
        learn = np.concatenate([measured[p] for split in splits for p in split.learn])
        mean = learn.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = learn.std(axis=0, dtype=np.float64)
        self.dead = (spread < DEAD_DB) | unheard(features)
        scale = np.where(self.dead, DEAD_SCALE, np.maximum(spread, LEAST_SCALE_DB))
        self.view = View(spec, mean, scale.astype(np.float32))
        table = self.view.standardise(np.concatenate([measured[path] for path in paths]))
        noise = np.random.default_rng(seed).standard_normal((len(table), int(self.dead.sum())))
        table[:, self.dead] = noise
        self.table = torch.from_numpy(table.reshape(len(table), -1)).to(device)
        digest = hashlib.sha256(np.ascontiguousarray(table).tobytes())
        digest.update(repr([(str(p.name), self._frames[p]) for p in paths]).encode())
        self.digest = digest.hexdigest()

    @property
    def device(self) -> torch.device:
        """Where the data is."""
        return self.table.device

    def starts(self, paths: list[Path]) -> Tensor:
        """The first row of every window of the clips ``paths``: (n,) int64 on the device."""
        spec = self.view.spec
        starts = [spec.first_rows(self._frames[path]) + self._first[path] for path in paths]
        return torch.from_numpy(np.concatenate(starts)).to(self.device)

    def windows(self, starts: Tensor) -> Tensor:
        """The windows that begin at ``starts`` (N,), gathered as (N, T, M)."""
        span, width = self.view.spec.span, self.table.shape[1]
        every = self.table.as_strided(
            (len(self.table) - span + 1, span * width), (width, 1)
        )  # a view: windows overlap in memory
        return every[starts].view(-1, *self.view.shape)

    def learn_starts(self, name: str) -> Tensor:
        """Windows that the machine ``name`` learns from."""
        return self.starts(self.splits[name].learn)

    def heldout_starts(self, name: str) -> Tensor:
        """Windows held out from the machine ``name``."""
        return self.starts(self.splits[name].heldout)

    def outlier_starts(self, name: str) -> Tensor:
        """Windows that every other machine learns from.

        Raises:
            DataError: there is no other machine.
        """
        others = [split.learn for key, split in self.splits.items() if key != name]
        if not others:
            raise DataError(
                f"{name} is the only machine of its type, so it has no outliers: "
                "train it with --loss nll"
            )
        return self.starts([path for learn in others for path in learn])

    def all_starts(self) -> Tensor:
        """Windows that all machines learn from."""
        return self.starts([path for split in self.splits.values() for path in split.learn])


def unheard(features: Features) -> npt.NDArray[np.bool_]:
    """(bands,) those that say more of the recorder's rate than of the machine."""
    if features.logmel is None:
        return np.zeros(features.bands, bool)
    return features.logmel.beyond_passband(features.min_rate_hz)


class Corpora:
    """Reads the corpus of a machine type once, however many of its machines are trained in turn."""

    def __init__(self) -> None:
        self._key: object = None
        self._corpus: Corpus | None = None

    def of(self, recipe: Recipe, device: torch.device) -> Corpus:
        """The corpus that ``recipe`` wants; the one before is let go if it is another.

        Raises:
            DataError: a clip cannot be used, or a machine has too few.
        """
        dataset = Dataset.scan(recipe.data)
        _check_enough(dataset.machine(recipe.machine.machine_type, recipe.machine.machine_id))
        shared = replace(recipe, machine=replace(recipe.machine, machine_id=""), loss=LossSpec())
        if self._corpus is None or (shared, device) != self._key:
            self._key, self._corpus = None, None
            self._corpus = load_corpus(dataset, recipe, device)
            self._key = shared, device
        return self._corpus


def load_corpus(dataset: Dataset, recipe: Recipe, device: torch.device) -> Corpus:
    """Read the training clips of the recipe's machine type.

    Raises:
        DataError: a clip cannot be used.
    """
    machines = dataset.of_type(recipe.machine.machine_type)
    splits = [
        split_clips(machine, recipe.holdout, recipe.seed) for machine in machines if machine.train
    ]
    paths = [path for split in splits for path in split.learn + split.heldout]
    arrays, spec = dataset.holds_arrays, recipe.logmel
    features = Features(
        bands=spec.bands,
        min_rate_hz=0 if arrays else lowest_rate(paths, spec.rate_hz),
        channel=recipe.channel,
        logmel=None if arrays else spec,
    )
    read = FeatureStore(features).read_all(paths, recipe.machine.machine_type)
    logmels = dict(zip(paths, read, strict=True))
    for path, logmel in logmels.items():
        check_length(path, len(logmel), recipe.settings.view)
    return Corpus(splits, logmels, recipe.settings.view, features, device, recipe.seed)


def _check_enough(target: Machine) -> None:
    if len(target.train) < FEWEST_TRAINING:
        raise DataError(
            f"{target.id.name} has {len(target.train)} training clip(s); at least "
            f"{FEWEST_TRAINING} are needed, of which one is held out to set the threshold"
        )


def check_length(path: Path, frames: int, view: ViewSpec) -> None:
    """Refuse a training clip that is too short for the view. Raises :class:`DataError`."""
    try:
        view.check(str(path), frames)
    except AudioError as error:
        raise DataError(str(error)) from error


def lowest_rate(paths: list[Path], rate_hz: int) -> int:
    """The lowest rate among recordings, at most ``rate_hz``.

    Raises:
        DataError: a recording cannot be opened.
    """
    try:
        return min([rate_hz, *(sound_info(path).rate_hz for path in paths)])
    except AudioError as error:
        raise DataError(str(error)) from error
