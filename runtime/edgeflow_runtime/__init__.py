"""edgeflow's side on the board: log-Mel, bundles, backends, scoring. No torch, no onnx.

::

    from edgeflow_runtime import Scorer

    result = Scorer.load("fan_id_00.edgeflow").score(samples, rate=16000)
"""

from __future__ import annotations

from typing import Any

_HOMES = {
    "Bundle": "bundle",
    "ClipResult": "verdicts",
    "EdgeflowError": "errors",
    "LogMel": "logmel",
    "LogMelSpec": "logmel",
    "Scorer": "scorer",
    "View": "views",
    "WindowSpec": "views",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a public name when it is first used, so that ``edgeflow --help`` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
