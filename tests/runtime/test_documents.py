"""Documents of settings are understood whole or refused by name."""

from __future__ import annotations

import json

import pytest

from edgeflow_runtime.documents import parsed
from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.logmel import LogMelSpec
from edgeflow_runtime.manifest import Features, Tolerances


@pytest.mark.parametrize("logmel", [LogMelSpec(bands=64), None])
def test_a_document_survives_a_trip_through_json(logmel: LogMelSpec | None):
    features = Features(64, 8000, None, logmel)
    assert Features.from_dict(json.loads(json.dumps(features.to_dict()))) == features


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hops": 3}, "unknown key 'hops'"),
        ({"hop": "512"}, "LogMelSpec.hop: expected int, found '512'"),
        ({"hop": True}, "LogMelSpec.hop: expected int, found True"),
        ({"hop": 1e400}, "LogMelSpec.hop: expected a finite number, found inf"),
    ],
)
def test_what_is_wrong_is_named(change: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        LogMelSpec.from_dict(LogMelSpec().to_dict() | change)
    with pytest.raises(ConfigError, match=message):
        Features.from_dict({**Features(1, 0, None, None).to_dict(), "logmel": change})


def test_a_number_that_no_float_holds_is_refused():
    document = {"logmel_db": 10**400, "nll": 1}
    with pytest.raises(ConfigError, match=r"Tolerances\.logmel_db: expected a finite number"):
        Tolerances.from_dict(document)
    assert Tolerances.from_dict({"logmel_db": 1, "nll": 2}) == Tolerances(1.0, 2.0)


def test_missing_keys_and_other_documents_are_refused():
    document = Features(1, 0, None, None).to_dict()
    del document["bands"]
    with pytest.raises(ConfigError, match="missing key 'bands'"):
        Features.from_dict(document)
    with pytest.raises(ConfigError, match="expected an object, found list"):
        Features.from_dict([])


@pytest.mark.parametrize("text", ["[" * 100_000, "{", b"\xff\xfe\xff", "1" * 5000])
def test_text_that_is_no_json(text: str | bytes):
    with pytest.raises(ConfigError, match="it is not JSON"):
        parsed(text)


@pytest.mark.parametrize("value", [10**400, -(10**400), 1 << 63])
def test_whole_numbers_have_64_bits(value: int):
    with pytest.raises(ConfigError, match=r"LogMelSpec\.hop: expected a whole number of 64 bits"):
        LogMelSpec.from_dict(LogMelSpec().to_dict() | {"hop": value})


def test_what_is_found_is_shown_in_one_line():
    for value in ("\x1b[2J\n" * 1000, [[]] * 1000, {"a": 10**400}):
        with pytest.raises(ConfigError) as caught:
            LogMelSpec.from_dict(LogMelSpec().to_dict() | {"hop": value})
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 200
