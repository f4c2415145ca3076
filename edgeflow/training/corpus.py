"""The training data as one tensor on the device, and the windows in it as views."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgeflow.dataset import FEWEST_TRAINING, Dataset, Machine
from edgeflow.features import FeatureStore
from edgeflow.losses import LossSpec
from edgeflow.models.linear import SETTINGS as LINEAR
from edgeflow.standard import dead_bands, standard_view
from edgeflow.training.recipe import Recipe
from edgeflow.training.splits import FEWEST_STARTED, VALIDATION_SHARE, Split, split_clips
from edgeflow_runtime.arrays import Frames
from edgeflow_runtime.errors import AudioError, DataError
from edgeflow_runtime.manifest import Features, MachineId
from edgeflow_runtime.sound_file import sound_info
from edgeflow_runtime.views import ViewSpec

MOST_SISTER_CLIPS = 64
"""Of other machines' clips are looked at after an epoch, so that looking stays cheap."""


@dataclass(frozen=True)
class Clips:
    """Windows that are scored clip by clip."""

    starts: Tensor
    """(n,) the first row of every window."""
    numbers: Tensor
    """(n,) which clip each is of, from 0."""

    def __len__(self) -> int:
        return int(self.numbers[-1]) + 1 if len(self.numbers) else 0


class Corpus:
    """Features of all machines of a type, standardised, in one tensor.

    Its rows are what the view measures: frames (F, M), or the statistics of clips. A band that
    never varies has no density, and one that resampling changes has that of a recorder. They are
    filled with unit noise, once, so that the model learns to leave them alone; when scoring they
    are 0.

    Args:
        splits: one per machine of the type.
        logmels: of every clip of the splits, by path.
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
        paths = [path for split in splits for path in split.learn + split.unlearned]
        measured = {path: spec.measure(logmels[path]) for path in paths}
        self._first = dict(
            zip(paths, np.cumsum([0] + [len(measured[path]) for path in paths]), strict=False)
        )
        self._frames = {path: len(logmels[path]) for path in paths}
        learn = [measured[path] for split in splits for path in split.learn]
        self.view = standard_view(spec, learn, features)
        self.dead = dead_bands(self.view)
        table = self.view.standardise(np.concatenate([measured[path] for path in paths]))
        noise = np.random.default_rng(seed).standard_normal((len(table), int(self.dead.sum())))
        table[:, self.dead] = noise
        self.table = torch.from_numpy(table.reshape(len(table), -1)).to(device)
        digest = hashlib.sha256(np.ascontiguousarray(table).tobytes())
        digest.update(repr([(str(p.name), self._frames[p]) for p in paths]).encode())
        self.digest = digest.hexdigest()
        self.pooled: Corpus | None = None
        """The same clips as the linear flow sees them, where a trained flow is held against it."""

    @property
    def device(self) -> torch.device:
        """Where the data is."""
        return self.table.device

    def starts(self, paths: list[Path]) -> Tensor:
        """The first row of every window of the clips ``paths``: (n,) int64 on the device."""
        spec = self.view.spec
        starts = [spec.first_rows(self._frames[path]) + self._first[path] for path in paths]
        return torch.from_numpy(np.concatenate([[], *starts]).astype(np.int64)).to(self.device)

    def clips(self, paths: list[Path]) -> Clips:
        """The windows of the clips ``paths``, each with the clip that it is of."""
        spec = self.view.spec
        counts = torch.tensor(
            [len(spec.first_rows(self._frames[path])) for path in paths], dtype=torch.int64
        )
        numbers = torch.repeat_interleave(torch.arange(len(paths)), counts)
        return Clips(self.starts(paths), numbers.to(self.device))

    def windows(self, starts: Tensor) -> Tensor:
        """The windows that begin at ``starts`` (N,), gathered as (N, T, M)."""
        span, width = self.view.spec.span, self.table.shape[1]
        every = self.table.as_strided(
            (len(self.table) - span + 1, span * width), (width, 1)
        )  # a view: windows overlap in memory
        return every[starts].view(-1, *self.view.shape)

    def heard(self, starts: Tensor) -> Tensor:
        """The same as when scoring: bands that never vary are 0."""
        dead = torch.from_numpy(self.dead).to(self.device)  # (M,) or (T, M)
        return self.windows(starts).masked_fill(dead, 0.0)

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

    def clips_of(self, machine: MachineId) -> Split:
        """A machine's clips, or those of all of the type."""
        if not machine.is_type:
            return self.splits[machine.name]
        every = list(self.splits.values())
        whole = Split(replace(every[0].machine, id=machine), [], [])
        for split in every:
            whole.learn.extend(split.learn)
            whole.heldout.extend(split.heldout)
            whole.validation.extend(split.validation)
        return whole

    def sister_paths(self, name: str) -> list[Path]:
        """Clips of every other machine that none of them learns from, at most so many."""
        every = [split.unlearned for key, split in self.splits.items() if key != name]
        paths = [path for unlearned in every for path in unlearned]
        most = min(len(paths), MOST_SISTER_CLIPS)
        return [paths[k * len(paths) // most] for k in range(most)]

    def without(self, name: str, paths: list[Path]) -> Corpus:
        """The same, but that the machine ``name`` does not learn from ``paths``.

        What was measured over all clips, the standardisation, stays.
        """
        other = copy.copy(self)
        split = self.splits[name]
        learn = [path for path in split.learn if path not in set(paths)]
        other.splits = self.splits | {name: replace(split, learn=learn)}
        left_out = repr([self._first[path] for path in paths])
        other.digest = hashlib.sha256((self.digest + left_out).encode()).hexdigest()
        return other

    def all_starts(self) -> Tensor:
        """Windows that all machines learn from."""
        return self.starts([path for split in self.splits.values() for path in split.learn])


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
        target = recipe.machine
        if not target.is_type:  # a base says itself what it lacks
            _check_enough(dataset.machine(target.machine_type, target.machine_id))
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
    splits = [_split(machine, recipe) for machine in machines if machine.train]
    paths = [path for split in splits for path in split.learn + split.unlearned]
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
    corpus = Corpus(splits, logmels, recipe.settings.view, features, device, recipe.seed)
    if recipe.settings.schedule and all(len(logmel) >= LINEAR.view.fewest for logmel in read):
        cpu = torch.device("cpu")
        corpus.pooled = Corpus(splits, logmels, LINEAR.view, features, cpu, recipe.seed)
    return corpus


def _split(machine: Machine, recipe: Recipe) -> Split:
    """The machine's clips as the recipe divides them."""
    settings = recipe.settings
    few = settings.model.starts_fitted and len(machine.train) < FEWEST_STARTED
    if few or settings.schedule is None:
        # A linear flow tells how it would score each clip unlearned.
        return split_clips(machine, 0.0 if few else recipe.holdout, recipe.seed)
    return split_clips(machine, recipe.holdout, recipe.seed, VALIDATION_SHARE)


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
