"""The command that makes a bundle from a run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click

from edgeflow_runtime.cli.options import (
    FaultTally,
    NamedPath,
    audio_in_option,
    given,
    listen_option,
    warn,
)

ENCODINGS = ("float32", "int16")


class Export(click.Command):
    """Also takes ``--audio-in int16``, as the two options were one before."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments."""
        return super().parse_args(ctx, list(_apart(args)))


def _apart(args: list[str]) -> Iterator[str]:
    """``--audio-in int16`` as ``--audio-in --audio-encoding int16``."""
    for previous, word in zip(["", *args], args, strict=False):
        if previous == "--audio-in" and word in ENCODINGS:
            yield "--audio-encoding"
        if word.startswith("--audio-in="):
            yield from ("--audio-in", "--audio-encoding")
        yield word.removeprefix("--audio-in=")


@click.command(cls=Export)
@click.argument("run", type=NamedPath())
@click.option(
    "-o", "--output", required=True, type=NamedPath(),
    help="The bundle NAME.edgeflow, or a folder if RUN holds several runs.",
)  # fmt: skip
@click.option("--data", type=NamedPath(), help="The data set, if it has moved.")
@click.option(
    "--false-alarms", default="1%", show_default=True,
    help="Normal clips that the threshold lets alarm: a share, as 1% or 0.01, or '1 per week'.",
)  # fmt: skip
@listen_option
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16", "int8", "auto"]), default="fp32",
    show_default=True, help="Of the couplings' networks; auto takes the cheapest that will do.",
)  # fmt: skip
@audio_in_option
@click.option(
    "--audio-encoding", type=click.Choice(ENCODINGS), default="float32", show_default=True,
    help="With --audio-in: type of the samples.",
)  # fmt: skip
@click.pass_context
def export(
    context: click.Context,
    run: Path,
    output: Path,
    data: Path | None,
    false_alarms: str,
    listen: str | None,
    precision: str,
    audio_in: bool,
    audio_encoding: str,
) -> None:
    """Export a run as a bundle for the board.

    The flow is folded and exported to ONNX, its operators are checked against TensorRT's, its score
    against the trained flow's on real windows, and a threshold is set from normal clips that were
    not learned. A
    reduced precision must keep ranks, verdicts and AUC on clips that the flow did not learn from.
    """
    if not audio_in and given(context, "audio_encoding"):
        raise click.UsageError("--audio-encoding belongs to the graph of --audio-in: give both")
    from edgeflow_runtime.extras import require

    for package in ("torch", "onnx", "onnxscript", "sklearn"):
        require(package, "export")
    from edgeflow.training.run import TrainedRun, find_runs
    from edgeflow_export.bundle_from_run import ExportOptions, bundle_from_run
    from edgeflow_runtime.calibration import probability

    encoding = audio_encoding if audio_in else None
    options = ExportOptions(data, probability(false_alarms, listen), precision, encoding)

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
    warn(f"{name}: {what}")


def _target(output: Path, name: str, *, several: bool) -> Path:
    """The bundle's path: ``output``, or a file in it where there are several or it is a folder."""
    return output / f"{name}.edgeflow" if several or output.is_dir() else output
