"""Windows are views in the right places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.windows import WindowSpec


@given(st.integers(0, 60), st.integers(1, 12), st.integers(1, 9))
def test_views_are_the_frames_they_say(frames: int, size: int, hop: int):
    logmel = np.arange(frames * 3, dtype=np.float32).reshape(frames, 3)
    window = WindowSpec(size, hop)
    views = window.views(logmel)
    assert len(views) == window.count(frames)
    for i, view in enumerate(views):
        np.testing.assert_array_equal(view, logmel[i * hop : i * hop + size])
    if len(views):
        assert np.shares_memory(views, logmel)


@pytest.mark.parametrize("bad", [(0, 1), (4, 0), (-1, 4)])
def test_empty_windows_are_refused(bad: tuple[int, int]):
    with pytest.raises(ConfigError, match="at least 1"):
        WindowSpec(*bad)
