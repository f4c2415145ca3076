"""Reading sound: every format it should, and one clear line for what it should not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeflow_runtime.audio import Intake, read_sound
from edgeflow_runtime.errors import AudioError
from edgeflow_runtime.hearing import Hearing
from edgeflow_runtime.sound_file import sound_info

RATE = 16000


def tone(seconds: float = 0.5, rate: int = RATE, hz: float = 440.0) -> np.ndarray:
    """A tone with a little noise: without any, no microphone could have given it."""
    pure = 0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)
    noise = 1e-4 * np.random.default_rng(0).standard_normal(len(pure))
    return (pure + noise).astype(np.float32)


def check(sound: np.ndarray) -> None:
    hearing = Hearing("mic", RATE)
    hearing.hear(sound.astype(np.float32))
    hearing.check()


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_16", 4e-5), ("a.wav", "PCM_24", 2e-7), ("a.wav", "PCM_32", 1e-7),
        ("a.wav", "PCM_U8", 1e-2), ("a.wav", "FLOAT", 0), ("a.wav", "DOUBLE", 0),
        ("a.flac", "PCM_16", 4e-5), ("a.flac", "PCM_24", 2e-7),
    ],
)  # fmt: skip
def test_formats(tmp_path: Path, name: str, subtype: str, tolerance: float):
    sound = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    soundfile.write(tmp_path / name, sound, RATE, subtype=subtype)
    found = read_sound(tmp_path / name, Intake(RATE))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, sound, atol=tolerance + 1e-12)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int):
    soundfile.write(tmp_path / "a.wav", tone(rate=rate), rate, subtype="FLOAT")
    found = read_sound(tmp_path / "a.wav", Intake(RATE))
    middle = slice(len(found) // 4, len(found) // 2)
    assert abs(len(found) - RATE // 2) <= 1
    np.testing.assert_allclose(found[middle], tone()[middle], atol=1e-3)


def test_a_channel_is_chosen_never_mixed(tmp_path: Path):
    both = np.stack([tone(hz=440), tone(hz=1000)], axis=1)
    soundfile.write(tmp_path / "a.wav", both, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"has 2 channels; .* choose one with --channel 0 to 1"):
        read_sound(tmp_path / "a.wav", Intake(RATE))
    with pytest.raises(AudioError, match="no channel 2"):
        read_sound(tmp_path / "a.wav", Intake(RATE, channel=2))
    np.testing.assert_array_equal(
        read_sound(tmp_path / "a.wav", Intake(RATE, channel=1)), both[:, 1]
    )


def test_too_low_a_rate_is_refused(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", tone(rate=8000), 8000)
    with pytest.raises(AudioError, match=r"is at 8000 Hz; .* upper bands would be empty"):
        read_sound(tmp_path / "a.wav", Intake(RATE, min_rate_hz=16000))


def test_missing_empty_folder_and_text(tmp_path: Path):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("no sound at all, but a long enough file")
    for name, message in [
        ("gone.wav", "is missing"),
        ("empty.wav", "is empty"),
        ("text.wav", "is not a sound file"),
        (".", "is not a file"),
    ]:
        with pytest.raises(AudioError, match=message):
            read_sound(tmp_path / name, Intake(RATE))


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated(tmp_path: Path, name: str, share: float):
    sound = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1
    soundfile.write(tmp_path / name, sound, RATE)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(AudioError, match=r"truncated|damaged|not a sound file"):
        read_sound(tmp_path / name, Intake(RATE))


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x80"])
def test_open_lengths_are_read_to_the_end(tmp_path: Path, length: bytes):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = length
    (tmp_path / "a.wav").write_bytes(content)
    assert len(read_sound(tmp_path / "a.wav", Intake(RATE))) == RATE // 2


def test_a_recorder_that_was_cut_off_is_named(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[40:44] = bytes(4)
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match="says it holds no samples, yet 16000 bytes follow"):
        read_sound(tmp_path / "a.wav", Intake(RATE))


def test_a_flac_that_does_not_know_its_length_says_so(tmp_path: Path):
    soundfile.write(tmp_path / "a.flac", tone(), RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # STREAMINFO's 36 bits of total samples
    content[22:26] = b"\0\0\0\0"
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(AudioError, match="does not say how long it is"):
        read_sound(tmp_path / "a.flac", Intake(RATE))


def test_samples_far_beyond_full_scale_are_refused(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", tone() * 1e22, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"up to 5\.0e\+21, where full scale is 1"):
        read_sound(tmp_path / "a.wav", Intake(RATE))


def test_fast_recordings_are_heard_as_the_slowest_trained_on(tmp_path: Path):
    both = tone(rate=RATE, hz=440) + tone(rate=RATE, hz=6000)
    soundfile.write(tmp_path / "a.wav", both, RATE, subtype="FLOAT")
    heard = read_sound(tmp_path / "a.wav", Intake(RATE, min_rate_hz=8000))
    np.testing.assert_allclose(heard[2000:6000], tone()[2000:6000], atol=2e-3)


def test_nan_is_named_with_its_place(tmp_path: Path):
    sound = tone()
    sound[7] = np.nan
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"1 sample\(s\) that are NaN or infinite, the first at 7"):
        read_sound(tmp_path / "a.wav", Intake(RATE))


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (np.zeros(RATE), "silent"),
        (np.full(RATE, 0.25), "silent"),
        (np.clip(5 * tone(), -1, 1), "clipped: .* lower the gain"),
        (np.empty(0), "no samples"),
    ],
)
def test_what_a_bad_microphone_gives(sound: np.ndarray, message: str):
    with pytest.raises(AudioError, match=message):
        check(sound)


def test_a_full_scale_tone_is_not_clipped():
    check(1.99 * tone())


def test_info(tmp_path: Path):
    soundfile.write(tmp_path / "a.flac", np.zeros((8000, 3)), 8000)
    info = sound_info(tmp_path / "a.flac")
    assert (info.rate_hz, info.channels, info.samples, info.seconds) == (8000, 3, 8000, 1.0)
