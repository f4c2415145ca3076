"""The state of a training in one safetensors file: last and best model, optimiser. No pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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

LAST, BEST, OPTIMISER = "flow.", "best.", "optimiser."
"""What the names of each part's tensors begin with."""


@dataclass(frozen=True)
class Best:
    """The model of the epoch that was judged best so far."""

    epoch: int
    """Which epoch."""
    criterion: float
    """What it was judged by; the least is the best."""
    weights: dict[str, Tensor]
    """A copy of the model's state."""

    @classmethod
    def of(cls, epoch: int, criterion: float, model: Model) -> Best:
        """Keep ``model`` as it is now."""
        weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        return cls(epoch, criterion, weights)


def save_checkpoint(
    folder: Path,
    epoch: int,
    model: Model,
    optimiser: torch.optim.Optimizer | None = None,
    best: Best | None = None,
) -> None:
    """Write the state after ``epoch`` epochs, whole or not at all. Raises ``StorageError``.

    Last and best stand in one file, so that no crash leaves them of different trainings.
    """
    tensors = {LAST + name: value for name, value in model.state_dict().items()}
    states = optimiser.state_dict()["state"] if optimiser else {}
    for index, state in states.items():
        for key, value in state.items():
            tensors[f"{OPTIMISER}{index}.{key}"] = torch.as_tensor(value)
    metadata = {"epoch": str(epoch)}
    if best:
        tensors |= {BEST + name: value for name, value in best.weights.items()}
        metadata["best"] = f"{best.epoch} {best.criterion!r}"
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    digest = _digest(plain, metadata.get("best"))
    write_bytes(folder / CHECKPOINT, save(plain, metadata | {"sha256": digest}))


def load_checkpoint(
    folder: Path, model: Model, optimiser: torch.optim.Optimizer | None = None
) -> tuple[int, Best | None]:
    """Load the last state into ``model`` (and ``optimiser``).

    Returns:
        Its epoch, 0 if none is kept, and the best epoch's model, where one was judged.

    Raises:
        DamagedRunError: the checkpoint is damaged or of another model.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return 0, None
    try:
        epoch, best, tensors = _read(path)
        model.load_state_dict(_under(LAST, tensors))
        if optimiser is not None:
            _load_optimiser(optimiser, _under(OPTIMISER, tensors))
    except (SafetensorError, RuntimeError, OSError, ValueError, TypeError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DamagedRunError(f"'{path}' {DAMAGED} ({reason})") from error
    return epoch, best


def load_best(folder: Path, model: Model) -> int:
    """Load the best epoch into ``model``, the last where none was judged; return which it is.

    Raises:
        DamagedRunError: as :func:`load_checkpoint`.
    """
    epoch, best = load_checkpoint(folder, model)
    if best is None:
        return epoch
    model.load_state_dict(best.weights)
    return best.epoch


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


def _read(path: Path) -> tuple[int, Best | None, dict[str, Tensor]]:
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    judged = metadata.get("best")
    if metadata.get("sha256") != _digest(tensors, judged):
        raise ValueError("its hash differs")
    best = None
    if judged:
        epoch, criterion = judged.split()
        best = Best(int(epoch), float(criterion), _under(BEST, tensors))
    return int(metadata["epoch"]), best, tensors


def _digest(tensors: dict[str, Tensor], judged: str | None) -> str:
    """SHA-256 of all tensors by name: a flipped bit must not become a flow."""
    digest = hashlib.sha256((judged or "").encode())
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n[len(prefix) :]: value for n, value in tensors.items() if n.startswith(prefix)}
