"""A board makes a monitor of a machine never seen, and its threshold keeps what it promises."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from edgeflow.cli import cli
from edgeflow.synth import SynthSpec, synthesise
from edgeflow_runtime import Scorer
from edgeflow_runtime.base import Base
from edgeflow_runtime.bundle import BASE, Bundle
from edgeflow_runtime.bundle_writer import write_bundle
from edgeflow_runtime.enrolled_bundle import enrol_clips
from edgeflow_runtime.enrolment import enrol
from edgeflow_runtime.errors import BundleError, BundleIntegrityError, DataError
from edgeflow_runtime.linear_fit import Sisters, fit_linear
from edgeflow_runtime.normal_clips import NormalClips

DIMS = 12


def edgeflow(*arguments: object, **more: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], **more)


def fails(result: Result, *parts: str) -> None:
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    for part in parts:
        assert part in lines[-1]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Normal clips of a fan that the base was not made of, a second each."""
    folder = tmp_path_factory.mktemp("fans") / "sounds"
    synthesise(folder, SynthSpec(("fan",), machines=4, clips=12, seconds=1.0))
    return sorted((folder / "fan" / "train").glob("*_id_06_*.wav"))


@pytest.fixture
def base_path(bundles: Path) -> Path:
    return bundles / "fan.base.edgeflow"


def machines(rng: np.random.Generator, count: int, clips: int) -> list[np.ndarray]:
    """Machines of a type: means of their own, one covariance, and volumes that differ a little."""
    mixing = np.random.default_rng(0).normal(size=(DIMS, DIMS))
    return [
        (rng.normal(size=(clips, DIMS)) * rng.lognormal(0, 0.1)) @ mixing
        + 3 * rng.normal(size=DIMS) @ mixing
        for _ in range(count)
    ]


def base_of(sisters: list[np.ndarray], own: np.ndarray) -> Base:
    return Base({f"fan_id_{k:02}": s for k, s in enumerate(sisters)}, np.full(DIMS, 0.01), own)


@pytest.mark.parametrize("clips", [1, 3, 10])
def test_the_promise_is_kept_from_the_first_clip_on(clips: int):
    rng = np.random.default_rng(clips)
    given = []
    for _ in range(25):
        *sisters, target = machines(rng, 5, 300)
        try:
            made = enrol(base_of([s[:40] for s in sisters], target[:clips]), 0.05, 10.0)
        except DataError:  # one in twenty is taken to be unlike its sisters
            continue
        given.append(float((made.fit.nll(target[100:]) > made.threshold.value).mean()))
    assert len(given) > 20
    assert 0.002 < np.mean(given) < 0.07


def test_own_clips_take_over_as_they_come():
    rng = np.random.default_rng(1)
    *sisters, target = machines(rng, 5, 200)
    few, many = (enrol(base_of(sisters, target[:n]), 0.05, 10.0).threshold for n in (1, 30))
    assert few.heldout_clips == 0
    assert "own left out" in few.method
    assert many.heldout_clips == 30
    assert many.method.startswith("conformal")
    assert many.rate_high - many.rate_low < few.rate_high - few.rate_low


def test_an_unlike_machine_is_told_and_stands_alone():
    rng = np.random.default_rng(2)
    *sisters, target = machines(rng, 5, 40)
    alien = target + 1000.0
    with pytest.raises(DataError, match=r"unlike its sisters in its mean.*at least 3"):
        enrol(base_of(sisters, alien[:2]), 0.05, 10.0)
    made = enrol(base_of(sisters, alien[:8]), 0.05, 10.0)
    assert made.unlike == ("mean",)
    assert made.fit.blend == 0
    alone = fit_linear(alien[:8], Sisters([]), np.full(DIMS, 0.01))
    assert np.array_equal(made.fit.inverse, alone.inverse)
    loud = (target - target.mean(axis=0)) * 30 + target.mean(axis=0)
    assert "spread" in enrol(base_of(sisters, loud[:8]), 0.05, 10.0).unlike
    assert enrol(base_of(sisters, target[:8]), 0.05, 10.0).unlike == ()


def test_a_base_needs_sisters_that_tell_how_they_differ():
    *sisters, target = machines(np.random.default_rng(3), 3, 4)
    with pytest.raises(DataError, match="2 machines"):
        base_of(sisters[:1], target).check()
    with pytest.raises(DataError, match="fan_id_01 has 2 training"):
        base_of([sisters[0], sisters[1][:2]], target).check()
    with pytest.raises(DataError, match="at least one clip"):
        enrol(base_of(sisters, target[:0]), 0.05, 10.0)


