"""Sound from a pipe, raw or with a WAV header."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from edgeflow_runtime.errors import AudioError
from edgeflow_runtime.pipe import PcmFormat, cut_pipe

RAMP = (np.arange(1000) - 500).astype("<i2")


class Trickle(io.BytesIO):
    """A pipe that gives at most seven bytes at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(7 if size is None or size < 0 else min(size, 7))


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
