"""Importing what an extra brings, or saying in one line how to get it."""

from __future__ import annotations

import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

from edgeflow_runtime.errors import MissingExtraError

SOURCE = Path(__file__).parents[2]
"""The source folder, if this is one: an installed package has no ``setup.py`` there."""


def install_command(extra: str = "") -> str:
    """What installs edgeflow with an extra: from its source folder, if it runs from there."""
    wanted = f"[{extra}]" if extra else ""
    if not (SOURCE / "setup.py").exists() or not (SOURCE / "constraints.txt").exists():
        return f"pip install 'edgeflow{wanted}'"
    constraints = shlex.quote(str(SOURCE / "constraints.txt"))
    return f"pip install -c {constraints} {shlex.quote(f'{SOURCE}{wanted}')}"


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
        raise missing(package, extra) from error


def missing(package: str, extra: str) -> MissingExtraError:
    """The error that says what is not installed, and what installs it."""
    return MissingExtraError(f"{package!r} is not installed: run {install_command(extra)}")
