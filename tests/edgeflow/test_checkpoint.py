"""A checkpoint that cannot be mapped is not a damaged one: nobody shall be told to delete it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import edgeflow.training.checkpoint as module
from edgeflow.training.run import TrainedRun


def test_too_little_memory_is_no_damage(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = shutil.copytree(run_folder, tmp_path / "run")

    def too_little(path: Path, _: str) -> None:
        raise RuntimeError(f"unable to mmap 16872632 bytes from file <{path}>: Cannot allocate")

    monkeypatch.setattr(module, "safe_open", too_little)
    with pytest.raises(MemoryError, match=r"checkpoint\.safetensors' could not be read"):
        TrainedRun.load(folder)
