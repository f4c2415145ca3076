"""The layout is read strictly, and what does not fit is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import save
from soxr import resample

from edgeflow.band_spread import BandSpread
from edgeflow.dataset import Dataset
from edgeflow.features import FeatureStore
from edgeflow.standard import LEAST_SCALE_DB
from edgeflow.survey import survey
from edgeflow_runtime.errors import DataError
from edgeflow_runtime.logmel import LogMel, LogMelSpec
from edgeflow_runtime.manifest import Features

NOISE = 0.1 * np.random.default_rng(0).standard_normal(20_000)

FEATURES = Features(128, 0, None, LogMelSpec())


def test_scan_sorts_clips_by_machine_split_and_condition(sounds: Path):
    dataset = Dataset.scan(sounds)
    assert list(dataset.machines) == ["fan_id_00", "fan_id_02", "valve_id_00", "valve_id_02"]
    machine = dataset.machine("fan", "02")
    assert (len(machine.train), len(machine.test_normal), len(machine.test_anomalous)) == (6, 5, 5)
    assert not dataset.holds_arrays
    assert dataset.strays == []


def test_real_recordings(mimii: Path):
    dataset = Dataset.scan(mimii)
    assert len(dataset.machines) == 16
    assert {len(machine.clips) for machine in dataset.machines.values()} == {15}


def test_what_is_not_there_is_named_with_what_is(sounds: Path, tmp_path: Path):
    dataset = Dataset.scan(sounds)
    with pytest.raises(DataError, match="no machine of type 'pump'; it has fan, valve"):
        dataset.of_type("pump")
    with pytest.raises(DataError, match="no fan with id '04'; it has 00, 02"):
        dataset.machine("fan", "04")
    with pytest.raises(DataError, match="holds no clip in the layout"):
        Dataset.scan(tmp_path)
    with pytest.raises(DataError, match="is missing"):
        Dataset.scan(tmp_path / "gone")


def write(root: Path, name: str, samples: np.ndarray, rate: int = 16000) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(root / name, samples, rate)


def test_mixed_sounds_and_arrays_are_refused(tmp_path: Path):
    write(tmp_path, "fan/train/normal_id_00_00000000.wav", np.ones(10))
    np.save(tmp_path / "fan/train/normal_id_00_00000001.npy", np.ones((9, 128), np.float32))
    with pytest.raises(DataError, match="mixes 1 log-Mel arrays with 1 sounds"):
        _ = Dataset.scan(tmp_path).holds_arrays


def test_survey_names_what_looks_wrong(tmp_path: Path):
    noise = 0.1 * np.random.default_rng(0).standard_normal((8000, 2))
    for i in range(3):
        write(tmp_path, f"fan/train/normal_id_00_0000000{i}.wav", noise)
    write(tmp_path, "fan/test/normal_id_00_00000003.flac", noise[:, 0], 8000)
    write(tmp_path, "fan/test/anomaly_id_00_00000000.wav", np.zeros(8000))
    write(tmp_path, "fan/train/anomaly_id_00_00000009.wav", noise)
    found = survey(Dataset.scan(tmp_path))
    text = found.to_table()
    assert found.machines[0].rates_hz == [8000, 16000]
    assert found.machines[0].channels == [1, 2]
    for part in ("is silent", "rates differ", "below 16000", "alone of its type", "not used"):
        assert part in text
    assert "1 types, 1 machines, 5 sounds" in text


def test_a_sound_set_looks_right(sounds: Path):
    assert survey(Dataset.scan(sounds)).wrong == []


def test_a_survey_reads_a_file_once_however_many_channels_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    noise = 0.1 * np.random.default_rng(0).standard_normal((8000, 300))
    noise[:, 200] = 0
    write(tmp_path, "fan/train/normal_id_00_00000000.wav", noise)
    reads, read = [], soundfile.SoundFile.read

    def counted(file: soundfile.SoundFile, *arguments, **more):
        reads.append(file.name)
        return read(file, *arguments, **more)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    found = survey(Dataset.scan(tmp_path))
    assert len(reads) == 1
    assert found.machines[0].channels == [300]
    assert any("0.wav, channel 200' is silent" in line for line in found.wrong)


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (np.tile(NOISE[:500], 40), "repeats itself exactly in 100%"),
        (np.repeat([1, 0], 10_000) * NOISE, "stands still for 50%"),
        (resample(NOISE[::2], 8000, 16000), "lacks the upper half"),
    ],
    ids=["frozen", "dead", "slow"],
)
def test_a_survey_and_a_training_name_what_no_microphone_gives(
    sounds: Path, tmp_path: Path, sound: np.ndarray, message: str
):
    shutil.copytree(sounds / "fan", tmp_path / "fan")
    clip = tmp_path / "fan" / "train" / "normal_id_00_00000099.wav"
    soundfile.write(clip, sound, 16000, subtype="FLOAT")
    (line,) = survey(Dataset.scan(tmp_path)).wrong
    assert line.startswith(f"'{clip}' ")
    assert message in line
    with pytest.raises(DataError, match=message):
        FeatureStore(FEATURES, root=tmp_path / "cache").read_all([clip], "fan")


def test_features_are_computed_once_and_by_content(sounds: Path, tmp_path: Path):
    clip = sorted((sounds / "fan" / "train").iterdir())[0]
    store = FeatureStore(FEATURES, root=tmp_path)
    first = store.read(clip)
    samples, _ = soundfile.read(clip, dtype="float32")
    np.testing.assert_array_equal(first, LogMel(LogMelSpec())(samples))
    (kept,) = tmp_path.rglob("*.safetensors")
    kept.write_bytes(save({"logmel": first + 1}))
    np.testing.assert_array_equal(store.read(clip), first + 1)  # it came from the cache
    kept.write_bytes(b"damaged")
    np.testing.assert_array_equal(store.read(clip), first)
    slaney = FeatureStore(
        Features(128, 0, None, LogMelSpec(filterbank="slaney")), root=tmp_path
    ).read(clip)
    assert not np.array_equal(slaney, first)


def test_many_threads_may_read_arrays(tmp_path: Path):
    paths = [tmp_path / f"{i}.npy" for i in range(400)]
    for i, path in enumerate(paths):
        np.save(path, np.arange(i, i + 640, dtype=np.float32).reshape(5, 128) / 4)
    found = FeatureStore(FEATURES, root=tmp_path).read_all(paths, "test")
    assert [int(4 * array[0, 0]) for array in found] == list(range(400))


def test_a_clip_that_cannot_be_used_is_named(sounds: Path, tmp_path: Path):
    store = FeatureStore(FEATURES, root=tmp_path)
    (tmp_path / "bad.wav").write_bytes(b"not a sound, but long enough")
    with pytest.raises(DataError, match=r"'.*bad\.wav' is not a sound file.* \(and 1 more"):
        store.read_all([tmp_path / "bad.wav", tmp_path / "gone.wav"], "test")


def test_survey_names_bands_that_never_vary_and_those_that_hardly_do(tmp_path: Path):
    rng = np.random.default_rng(0)
    for kind in ("fan", "valve"):
        for number in range(4):
            logmel = rng.normal(0, 1, (40, 128)).astype(np.float32)
            if kind == "fan":
                logmel[:, 120:] = -156.5
                logmel[:, [3, 5]] *= 0.1
            path = tmp_path / kind / "train" / f"normal_id_00_{number:08}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, logmel)
    found = [line for line in survey(Dataset.scan(tmp_path)).wrong if "bands" in line]
    assert len(found) == 2
    assert found[0].startswith("fan: bands 120 to 127 (")
    assert "Hz) never vary" in found[0]
    assert found[1].startswith("fan: bands 3, 5 (")
    assert "vary by less than 0.3 dB" in found[1]


def test_survey_tells_the_bands_of_each_channel(tmp_path: Path):
    rng = np.random.default_rng(0)
    tone = 0.5 * np.cos(2 * np.pi * 1000 / 16000 * np.arange(32001))  # a peak at either end
    for number in range(3):
        sound = rng.normal(0, 0.001, (len(tone), 2))
        sound[:, 1] += tone
        path = tmp_path / "fan" / "train" / f"normal_id_00_{number:08}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, 16000, "FLOAT")
    (found,) = [line for line in survey(Dataset.scan(tmp_path)).wrong if "bands" in line]
    assert found.startswith("fan, channel 1: bands ")
    assert "vary by less than 0.3 dB" in found


@pytest.mark.parametrize("parts", [1, 3])
def test_the_spread_of_bands_is_that_of_all_frames_however_they_come(parts: int):
    logmel = np.random.default_rng(0).normal(-50, 0.2, (60, 128)).astype(np.float32)
    logmel[:, ::2] *= 10
    pieces = [BandSpread().add(part) for part in np.array_split(logmel, parts)]
    (line,) = BandSpread().merge(pieces).faults("fan")
    assert line.startswith("fan: bands 1, 3, 5, ")
    faint = np.flatnonzero(logmel.std(axis=0) < LEAST_SCALE_DB)
    assert line.count(",") == len(faint) - 1