def test_a_known_clip_is_refused_though_another_machine_computed_it():
    *sisters, target = machines(np.random.default_rng(5), 3, 4)
    base = base_of(sisters, target[:2])
    base.check_new(["new"], target[2:3])
    for rows, known in ((sisters[1], "a clip of the sister fan_id_01"), (target, "enrolled")):
        with pytest.raises(DataError, match=f"'heard' is {known}"):
            base.check_new(["heard"], rows[:1] + 1e-6)
    with pytest.raises(DataError, match="'two' is the same as 'one'"):
        base.check_new(["one", "two"], target[[2, 2]])


def test_enrolling_makes_a_monitor_that_scores_what_was_computed(
    base_path: Path, clips: list[Path], tmp_path: Path
):
    output = tmp_path / "fan_06.edgeflow"
    result = edgeflow("enroll", base_path, *clips[:5], "-o", output)
    assert result.exit_code == 0, result.output
    assert "fan_id_06, 5 clip(s)" in result.output
    bundle = Bundle.load(output)
    assert bundle.manifest.machine.name == "fan_id_06"
    assert bundle.manifest.enrolment.clips == 5
    assert bundle.manifest.threshold.false_alarm_probability == 0.05
    fit = enrol(Base.from_tensors(bundle.base), 0.05, 1.0).fit
    with Scorer.load(output) as scorer:
        scores = [result.score for result in scorer.score_files(clips)]
        rows = [bundle.view(bundle.logmel(scorer.reader.read(c).samples)).ravel() for c in clips]
    assert np.abs(fit.nll(np.array(rows, np.float64)) - scores).max() < 1e-4
    assert edgeflow("verify", output).exit_code == 0
    assert "5 clips" in edgeflow("inspect", output).output
    before = Bundle.load(base_path)
    assert len(bundle.onnx) == len(before.onnx)
    assert bundle.onnx != before.onnx


