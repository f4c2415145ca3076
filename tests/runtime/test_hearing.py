"""What no healthy microphone gives is told from sound, and sound is never taken for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from edgeflow.dataset import Dataset
from edgeflow_runtime.arrays import Samples
from edgeflow_runtime.errors import AudioError
from edgeflow_runtime.hearing import FAULTY_SHARE, SILENCE, Hearing

RATE = 16000


def noise(samples: int = 10 * RATE, seed: int = 0) -> Samples:
    """Noise that falls by 30 dB over the spectrum, as machines' does, in 16 bits."""
    white = np.random.default_rng(seed).standard_normal(samples + 2)
    return in_steps(0.05 * (white[2:] + 0.9 * white[1:-1] + 0.5 * white[:-2]), 32768)


def in_steps(sound: np.ndarray, steps: int) -> Samples:
    return (np.clip(np.rint(sound * steps), -steps, steps - 1) / steps).astype(np.float32)


def verdict(sound: Samples, rate: int = RATE, band: int = 0, blocks: int = 1) -> str:
    """``ok``, or what is wrong."""
    hearing = Hearing("mic", rate, band)
    for block in np.array_split(sound.astype(np.float32), blocks):
        hearing.hear(block)
    try:
        hearing.check()
    except AudioError as error:
        return str(error)
    return "ok"


SOUND = noise()


def stuck(period: int, share: float = 1.0) -> Samples:
    """A driver that gives the same buffer from some time on."""
    frozen = np.resize(SOUND[:period], round(share * len(SOUND)))
    return np.concatenate([SOUND[: len(SOUND) - len(frozen)], frozen])


@pytest.mark.parametrize("period", [2, 3, 7, 31, 33, 127, 160, 255, 256, 257, 1000, 4096, 64000])
def test_a_frozen_driver(period: int):
    assert "repeats itself exactly in 100%" in verdict(stuck(period))


@pytest.mark.parametrize("share", [0.13, 0.5])
@pytest.mark.parametrize("period", [32, 1024, 5000])
def test_one_that_froze_midway(period: int, share: float):
    assert "repeats itself exactly" in verdict(stuck(period, share))


def test_every_buffer_twice():
    buffers = SOUND[: len(SOUND) // 1024 * 1024].reshape(-1, 1024)
    assert "repeats itself exactly" in verdict(np.repeat(buffers, 2, axis=0).ravel())


def test_a_buffer_that_comes_back_now_and_then():
    sound = SOUND.copy()
    for start in range(0, len(sound) - 4096, 4096):
        sound[start : start + 1024] = SOUND[:1024]
    assert "repeats itself exactly" in verdict(sound)


def test_one_buffer_given_twice_is_no_reason_not_to_judge():
    sound = SOUND.copy()
    sound[50_000:54_000] = SOUND[:4000]
    assert verdict(sound) == "ok"


def dropouts(share: float, value: float = 0.0, length: int = 480) -> Samples:
    sound = SOUND.copy()
    every = round(length / share)
    for start in range(0, len(sound) - length, every):
        sound[start : start + length] = value
    return sound


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_loose_cable(value: float):
    assert "stands still for" in verdict(dropouts(0.2, value))
    assert verdict(dropouts(0.05, value)) == "ok"
    half = SOUND.copy()
    half[len(half) // 2 :] = value
    assert "stands still for 50%" in verdict(half)


def test_channels_torn_apart():
    for every in (2, 3):
        sound = SOUND.copy()
        sound[1::every] = 0
        assert "never changes in every few samples" in verdict(sound)


@pytest.mark.parametrize("bit", range(1, 11))
def test_a_stuck_bit(bit: int):
    whole = np.rint(SOUND * 32768).astype(np.int32)
    assert "a bit that never changes" in verdict((whole | 1 << bit) / 32768)
    assert "a bit that never changes" in verdict((whole & ~(1 << bit)) / 32768)


def test_a_converter_of_one_bit():
    assert "a handful of values" in verdict(np.sign(SOUND + 1e-9) * 0.1)


@pytest.mark.parametrize("steps", [0, 1 << 23])
def test_half_a_spectrum(steps: int):
    halved = soxr.resample(soxr.resample(SOUND, RATE, RATE // 2), RATE // 2, RATE)
    sound = in_steps(halved, steps) if steps else halved
    assert "lacks the upper half" in verdict(sound)
    assert verdict(sound, band=RATE // 2) == "ok"  # a monitor that learned from 8 kHz
    assert verdict(soxr.resample(SOUND, RATE, 48000), 48000, RATE) == "ok"


def test_a_digital_tone_is_no_sound_but_one_with_noise_is():
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(10 * RATE) / RATE)
    assert "repeats itself exactly" in verdict(in_steps(tone, 32768))
    assert verdict(in_steps(tone + 0.001 * SOUND, 32768)) == "ok"


def test_all_is_found_in_blocks_too():
    assert "repeats itself exactly" in verdict(stuck(1024), blocks=7)
    assert "stands still for 50%" in verdict(np.append(SOUND, 0 * SOUND), blocks=7)
    assert verdict(np.concatenate([SOUND] * 12 + [stuck(1024)]), blocks=13) == "ok"  # under a tenth
    assert FAULTY_SHARE > 1 / 13


def mu_law(sound: Samples) -> Samples:
    small = np.rint(127 * np.sign(sound) * np.log1p(255 * np.abs(sound)) / np.log(256)) / 127
    return (np.sign(small) * np.expm1(np.abs(small) * np.log(256)) / 255).astype(np.float32)


VERSIONS: dict[str, Callable[[Samples], Samples]] = {
    "as it is": lambda sound: sound,
    "16 bits": lambda sound: in_steps(sound, 32768),
    "12 bits": lambda sound: in_steps(sound, 2048),
    "8 bits": lambda sound: in_steps(sound, 128),
    "mu-law": mu_law,
    "a tenth as loud": lambda sound: in_steps(sound / 10, 32768),
    "a hundredth as loud": lambda sound: in_steps(sound / 100, 32768),
    "a thousandth as loud": lambda sound: in_steps(sound / 1000, 32768),
    "off the middle": lambda sound: in_steps(sound + 0.25, 32768),
    "resampled": lambda sound: soxr.resample(sound, 44100, 48000),
    "24 bits": lambda sound: in_steps(sound, 1 << 23),
}


def refused(clips: list[Path], version: str) -> dict[str, str]:
    found = {}
    for clip in clips:
        sound = VERSIONS[version](soundfile.read(clip, dtype="float32", always_2d=True)[0][:, 0])
        if np.ptp(sound) > SILENCE and (fault := verdict(sound)) != "ok":
            found[clip.name] = fault
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_no_synthetic_machine_is_taken_for_a_fault(version: str, sounds: Path):
    assert refused(sorted(sounds.rglob("*.wav")), version) == {}


@pytest.mark.parametrize("version", ["as it is", "16 bits"])
def test_no_real_machine_is_taken_for_a_fault(version: str, mimii: Path):
    machines = Dataset.scan(mimii).machines.values()
    assert refused([clip for machine in machines for clip in machine.clips], version) == {}


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_nor_as_other_recorders_would_have_it(version: str, mimii: Path):
    assert refused(sorted(mimii.rglob("*.flac")), version) == {}
