"""Windows are views in the right places, streams give the same ones, and maps lie where they do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_runtime.errors import AudioError, ConfigError
from edgeflow_runtime.views import PoolSpec, View, ViewSpec, WindowSpec
from edgeflow_runtime.whole_clips import encode

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
    parts.append(stream.finish())
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
    placed = plain_view(4, 4, 6).lay(nll_map, np.zeros((9, 6), np.float32))
    assert placed.shape == (9, 6)
    assert placed[0, 0] == 4 * nll_map[0, 0, 0]
    assert placed[3, 5] == 4 * nll_map[0, 1, 1]
    assert placed[4, 2] == 4 * nll_map[1, 0, 0]
    assert np.isnan(placed[8]).all()
    assert placed[:4].mean() == nll_map[0].sum()  # nats per dimension, of place and of window


def test_overlapping_windows_are_averaged():
    nll_map = np.ones((3, 4, 4), np.float32) * np.array([1, 2, 3], np.float32)[:, None, None]
    placed = plain_view(4, 2, 4).lay(nll_map, np.zeros((8, 4), np.float32))
    np.testing.assert_array_equal(placed[:, 0] / 16, [1, 1, 1.5, 1.5, 2.5, 2.5, 3, 3])


STACK = ("mean", "max", "gwrp:0.9", "ranks:0.01-0.1", "spread:4")


def pooled_view(spec: PoolSpec, bands: int = 3) -> View:
    rng = np.random.default_rng(1)
    mean, scale = rng.standard_normal((2, spec.rows, bands)).astype(np.float32)
    return View(spec, mean, np.abs(scale) + np.float32(0.1))


def some_logmel(frames: int, bands: int = 3) -> np.ndarray:
    return np.random.default_rng(frames).standard_normal((frames, bands)).astype(np.float32)


@given(st.integers(4, 12), st.integers(1, 9), st.lists(st.integers(0, 20), max_size=8))
def test_a_stream_gives_the_statistics_of_the_whole_clip(size: int, hop: int, chunks: list[int]):
    logmel = some_logmel(sum(chunks))
    for spec in (PoolSpec(STACK), PoolSpec(STACK, size, hop)):
        view = pooled_view(spec)
        stream = view.stream()
        parts = [stream.push(part) for part in np.split(logmel, np.cumsum(chunks)[:-1])]
        parts.append(stream.finish())
        np.testing.assert_array_equal(np.concatenate(parts), view(logmel))
        assert len(view(logmel)) == spec.count(len(logmel))


def test_a_pooled_view_standardises_what_it_pooled():
    view, logmel = pooled_view(PoolSpec(("max", "mean"))), some_logmel(50)
    pooled = np.stack([logmel.max(axis=0), logmel.mean(axis=0)])
    np.testing.assert_allclose(view(logmel)[0], (pooled - view.mean) / view.scale, rtol=1e-5)
    assert view.shape == (2, 3)


@pytest.mark.parametrize("spec", [PoolSpec(STACK), PoolSpec(STACK, 10, 10)])
def test_what_a_statistic_scored_lies_where_it_comes_from_and_adds_up(spec: PoolSpec):
    view, logmel = pooled_view(spec), some_logmel(40)
    nll_map = np.random.default_rng(0).random((spec.count(40), spec.rows, 3)).astype(np.float32)
    laid = view.lay(nll_map, logmel)
    assert laid.shape == logmel.shape
    np.testing.assert_allclose(laid.mean(), nll_map.sum(axis=(1, 2)).mean(), rtol=1e-5)


def test_a_maximum_goes_back_to_the_frame_that_reached_it():
    view = View(PoolSpec(("max",)), np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32))
    logmel = some_logmel(30, 2)
    laid = view.lay(np.ones((1, 1, 2), np.float32), logmel)
    assert laid.argmax(axis=0).tolist() == logmel.argmax(axis=0).tolist()
    assert np.count_nonzero(laid) == 2


def test_a_replay_of_a_whole_clip_has_more_than_one_number():
    view, logmel = pooled_view(PoolSpec(("mean", "spread:4"))), some_logmel(40)
    rehearsed = view.rehearse(logmel)
    assert len(rehearsed) == 5
    np.testing.assert_array_equal(rehearsed[:1], view(logmel))
    np.testing.assert_array_equal(rehearsed[2:3], view(logmel[10:20]))
    assert len(view.rehearse(logmel[:6])) == 2  # what is left of it is too short to be quartered


def test_documents_name_the_kind_of_view():
    for spec in (WindowSpec(4, 2), PoolSpec(STACK), PoolSpec(("mean",), 8, 4)):
        assert ViewSpec.from_dict(spec.to_dict()) == spec
    assert ViewSpec.from_dict({"frames": 4, "hop": 2}) == WindowSpec(4, 2)  # of formats 1 to 3
    with pytest.raises(ConfigError, match="unknown view 'wavelet'"):
        ViewSpec.from_dict({"kind": "wavelet"})
    with pytest.raises(ConfigError, match="unknown view a list"):
        ViewSpec.from_dict({"kind": []})
    with pytest.raises(ConfigError, match="WindowSpec: unknown key 'statistics'"):
        ViewSpec.from_dict({"frames": 4, "hop": 2, "statistics": ["mean"]})


@pytest.mark.parametrize(
    ("statistics", "frames", "hop", "message"),
    [
        ((), 0, 0, "at least one statistic"),
        (("mean",), 4, 0, "need frames and a hop"),
        (("mean",), -4, -4, "need frames and a hop"),
        (("spread:32",), 31, 4, "stretches of 31 frames are too short for 32"),
        (("median",), 4, 4, "unknown statistic 'median': choose mean, max"),
    ],
)
def test_senseless_pooled_views_are_refused(statistics, frames, hop, message: str):
    with pytest.raises(ConfigError, match=message):
        PoolSpec(statistics, frames, hop)


def test_full_scale_is_clipped_to_16_bits():
    samples = np.array([[1.0, -1.0, 2.0, -2.0, 0.25]], np.float32)
    encoded = encode(samples, "int16").view("<i2")[0, :, 0]
    assert encoded.tolist() == [32767, -32768, 32767, -32768, 8192]
