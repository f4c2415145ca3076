"""Whatever is wrong with one clip makes it unknown, with a reason, and the others are judged."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeflow.cli import cli
from edgeflow_runtime import Scorer, sound_file
from edgeflow_runtime.audio import Intake, read_sound
from edgeflow_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.clip_reader import find_clips
from edgeflow_runtime.errors import AudioError, ConfigError
from edgeflow_runtime.logmel_array import read_logmel_array
from edgeflow_runtime.verdicts import ClipResult

RATE = 16000


@pytest.fixture(scope="module")
def scorer(bundle_path: Path) -> Scorer:
    return Scorer.load(bundle_path)


@pytest.fixture(scope="module")
def hears_arrays(bundle_path: Path) -> Scorer:
    """The same monitor as if it had been trained on arrays."""
    bundle = Bundle.load(bundle_path)
    features = dataclasses.replace(bundle.manifest.features, logmel=None, min_rate_hz=0)
    manifest = dataclasses.replace(bundle.manifest, features=features)
    return Scorer(dataclasses.replace(bundle, manifest=manifest), OnnxRuntimeBackend(bundle.onnx))


@pytest.fixture
def clips(sounds: Path) -> list[Path]:
    return sorted((sounds / "fan" / "test").iterdir())


def noise(samples: int = RATE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32) * np.float32(0.1)


def logmel(frames: int = 63, bands: int = 32) -> np.ndarray:
    return np.random.default_rng(0).normal(-40, 10, (frames, bands)).astype(np.float32)


def between_good_ones(scorer: Scorer, clips: list[Path], bad: Path) -> ClipResult:
    """What is said of ``bad`` amid clips that are judged."""
    before, result, after = scorer.score_files([clips[0], bad, clips[1]])
    assert "unknown" not in (before.verdict, after.verdict)
    return result


# Log-Mel arrays


@pytest.mark.parametrize("value", [1e30, 301, -401, -3e38])
def test_log_mel_beyond_what_it_can_be(hears_arrays: Scorer, tmp_path: Path, value: float):
    array = logmel()
    array[5, 7] = value
    np.save(tmp_path / "far.npy", array)
    (result,) = hears_arrays.score_files([tmp_path / "far.npy"])
    assert (result.verdict, result.score) == ("unknown", None)
    assert "log-Mel lies from -400 to 300 dB" in str(result.error)


@pytest.mark.parametrize("decibels", [-157, -380, 135, 259])
def test_log_mel_of_other_references_is_judged(hears_arrays: Scorer, decibels: float):
    array = logmel()
    array[5, 7] = decibels
    assert hears_arrays.score_logmel(array).verdict in ("normal", "anomalous")


def test_frames_that_repeat_are_no_log_mel(hears_arrays: Scorer):
    with pytest.raises(AudioError, match="repeats 75% of its frames"):
        hears_arrays.score_logmel(np.tile(logmel(20), (4, 1)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (logmel()[:, :31], r"holds float32 of shape \(63, 31\)"),
        (logmel()[0], r"of shape \(32,\)"),
        (logmel().astype(np.float64), "holds float64"),
        (logmel().astype(complex), "holds complex128"),
        (logmel()[:0], "holds no frames"),
        (logmel() * np.float32(np.nan), "NaN"),
        (logmel() * np.float32(1e30), "log-Mel lies"),
        (np.ma.masked_less(logmel(), -50), "MaskedArray"),
        (np.zeros((63, 32), np.float32), "silent"),
        (logmel()[:2], "too short"),
        (logmel().tolist(), "is a list"),
        (None, "is a NoneType"),
        ("clip", "is a str"),
    ],
    ids=str,
)
def test_log_mel_that_is_none(scorer: Scorer, array, message: str):
    with pytest.raises(AudioError, match=message):
        scorer.score_logmel(array)


# Samples


@pytest.mark.parametrize("way", ["file", "samples", "files"])
def test_a_frozen_driver_is_never_normal(scorer: Scorer, sounds: Path, tmp_path: Path, way: str):
    frozen = np.tile(noise(1024), 16)
    path = tmp_path / "frozen.wav"
    soundfile.write(path, frozen, RATE)
    if way == "files":
        clips = sorted((sounds / "fan" / "test").iterdir())
        assert "repeats itself exactly" in str(between_good_ones(scorer, clips, path).error)
        return
    with pytest.raises(AudioError, match="repeats itself exactly"):
        scorer.score(path) if way == "file" else scorer.score(frozen, RATE)


def test_a_frozen_driver_is_found_at_the_rate_it_froze_at(scorer: Scorer):
    """Resampling would hide it: buffers no longer come at whole samples."""
    with pytest.raises(AudioError, match="repeats itself exactly"):
        scorer.score(np.tile(noise(1023), 43), 44100)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (noise(), 16000.5, "rate of 16000.5 Hz is not a whole number"),
        (noise(), True, "rate of True is no number"),
        (noise(), "16000", "rate of '16000' is no number"),
        (noise(), 16000 + 0j, "is no number of Hz"),
        (noise(), [16000], "is no number of Hz"),
        (noise(), np.float64("nan"), "rate of nan Hz"),
        (noise(), 10**400, "is none that a recorder has"),
        (noise(), None, "give its rate"),
        (None, RATE, "of type object"),
        ([None, 1.0], RATE, "of type object"),
        ([[1.0], [1.0, 2.0]], RATE, "ValueError"),
        (b"clip", RATE, r"of type \|S4"),
        (noise().astype(complex), RATE, "of type complex128"),
        (noise() > 0, RATE, "of type bool"),
        (noise().astype(np.float64) * 1e300, RATE, "infinite"),
        (np.ma.masked_greater(noise(), 0.1), RATE, "masked"),
        (np.empty(0), RATE, "holds no samples"),
        (np.empty((0, 2)), RATE, "choose one"),
        (np.empty((5, 0)), RATE, "no channel 0"),
        (np.float32(1), RATE, r"has shape \(\)"),
        (noise()[None], RATE, r"has shape \(1, 16000\), which is 16000 channels"),
        ({"a": 1}, RATE, "of type object"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_samples_that_are_none(scorer: Scorer, samples, rate, message: str):
    with pytest.raises((AudioError, ConfigError), match=message):
        scorer.score(samples, rate)


@pytest.mark.parametrize("rate", [16000.0, np.int64(16000), np.float32(16000), np.uint16(16000)])
def test_rates_that_are_whole(scorer: Scorer, rate):
    assert scorer.score(noise(), rate).score == scorer.score(noise(), 16000).score


def test_a_mask_without_anything_masked_is_none(scorer: Scorer):
    assert scorer.score(np.ma.array(noise()), RATE).score == scorer.score(noise(), RATE).score


@pytest.mark.parametrize("options", [{"channel": "left"}, {"channel": 0.5}, {"threshold": "low"}])
def test_settings_that_are_none(bundle_path: Path, options: dict[str, object]):
    with pytest.raises(ConfigError):
        Scorer.load(bundle_path, **options)  # type: ignore[arg-type]


# Files


def test_a_wav_in_gsm_is_read(scorer: Scorer, clips: list[Path], tmp_path: Path):
    path = tmp_path / "gsm.wav"
    soundfile.write(path, soundfile.read(clips[0])[0], RATE, subtype="GSM610")
    assert between_good_ones(scorer, clips, path).verdict in ("normal", "anomalous")


HEADERS = {
    "cut": b"\x93NUMPY\x01\x00\x76",
    "endless": b"\x93NUMPY\x01\x00\xff\xff{'descr'",
    "text": b"\x93NUMPY\x01\x00\x08\x00shape ( ",
    "deep": b"\x93NUMPY\x02\x00\x00\x20\x00\x00" + b"(" * 8192,
    "unclosed": b"\x93NUMPY\x01\x00\x10\x00{'descr': (((( '",
    "null": b"\x93NUMPY\x01\x00\x10\x00{'descr': '\x00'  ",
    "no UTF-8": b"\x93NUMPY\x03\x00\x10\x00\x00\x00{'descr': '\xff\xfe\xfd ",
    "version": b"\x93NUMPY\x09\x09\x10\x00{'descr': '<f4'}",
}


@pytest.mark.parametrize("name", HEADERS)
def test_arrays_with_a_broken_header(scorer: Scorer, clips: list[Path], tmp_path: Path, name: str):
    path = tmp_path / "broken.npy"
    path.write_bytes(HEADERS[name])
    assert f"'{path}' is not a whole NumPy array" in str(
        between_good_ones(scorer, clips, path).error
    )


def test_an_array_that_python_2_wrote_is_taken_without_a_word(tmp_path: Path):
    path = tmp_path / "old.npy"
    frames = np.random.default_rng(0).normal(-40, 5, (20, 128)).astype(np.float32)
    np.save(path, frames)
    path.write_bytes(path.read_bytes().replace(b"(20, 128), }  ", b"(20L, 128L), }"))
    assert np.array_equal(read_logmel_array(path, 128), frames)


def test_what_is_hidden_is_no_clip(tmp_path: Path):
    for place in ("a.wav", ".hidden.wav", "b/c.flac", ".venv/d.wav", "b/.e/f.npy"):
        (tmp_path / place).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / place).touch()
    assert find_clips([tmp_path]) == [tmp_path / "a.wav", tmp_path / "b" / "c.flac"]
    assert find_clips([tmp_path / ".venv"]) == [tmp_path / ".venv" / "d.wav"]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(header=st.binary(max_size=120), version=st.integers(1, 3))
def test_no_header_ends_a_batch(scorer: Scorer, tmp_path: Path, header: bytes, version: int):
    path = tmp_path / "any.npy"
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + size + header)
    (result,) = scorer.score_files([path])
    assert result.verdict == "unknown"


def test_what_nobody_foresaw_is_that_clips_fault_and_named(
    scorer: Scorer, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read = soundfile.SoundFile.read

    def broken(file: soundfile.SoundFile, *arguments, **more):
        if file.frames == 15_000:
            raise UnicodeError("by\nchance")
        return read(file, *arguments, **more)

    monkeypatch.setattr(soundfile.SoundFile, "read", broken)
    path = tmp_path / "odd.wav"
    soundfile.write(path, noise(15_000), RATE)
    error = f"'{path}' cannot be judged: UnicodeError: by chance"
    assert between_good_ones(scorer, clips, path).error == error
    with pytest.raises(AudioError, match="UnicodeError"):
        scorer.score(path)


@pytest.mark.parametrize("name", ["\ud800.wav", "a\0b.wav", "n" * 300 + ".wav", "x.wav/y.wav"])
def test_names_that_no_file_can_have(scorer: Scorer, clips: list[Path], name: str):
    assert between_good_ones(scorer, clips, Path(name)).verdict == "unknown"


@pytest.mark.parametrize("name", ["pipe.npy", "pipe.wav"])
def test_a_pipe_in_a_folder_is_not_waited_for(bundle_path: Path, clips, tmp_path: Path, name: str):
    os.mkfifo(tmp_path / name)
    shutil.copy(clips[0], tmp_path / "a.wav")
    command = [sys.executable, "-m", "edgeflow", "score", bundle_path, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"'{tmp_path / name}' is not a file" in done.stderr
    assert len(done.stdout.splitlines()) == 2


# Long files


def test_a_file_is_read_in_blocks_if_it_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """For training it is one clip: the same samples, and what is wrong late in it is found."""
    late = noise(64_000)
    late[60_000] = np.nan
    frozen = np.concatenate([noise(32_000), np.tile(noise(100), 320)])
    for name, sound in {"whole": noise(64_000), "late": late, "frozen": frozen}.items():
        soundfile.write(tmp_path / f"{name}.wav", sound, RATE, subtype="FLOAT")
    monkeypatch.setattr(sound_file, "LONG", 10_000)
    monkeypatch.setattr(sound_file, "BLOCK", 4800)
    monkeypatch.setattr(sound_file, "FEWEST_IN_BLOCK", 100)
    read = partial(read_sound, intake=Intake(RATE))
    np.testing.assert_array_equal(read(tmp_path / "whole.wav"), noise(64_000))
    with pytest.raises(AudioError, match="first at 60000"):
        read(tmp_path / "late.wav")
    with pytest.raises(AudioError, match="repeats itself exactly"):
        read(tmp_path / "frozen.wav")


MEBIBYTE = 1 << 20
LIMIT = 400 * MEBIBYTE

SCORE_WITHIN = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({LIMIT}, {LIMIT}))
from edgeflow.cli import main
status = main(["score", *sys.argv[1:]])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak.split()[1], file=sys.stderr)
sys.exit(status)
"""


