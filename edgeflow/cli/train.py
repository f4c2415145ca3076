"""The command that trains."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeflow.cli.recordings import (
    NAMES,
    TakesPaths,
    choice_of,
    cut_beside,
    recording_options,
)
from edgeflow.models import MODELS, PRESETS, STARTS
from edgeflow_runtime.cli.options import FaultTally, FiniteFloat, NamedPath, given, say, warn
from edgeflow_runtime.errors import ConfigError, DataError

if TYPE_CHECKING:
    from edgeflow.dataset import Dataset, Machine


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


@click.command(
    cls=TakesPaths,
    context_settings={"token_normalize_func": lambda name: OLD_NAMES.get(name, name)},
)
@click.argument("data", type=NamedPath(), required=False)
@recording_options
@click.option("--type", "machine_type", help="Machine type, for example fan.")
@click.option("--id", "machine_id", help="Machine id, for example 00.")
@click.option("--all", "every", is_flag=True, help="Every machine found (of --type, if given).")
@click.option(
    "--base", is_flag=True,
    help="A base of all machines of --type, from which 'edgeflow enroll' makes monitors.",
)  # fmt: skip
@click.option(
    "--model", type=click.Choice(list(MODELS)), default="linear", show_default=True,
    help="Which flow.",
)  # fmt: skip
@click.option(
    "--start", type=click.Choice(STARTS), default="fresh", show_default=True,
    help="linear: a MAF whose first layer is the linear flow, on its view.",
)  # fmt: skip
@click.option(
    "--view", help="Statistics of a pooled view, by comma, as mean,max,spread:32; the model's own "
    "view if not given.",
)  # fmt: skip
@click.option(
    "--loss", type=click.Choice(["nll", "eq4", "eq5"]), default="nll", show_default=True,
    help="Likelihood alone, or against outliers by equation (4) or (5).",
)  # fmt: skip
@click.option(
    "-o", "--output", required=True, type=NamedPath(),
    help="Folder of the run; with --all, one folder a machine below it.",
)  # fmt: skip
@click.option(
    "--preset", type=click.Choice(PRESETS),
    help="Sizes and speeds as in the paper, or small for a CPU; by the device if not given.",
)  # fmt: skip
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs; the preset's if not given.")
@click.option(
    "--ceiling", type=Ceiling(), default="auto", show_default=True,
    help="NLL above which outliers are left alone; auto takes it from pre-training.",
)  # fmt: skip
@click.option(
    "--outlier-weight", type=FiniteFloat(min=0), default=0.5, show_default=True,
    help="Weight of the outliers in equation (5).",
)  # fmt: skip
@click.option(
    "--filterbank", type=click.Choice(["psf", "slaney"]), default="psf", show_default=True,
    help="Design of the Mel filters.",
)  # fmt: skip
@click.option("--channel", type=click.IntRange(min=0), help="Channel to listen to; 0 is the first.")
@click.option(
    "--holdout", type=FiniteFloat(0, 1, min_open=True, max_open=True),
    help="Share of the training clips kept to set the threshold with; a tenth if not given, and "
    "none for the linear flow or with --cross-fit.",
)  # fmt: skip
@click.option(
    "--cross-fit", type=click.IntRange(min=2),
    help="Further trainings, each without one such part of the clips, to set the threshold with.",
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
    data: Path | None,
    machine_type: str | None,
    machine_id: str | None,
    every: bool,
    base: bool,
    view: str | None,
    output: Path,
    channel: int | None,
    cross_fit: int | None,
    **options: Any,  # noqa: ANN401  # of recordings and of the training, of all kinds
) -> None:
    """Train a monitor, or one for every machine.

    Give recordings of any names with --normal, which are cut into clips that stay beside the run;
    or DATA, a data set in the layout of DCASE 2020 Task 2. The machine of --type and --id is the
    target, the other machines of its type are its sisters. The same command again goes on where it
    was interrupted, and does nothing where all is done. With --base a whole type is the target: its
    run, exported, is what 'edgeflow enroll' makes monitors of new machines from.
    """
    from edgeflow_runtime.extras import require

    require("torch", "train")
    from edgeflow.training.corpus import Corpora
    from edgeflow.training.run import is_finished
    from edgeflow.training.train import train as train_machine

    corpora, choice = Corpora(), choice_of(options)
    statistics = tuple(view.split(",")) if view else ()
    with FaultTally() as tally:
        if choice:
            if base or data is not None:
                more = "--base" if base else f"'{data}'"
                raise ConfigError(f"{more} and recordings are given: leave one of them out")
            target = choice.target(machine_type, machine_id, every=every)
            dataset = cut_beside(output, choice, *target, channel, tally)
            machine_type, machine_id = target
        else:
            dataset = _standing(data)
        if dataset is None:  # a dry run
            return
        for machine in _machines(dataset, machine_type, machine_id, every, base):
            with tally.one():
                folder = output / machine.id.name if every else output
                finished = is_finished(folder)
                run = train_machine(
                    machine, folder, statistics=statistics, channel=channel, corpora=corpora,
                    cross_fit=cross_fit or 0, **options,
                )  # fmt: skip
                say(f"{folder}: {'already trained' if finished else run}")
                for warning in run.warnings():
                    warn(f"{folder}: {warning}")


def _standing(data: Path | None) -> Dataset:
    """The data set DATA, with which no option of recordings goes."""
    from edgeflow.dataset import Dataset

    if data is None:
        raise ConfigError("name recordings with --normal, or a data set")
    if chosen := given(click.get_current_context(), *NAMES):
        raise ConfigError(f"{chosen}: only for recordings given with --normal: leave it out")
    return Dataset.scan(data)


def _machines(
    dataset: Dataset, machine_type: str | None, machine_id: str | None, every: bool, base: bool
) -> list[Machine]:
    """The machines that the options name."""
    if base:
        if machine_type is None or machine_id is not None or every:
            raise ConfigError("--base is made of a whole type: give --type, without --id and --all")
        return [dataset.whole_type(machine_type)]
    if every:
        if machine_id is not None:
            raise ConfigError("--all trains every machine: leave --id out")
        chosen = dataset.of_type(machine_type) if machine_type else dataset.machines.values()
        trainable = [machine for machine in chosen if machine.train]
        if not trainable:
            raise DataError(f"'{dataset.root}' holds no training clip")
        return trainable
    if machine_type is None or machine_id is None:
        raise ConfigError("name the machine with --type and --id, or train --all")
    return [dataset.machine(machine_type, machine_id)]
