"""Recordings of any names become clips that hold their very samples, by a plan that says all."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import edgeflow as ef
from edgeflow.recordings import listening
from edgeflow.recordings.cutting import CutSpec, PlannedClip, cut, split
from edgeflow.recordings.listening import Heard, listen, runs
from edgeflow.recordings.plan import LeftOut, clock, merged
from edgeflow.recordings.sources import Source, find_machines
from edgeflow.recordings.writing import RECORD
from edgeflow.survey import survey
from edgeflow_runtime.errors import ConfigError, DataError, StorageError
from edgeflow_runtime.manifest import MachineId

RATE_HZ = 16000
FAN = MachineId("fan", "00")


def noise(seconds: float, channels: int = 1, seed: int = 0) -> np.ndarray:
    shape = (round(seconds * RATE_HZ), channels)
    return 0.05 * np.random.default_rng(seed).standard_normal(shape)


def write(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ, **more: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, **more)
    return path


def knock(samples: np.ndarray, at_s: float) -> np.ndarray:
    """The samples with a knock on the microphone."""
    ring = np.exp(-np.arange(RATE_HZ // 2) / 800.0)
    where = slice(round(at_s * RATE_HZ), round(at_s * RATE_HZ) + len(ring))
    samples = samples.copy()
    samples[where, 0] = np.clip(0.9 * ring * np.sin(0.3 * np.arange(len(ring))), -1, 1)
    return samples


def joined(mimii: Path, machine_type: str, machine_id: str) -> np.ndarray:
    """All clips of a real machine in good order, one after the other."""
    clips = sorted((mimii / machine_type).glob(f"*/normal_id_{machine_id}_*"))
    return np.concatenate([soundfile.read(clip, dtype="int16")[0] for clip in clips])


@pytest.mark.parametrize(
    ("suffix", "subtype", "dtype", "channels"),
    [
        (".wav", "PCM_16", "int16", 1),
        (".WAV", "PCM_U8", "int16", 1),
        (".wav", "PCM_24", "int32", 2),
        (".wav", "FLOAT", "float32", 1),
        (".wav", "DOUBLE", "float64", 1),
        (".flac", "PCM_16", "int16", 3),
        (".flac", "PCM_24", "int32", 1),
    ],
)
def test_clips_hold_the_samples_of_the_recording(tmp_path: Path, suffix, subtype, dtype, channels):
    path = write(tmp_path / f"good day{suffix}", noise(35.5, channels), 44100, subtype=subtype)
    whole, rate_hz = soundfile.read(path, dtype=dtype, always_2d=True)
    data = ef.write_recordings(
        ef.plan_recordings([path], seconds=3, channel=0), tmp_path / "sounds"
    )
    (machine,) = data.machines.values()
    assert len(machine.train) == int(len(whole) / (3 * 44100))
    parts = [soundfile.read(clip, dtype=dtype, always_2d=True)[0] for clip in machine.train]
    assert {soundfile.info(clip).samplerate for clip in machine.train} == {rate_hz}
    assert {soundfile.info(clip).subtype for clip in machine.train} == {subtype}
    assert {clip.suffix for clip in machine.train} == {suffix.lower()}
    together = np.concatenate(parts)
    np.testing.assert_array_equal(together, whole[: len(together)])


def test_what_cannot_be_written_without_a_loss_is_kept_as_float(tmp_path: Path):
    path = write(tmp_path / "phone.ogg", noise(12), format="OGG", subtype="VORBIS")
    data = ef.write_recordings(ef.plan_recordings([path], seconds=4), tmp_path / "sounds")
    (machine,) = data.machines.values()
    heard = soundfile.read(path, dtype="float32")[0][: 4 * RATE_HZ]
    np.testing.assert_array_equal(soundfile.read(machine.train[0], dtype="float32")[0], heard)


@pytest.mark.parametrize("machine_type", ["fan", "pump", "slider", "valve"])
def test_real_machines_in_good_order_are_cut_whole(mimii: Path, tmp_path: Path, machine_type: str):
    """Valves click and sliders knock by nature: that is no handling noise."""
    for machine_id in ("00", "02", "04", "06"):
        sound = joined(mimii, machine_type, machine_id)
        path = write(tmp_path / f"{machine_id}.flac", sound)
        plan = ef.plan_recordings([path], machine_type=machine_type, machine_id=machine_id)
        assert plan.left_out == []
        assert [clip.start for clip in plan.clips] == list(range(0, len(sound), 10 * RATE_HZ))
    data = ef.write_recordings(plan, tmp_path / "sounds")
    clips = data.machine(machine_type, "06").train
    parts = [soundfile.read(clip, dtype="int16")[0] for clip in clips]
    np.testing.assert_array_equal(np.concatenate(parts), sound)


@pytest.mark.parametrize("machine_type", ["fan", "slider", "valve"])
def test_a_knock_and_silence_are_left_out_of_a_real_recording(
    mimii: Path, tmp_path: Path, machine_type: str
):
    sound = joined(mimii, machine_type, "04")[:, None] / 32768
    sound = knock(sound, 0.2)
    sound[40 * RATE_HZ : 55 * RATE_HZ] = 0
    path = write(tmp_path / "day.wav", sound)
    plan = ef.plan_recordings([path])
    (burst, silence) = plan.left_out
    assert burst.start_s == 0
    assert 0.4 <= burst.end_s <= 1.5
    assert burst.reason.endswith("handling noise?")
    assert (silence.start_s, silence.end_s, silence.reason) == (40, 55, "silence")
    assert len(plan.clips) == 3 + 4
    for clip in plan.clips:
        assert clip.start / RATE_HZ >= burst.end_s
        end_s = (clip.start + clip.samples) / RATE_HZ
        assert end_s <= 40 or clip.start / RATE_HZ >= 55
    assert "0:00:40.0 to 0:00:55.0" in str(plan)
    kept = ef.plan_recordings([path], keep_bursts=True)
    assert [part.reason for part in kept.left_out] == ["silence"]
    assert kept.clips[0].start == 0


def test_a_burst_in_an_abnormal_recording_may_be_the_fault_itself(tmp_path: Path):
    good = write(tmp_path / "good.wav", noise(60))
    bad = write(tmp_path / "bad.wav", knock(noise(30, seed=1), 12))
    assert ef.plan_recordings([good], abnormal=[bad]).left_out == []
    assert len(ef.plan_recordings([good, bad]).left_out) == 1


def test_clipped_sound_is_left_out_unless_it_is_an_anomaly(tmp_path: Path):
    sound = noise(60)
    sound[20 * RATE_HZ : 40 * RATE_HZ] *= 60
    good = write(tmp_path / "good.wav", np.clip(sound, -1, 1))
    plan = ef.plan_recordings([good], keep_bursts=True)
    assert [clip.start // RATE_HZ for clip in plan.clips] == [0, 10, 40, 50]
    assert [part.start_s for part in plan.left_out] == [20, 30]
    (part,) = merged(plan.left_out)
    assert (part.start_s, part.end_s, part.reason) == (20, 40, "is clipped: lower the gain")
    other = write(tmp_path / "other.wav", noise(60, seed=1))
    assert len(ef.plan_recordings([other], abnormal=[good]).clips) == 6 + 6


def test_numbers_that_are_none_are_left_out(tmp_path: Path):
    sound = noise(30)
    sound[15 * RATE_HZ] = np.nan
    plan = ef.plan_recordings([write(tmp_path / "good.wav", sound, subtype="FLOAT")])
    assert len(plan.clips) == 2
    assert "NaN" in plan.left_out[0].reason


def test_in_blocks_it_sounds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = Source(write(tmp_path / "good.flac", noise(20.33, 2)), FAN, False)
    whole, steps = listen(source, 1, lambda: None), []
    monkeypatch.setattr(listening, "BLOCK", 5000)
    parts = listen(source, 1, lambda: steps.append(1))
    assert len(steps) > 100
    assert whole.digest == parts.digest
    np.testing.assert_array_equal(whole.levels_db, parts.levels_db)
    np.testing.assert_array_equal(whole.silent, parts.silent)


def test_an_offset_has_no_level(tmp_path: Path):
    sound = noise(20)
    levels = [
        listen(Source(write(tmp_path / f"{dc}.wav", sound + dc), FAN, False), None, lambda: None)
        for dc in (0.0, 0.5)
    ]
    np.testing.assert_allclose(levels[0].levels_db, levels[1].levels_db, atol=0.01)


def heard_as(silent: list[bool], path: Path) -> Heard:
    """A recording with a frame for each truth, of 800 samples, 50 ms."""
    levels = np.where(silent, -120.0, -30.0).astype(np.float32)
    return Heard(
        Source(path, FAN, False), RATE_HZ, 1, 0, 800 * len(silent), ("WAV", "PCM_16"), 800, levels,
        np.array(silent), "",
    )  # fmt: skip


@given(
    stretches=st.lists(st.tuples(st.booleans(), st.integers(1, 90)), min_size=1, max_size=8),
    seconds=st.sampled_from([1.0, 1.7, 3.0]),
    hop=st.sampled_from([None, 0.33, 1.0, 5.0]),
)
def test_clips_never_reach_into_what_is_left_out(
    tmp_path_factory: pytest.TempPathFactory, stretches, seconds: float, hop: float | None
):
    silent = [quiet for quiet, frames in stretches for _ in range(frames)]
    path = tmp_path_factory.getbasetemp() / "long.wav"
    if not path.exists():
        write(path, noise(40))
    heard = heard_as(silent, path)
    clips, left_out, rest_s = cut(heard, CutSpec(seconds, hop), np.inf)
    for clip in clips:
        begin_s, end_s = clip.start / RATE_HZ, (clip.start + clip.samples) / RATE_HZ
        assert clip.samples == round(seconds * RATE_HZ)
        assert begin_s >= 0
        assert end_s <= heard.seconds
        assert all(end_s <= part.start_s or begin_s >= part.end_s for part in left_out)
    if hop is None:
        taken_s = sum(part.end_s - part.start_s for part in left_out) + seconds * len(clips)
        assert taken_s + rest_s == pytest.approx(heard.seconds)
    for first, end in runs(np.array(silent)):
        if end - first < 20:
            assert not any(part.start_s == first / 20 for part in left_out if part.start_s)


def test_the_last_clips_are_for_the_test_and_none_reaches_into_them(tmp_path: Path):
    heard = heard_as([False] * 2000, tmp_path)
    clips = [PlannedClip(heard, start * RATE_HZ, 10 * RATE_HZ) for start in range(0, 91, 5)]
    parts, dropped = split(clips, 0.25)
    test = [clip.start // RATE_HZ for clip in parts if clip.split == "test"]
    assert test == [70, 75, 80, 85, 90]
    assert dropped == 1
    assert max(clip.start for clip in parts if clip.split == "train") == 60 * RATE_HZ
    assert split(clips, None) == (clips, 0)


def test_a_fifth_is_for_the_test_where_there_is_something_to_tell_apart(tmp_path: Path):
    good = write(tmp_path / "good.wav", noise(100))
    bad = write(tmp_path / "bad.wav", noise(20, seed=1))
    sister = write(tmp_path / "sister.wav", noise(50, seed=2))
    data = ef.write_recordings(
        ef.plan_recordings([good], abnormal=[bad], sisters={"02": [sister]}, machine_type="fan"),
        tmp_path / "sounds",
    )
    machine = data.machine("fan", "00")
    counts = len(machine.train), len(machine.test_normal), len(machine.test_anomalous)
    assert counts == (8, 2, 2)
    assert len(data.machine("fan", "02").train) == 5
    assert survey(data).wrong == [
        "fan_id_02 lacks normal or anomalous test clips, so it has no AUC"
    ]


def test_one_sound_is_taken_once_whatever_it_is_called(tmp_path: Path):
    first = write(tmp_path / "a.wav", noise(30))
    again = write(tmp_path / "b.flac", soundfile.read(first, dtype="int16")[0])
    plan = ef.plan_recordings([first, again, first])
    assert len(plan.clips) == 3
    assert [part.path for part in plan.left_out] == [again, first]
    for other in ({"abnormal": [again]}, {"sisters": {"02": [again]}}):
        with pytest.raises(DataError, match="said to differ"):
            ef.plan_recordings([first], **other)


def test_what_cannot_be_read_is_told_and_the_rest_is_cut(tmp_path: Path):
    good = write(tmp_path / "good.wav", noise(30))
    (tmp_path / "bad.wav").write_bytes(b"no sound at all")
    (tmp_path / "cut.wav").write_bytes(good.read_bytes()[:9000])
    write(tmp_path / "silent.wav", np.zeros(20 * RATE_HZ))
    write(tmp_path / "short.wav", noise(9.9))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.wav").write_bytes(b"")
    plan = ef.plan_recordings([tmp_path])
    assert len(plan.clips) == 3
    assert [fault.partition("' ")[2][:7] for fault in plan.faults] == ["is not ", "is trun"]
    reasons = {part.path.name: part.reason for part in plan.left_out}
    assert reasons == {"short.wav": "is shorter than a clip of 10 s", "silent.wav": "silence"}


def test_a_channel_must_be_chosen_and_clips_keep_all(tmp_path: Path):
    sound = noise(30, 2)
    sound[:, 0] = 0
    path = write(tmp_path / "two.wav", sound)
    with pytest.raises(DataError, match="choose one with --channel 0 to 1"):
        ef.plan_recordings([path])
    assert len(ef.plan_recordings([path], channel=1).clips) == 3
    assert ef.plan_recordings([path], channel=0).clips == []


def test_folders_of_machines(tmp_path: Path):
    write(tmp_path / "Halle 3" / "normal" / "früh.wav", noise(1))
    write(tmp_path / "Halle 3" / "Abnormal" / "kaputt.wav", noise(1))
    write(
        tmp_path / unicodedata.normalize("NFD", "Süd\n2") / "x" / "y.FLAC", noise(1), format="FLAC"
    )
    write(tmp_path / "loose.wav", noise(1))
    found = [
        (source.machine.machine_id, source.path.name, source.anomalous)
        for source in find_machines(tmp_path, "fan")
    ]
    assert found == [
        ("Halle-3", "kaputt.wav", True),
        ("Halle-3", "früh.wav", False),
        ("Süd-2", "y.FLAC", False),
    ]
    write(tmp_path / "Halle.3" / "a.wav", noise(1))
    with pytest.raises(DataError, match="are both the machine 'Halle-3'"):
        find_machines(tmp_path, "fan")


@pytest.mark.parametrize("name", ["Abnormal/a.wav", "test/anomaly_id_00_00000000.wav"])
def test_what_is_called_abnormal_is_not_learned_as_normal(tmp_path: Path, name: str):
    write(tmp_path / "fan" / "a.wav", noise(30))
    bad = write(tmp_path / "fan" / name, noise(10))
    with pytest.raises(DataError, match="name the normal recordings alone"):
        ef.plan_recordings([tmp_path / "fan"])
    assert len(ef.plan_recordings([bad]).clips) == 1  # named by itself it is what the user says


def test_paths_and_names_that_lead_nowhere(tmp_path: Path):
    good = write(tmp_path / "good.wav", noise(1))
    (tmp_path / "empty").mkdir()
    for paths, message in (([tmp_path / "gone"], "is missing"), ([tmp_path / "empty"], "holds no")):
        with pytest.raises(DataError, match=message):
            ef.plan_recordings(paths)
    for more, message in (
        ({"machine_type": "a/b"}, "that can be printed, and no '/'"),
        ({"machine_id": ""}, "id is a word"),
        ({"sisters": {"00": [good]}}, "name its sister otherwise"),
        ({"seconds": 0.2}, "1 to 3600 seconds"),
        ({"hop": 0.0}, "0.1 s apart"),
        ({"test_share": 1.0}, "below 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            ef.plan_recordings([good], **more)


def test_a_data_set_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "good.wav", noise(60))
    plan, out = ef.plan_recordings([path]), tmp_path / "new" / "sounds"
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(StorageError, match=r"may take 2 MB, and 0 MB are free"):
        ef.write_recordings(plan, out)
    monkeypatch.undo()
    write(path, noise(35))  # it changes between plan and cut
    with pytest.raises(ef.EdgeflowError, match="has changed"):
        ef.write_recordings(plan, out)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_data_set_is_added_to_only_if_asked(tmp_path: Path):
    first, out = write(tmp_path / "a.wav", noise(30)), tmp_path / "sounds"
    second = write(tmp_path / "b.wav", noise(20, seed=1))
    ef.write_recordings(ef.plan_recordings([first]), out)
    before = {path: path.read_bytes() for path in out.rglob("*.wav")}
    with pytest.raises(DataError, match="is there already: add to it with --add"):
        ef.write_recordings(ef.plan_recordings([second]), out)
    data = ef.write_recordings(ef.plan_recordings([second]), out, add=True)
    (machine,) = data.machines.values()
    assert [path.name[-12:-4] for path in machine.train] == [f"{k:08d}" for k in range(5)]
    assert {path: path.read_bytes() for path in before} == before
    imports = json.loads((out / RECORD).read_text())["imports"]
    told = [clip for entry in imports for clip in entry["clips"]]
    assert [out / clip["clip"] for clip in told] == machine.train
    assert [clip["start_seconds"] for clip in told] == [0, 10, 20, 0, 10]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="is a file"):
        ef.write_recordings(ef.plan_recordings([first]), tmp_path / "file")


def test_nothing_is_written_where_nothing_is_left(tmp_path: Path):
    path = write(tmp_path / "silent.wav", np.zeros(30 * RATE_HZ))
    with pytest.raises(DataError, match="no clip can be cut"):
        ef.write_recordings(ef.plan_recordings([path]), tmp_path / "sounds")
    assert not (tmp_path / "sounds").exists()


def test_stretches_that_follow_each_other_are_one_line():
    a, b = Path("a.wav"), Path("b.wav")
    parts = [LeftOut(a, 0, 10, "x: 1: y"), LeftOut(a, 10, 20, "x: 2: y"), LeftOut(a, 30, 40, "z")]
    assert list(merged([*parts, LeftOut(b, 40, 50, "z")])) == [
        LeftOut(a, 0, 20, "x: y"), LeftOut(a, 30, 40, "z"), LeftOut(b, 40, 50, "z"),
    ]  # fmt: skip
    assert [clock(59.96), clock(3599.99)] == ["0:01:00.0", "1:00:00.0"]
