"""The training loop: epochs over windows that already lie on the device."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgeflow.losses import LossSpec, loss_of
from edgeflow.models.model import Model
from edgeflow.models.spec import Schedule
from edgeflow.training.checkpoint import Best, load_checkpoint, save_checkpoint
from edgeflow.training.corpus import Corpus
from edgeflow.training.criterion import Judge, mean_nll
from edgeflow_runtime.documents import parsed
from edgeflow_runtime.errors import ConfigError, DamagedRunError, TrainingError
from edgeflow_runtime.progress import Progress
from edgeflow_runtime.storage import write_text

LOG = "log.jsonl"

SAVE_INTERVAL_S = 5.0
"""Epochs shorter than this share a checkpoint, so that tiny data sets do not train the disk."""

LOOK_INTERVAL = 20
"""Steps between looks at the device's numbers; each look waits for the device."""

DIVERGED = "lower the learning rate or c; the last good checkpoint, if there is one, is kept"


@dataclass(frozen=True)
class Task:
    """What one loop does."""

    folder: Path
    """Where checkpoint and log are kept."""
    label: str
    """What the progress bar calls it."""
    schedule: Schedule
    """How long and how fast."""
    loss: LossSpec
    """Which loss."""
    ceiling: float | None
    """c, where the loss needs it."""
    target: Tensor
    """(n,) first frames of the target's windows."""
    outliers: Tensor | None
    """(m,) first frames of the outliers' windows."""
    heldout: Tensor | None
    """(h,) first frames of the threshold's normal windows: logged, and nothing depends on it."""
    seed: int
    """Seed of the batches."""
    judge: Judge | None = None
    """Tells the best epoch; the last is kept without one."""
    counts_start: bool = False
    """Whether the model as it is before the first epoch may be the best."""


class Pace:
    """Foresees a training's end from its second step: the first one also warms up."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._began: float | None = None
        self._said = False

    def stepped(self, seen: Tensor) -> None:
        """A step is done; ``seen`` is waited for, as the device works on by itself."""
        if self._said:
            return
        seen.tolist()
        now = time.monotonic()
        if self._began is not None:
            self._progress.foresee(now - self._began)
            self._said = True
        self._began = now


def train(model: Model, corpus: Corpus, task: Task) -> None:
    """Train ``model`` in place, going on from the folder's checkpoint if it holds one.

    The batches of an epoch depend on the seed and the epoch alone, so an interrupted training that
    goes on gives the same model as an unbroken one.

    Raises:
        TrainingError: the loss is not finite; the last good checkpoint is kept.
        StorageError: a checkpoint cannot be written.
    """
    optimiser = make_optimiser(model, task.schedule)
    done, best = load_checkpoint(task.folder, model, optimiser)
    first = done + 1
    rows = _kept_rows(task.folder, first)
    if task.counts_start and not rows:
        row, best = _watched(model, corpus, task, 0, None)
        rows.append(json.dumps({"epoch": 0, **row}))
    steps = math.ceil(len(task.target) / task.schedule.batch)
    saved = time.monotonic()
    total = task.schedule.epochs
    with Progress(task.label, total * steps, "step", done=(first - 1) * steps) as progress:
        pace = Pace(progress)
        for epoch in range(first, total + 1):
            began = time.monotonic()
            sums = _train_epoch(model, corpus, task, optimiser, epoch, progress, pace)
            _check_weights(model, epoch)
            watched, best = _watched(model, corpus, task, epoch, best)
            seconds = round(time.monotonic() - began, 3)
            rows.append(json.dumps({"epoch": epoch, **sums, **watched, "seconds": seconds}))
            if epoch == total or time.monotonic() - saved > SAVE_INTERVAL_S:
                write_text(task.folder / LOG, "\n".join(rows) + "\n")
                save_checkpoint(task.folder, epoch, model, optimiser, best)
                saved = time.monotonic()


def _watched(
    model: Model, corpus: Corpus, task: Task, epoch: int, best: Best | None
) -> tuple[dict[str, Any], Best | None]:
    """What an epoch gave on clips that it did not learn, and the best epoch up to now."""
    row: dict[str, Any] = {}
    if task.heldout is not None and len(task.heldout):
        row["heldout_nll"] = mean_nll(model, corpus, task.heldout)
    if task.judge is None:
        return row, None
    row |= task.judge.look(model, corpus)
    if best is None or row["criterion"] < best.criterion:
        best = Best.of(epoch, row["criterion"], model)
    return row, best


def log_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of the log in ``folder``, one an epoch. Raises ``DamagedRunError``."""
    try:
        lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
        rows: list[dict[str, Any]] = [parsed(line) for line in lines]
        if not {"epoch", "target_nll"} <= set(rows[-1]):
            raise ConfigError("it is no row of a log")
    except (OSError, ValueError, IndexError, TypeError, ConfigError) as error:
        raise DamagedRunError(f"'{folder / LOG}' is missing or damaged") from error
    return rows


