"""The command that makes a bundle from a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from edgeflow_runtime.cli.options import FaultTally, FiniteFloat


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path),
    help="The bundle NAME.edgeflow, or a folder if RUN holds several runs.",
)  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path), help="The data set, if it has moved.")
@click.option(
    "--false-alarms", type=FiniteFloat(0, 0.5, min_open=True, max_open=True), default=0.01,
    show_default=True, help="Share of normal clips that the threshold lets alarm.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16", "int8", "auto"]), default="fp32",
    show_default=True, help="Of the couplings' networks; auto takes the cheapest that will do.",
)  # fmt: skip
@click.option(
    "--audio-in", type=click.Choice(["float32", "int16"]),
    help="Add a graph that starts at samples of this type.",
)  # fmt: skip
def export(
    run: Path,
    output: Path,
    data: Path | None,
    false_alarms: float,
    precision: str,
    audio_in: str | None,
) -> None:
    """Export a run as a bundle for the board.

    The flow is folded and exported to ONNX, its operators are checked against TensorRT's, its score
    against the trained flow's on real windows, and a threshold is set from held-out normal clips. A
    reduced precision must keep ranks, verdicts and AUC on clips that the flow did not learn from.
    """
    from edgeflow_runtime.extras import require

    for package in ("torch", "onnx", "onnxscript", "sklearn"):
        require(package, "export")
    from edgeflow.training.run import TrainedRun, find_runs
    from edgeflow_export.bundle_from_run import ExportOptions, bundle_from_run

    options = ExportOptions(data, false_alarms, precision, audio_in)

    folders = find_runs(run)
    with FaultTally() as tally:
        for folder in folders:
            with tally.one():
                trained = TrainedRun.load(folder)
                name = trained.record.recipe.machine.name
                result = bundle_from_run(
                    trained,
                    _target(output, name, several=folders != [run]),
                    options,
                    say=partial(_say, folder.name),
                )
                click.echo(result)


def _say(name: str, what: str) -> None:
    click.echo(f"{name}: {what}", err=True)


def _target(output: Path, name: str, *, several: bool) -> Path:
    """The bundle's path: ``output``, or a file in it where there are several or it is a folder."""
    return output / f"{name}.edgeflow" if several or output.is_dir() else output