def test_adding_clips_is_enrolling_with_all_of_them(
    base_path: Path, clips: list[Path], tmp_path: Path
):
    paths = [tmp_path / f"{name}_06.edgeflow" for name in ("few", "all")]
    assert edgeflow("enroll", base_path, *clips[:2], "-o", paths[0]).exit_code == 0
    assert edgeflow("enroll", paths[0], *clips[2:6], "--add", "-o", paths[0]).exit_code == 0
    assert edgeflow("enroll", base_path, *clips[:6], "-o", paths[1]).exit_code == 0
    added, at_once = map(Bundle.load, paths)
    assert np.array_equal(added.base["own"], at_once.base["own"])
    values = [bundle.manifest.threshold.value for bundle in (added, at_once)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    fails(edgeflow("enroll", paths[0], clips[3], "--add", "-o", paths[0]), "enrolled already")
    fails(edgeflow("calibrate", paths[0], *clips[5:8]), "enrolled already")
    fails(edgeflow("enroll", paths[0], clips[7], "-o", paths[0]), "--add")
    fails(edgeflow("enroll", base_path, clips[0], "--add", "-o", paths[0]), "leave --add out")
    fails(edgeflow("enroll", paths[0], clips[7], "--add", "--id", "9", "-o", paths[0]), "--id")


def test_a_pipe_and_a_long_file_are_cut_into_the_same_clips(
    base_path: Path, clips: list[Path], tmp_path: Path
):
    sound = np.concatenate([soundfile.read(clip, dtype="int16")[0] for clip in clips[:3]])
    soundfile.write(tmp_path / "long.wav", sound, 16000)
    outputs = [tmp_path / f"{name}_06.edgeflow" for name in ("files", "long", "pipe")]
    assert edgeflow("enroll", base_path, *clips[:3], "-o", outputs[0]).exit_code == 0
    assert edgeflow("enroll", base_path, tmp_path / "long.wav", "-o", outputs[1]).exit_code == 0
    pipe = io.BytesIO(sound.tobytes())
    assert edgeflow("enroll", base_path, "-", "-o", outputs[2], input=pipe).exit_code == 0
    files, long, pipe = (Bundle.load(output).base["own"] for output in outputs)
    assert np.array_equal(files, long)
    assert np.array_equal(files, pipe)


def test_what_overlaps_of_a_long_file_is_no_clip_of_its_own(
    base_path: Path, clips: list[Path], tmp_path: Path
):
    sound = np.concatenate([soundfile.read(clip, dtype="int16")[0] for clip in clips[:3]])
    soundfile.write(tmp_path / "long.wav", sound[:40000], 16000)
    (cut, short) = (NormalClips(Bundle.load(base_path), None, print) for _ in range(2))
    names = [clip.name for clip in cut.of_files([tmp_path / "long.wav"])]
    assert names == [f"{tmp_path}/long.wav @ {start}s" for start in ("0.0", "1.0")]
    soundfile.write(tmp_path / "nearly.wav", sound[:14500], 16000)  # a clip, as score has it
    assert len(short.of_files([tmp_path / "nearly.wav"])) == 1


def test_what_the_base_knows_goes_on_and_stays_as_it_was(
    base_path: Path, clips: list[Path], tmp_path: Path
):
    base = Bundle.load(base_path)
    threshold = dataclasses.replace(base.manifest.threshold, usual_spread=0.62)
    base = dataclasses.replace(
        base, manifest=dataclasses.replace(base.manifest, threshold=threshold)
    )
    heard = NormalClips(base, None, print).of_files(clips[:4])
    path, more = tmp_path / "fan_06.edgeflow", {"machine_id": "06", "false_alarm_probability": 0.05}
    enrol_clips(base, heard[:3], path, **more)
    made = Bundle.load(path)
    assert made.manifest.threshold.usual_spread == 0.62
    assert made.manifest.threshold.least is not None
    recorded = made.golden["nll"].copy()
    enrol_clips(made, heard[3:], path, **more, add=True)
    np.testing.assert_array_equal(made.golden["nll"], recorded)
    assert not np.array_equal(Bundle.load(path).golden["nll"], recorded)


def test_names_cannot_steer_a_terminal_and_no_path_is_empty(
    base_path: Path, clips: list[Path], tmp_path: Path
):
    output = tmp_path / "fan\x1b[31m_Lüfter-7.edgeflow"
    result = edgeflow("enroll", base_path, clips[0], "-o", output)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    assert Bundle.load(output).manifest.machine.machine_id == "Lüfter-7"
    fails(edgeflow("enroll", base_path, clips[0], "-o", ""), "path is empty")
    fails(edgeflow("enroll", base_path, "", "-o", output), "name is empty")
    fails(edgeflow("calibrate", output, clips[5], "-o", ""), "path is empty")
    fails(edgeflow("enroll", base_path, "-", "--rate", "1", "-o", output), "100")


def test_clips_that_would_mislead_are_left_out_and_named(
    base_path: Path, clips: list[Path], tmp_path: Path
):
    sound = soundfile.read(clips[0])[0]
    soundfile.write(tmp_path / "short.wav", sound[:8000], 16000)
    soundfile.write(tmp_path / "silent.wav", 0 * sound, 16000)
    output = tmp_path / "fan_06.edgeflow"
    arguments = tmp_path / "short.wav", tmp_path / "silent.wav", "-o", output
    fails(edgeflow("enroll", base_path, *arguments), "no clip that can be used")
    result = edgeflow("enroll", base_path, clips[0], *arguments)
    assert result.exit_code == 0
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["left out"] * 2
    fails(edgeflow("enroll", base_path, tmp_path / "gone.wav", "-o", output), "is missing")
    fails(edgeflow("enroll", base_path, clips[0], clips[0], "-o", output), "the same as")
    fails(edgeflow("enroll", base_path, clips[0], "-o", tmp_path / "a b"), "'a b'", "--id")


def test_a_base_is_no_monitor_and_a_monitor_no_base(
    base_path: Path, bundle_path: Path, clips: list[Path], tmp_path: Path
):
    fails(edgeflow("score", base_path, clips[0]), "is a base", "edgeflow enroll")
    fails(edgeflow("calibrate", base_path, clips[0]), "is a base")
    fails(edgeflow("build", base_path), "is a base")
    fails(edgeflow("enroll", bundle_path, clips[0], "-o", tmp_path / "x_1"), "is no base")
    assert edgeflow("verify", base_path).exit_code == 0
    assert "nothing yet: a base of fan_id_00 (12)" in edgeflow("inspect", base_path).output


def test_sisters_stand_in_one_order_however_often_a_base_is_read(base_path: Path):
    orders = {tuple(Base.from_tensors(Bundle.load(base_path).base).sisters) for _ in range(20)}
    assert orders == {("fan_id_00", "fan_id_02", "fan_id_04")}


def test_a_base_whose_rows_are_not_what_it_says_is_refused(base_path: Path, tmp_path: Path):
    whole, path = Bundle.load(base_path), tmp_path / "edited.edgeflow"

    def written(manifest: object, base: object) -> Path:
        write_bundle(path, manifest, whole.onnx, whole.frontend, whole.golden, None, base)
        return path

    cut = {name: tensor[..., :-1] for name, tensor in whole.base.items()}
    with pytest.raises(BundleIntegrityError, match=BASE):
        Bundle.load(written(whole.manifest, cut))
    holed = {name: tensor.copy() for name, tensor in whole.base.items()}
    holed["floor"][0] = np.nan
    with pytest.raises(BundleIntegrityError, match="'floor' is not finite"):
        Bundle.load(written(whole.manifest, holed))
    with pytest.raises(BundleError, match="do not agree"):
        Bundle.load(written(dataclasses.replace(whole.manifest, enrolment=None), whole.base))
    with pytest.raises(BundleError, match="do not agree"):
        Bundle.load(written(dataclasses.replace(whole.manifest, enrolment=None), None))
