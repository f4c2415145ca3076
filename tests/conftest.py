"""What several tests stand on: a tiny data set, a run, its bundle, forged ones, real recordings.

The base install, on which the runtime's tests run, has no torch: what needs it is imported where it
is needed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgeflow.models.spec import ModelSettings, Schedule
from edgeflow.synth import SynthSpec, synthesise
from edgeflow_runtime.bundle import DIGEST, MANIFEST, canonical_digest
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
    from edgeflow_export.bundle_from_run import ExportOptions, bundle_from_run

    path = tmp_path_factory.mktemp("bundles") / "fan_id_00.edgeflow"
    two = ExportOptions(false_alarm_probability=0.4)  # two held-out clips can promise no less
    bundle_from_run(TrainedRun.load(run_folder), path, two)
    return path


Forge = Callable[..., Path]


@pytest.fixture
def forge(bundle_path: Path, tmp_path: Path) -> Forge:
    """Writes the bundle with other members and another manifest, every hash right.

    ``edit`` changes the manifest's document in place; members are given by stem, as ``flow``.
    """
    return partial(forged, bundle_path, tmp_path / "forged.edgeflow")


@pytest.fixture
def forge_from(tmp_path: Path) -> Callable[[Path], Forge]:
    """The same with another bundle."""
    return lambda source: partial(forged, source, tmp_path / "forged.edgeflow")


def forged(
    source: Path,
    target: Path,
    edit: Callable[[dict[str, Any]], object] = lambda _: None,
    **members: bytes,
) -> Path:
    """See :func:`forge`."""
    with zipfile.ZipFile(source) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content |= {name: members[Path(name).stem] for name in content if Path(name).stem in members}
    document = json.loads(content.pop(MANIFEST))
    document["members"] = {n: hashlib.sha256(part).hexdigest() for n, part in content.items()}
    edit(document)
    document.pop(DIGEST)
    document[DIGEST] = canonical_digest(document)
    with zipfile.ZipFile(target, "w") as archive:
        for name, part in {MANIFEST: json.dumps(document).encode(), **content}.items():
            archive.writestr(name, part)
    return target
