"""Windows are views in the right places, streams give the same ones, and maps lie where they do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_runtime.errors import AudioError, ConfigError
from edgeflow_runtime.views import View, WindowSpec, encode

SIZES = st.integers(1, 12), st.integers(1, 9)


def plain_view(size: int, hop: int, bands: int) -> View:
    return View(WindowSpec(size, hop), np.zeros(bands, np.float32), np.ones(bands, np.float32))


@given(st.integers(0, 60), *SIZES)
def test_windows_are_the_frames_they_say(frames: int, size: int, hop: int):
    logmel = np.arange(frames * 3, dtype=np.float32).reshape(frames, 3)
    spec = WindowSpec(size, hop)
    windows = spec.cut(logmel)
    assert len(windows) == spec.count(frames)
    for start, window in zip(spec.starts(frames), windows, strict=True):
        np.testing.assert_array_equal(window, logmel[start : start + size])
    if len(windows):
        assert np.shares_memory(windows, logmel)


@given(*SIZES, st.lists(st.integers(0, 20), max_size=8))
def test_a_stream_gives_the_windows_of_the_whole_clip(size: int, hop: int, chunks: list[int]):
    view = View(WindowSpec(size, hop), np.array([1, 2], np.float32), np.array([0.3, 7], np.float32))
    logmel = np.random.default_rng(0).standard_normal((sum(chunks), 2)).astype(np.float32)
    stream = view.stream()
    parts = [stream.push(part) for part in np.split(logmel, np.cumsum(chunks)[:-1])]
    np.testing.assert_array_equal(np.concatenate(parts), view(logmel))


def test_a_view_standardises_before_it_cuts():
    view = View(WindowSpec(1, 1), np.array([1.0], np.float32), np.array([2.0], np.float32))
    assert view(np.array([[5.0]], np.float32)).item() == 2.0
    assert view.shape == (1, 1)


@pytest.mark.parametrize("bad", [(0, 1), (4, 0), (-1, 4)])
def test_empty_windows_are_refused(bad: tuple[int, int]):
    with pytest.raises(ConfigError, match="at least 1"):
        WindowSpec(*bad)


def test_a_clip_that_fills_no_window_is_refused():
    WindowSpec(4, 1).check("a.wav", 4)
    with pytest.raises(AudioError, match=r"'a.wav' is too short: it has 3 frames"):
        WindowSpec(4, 1).check("a.wav", 3)


def test_cells_lie_where_their_window_lies_and_keep_their_nll():
    nll_map = np.arange(8, dtype=np.float32).reshape(2, 2, 2)  # 2 windows of 2 x 2 cells
    placed = plain_view(4, 4, 6).spread(nll_map, frames=9)
    assert placed.shape == (9, 6)
    assert placed[0, 0] == 4 * nll_map[0, 0, 0]
    assert placed[3, 5] == 4 * nll_map[0, 1, 1]
    assert placed[4, 2] == 4 * nll_map[1, 0, 0]
    assert np.isnan(placed[8]).all()
    assert placed[:4].mean() == nll_map[0].sum()  # nats per dimension, of place and of window


def test_overlapping_windows_are_averaged():
    nll_map = np.ones((3, 4, 4), np.float32) * np.array([1, 2, 3], np.float32)[:, None, None]
    placed = plain_view(4, 2, 4).spread(nll_map, frames=8)
    np.testing.assert_array_equal(placed[:, 0] / 16, [1, 1, 1.5, 1.5, 2.5, 2.5, 3, 3])


def test_full_scale_is_clipped_to_16_bits():
    samples = np.array([[1.0, -1.0, 2.0, -2.0, 0.25]], np.float32)
    encoded = encode(samples, "int16").view("<i2")[0, :, 0]
    assert encoded.tolist() == [32767, -32768, 32767, -32768, 8192]
