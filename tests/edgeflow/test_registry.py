"""Models and losses are tables: one file and one line add one, and its documents name it."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeflow.dataset import Dataset
from edgeflow.features import FeatureStore
from edgeflow.losses import LOSSES, LossSpec
from edgeflow.models import MODELS, PRESETS, build, kind_of, preset
from edgeflow.models.folded import FoldedModel
from edgeflow.models.kind import ModelKind
from edgeflow.models.model import Model
from edgeflow.models.spec import ModelSettings, ModelSpec, Schedule
from edgeflow.training.recipe import Recipe
from edgeflow.training.run import TrainedRun
from edgeflow.training.run_scores import RunScores
from edgeflow.training.train import train, train_run
from edgeflow_export.bundle_from_run import ExportOptions, bundle_from_run
from edgeflow_runtime import Scorer
from edgeflow_runtime.errors import ConfigError, TrainingError
from edgeflow_runtime.views import WindowSpec


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_a_trip_through_json(model: str, name: str):
    settings = preset(model, name)
    assert settings.model.name == model
    assert ModelSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_a_whole_training_survives_a_trip_through_json(recipe: Recipe):
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": "12"}, "GlowSpec.steps: expected int, found '12'"),
        ({"name": "maf"}, "MAFSpec: unknown key 'steps'"),
        ({"name": "glwo"}, "unknown model 'glwo': choose one of linear, glow, maf"),
        ({"name": 3}, "unknown model 3: choose one of linear, glow, maf"),
        ({"hidden": 0}, "the sizes of a glow are positive"),
    ],
)
def test_a_wrong_value_names_the_model_it_is_in(change: dict, message: str):
    document = preset("glow", "small").to_dict()
    document["model"] |= change
    with pytest.raises(ConfigError, match=message):
        ModelSettings.from_dict(document)


def test_a_document_without_a_name_says_so():
    with pytest.raises(ConfigError, match="ModelSpec: missing key 'name'"):
        ModelSpec.from_dict({"frames": 4, "bands": 128})


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ConfigError, match="unknown model 'vae': choose one of linear, glow, maf"):
        preset("vae", "small")
    with pytest.raises(ConfigError, match="unknown preset 'huge': choose one of paper, small"):
        preset("maf", "huge")
    with pytest.raises(ConfigError, match="unknown loss 'mse': choose one of nll, eq4, eq5"):
        LossSpec("mse")


def test_view_and_model_must_agree(recipe: Recipe):
    with pytest.raises(ConfigError, match=r"the view gives windows of 8 rows, this maf takes 4"):
        dataclasses.replace(recipe.settings, view=WindowSpec(8, 4))
    narrow = dataclasses.replace(recipe.logmel, bands=64)
    with pytest.raises(ConfigError, match="log-Mel has 64 bands, this maf takes 128"):
        dataclasses.replace(recipe, logmel=narrow)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_a_finite_scalar_of_scores(name: str):
    kind = LOSSES[name]
    target, outlier = torch.rand(5, requires_grad=True), torch.rand(7)
    loss, passed = kind.compute(target, outlier, 0.5, 0.5)
    assert (loss.shape, passed.shape) == ((), ())
    loss.backward()
    assert target.grad.isfinite().all()
    assert kind.uses_outliers == (name != "nll")


# What a file of a new model holds: here an autoencoder, which is no flow and has no map.


@dataclass(frozen=True)
class NarrowSpec(ModelSpec):
    """A toy."""

    name: str = "narrow"
    frames: int = 4
    bands: int = 128
    hidden: int = 8


class Narrow(Model):
    """Scores a window by what is lost in a narrow layer."""

    unit = "mean squared error of the standardised log-Mel window"

    def __init__(self, spec: NarrowSpec) -> None:
        super().__init__(spec.frames, spec.bands)
        self.network = nn.Sequential(
            nn.Linear(self.dims, spec.hidden), nn.ReLU(), nn.Linear(spec.hidden, self.dims)
        )

    def score(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return (self.network(flat) - flat).square().mean(dim=1)

    def fold(self) -> FoldedModel:
        return FoldedNarrow(self)


class FoldedNarrow(FoldedModel):
    """Its inference module: the network may be made smaller."""

    def __init__(self, model: Narrow) -> None:
        super().__init__()
        self.conditioners = nn.ModuleList([model.network])
        self.scale = 1 / model.dims

    def score_map(self, windows: Tensor) -> Tensor:
        flat = windows.flatten(1)
        lost = (self.conditioners[0](flat) - flat).square().sum(dim=1) * self.scale
        return lost[:, None, None]


SETTINGS = ModelSettings(
    model=NarrowSpec(),
    view=WindowSpec(4, 4),
    schedule=Schedule(epochs=2, batch=16, optimiser="adam", learning_rate=1e-3),
    pretraining=Schedule(epochs=1, batch=32, optimiser="adam", learning_rate=1e-3),
)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> str:
    """The toy model, in the registry by one line."""
    kind = ModelKind(NarrowSpec, Narrow, paper=SETTINGS, small=SETTINGS)
    monkeypatch.setitem(sys.modules, "narrow_model", SimpleNamespace(KIND=kind))
    monkeypatch.setitem(MODELS, "narrow", "narrow_model")
    return "narrow"


@pytest.mark.parametrize("loss", ["nll", "eq5"])
def test_a_new_model_trains_evaluates_exports_and_scores(
    narrow: str, loss: str, sounds: Path, tmp_path: Path
):
    machine = Dataset.scan(sounds).machine("fan", "00")
    run = train(machine, tmp_path / "run", model=narrow, preset="small", loss=loss)
    assert isinstance(run.model, Narrow)
    exported = bundle_from_run(run, tmp_path / "fan.edgeflow", ExportOptions(precision="fp16"))
    assert exported.graph.precision == "fp16"
    with Scorer.load(exported.path) as scorer:
        assert scorer.bundle.manifest.score_unit == Narrow.unit
        results = list(scorer.score_files(machine.test_normal, maps=True))
    store = FeatureStore(run.features)
    trained = RunScores(run, store, torch.device("cpu"))(machine.test_normal)
    np.testing.assert_allclose([r.score for r in results], trained, rtol=1e-2)
    assert results[0].nll_map.shape[1:] == (1, 1)


def test_its_documents_name_it(narrow: str, recipe: Recipe, tmp_path: Path):
    own = dataclasses.replace(recipe, settings=SETTINGS)
    train_run(own, tmp_path, torch.device("cpu"))
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"hidden": 8', '"hidden": "8"'))
    with pytest.raises(TrainingError, match=r"NarrowSpec\.hidden: expected int, found '8'"):
        TrainedRun.load(tmp_path)
    assert kind_of(narrow).spec is NarrowSpec
    assert isinstance(build(NarrowSpec(hidden=3)), Narrow)
