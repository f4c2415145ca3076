"""The commands around data sets: synthesise one, look at one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from edgeflow_runtime.cli.options import FiniteFloat, NamedPath, echo_document, say


@click.group()
def data() -> None:
    """Make and look at data sets."""


@data.command()
@click.argument("out", type=NamedPath())
@click.option("--types", help="Machine types, separated by commas; all six if not given.")
@click.option("--machines", type=int, default=4, show_default=True, help="Machines of each type.")
@click.option(
    "--clips", type=int, default=40, show_default=True, help="Training clips of each machine."
)
@click.option(
    "--seconds", type=FiniteFloat(), default=10.0, show_default=True, help="Length of a clip."
)
@click.option(
    "--snr",
    type=FiniteFloat(),
    default=6.0,
    show_default=True,
    help="Machine over factory noise in dB.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random.")
def synth(
    out: Path,
    types: str | None,
    machines: int,
    clips: int,
    seconds: float,
    snr: float,
    seed: int,
) -> None:
    """Synthesise a data set of machine sounds in OUT.

    The same options give the same sounds. A set that is already there is left as it is.
    """
    from edgeflow.synth import MACHINE_TYPES, SynthSpec, synthesise

    chosen = MACHINE_TYPES if types is None else tuple(t.strip() for t in types.split(","))
    spec = SynthSpec(chosen, machines, clips, seconds, snr, seed)
    written = synthesise(out, spec)
    say(f"{out}: {f'{written} clips written' if written else 'already there'}")


@data.command()
@click.argument("folder", type=NamedPath(), metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def info(folder: Path, as_json: bool) -> None:
    """Show the types, machines, clips, seconds and rates of a data set, and what looks wrong.

    Every clip is read whole. The exit status is 0 even if something looks wrong.
    """
    from edgeflow.dataset import Dataset
    from edgeflow.survey import survey

    result = survey(Dataset.scan(folder))
    if as_json:
        echo_document("edgeflow.survey.v1", asdict(result))
    else:
        click.echo(result.to_table())
