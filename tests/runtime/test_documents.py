"""Documents of settings are understood whole or refused by name."""

from __future__ import annotations

import json

import pytest

from edgeflow.models import GlowSpec, MAFSpec
from edgeflow.training.recipe import PRESETS, FlowSettings, Recipe
from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.logmel import LogMelSpec


@pytest.mark.parametrize("settings", PRESETS.values(), ids=str)
def test_presets_survive_a_trip_through_json(settings: FlowSettings):
    assert FlowSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_a_whole_training_survives_a_trip_through_json(config: Recipe):
    assert Recipe.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hops": 3}, "unknown key 'hops'"),
        ({"hop": "512"}, "LogMelSpec.hop: expected int, found '512'"),
        ({"hop": True}, "LogMelSpec.hop: expected int, found True"),
    ],
)
def test_what_is_wrong_is_named(change: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        LogMelSpec.from_dict(LogMelSpec().to_dict() | change)


def test_missing_keys_and_other_documents_are_refused(config: Recipe):
    document = config.to_dict()
    del document["seed"]
    with pytest.raises(ConfigError, match="missing key 'seed'"):
        Recipe.from_dict(document)
    with pytest.raises(ConfigError, match="expected an object, found list"):
        Recipe.from_dict([])


def test_flows_are_told_apart_by_their_model():
    with pytest.raises(ConfigError, match="not of a 'glow'"):
        MAFSpec(model="glow")
    with pytest.raises(ConfigError, match="not of a 'maf'"):
        GlowSpec(model="maf")
