"""Sound from a pipe, raw or with a WAV header."""

from __future__ import annotations

import io
import os
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
import pytest
import soundfile

from edgeflow_runtime.errors import AudioError, ConfigError
from edgeflow_runtime.pipe import NoSound, PcmFormat, PipedSound, cut_pipe

RAMP = (np.arange(1000) - 500).astype("<i2")


class Trickle(io.BytesIO):
    """A pipe that gives at most seven bytes at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(7 if size is None or size < 0 else min(size, 7))

    read1 = read  # type: ignore[assignment]


def test_raw_pcm_is_cut_into_clips_with_a_shorter_last_one():
    clips = list(cut_pipe(Trickle(RAMP.tobytes()), PcmFormat(100), seconds=4))
    assert [len(clip.channels) for clip in clips] == [400, 400, 200]
    joined = np.concatenate([clip.channels for clip in clips])[:, 0]
    np.testing.assert_array_equal(joined, RAMP.astype(np.float32) / 32768)


@pytest.mark.parametrize(
    ("subtype", "tolerance"), [("PCM_16", 1e-4), ("PCM_32", 1e-7), ("FLOAT", 0)]
)
def test_a_wav_header_rules(subtype: str, tolerance: float):
    sound = np.stack([RAMP / 32768, -RAMP / 32768], axis=1).astype(np.float32)
    content = io.BytesIO()
    soundfile.write(content, sound, 8000, subtype=subtype, format="WAV")
    clips = list(cut_pipe(Trickle(content.getvalue()), PcmFormat(16000), seconds=10))
    (clip,) = clips
    assert clip.rate_hz == 8000
    np.testing.assert_allclose(clip.channels[:1000], sound, atol=tolerance)


def test_a_wav_stream_that_ends_early_says_so_after_what_it_gave():
    content = io.BytesIO()
    soundfile.write(content, RAMP / 32768, 8000, format="WAV", subtype="PCM_16")
    clips = cut_pipe(io.BytesIO(content.getvalue()[:-500]), PcmFormat(16000), seconds=0.05)
    assert len(next(clips).channels) == 400
    with pytest.raises(AudioError, match="ended 500 bytes before"):
        list(clips)


def test_what_follows_the_samples_of_a_wav_stream_is_no_sound():
    content = io.BytesIO()
    soundfile.write(content, RAMP / 32768, 8000, format="WAV", subtype="PCM_16")
    (clip,) = cut_pipe(io.BytesIO(content.getvalue() + b"LIST" * 50), PcmFormat(100), 10)
    assert len(clip.channels) == len(RAMP)


def test_empty_and_damaged_pipes():
    with pytest.raises(AudioError, match="gave no sound"):
        list(cut_pipe(io.BytesIO(b""), PcmFormat(100), 1))
    with pytest.raises(AudioError, match="header is damaged"):
        list(cut_pipe(io.BytesIO(b"RIFF\0\0\0\0WAVE"), PcmFormat(100), 1))
    fmt = struct.pack("<HHIIHH", 1, 1, 8000, 8000, 1, 8)
    eight_bit = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", 16) + fmt + b"data\0\0\0\0"
    with pytest.raises(AudioError, match="8 bits"):
        list(cut_pipe(io.BytesIO(eight_bit), PcmFormat(100), 1))


def header(channels: int = 1, rate: int = 16000, bits: int = 16, tag: int = 1) -> bytes:
    fmt = struct.pack("<HHIIHH", tag, channels, rate, 0, 0, bits)
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + b"\xff" * 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header(channels=65535), "no recorder has 65535 channels"),
        (header(rate=4_000_000_000), "a rate of 4000000000 Hz is none"),
        (header(rate=1), "a rate of 1 Hz is none"),
        (header(channels=1024, rate=10_000_000), "too long: choose shorter ones with --every"),
        (b"RIFF\0\0\0\0WAVELIST\xf0\xff\xff\xff" + bytes(100), "comes to no sound"),
    ],
    ids=["channels", "rate", "low rate", "both", "chunk"],
)
def test_a_header_of_what_no_recorder_has_is_refused_before_memory_is_asked_for(
    content: bytes, message: str
):
    tracemalloc.start()
    with pytest.raises((AudioError, ConfigError), match=message):
        list(cut_pipe(io.BytesIO(content + bytes(4000)), PcmFormat(16000), 10))
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    "make",
    [
        lambda: PcmFormat(0), lambda: PcmFormat(16000.5), lambda: PcmFormat(10**12),
        lambda: PcmFormat(None), lambda: PcmFormat(16000, 0), lambda: PcmFormat(16000, 2000),
        lambda: PcmFormat(16000, 1.5), lambda: PcmFormat(16000, encoding="mp3"),
        lambda: PcmFormat(16000).samples(float("nan")), lambda: PcmFormat(16000).samples(0),
        lambda: PcmFormat(16000).samples(1e9), lambda: PcmFormat(16000).samples(None),
        lambda: list(cut_pipe(io.BytesIO(b"12"), PcmFormat(16000), 1, 0)),
        lambda: list(cut_pipe(io.BytesIO(b"12"), PcmFormat(16000), 1, float("nan"))),
    ],
)  # fmt: skip
def test_formats_lengths_and_timeouts_that_make_no_sense(make: Callable[[], object]):
    with pytest.raises((AudioError, ConfigError)):
        make()


SECOND = (np.random.default_rng(0).integers(-3000, 3000, 1000)).astype("<i2").tobytes()
"""A second at 1000 Hz."""


@contextmanager
def recorder(*steps: bytes | float) -> Iterator[BinaryIO]:
    """A real pipe into which bytes are written, with pauses in seconds between them."""
    reading, writing = os.pipe()

    def record() -> None:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            for step in steps:
                if isinstance(step, bytes):
                    pipe.write(step)
                else:
                    time.sleep(step)

    thread = threading.Thread(target=record)
    thread.start()
    with os.fdopen(reading, "rb") as pipe:
        yield pipe
        thread.join()


def heard(clips: list[PipedSound | NoSound]) -> list[tuple[bool, float]]:
    return [(isinstance(clip, PipedSound), clip.offset_seconds) for clip in clips]


def test_a_pipe_that_stalls_is_told_and_listened_to_again():
    with recorder(SECOND, SECOND[:777], 0.7, SECOND, SECOND) as pipe:
        clips = list(cut_pipe(pipe, PcmFormat(1000), 1, timeout_s=0.4))
    dropped = 777 // 2 / 1000
    assert heard(clips) == [(True, 0), (False, 1), (True, 1 + dropped), (True, 2 + dropped)]
    first, stall, after, last = clips
    assert isinstance(stall, NoSound)
    assert stall.reason == "nothing came for 0.4 s; 0.4 s that had come are dropped"
    assert isinstance(after, PipedSound)
    assert isinstance(first, PipedSound)
    assert isinstance(last, PipedSound)


def test_samples_stay_whole_across_a_stall():
    with recorder(SECOND[:701], 0.6, SECOND[701:] + SECOND) as pipe:
        stall, after, _ = cut_pipe(pipe, PcmFormat(1000), 1, timeout_s=0.3)
    assert isinstance(stall, NoSound)
    assert isinstance(after, PipedSound)
    expected = np.frombuffer(SECOND * 2, "<i2")[350:1350] / np.float32(32768)
    np.testing.assert_array_equal(after.channels[:, 0], expected)


def test_a_pipe_that_stays_silent_is_told_again_and_again():
    with recorder(1.0, SECOND) as pipe:
        clips = list(cut_pipe(pipe, PcmFormat(1000), 1, timeout_s=0.3))
    assert heard(clips) == [(False, 0)] * 3 + [(True, 0)]
    times = [clip.heard_at for clip in clips]
    assert times == sorted(times)


def test_a_header_may_stall_too():
    content = header(rate=1000)
    with recorder(content[:21], 0.5, content[21:], 0.5, SECOND) as pipe:
        clips = list(cut_pipe(pipe, PcmFormat(16000), 1, timeout_s=0.3))
    assert heard(clips) == [(False, 0), (False, 0), (True, 0)]


def test_a_trickle_is_no_sound():
    with recorder(*[b"\x01\x02", 0.1] * 30) as pipe:
        clips = list(cut_pipe(pipe, PcmFormat(1000), 1, timeout_s=0.5))
    assert heard(clips)[0] == (False, 0)
    assert isinstance(clips[0], NoSound)
    assert clips[0].reason.startswith("it did not come in time; 0.0 s that had come")


def test_what_comes_within_the_timeout_is_one_clip():
    with recorder(SECOND[:500], 0.3, SECOND[500:]) as pipe:
        (clip,) = cut_pipe(pipe, PcmFormat(1000), 1, timeout_s=2)
    assert isinstance(clip, PipedSound)
    assert len(clip.channels) == 1000
