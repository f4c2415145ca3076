"""A base is trained of a whole type, and proven to become another machine's flow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgeflow.cli import cli
from edgeflow.evaluation import evaluate
from edgeflow.training.run import TrainedRun
from edgeflow_export.bundle_from_run import export
from edgeflow_export.onnx_from_model import onnx_from_trained
from edgeflow_export.parity import check_replaceable
from edgeflow_runtime.base import Base
from edgeflow_runtime.bundle import BASE, Bundle
from edgeflow_runtime.errors import (
    BundleError,
    ConfigError,
    DamagedRunError,
    ExportError,
    ParityError,
)


def edgeflow(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def base_run(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "fan"
    result = edgeflow("train", sounds, "--type", "fan", "--base", "-o", folder)
    assert result.exit_code == 0, result.output
    assert "a base, made of 12 clips" in result.output
    return folder


def test_a_base_holds_its_sisters_and_enrols(base_run: Path, sounds: Path, tmp_path: Path):
    path, output = tmp_path / "fan.base.edgeflow", tmp_path / "valve_7.edgeflow"
    assert edgeflow("export", base_run, "-o", path).exit_code == 0
    bundle = Bundle.load(path)
    assert bundle.manifest.machine.name == "fan"
    assert bundle.manifest.enrolment.sisters == {"fan_id_00": 6, "fan_id_02": 6}
    assert bundle.manifest.enrolment.clips == 0
    exact, held = TrainedRun.load(base_run).base(), Base.from_tensors(bundle.base)
    for name, rows in exact.sisters.items():
        assert np.array_equal(rows, held.sisters[name])
    clips = sorted((sounds / "fan" / "test").glob("normal_id_00*"))
    result = edgeflow("enroll", path, *clips, "-o", output, "--id", "07")
    assert result.exit_code == 0, result.output
    assert Bundle.load(output).manifest.machine.name == "fan_id_07"


def test_other_constants_are_proven_to_be_the_other_flow(base_run: Path, sounds: Path):
    run = TrainedRun.load(base_run)
    onnx, base = onnx_from_trained(run.model), run.base()
    windows = {"noise": np.random.default_rng(0).normal(size=(4, 3, 128)).astype(np.float32)}
    check_replaceable(onnx, base, run.model, windows)
    with pytest.raises(BundleError, match=r"'shift'.*there is none"):
        check_replaceable(onnx.replace(b"shift", b"drift"), base, run.model, windows)
    twisted = onnx.replace(b"ReduceSum", b"ReduceMax")
    with pytest.raises(ParityError):
        check_replaceable(twisted, base, run.model, windows)


def test_a_base_is_not_evaluated(base_run: Path, sounds: Path):
    with pytest.raises(ConfigError, match="is a base, which judges no machine"):
        evaluate(base_run, sounds)


def test_a_base_is_float32_and_whole(base_run: Path, tmp_path: Path):
    for more in ({"precision": "int8"}, {"audio_in": "float32"}):
        with pytest.raises(ExportError, match="float32 and without --audio-in"):
            export(base_run, tmp_path / "x.edgeflow", **more)
    kept = (base_run / BASE).read_bytes()
    (base_run / BASE).write_bytes(kept[:100])
    try:
        with pytest.raises(DamagedRunError, match=BASE):
            TrainedRun.load(base_run).base()
    finally:
        (base_run / BASE).write_bytes(kept)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--base",), "give --type"),
        (("--base", "--type", "fan", "--id", "00"), "without --id"),
        (("--base", "--type", "fan", "--model", "maf"), "leave --model out"),
        (("--base", "--type", "pump"), "holds no machine of type 'pump'"),
    ],
)
def test_what_is_no_base_is_said(
    sounds: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
):
    result = edgeflow("train", sounds, *arguments, "-o", tmp_path / "run")
    assert result.exit_code == 2
    assert said in result.stderr
