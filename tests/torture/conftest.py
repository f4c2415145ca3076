"""The forks and the folder that every torture shares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.torture.forks import Forks, compiled
from tests.torture.scenes import Torture


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that injects faults."""
    made = compiled(tmp_path_factory.mktemp("faults"))
    if made is None:
        pytest.skip("no C compiler: apt-get install gcc")
    return made


@pytest.fixture(scope="session")
def torture(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Torture]:
    """A folder with inputs, and a loaded process to fork."""
    folder = tmp_path_factory.mktemp("torture")
    with Forks(folder, library) as forks:
        yield Torture(forks, folder)
