"""The state of a training in one safetensors file: model, optimiser, epoch. No pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from edgeflow.models.model import Model
from edgeflow_runtime.errors import DamagedRunError
from edgeflow_runtime.storage import write_bytes

CHECKPOINT = "checkpoint.safetensors"

DAMAGED = "cannot be used: delete it to train from the start"


def save_checkpoint(
    folder: Path, epoch: int, model: Model, optimiser: torch.optim.Optimizer | None = None
) -> None:
    """Write the state after ``epoch`` epochs, whole or not at all. Raises ``StorageError``."""
    tensors = {f"flow.{name}": value for name, value in model.state_dict().items()}
    states = optimiser.state_dict()["state"] if optimiser else {}
    for index, state in states.items():
        for key, value in state.items():
            tensors[f"optimiser.{index}.{key}"] = torch.as_tensor(value)
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"epoch": str(epoch), "sha256": _digest(plain)}
    write_bytes(folder / CHECKPOINT, save(plain, metadata))


def load_checkpoint(
    folder: Path, model: Model, optimiser: torch.optim.Optimizer | None = None
) -> int:
    """Load the last state into ``model`` (and ``optimiser``); return its epoch, 0 if none is kept.

    Raises:
        DamagedRunError: the checkpoint is damaged or of another model.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return 0
    try:
        epoch, tensors = _read(path)
        model.load_state_dict(_under("flow.", tensors))
        if optimiser is not None:
            _load_optimiser(optimiser, _under("optimiser.", tensors))
    except (SafetensorError, RuntimeError, OSError, ValueError, TypeError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DamagedRunError(f"'{path}' {DAMAGED} ({reason})") from error
    return epoch


def _load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def checkpoint_epoch(folder: Path) -> int:
    """How many epochs the last state in ``folder`` has seen, 0 if there is none."""
    path = folder / CHECKPOINT
    if not path.exists():
        return 0
    try:
        with _opened(path) as file:
            return int(file.metadata()["epoch"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedRunError(f"'{path}' {DAMAGED} ({error})") from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a checkpoint; where it cannot be mapped it is memory that is short, not the file.

    Raises:
        MemoryError: there is too little memory.
        SafetensorError: the file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            yield file
    except RuntimeError as error:
        if "unable to mmap" in str(error):
            raise MemoryError(f"'{path}' could not be read") from error
        raise


def _read(path: Path) -> tuple[int, dict[str, Tensor]]:
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    if metadata.get("sha256") != _digest(tensors):
        raise ValueError("its hash differs")
    return int(metadata["epoch"]), tensors


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of all tensors by name: a flipped bit must not become a flow."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n[len(prefix) :]: value for n, value in tensors.items() if n.startswith(prefix)}
