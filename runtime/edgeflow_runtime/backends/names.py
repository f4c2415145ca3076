"""What a backend can be asked for by, and what it can be asked to run."""

from __future__ import annotations

AUTO, CPU = "auto", "onnxruntime"

ENGINES = ("tensorrt", "tensorrt-rtx")
"""Backends that run engines on a GPU, the preferred one first."""

BACKENDS = (AUTO, *ENGINES, CPU)
"""What can be asked to run a graph."""

FLOW, AUDIO = "flow", "audio"

GRAPHS = (FLOW, AUDIO)
"""The graphs that a bundle may hold: from windows, and from samples."""

BUCKETS = {FLOW: (1, 16, 80), AUDIO: (1, 4)}
"""Batch sizes of an engine if none are asked for: windows, or clips. 80 windows hold a clip of ten
seconds."""
