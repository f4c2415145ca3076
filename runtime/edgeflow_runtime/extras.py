"""Importing what an extra brings, or saying in one line how to get it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from edgeflow_runtime.errors import MissingExtraError


def require(package: str, extra: str) -> Any:  # noqa: ANN401
    """Import ``package``, which ``edgeflow[extra]`` installs.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != package.split(".")[0]:
            raise
        raise MissingExtraError(package, extra) from error