@pytest.mark.parametrize("hours", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_hours_are_scored_in_little_memory(bundle_path: Path, clips, tmp_path: Path, hours: int):
    path = tmp_path / "long.wav"
    draw = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for _ in range(60 * hours):
            file.write(draw.integers(-3000, 3000, 60 * RATE, np.int16))
    command = [sys.executable, "-c", SCORE_WITHIN, bundle_path, clips[0], path, clips[1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    path.unlink()
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(records) == 3600 * hours + 2, done.stderr
    assert {record["error"] for record in records} == {None}
    assert [record["offset_seconds"] for record in records[1:-1]] == list(range(3600 * hours))
    assert int(done.stderr.split()[-1]) * 1024 < LIMIT


def test_what_does_not_fit_into_memory_is_its_own_fault(
    bundle_path: Path, clips: list[Path], tmp_path: Path
):
    """An array is judged whole."""
    path = tmp_path / "vast.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_2_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (8_000_000, 32)}
        )
        file.truncate(file.tell() + 8_000_000 * 128)
    command = [sys.executable, "-c", SCORE_WITHIN, bundle_path, clips[0], path, clips[1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["verdict"] == "unknown" for record in records] == [False, True, False]
    assert "MemoryError" in records[1]["error"]


# Pictures


def test_verdicts_are_not_lost_with_the_pictures(bundle_path: Path, clips, tmp_path: Path):
    pytest.importorskip("matplotlib", reason="pip install 'edgeflow[plot]'")
    (tmp_path / "maps").write_text("in the way")
    plain = CliRunner().invoke(cli, ["score", str(bundle_path), *map(str, clips[:3])])
    drawn = CliRunner().invoke(
        cli, ["score", str(bundle_path), *map(str, clips[:3]), "--map", str(tmp_path / "maps")]
    )
    assert drawn.exit_code == 2
    assert len(drawn.stderr.splitlines()) == 3
    assert "could not be written" in drawn.stderr
    for one, other in zip(drawn.stdout.splitlines(), plain.stdout.splitlines(), strict=True):
        one, other = json.loads(one), json.loads(other)
        assert one.pop("score") == pytest.approx(other.pop("score"), abs=1e-5)
        assert one == other


def test_nor_on_a_full_disk(bundle_path: Path, clips: list[Path], tmp_path: Path):
    pytest.importorskip("matplotlib", reason="pip install 'edgeflow[plot]'")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    command = [sys.executable, "-m", "edgeflow", "score", bundle_path, *clips[:2]]
    environment = {**os.environ, "MPLCONFIGDIR": str(tmp_path / "mpl")}
    done = subprocess.run(
        [*command, "--map", tmp_path / "maps"],
        capture_output=True, text=True, preexec_fn=limit, env=environment,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("could not be written: File too large") == 2
    assert len(done.stdout.splitlines()) == 2
    assert list((tmp_path / "maps").iterdir()) == []


@pytest.mark.parametrize("name", ["a$b$.wav", "$\\frac{.wav", "two\nlines.wav", "\x1b[2J.wav"])
def test_a_name_spoils_no_picture(bundle_path: Path, clips, tmp_path: Path, name: str):
    pytest.importorskip("matplotlib", reason="pip install 'edgeflow[plot]'")
    shutil.copy(clips[0], tmp_path / name)
    found = CliRunner().invoke(
        cli, ["score", str(bundle_path), str(tmp_path / name), "--map", str(tmp_path / "maps")]
    )
    assert (found.exit_code in (0, 1), found.stderr) == (True, "")
    assert len(list((tmp_path / "maps").iterdir())) == 1
