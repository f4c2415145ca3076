"""Numbers have ranges, texts can be printed, claims are held against the golden recording."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from edgeflow.cli import cli
from edgeflow.dataset import Dataset
from edgeflow_runtime.bundle import MANIFEST, Bundle
from edgeflow_runtime.errors import BundleError, BundleVersionError, ConfigError
from edgeflow_runtime.limits import RANGES, check_claims, told_apart
from edgeflow_runtime.manifest import MachineId
from edgeflow_runtime.printable import printable, quoted
from edgeflow_runtime.tensors import LONGEST_HEADER, read_tensors

Forge = Callable[..., Path]


def at(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Puts ``value`` at a place of a document, such as ``threshold.value``."""

    def edit(document: dict[str, Any]) -> None:
        *folders, name = path.split(".")
        for folder in folders:
            document = document[folder]
        document[name] = value

    return edit


def deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


ABSURD = {
    "view.frames": [0, -1, 10**9, 10**400, 1.5, True, None, "4"],
    "view.hop": [0, 10**9, 10**400],
    "features.bands": [0, 10**9, 64],
    "features.channel": [-1, 10**9],
    "features.min_rate_hz": [-1, 10**12],
    "features.logmel.rate_hz": [0, 10**12, 10**400],
    "features.logmel.frame": [0, 1023, 1 << 20, 1 << 40],
    "features.logmel.hop": [0, 1 << 30],
    "features.logmel.bands": [0, 127, 10**9],
    "features.logmel.filterbank": ["linear"],
    "threshold.value": [1e308, -1e308, 1e4, 10**400, float("inf"), float("nan"), None],
    "threshold.clip_seconds": [-1.0, 1e300],
    "threshold.false_alarm_probability": [-0.1, 1.1],
    "threshold.heldout_clips": [10**400],
    "tolerances.nll": [1e308, 1.5, -1.0, 10**400],
    "tolerances.logmel_db": [1e308, 1.0],
    "training.seed": [10**400],
    "precision": ["fp8", ""],
    "machine.machine_type": ["fan\nnormal", "fan\x1b[2J", "a/b", "x" * 101, "\udcff", 3],
    "machine.machine_id": ["0\r0", "\u202e00"],
    "threshold.method": ["\x1b]0;evil\x07", "x" * 1001],
    "score_unit": ["nats\n"],
    "training.versions": [{"torch\x1b": "2"}, {"torch": "2\n3"}, {str(k): "" for k in range(1001)}],
    "overrides": [{"0": "fp8"}, deep(900)],
    "audio": [{"samples": 32000, "encoding": "float32", "buckets": [1], "tolerance": 1e-3}],
    "members": [{}, {"flow.onnx": 3}],
    "format_version": [0, True, "3"],
    "unknown": [1],
}


@pytest.mark.parametrize(
    ("place", "value"),
    [(place, value) for place, values in ABSURD.items() for value in values],
    ids=[f"{place}-{k}" for place, values in ABSURD.items() for k in range(len(values))],
)
def test_what_cannot_be_is_one_line(forge: Forge, place: str, value: object):
    path = forge(at(place, value))
    with pytest.raises(BundleError) as caught:
        Bundle.load(path)
    (line,) = str(caught.value).splitlines()
    assert line.isprintable()
    assert len(line) < 700
    assert str(path) in line


def test_a_format_beyond_all_numbers_is_a_newer_one(forge: Forge):
    with pytest.raises(BundleVersionError, match="has format a number of 1329 bits"):
        Bundle.load(forge(at("format_version", 10**400)))


@pytest.mark.parametrize("levels", [900, 100_000])
def test_json_of_any_depth_is_refused(bundle_path: Path, tmp_path: Path, levels: int):
    with zipfile.ZipFile(bundle_path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    members[MANIFEST] = b"[" * levels + b"]" * levels
    path = tmp_path / "deep.edgeflow"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(BundleError, match=r"manifest\.json(: it)? is not"):
        Bundle.load(path)


def test_every_range_is_of_a_field_that_is_there():
    from edgeflow_runtime import logmel, manifest, views

    rooms = {**vars(manifest), **vars(views), **vars(logmel)}
    for place, (low, high) in RANGES.items():
        document, field = place.split(".")
        assert field in rooms[document].__dataclass_fields__
        assert low < high


GOLDEN = np.array([1.0, 1.2, 1.5], np.float32)


@pytest.mark.parametrize("threshold", [1.3, 1.5, 10.0, 200.0, -20.0])
def test_thresholds_that_a_monitor_may_have(threshold: float):
    check_claims(threshold, 1e-4, GOLDEN)


@pytest.mark.parametrize("threshold", [1e308, 300.0, -300.0, np.inf, np.nan])
def test_thresholds_that_tell_nothing_apart(threshold: float):
    with pytest.raises(ConfigError, match="tells nothing apart: normal sound scores"):
        check_claims(threshold, 1e-4, GOLDEN)


def test_a_tolerance_within_which_a_constant_passes():
    assert told_apart(GOLDEN) == pytest.approx(0.125)
    check_claims(1.3, 0.125, GOLDEN)
    with pytest.raises(ConfigError, match=r"a tolerance of 0\.2 proves nothing"):
        check_claims(1.3, 0.2, GOLDEN)
    check_claims(1.3, 1e-4, GOLDEN[:1])  # one window, and float32's rounding
    with pytest.raises(ConfigError, match="proves nothing"):
        check_claims(1.3, 2e-4, GOLDEN[:1])


@pytest.mark.parametrize("golden", [GOLDEN[:0], np.array([np.nan, 1], np.float32)])
def test_golden_scores_that_are_none(golden: np.ndarray):
    with pytest.raises(ConfigError, match="no NLLs, or some that are not finite"):
        check_claims(1.3, 1e-4, golden)


def test_the_threshold_of_the_user_is_free_but_a_number(bundle_path: Path):
    from edgeflow_runtime import Scorer

    for threshold in (1e6, -1e6):
        assert Scorer.load(bundle_path, threshold=threshold).judge.threshold == threshold
    for threshold in (float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="tells nothing apart"):
            Scorer.load(bundle_path, threshold=threshold)


def header(text: str, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text.encode() + data


def one(kind: str, shape: str = "[1]", size: int = 2) -> bytes:
    text = f'{{"mean":{{"dtype":"{kind}","shape":{shape},"data_offsets":[0,{size}]}}}}'
    return header(text, bytes(size))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (one("BF16"), "'mean' is of type BF16"),
        (one("F8_E4M3", size=1), "'mean' is of type F8_E4M3"),
        (one("F16"), "'mean' is of type F16"),
        (one("F32", "[1]", 2), "."),
        (one("F32", "[18446744073709551615]", 0), "."),
        (one("F32", "[4, 4611686018427387905]", 16), "."),
        (header("[" * 5000), "."),
        (header("{}" + " " * LONGEST_HEADER), "header has"),
        (b"\xff" * 8, "header has"),
        (b"", "."),
    ],
)
def test_tensors_that_are_not_read(forge: Forge, content: bytes, message: str):
    with pytest.raises(ValueError, match=message):
        read_tensors(content)
    with pytest.raises(BundleError, match=r"frontend\.safetensors cannot be read: "):
        Bundle.load(forge(frontend=content))


