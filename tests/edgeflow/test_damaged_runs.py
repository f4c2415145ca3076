"""A damaged file of a run or of the cache is named, whatever the damage; none becomes a flow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from edgeflow.training.loop import LOG, log_rows
from edgeflow.training.run import RECORD, STANDARD, TrainedRun
from edgeflow_runtime.errors import DamagedRunError, TrainingError

DEEP = "[" * 100_000


def tensors(kind: torch.dtype = torch.float32, bands: int = 128, value: float = 1.0) -> bytes:
    return save({name: torch.full((bands,), value).to(kind) for name in ("mean", "scale")})


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "deep record": (RECORD, lambda _: DEEP.encode()),
    "record of another kind": (RECORD, lambda _: b"[]"),
    "huge seed": (RECORD, lambda old: old.replace(b'"seed": 0', b'"seed": 1' + b"0" * 400)),
    "escape codes": (RECORD, lambda old: old.replace(b'"fan"', b'"fan\\u001b[2J"')),
    "bfloat16 standard": (STANDARD, lambda _: tensors(torch.bfloat16)),
    "8-bit standard": (STANDARD, lambda _: tensors(torch.float8_e4m3fn)),
    "another standard": (STANDARD, lambda _: tensors(bands=64)),
    "endless standard": (STANDARD, lambda _: tensors(value=float("inf"))),
    "no standard": (STANDARD, lambda _: b""),
    "no metadata": ("checkpoint.safetensors", lambda _: save({"flow.x": torch.zeros(1)})),
    "bfloat16 checkpoint": (
        "checkpoint.safetensors",
        lambda _: save({"x": torch.zeros(1, dtype=torch.bfloat16)}, {"epoch": "3", "sha256": ""}),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_in_one_line(run_folder: Path, tmp_path: Path, damage: str):
    name, change = DAMAGE[damage]
    folder = shutil.copytree(run_folder, tmp_path / "run")
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(change(before))
    assert (folder / name).read_bytes() != before
    with pytest.raises(TrainingError, match=name) as caught:
        TrainedRun.load(folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("row", ["[1]", "3", DEEP, json.dumps({"epoch": 3}), ""])
def test_a_log_that_is_none(tmp_path: Path, row: str):
    (tmp_path / LOG).write_text(f"{row}\n")
    with pytest.raises(DamagedRunError, match="missing or damaged"):
        log_rows(tmp_path)
