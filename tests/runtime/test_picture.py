"""The map of a clip: every window's cells where they belong, overlaps averaged."""

from __future__ import annotations

import numpy as np

from edgeflow_runtime.picture import clip_map
from edgeflow_runtime.windows import WindowSpec


def test_cells_lie_where_their_window_lies_and_keep_their_nll():
    window = WindowSpec(frames=4, hop=4)
    nll_map = np.arange(8, dtype=np.float32).reshape(2, 2, 2)  # 2 windows of 2 x 2 cells
    found = clip_map(nll_map, window, frames=9, bands=6)
    assert found.shape == (9, 6)
    assert found[0, 0] == 4 * nll_map[0, 0, 0]
    assert found[3, 5] == 4 * nll_map[0, 1, 1]
    assert found[4, 2] == 4 * nll_map[1, 0, 0]
    assert np.isnan(found[8]).all()
    assert found[:4].mean() == nll_map[0].sum()  # nats per dimension, of place and of window


def test_overlapping_windows_are_averaged():
    nll_map = np.ones((3, 4, 4), np.float32) * np.array([1, 2, 3], np.float32)[:, None, None]
    found = clip_map(nll_map, WindowSpec(frames=4, hop=2), frames=8, bands=4)
    np.testing.assert_array_equal(found[:, 0] / 16, [1, 1, 1.5, 1.5, 2.5, 2.5, 3, 3])
