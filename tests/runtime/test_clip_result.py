"""Whatever way a result goes out, it is what the published JSON Schema says."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from edgeflow.cli import cli
from edgeflow_runtime.manifest import FORMAT_VERSION
from edgeflow_runtime.pipe import PcmFormat
from edgeflow_runtime.scorer import Scorer
from edgeflow_runtime.verdicts import SCHEMA

ROOT = Path(__file__).parents[2]
FILE = ROOT / "runtime" / "edgeflow_runtime" / "schemas" / "clip_result.v1.json"
PUBLISHED: dict[str, Any] = json.loads(FILE.read_text())

NUMBERS = {"offset_seconds": float, "score": float, "threshold": float, "seconds": float}


def edgeflow(*arguments: object, **more: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], **more)


def check(record: dict[str, Any]) -> None:
    """It is valid, and the schema knows all that it holds."""
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(PUBLISHED, format_checker=checker).validate(record)
    assert list(record) == list(PUBLISHED["properties"]) == PUBLISHED["required"]


def from_csv(row: dict[str, str]) -> dict[str, Any]:
    """A row with its types again: an empty field is null."""
    types = {**NUMBERS, "windows": int}
    return {k: types.get(k, str)(v) if v else None for k, v in row.items()}


def records_of(text: str, style: str) -> list[dict[str, Any]]:
    if style == "--csv":
        return [from_csv(row) for row in csv.DictReader(io.StringIO(text))]
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def clips(sounds: Path) -> list[Path]:
    return sorted((sounds / "fan" / "test").iterdir())[:2]


@pytest.fixture
def silence(tmp_path: Path) -> Path:
    path = tmp_path / "silence, and no more.wav"
    soundfile.write(path, np.zeros(16000), 16000)
    return path


def test_the_schema_is_one_and_the_command_prints_it():
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)
    assert PUBLISHED["properties"]["schema"]["const"] == PUBLISHED["title"] == SCHEMA
    assert edgeflow("schema").stdout == FILE.read_text()


@pytest.mark.parametrize("style", ["--json", "--csv"])
@pytest.mark.parametrize("threshold", [-100, 100])
def test_files(bundle_path: Path, clips: list[Path], silence: Path, style: str, threshold: int):
    result = edgeflow("score", bundle_path, *clips, silence, style, f"--threshold={threshold}")
    assert result.exit_code == 2
    *judged, unknown = records_of(result.stdout, style)
    for record in (*judged, unknown):
        check(record)
    sha256 = hashlib.sha256(bundle_path.read_bytes()).hexdigest()
    for record, clip in zip(judged, clips, strict=True):
        assert record["clip"] == str(clip)
        assert (record["machine_type"], record["machine_id"]) == ("fan", "00")
        assert record["bundle_sha256"] == sha256
        assert (record["heard_at"], record["offset_seconds"]) == (None, 0)
        assert record["verdict"] == ("anomalous" if threshold < 0 else "normal")
    assert (unknown["score"], unknown["verdict"]) == (None, "unknown")
    assert "is silent" in unknown["error"]


@pytest.mark.parametrize("style", ["--json", "--csv"])
def test_a_pipe_and_a_silence_in_it(bundle_path: Path, clips: list[Path], style: str):
    sound = soundfile.read(clips[0], dtype="int16")[0].astype("<i2").tobytes()
    before = datetime.now(timezone.utc) - timedelta(milliseconds=1)
    content = sound + bytes(len(sound)) + sound
    result = edgeflow("score", bundle_path, "-", style, input=content)
    after = datetime.now(timezone.utc)
    records = records_of(result.stdout, style)
    for record in records:
        check(record)
        assert before <= datetime.fromisoformat(record["heard_at"]) <= after
    assert [record["offset_seconds"] for record in records] == [0, 1, 2]
    assert [record["clip"] for record in records] == ["-@0.0s", "-@1.0s", "-@2.0s"]
    assert [record["verdict"] == "unknown" for record in records] == [False, True, False]
    assert records[0]["score"] == records[2]["score"]


def test_clips_too_short_for_the_model_keep_their_place(bundle_path: Path, clips: list[Path]):
    sound = soundfile.read(clips[0], dtype="int16")[0][:640].astype("<i2").tobytes()
    with pytest.warns(RuntimeWarning, match="threshold is for 1 s; scores of 0.02 s"):
        scorer = Scorer.load(bundle_path, every=0.02)
    results = list(scorer.score_pipe(io.BytesIO(sound), PcmFormat(16000)))
    assert [result.offset_seconds for result in results] == [0, 0.02]
    for result in results:
        check(result.to_dict())
        assert "too short" in (result.error or "")
        assert result.heard_at


def test_from_python(bundle_path: Path, clips: list[Path]):
    samples, rate = soundfile.read(clips[0], dtype="float32")
    with Scorer.load(bundle_path) as scorer:
        results = [scorer.score(samples, rate), scorer.score(clips[0])]
        assert scorer.logmel is not None
        results.append(scorer.score_logmel(scorer.logmel(samples)))
    for result in results:
        check(result.to_dict())
    assert results[-1].to_dict()["seconds"] is None


def test_the_same_files_give_the_same_records(bundle_path: Path, clips: list[Path]):
    command = ("score", bundle_path, *clips, "--json")
    assert edgeflow(*command).stdout == edgeflow(*command).stdout


def test_a_clip_was_heard_when_its_first_sample_came(bundle_path: Path, clips: list[Path]):
    """A recorder that starts late, and pauses: neither wait belongs to a clip."""
    sound = soundfile.read(clips[0], dtype="int16")[0].astype("<i2").tobytes()
    begun: list[datetime] = []
    reading, writing = os.pipe()

    def record() -> None:
        with os.fdopen(writing, "wb") as pipe:
            for _ in range(2):
                time.sleep(0.5)
                begun.append(datetime.now(timezone.utc))
                pipe.write(sound)
                pipe.flush()

    thread = threading.Thread(target=record)
    with Scorer.load(bundle_path) as scorer, os.fdopen(reading, "rb") as pipe:
        thread.start()
        results = list(scorer.score_pipe(pipe, PcmFormat(16000)))
    thread.join()
    assert len(results) == 2
    for result, start in zip(results, begun, strict=True):
        assert result.heard_at is not None
        assert timedelta(0) <= result.heard_at - start < timedelta(seconds=0.4)


@pytest.mark.parametrize(
    "broken",
    [
        {"schema": "edgeflow.clip_result.v2"},
        {"verdict": "unknown"},
        {"verdict": "odd"},
        {"score": None},
        {"score": "1.0"},
        {"error": "it is silent"},
        {"bundle_sha256": "4f94"},
        {"heard_at": "yesterday"},
        {"heard_at": "2026-03-01T12:00:00.000"},
        {"offset_seconds": -1.0},
        {"windows": 1.5},
    ],
    ids=str,
)
def test_the_schema_refuses(bundle_path: Path, clips: list[Path], broken: dict[str, Any]):
    with Scorer.load(bundle_path) as scorer:
        record = scorer.score(clips[0]).to_dict()
    check(record)
    with pytest.raises(jsonschema.ValidationError):
        check(record | broken)
    for key in PUBLISHED["required"]:
        with pytest.raises(jsonschema.ValidationError, match="required"):
            check({k: v for k, v in record.items() if k != key})


def test_every_document_of_the_base_install_names_its_schema(bundle_path: Path, sounds: Path):
    documents = {
        ("inspect", bundle_path): f"edgeflow.manifest.v{FORMAT_VERSION}",
        ("verify", bundle_path): "edgeflow.verification.v1",
        ("doctor", bundle_path): "edgeflow.diagnosis.v1",
        ("data", "info", sounds): "edgeflow.survey.v1",
    }
    chapters = (ROOT / "docs" / "cli.md").read_text()
    for command, name in documents.items():
        result = edgeflow(*command, "--json")
        document = json.loads(result.stdout)
        assert next(iter(document)) == "schema"
        assert document["schema"] == name
        assert f"`{name}`" in chapters
    assert f"`{SCHEMA}`" in chapters
    for key in PUBLISHED["properties"]:
        assert f"`{key}`" in chapters