def make_optimiser(model: Model, schedule: Schedule) -> torch.optim.Optimizer:
    """The optimiser that ``schedule`` names; Adam in its fused form, which is faster."""
    moved = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if schedule.optimiser == "adamax":
        return torch.optim.Adamax(moved, lr=schedule.learning_rate, foreach=True)
    return torch.optim.Adam(moved, lr=schedule.learning_rate, fused=True)


def batch_starts(task: Task, epoch: int) -> list[tuple[Tensor, Tensor | None]]:
    """The windows of each step of an epoch: the target's in random order, outliers drawn."""
    generator = torch.Generator().manual_seed(task.seed * 1_000_003 + epoch)
    order = torch.randperm(len(task.target), generator=generator).to(task.target.device)
    targets = torch.split(task.target[order], task.schedule.batch)
    if task.outliers is None:
        return [(target, None) for target in targets]
    drawn = torch.randint(len(task.outliers), (len(task.target),), generator=generator)
    chosen = task.outliers[drawn.to(task.outliers.device)]
    outliers = torch.split(chosen, task.schedule.batch)
    return list(zip(targets, outliers, strict=True))


def _train_epoch(
    model: Model,
    corpus: Corpus,
    task: Task,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    progress: Progress,
    pace: Pace,
) -> dict[str, Any]:
    """One epoch; returns its means for the log."""
    batches = batch_starts(task, epoch)
    seen = torch.zeros(len(batches), 4, device=corpus.device)  # loss, target, outlier, passed
    looked = 0
    for step, (target, outliers) in enumerate(batches):
        seen[step] = _step(model, corpus, task, optimiser, target, outliers)
        pace.stepped(seen[step])
        if step - looked + 1 >= LOOK_INTERVAL or step == len(batches) - 1:
            _check_finite(seen[looked : step + 1], epoch, looked, len(batches))
            progress.advance(_note(task, epoch, seen[step].tolist()), step + 1 - looked)
            looked = step + 1
    sizes = torch.tensor([len(target) for target, _ in batches], device=seen.device).double()
    means = (seen[:, :3].double() * sizes[:, None]).sum(dim=0) / sizes.sum()
    loss, target_nll, outlier_nll = means.tolist()
    row: dict[str, Any] = {"loss": loss, "target_nll": target_nll}
    if task.outliers is not None:
        drawn = sum(len(outliers) for _, outliers in batches if outliers is not None)
        row["outlier_nll"] = outlier_nll
        row["outliers_passing"] = int(seen[:, 3].sum())
        row["outliers_passing_share"] = row["outliers_passing"] / drawn
        row["outlier_steps_share"] = float((seen[:, 3] > 0).float().mean())
    return row


def _step(
    model: Model,
    corpus: Corpus,
    task: Task,
    optimiser: torch.optim.Optimizer,
    target: Tensor,
    outliers: Tensor | None,
) -> Tensor:
    """One step; returns (loss, target NLL, outlier NLL, outliers passing) on the device."""
    starts = target if outliers is None else torch.cat([target, outliers])
    nll = model.score(corpus.windows(starts))
    target_nll = nll[: len(target)]
    outlier_nll = None if outliers is None else nll[len(target) :]
    loss, passed = loss_of(task.loss, target_nll, outlier_nll, task.ceiling)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    outlier_mean = passed * 0.0 if outlier_nll is None else outlier_nll.mean()
    return torch.stack([loss, target_nll.mean(), outlier_mean, passed.float()]).detach()


def _check_finite(seen: Tensor, epoch: int, first: int, steps: int) -> None:
    bad = torch.nonzero(~torch.isfinite(seen[:, 0])).flatten()
    if len(bad):
        step = first + int(bad[0]) + 1
        raise TrainingError(
            f"the loss is not finite in epoch {epoch}, batch {step} of {steps}: {DIVERGED}"
        )


def _check_weights(model: Model, epoch: int) -> None:
    """Refuse to keep a model that the epoch's last step has broken."""
    if not all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters()):
        raise TrainingError(f"the model is not finite after epoch {epoch}'s last batch: {DIVERGED}")


def _note(task: Task, epoch: int, seen: list[float]) -> str:
    loss, target, outlier, passed = seen
    note = f"epoch {epoch}/{task.schedule.epochs} loss {loss:.3f} target {target:.3f}"
    if task.outliers is None:
        return note
    return f"{note} outliers {outlier:.3f}, {int(passed)} passing"


def _kept_rows(folder: Path, first: int) -> list[str]:
    """The log's rows up to the checkpoint; later ones are written again as they recur."""
    path = folder / LOG
    if not path.exists():
        return []
    try:
        rows = path.read_text(encoding="utf-8").splitlines()
        return [row for row in rows if json.loads(row)["epoch"] < first]
    except (ValueError, KeyError) as error:
        raise DamagedRunError(f"'{path}' is damaged: delete it to go on without") from error
