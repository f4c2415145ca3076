"""Log-Mel: the right frames, equal to librosa's, the same streamed and whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from python_speech_features.base import get_filterbanks

from edgeflow_runtime.errors import AudioError, ConfigError
from edgeflow_runtime.logmel import LogMel, LogMelSpec, slaney_filterbank

SPEC = LogMelSpec()


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def test_ten_seconds_give_313_frames_of_float32():
    logmel = LogMel(SPEC)(noise(160_000))
    assert logmel.shape == (313, 128)
    assert logmel.dtype == np.float32


def test_default_filterbank_is_that_of_python_speech_features():
    expected = get_filterbanks(128, 1024, 16000, 0, 8000)
    np.testing.assert_array_equal(SPEC.design()[1], expected.astype(np.float32))


@pytest.mark.parametrize(("rate", "frame", "bands"), [(16000, 1024, 128), (44100, 2048, 64)])
def test_slaney_filterbank_is_librosas(rate: int, frame: int, bands: int):
    librosa = pytest.importorskip("librosa", reason="pip install 'edgeflow[bench]'")
    spec = LogMelSpec(rate, frame, frame // 2, bands, "slaney")
    expected = librosa.filters.mel(sr=rate, n_fft=frame, n_mels=bands, dtype=np.float64)
    np.testing.assert_allclose(slaney_filterbank(spec), expected, atol=1e-9)


def test_slaney_logmel_is_librosas_within_a_thousandth_of_a_decibel():
    librosa = pytest.importorskip("librosa", reason="pip install 'edgeflow[bench]'")
    sound = noise(50_000) + np.sin(0.1 * np.arange(50_000)).astype(np.float32)
    power = librosa.feature.melspectrogram(
        y=sound, sr=16000, n_fft=1024, hop_length=512, n_mels=128, pad_mode="reflect"
    )
    expected = 10 * np.log10(power + np.finfo(float).eps)
    as_librosa = LogMel(LogMelSpec(filterbank="slaney", version=1))(sound)
    np.testing.assert_allclose(as_librosa, expected.T, atol=1e-3)
    without_offset = LogMel(LogMelSpec(filterbank="slaney"))(sound)
    np.testing.assert_allclose(without_offset[:, 2:], expected.T[:, 2:], atol=1e-3)


@pytest.mark.parametrize("offset", [0.003, 0.1, -0.5])
def test_an_offset_of_the_sound_card_changes_nothing(offset: float):
    sound = noise(50_000)
    shifted = sound + np.float32(offset)
    new, old = (LogMel(LogMelSpec(version=version)) for version in (2, 1))
    assert np.abs(old(shifted) - old(sound)).max() > 10
    assert np.abs(new(shifted) - new(sound)).max() < 0.02  # what rounding makes of it


def test_the_offset_is_the_mean_under_the_window():
    sound, logmel = noise(1024), LogMel(SPEC)
    frame = np.pad(sound, 512, mode="reflect")[512:1536].astype(np.float64)
    centred = frame - np.average(frame, weights=logmel.window)
    power = np.abs(np.fft.rfft(centred * logmel.window)) ** 2
    expected = 10 * np.log10(logmel.filterbank.astype(np.float64) @ power + 2.2e-16)
    np.testing.assert_allclose(logmel(sound)[1, 1:], expected[1:], atol=1e-3)


def test_parameters_that_tell_no_version_are_of_the_first():
    document = SPEC.to_dict()
    assert LogMelSpec.from_dict(document) == SPEC
    del document["version"]
    assert LogMelSpec.from_dict(document).version == 1
    with pytest.raises(ConfigError, match="front end 3 is not known here"):
        LogMelSpec.from_dict({**document, "version": 3})


def test_a_tone_stands_in_its_band():
    logmel = LogMel(SPEC)(np.sin(2 * np.pi * 1000 / 16000 * np.arange(16000)).astype(np.float32))
    peaks = SPEC.design()[1].argmax(axis=1) * 16000 / 1024
    assert abs(peaks[logmel.mean(axis=0).argmax()] - 1000) < 20


@settings(max_examples=100, deadline=None)
@example(samples=1024, cuts=[], gain=1.0)  # the last frame is reflected from what is already gone
@given(
    samples=st.integers(600, 4_000) | st.integers(600, 80_000),
    cuts=st.lists(st.integers(0, 80_000), max_size=40),
    gain=st.floats(1e-6, 1.0),
)
def test_streamed_equals_whole_bit_for_bit(samples: int, cuts: list[int], gain: float):
    sound = noise(samples) * np.float32(gain)
    logmel = LogMel(SPEC)
    stream = logmel.stream()
    places = sorted(min(cut, samples) for cut in cuts)
    parts = [stream.push(chunk) for chunk in np.split(sound, places)]
    streamed = np.concatenate([*parts, stream.finish()])
    np.testing.assert_array_equal(streamed, logmel(sound))


def test_a_stream_gives_frames_as_soon_as_they_are_whole():
    stream = LogMel(SPEC).stream()
    assert len(stream.push(noise(512))) == 0
    assert len(stream.push(noise(1))) == 1  # frame 0 is reflected to the left, then whole
    assert len(stream.push(noise(510))) == 0
    assert len(stream.push(noise(1))) == 1


def test_too_short_for_reflection():
    with pytest.raises(AudioError, match="512 samples are too short"):
        LogMel(SPEC)(noise(512))
    stream = LogMel(SPEC).stream()
    stream.push(noise(100))
    with pytest.raises(AudioError, match="too short"):
        stream.finish()
    assert len(LogMel(SPEC)(noise(513))) == 2


def test_digital_silence_is_finite():
    assert np.isfinite(LogMel(SPEC)(np.zeros(16000, np.float32))).all()


@pytest.mark.parametrize(
    "bad", [{"filterbank": "htk"}, {"frame": 1023}, {"bands": 0}, {"hop": 1025}]
)
def test_senseless_specs_are_refused(bad: dict):
    with pytest.raises(ConfigError):
        LogMelSpec(**bad)


def test_window_of_another_size_is_refused():
    with pytest.raises(ConfigError, match="do not fit"):
        LogMel(SPEC, np.ones(8, np.float32), SPEC.design()[1])


@pytest.mark.parametrize("filterbank", ["psf", "slaney"])
def test_bands_that_resampling_changes_are_named(filterbank: str):
    soxr = pytest.importorskip("soxr")
    spec = LogMelSpec(filterbank=filterbank)
    sound, logmel = noise(160_000), LogMel(spec)
    there_and_back = soxr.resample(soxr.resample(sound, 16000, 44100, "VHQ"), 44100, 16000)
    moved = np.abs(logmel(there_and_back[:160_000]) - logmel(sound)).mean(axis=0)
    beyond = spec.beyond_passband(16000)
    assert beyond.sum() == 3
    assert moved[~beyond].max() < 0.15
    assert moved[beyond].max() > 20
    assert spec.beyond_passband(8000)[100:].all()  # recorded at 8 kHz: the upper bands are empty


@pytest.mark.parametrize("name", ["rate_hz", "frame", "hop", "bands"])
def test_the_smallest_sizes(name: str):
    smallest = {"rate_hz": 1, "frame": 2, "hop": 1, "bands": 1}
    assert getattr(LogMelSpec(**smallest), name) == smallest[name]
    with pytest.raises(ConfigError, match="must be positive"):
        LogMelSpec(**smallest | {name: 0})


def test_lengths_and_frames_belong_together():
    spec = LogMelSpec(frame=64, hop=32)
    assert spec.fewest == 33
    assert [spec.frames(samples) for samples in (33, 63, 64, 95, 96)] == [2, 2, 3, 3, 4]
    assert [spec.samples(frames) for frames in (1, 2, 3)] == [33, 33, 64]
    assert len(LogMel(spec)(noise(spec.fewest))) == 2
    with pytest.raises(AudioError, match="32 samples are too short"):
        LogMel(spec)(noise(spec.fewest - 1))


def test_a_window_alone_is_not_used_without_its_filterbank():
    np.testing.assert_array_equal(LogMel(SPEC, np.ones(1024)).window, SPEC.design()[0])