@pytest.mark.parametrize(
    ("member", "name", "change", "message"),
    [
        ("frontend", "scale", lambda x: x * 0, "'scale' is not positive"),
        ("frontend", "scale", lambda x: -x, "'scale' is not positive"),
        ("frontend", "scale", lambda x: x * np.float32("nan"), "'scale' is not finite"),
        ("frontend", "mean", lambda x: x + np.float32("inf"), "'mean' is not finite"),
        ("frontend", "window", lambda x: x[:-1], r"'window' of shape \(256,\)"),
        ("frontend", "filterbank", lambda x: x.T.copy(), r"'filterbank' of shape \(32, 129\)"),
        ("golden", "samples", lambda x: x[None], r"'samples' of shape \(n,\)"),
        ("golden", "logmel", lambda x: x[:, :-1].copy(), r"'logmel' of shape \(n, 32\)"),
        ("golden", "nll", lambda x: x.astype(np.uint8), "type float32, it is .* type uint8"),
        ("golden", "nll", lambda x: x[:0], "no NLLs"),
        ("golden", "nll", lambda x: x * np.float32("nan"), "not finite"),
    ],
)
def test_tensors_that_do_not_fit(
    bundle_path: Path, forge: Forge, member: str, name: str, change: Callable, message: str
):
    tensors = dict(getattr(Bundle.load(bundle_path), member))
    with np.errstate(all="ignore"):
        tensors[name] = change(tensors[name])
    with pytest.raises(BundleError, match=message):
        Bundle.load(forge(**{member: save(tensors)}))


@given(st.text())
def test_text_that_is_shown_is_one_line(text: str):
    assert printable(text).isprintable()
    assert len(printable(text)) >= len(text)
    assert quoted(text).isprintable()


def test_any_value_can_be_quoted():
    for value in (10**5000, -(10**400), deep(5000), {"a": deep(5000)}, "x" * 10**6, b"x" * 10**6):
        assert len(quoted(value)) < 120


def test_a_machine_s_name_can_be_printed(tmp_path: Path):
    for name in ("fan\n", "fan\x1b[2J", "\udcff", "a/b", "x" * 101):
        with pytest.raises(ConfigError, match="characters that can be printed"):
            MachineId(name, "00")
    for name in ("fan", "pump 2", "Lüfter", "ファン"):
        assert MachineId(name, "00").name == f"{name}_id_00"


def test_a_folder_whose_name_is_no_machine_s_is_a_stray(tmp_path: Path):
    for kind in ("fan", "fan\x1b[2J"):
        folder = tmp_path / kind / "train"
        folder.mkdir(parents=True)
        (folder / "normal_id_00_00000000.wav").touch()
    found = Dataset.scan(tmp_path)
    assert list(found.machines) == ["fan_id_00"]
    assert [path.parts[-3] for path in found.strays] == ["fan\x1b[2J"]


def test_the_command_line_says_so_in_one_line(forge: Forge):
    path = forge(at("machine.machine_type", "fan\x1b[2J\nverified"))
    for command in (["inspect"], ["verify"], ["doctor"]):
        result = CliRunner().invoke(cli, [*command, str(path)])
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert line.isprintable()
        assert "unforeseen" not in line


def test_verify_says_what_it_proves_and_what_not(bundle_path: Path):
    text = CliRunner().invoke(cli, ["verify", str(bundle_path)])
    assert text.stdout.splitlines()[-1] == "verified"
    assert "not proven  who made it: hashes are no signature" in text.stdout
    document = json.loads(CliRunner().invoke(cli, ["verify", str(bundle_path), "--json"]).stdout)
    assert any("the file is whole" in proof for proof in document["proves"])
    assert any("who made it" in claim for claim in document["does_not_prove"])
