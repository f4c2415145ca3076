"""What several tests stand on: a tiny data set, a trained run, its bundle, real recordings.

The base install, on which the runtime's tests run, has no torch: what needs it is imported where it
is needed.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeflow.models.spec import ModelSettings, Schedule
from edgeflow.synth import SynthSpec, synthesise
from edgeflow_runtime.logmel import LogMelSpec
from edgeflow_runtime.manifest import MachineId
from edgeflow_runtime.views import WindowSpec

if TYPE_CHECKING:
    from edgeflow.training.recipe import Recipe

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the tests' own, so that nothing is left from, or for, anyone else."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["EDGEFLOW_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def mimii() -> Path:
    """The real recordings."""
    default = REPOSITORY.parent / "shared" / "data" / "mimii"
    folder = Path(os.environ.get("EDGEFLOW_MIMII", default))
    if not folder.is_dir():
        pytest.skip("no real recordings: point EDGEFLOW_MIMII at the MIMII subset")
    return folder


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two fans and two valves, a few clips of two seconds each."""
    folder = tmp_path_factory.mktemp("data") / "sounds"
    synthesise(folder, SynthSpec(("fan", "valve"), machines=2, clips=6, seconds=2.0))
    return folder


@pytest.fixture(scope="session")
def maf_settings() -> ModelSettings:
    """A MAF that trains in a second."""
    from edgeflow.models.maf import MAFSpec

    return ModelSettings(
        model=MAFSpec(hidden=32, blocks=2),
        view=WindowSpec(frames=4, hop=4),
        schedule=Schedule(epochs=3, batch=16, optimiser="adam", learning_rate=1e-3),
        pretraining=Schedule(epochs=2, batch=32, optimiser="adam", learning_rate=1e-3),
    )


@pytest.fixture(scope="session")
def glow_settings(maf_settings: ModelSettings) -> ModelSettings:
    """A Glow that trains in a few seconds."""
    from edgeflow.models.glow import GlowSpec

    return dataclasses.replace(
        maf_settings,
        model=GlowSpec(frames=16, steps=2, hidden=8),
        view=WindowSpec(frames=16, hop=8),
    )


@pytest.fixture(scope="session")
def recipe(sounds: Path, maf_settings: ModelSettings) -> Recipe:
    """The training of the first fan with the tiny MAF and plain NLL."""
    from edgeflow.losses import LossSpec
    from edgeflow.training.recipe import Recipe

    return Recipe(
        data=str(sounds),
        machine=MachineId("fan", "00"),
        loss=LossSpec("nll"),
        settings=maf_settings,
        logmel=LogMelSpec(),
        channel=None,
        holdout=0.1,
        seed=0,
    )


@pytest.fixture(scope="session")
def run_folder(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    import torch

    from edgeflow.training.train import train_run

    folder = tmp_path_factory.mktemp("runs") / "fan_id_00"
    train_run(recipe, folder, torch.device("cpu"))
    return folder


@pytest.fixture(scope="session")
def bundle_path(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle."""
    from edgeflow.training.run import TrainedRun
    from edgeflow_export.bundle_from_run import bundle_from_run

    path = tmp_path_factory.mktemp("bundles") / "fan_id_00.edgeflow"
    bundle_from_run(TrainedRun.load(run_folder), path)
    return path
