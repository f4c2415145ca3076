"""The command that trains."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeflow_runtime.cli.options import FaultTally, FiniteFloat

if TYPE_CHECKING:
    import torch

    from edgeflow.dataset import Dataset
    from edgeflow.training.recipe import Recipe
    from edgeflow_runtime.manifest import MachineId


class Ceiling(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """``auto`` or a number."""

    name = "auto|NUMBER"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """``None`` for ``auto``."""
        if value is None or value == "auto":
            return None
        try:
            number = float(str(value))
            if math.isfinite(number):
                return number
        except ValueError:
            pass
        self.fail(f"{value!r} is neither 'auto' nor a finite number", param, ctx)


OLD_NAMES = {"c": "ceiling", "k": "outlier-weight"}
"""What options were called before; they still work."""


@click.command(context_settings={"token_normalize_func": lambda name: OLD_NAMES.get(name, name)})
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--type", "machine_type", help="Machine type, for example fan.")
@click.option("--id", "machine_id", help="Machine id, for example 00.")
@click.option("--all", "every", is_flag=True, help="Every machine found (of --type, if given).")
@click.option(
    "--model", type=click.Choice(["glow", "maf"]), default="glow", show_default=True,
    help="Which flow.",
)  # fmt: skip
@click.option(
    "--loss", type=click.Choice(["nll", "eq4", "eq5"]), default="nll", show_default=True,
    help="Likelihood alone, or against outliers by equation (4) or (5).",
)  # fmt: skip
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path),
    help="Folder of the run; with --all, one folder a machine below it.",
)  # fmt: skip
@click.option(
    "--preset", type=click.Choice(["paper", "small"]), default="paper", show_default=True,
    help="Sizes and speeds as in the paper, or small for a CPU.",
)  # fmt: skip
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs; the preset's if not given.")
@click.option(
    "--ceiling", type=Ceiling(), default="auto", show_default=True,
    help="NLL above which outliers are left alone; auto takes it from pre-training.",
)  # fmt: skip
@click.option(
    "--outlier-weight", "weight", type=FiniteFloat(min=0), default=0.5, show_default=True,
    help="Weight of the outliers in equation (5).",
)  # fmt: skip
@click.option(
    "--filterbank", type=click.Choice(["psf", "slaney"]), default="psf", show_default=True,
    help="Design of the Mel filters.",
)  # fmt: skip
@click.option("--channel", type=click.IntRange(min=0), help="Channel to listen to; 0 is the first.")
@click.option(
    "--holdout", type=FiniteFloat(0, 1, min_open=True, max_open=True), default=0.1,
    show_default=True, help="Share of the training clips kept to set the threshold with.",
)  # fmt: skip
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
    help="Where to train.",
)  # fmt: skip
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of everything random.",
)
def train(
    data: Path,
    machine_type: str | None,
    machine_id: str | None,
    every: bool,
    model: str,
    loss: str,
    output: Path,
    preset: str,
    epochs: int | None,
    ceiling: float | None,
    weight: float,
    filterbank: str,
    channel: int | None,
    holdout: float,
    device: str,
    seed: int,
) -> None:
    """Train a monitor, or one for every machine.

    DATA is a data set in the layout of DCASE 2020 Task 2. The machine of --type and --id is the
    target, the other machines of its type are the outliers. The same command again goes on where
    it was interrupted, and does nothing where all is done.
    """
    from edgeflow_runtime.extras import require

    require("torch", "train")
    from edgeflow.dataset import Dataset
    from edgeflow.losses import LossSpec
    from edgeflow.training.recipe import Recipe
    from edgeflow.training.recipe import preset as preset_settings
    from edgeflow_runtime.logmel import LogMelSpec

    dataset = Dataset.scan(data)
    machines = _machines(dataset, machine_type, machine_id, every)
    config = Recipe(
        data=str(data.resolve()),
        machine=machines[0],
        loss=LossSpec(loss, weight, ceiling),
        settings=preset_settings(model, preset, epochs=epochs),
        logmel=LogMelSpec(filterbank=filterbank),
        channel=channel,
        holdout=holdout,
        seed=seed,
    )
    place = _device(device)
    with FaultTally() as tally:
        for machine in machines:
            with tally.one():
                folder = output / machine.name if every else output
                _train_one(dataclasses.replace(config, machine=machine), folder, place)


def _machines(
    dataset: Dataset, machine_type: str | None, machine_id: str | None, every: bool
) -> list[MachineId]:
    """The machines that the options name."""
    from edgeflow_runtime.errors import ConfigError, DataError

    if every:
        if machine_id is not None:
            raise ConfigError("--all trains every machine: leave --id out")
        chosen = dataset.of_type(machine_type) if machine_type else dataset.machines.values()
        trainable = [machine.id for machine in chosen if machine.train]
        if not trainable:
            raise DataError(f"'{dataset.root}' holds no training clip")
        return trainable
    if machine_type is None or machine_id is None:
        raise ConfigError("name the machine with --type and --id, or train --all")
    return [dataset.machine(machine_type, machine_id).id]


def _device(name: str) -> torch.device:
    """The device to train on; ``auto`` takes the GPU where there is one."""
    import torch

    from edgeflow_runtime.errors import TrainingError

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    elif name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("--device cuda: torch finds no GPU here; take --device cpu")
    return torch.device(name)


def _train_one(config: Recipe, folder: Path, device: torch.device) -> None:
    """Train one machine and say how it ended."""
    from edgeflow.training.loop import last_row
    from edgeflow.training.run import train_run

    worked = train_run(config, folder, device)
    if not worked:
        click.echo(f"{folder}: already trained")
        return
    row = last_row(folder)
    click.echo(
        f"{folder}: trained, {row['epoch']} epochs on "
        f"{device.type}, target NLL {row['target_nll']:.4f}, held-out {row['heldout_nll']:.4f}"
        + (f", {row['outliers_passing_share']:.1%} of outliers passing" if "outlier_nll" in row
           else "")
    )  # fmt: skip
