"""The commands around data sets: synthesise one, look at one."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgeflow.cli.recordings import TakesPaths, choice_of, recording_options
from edgeflow_runtime.cli.options import FaultTally, FiniteFloat, NamedPath, echo_document, say
from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.printable import printable


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


@data.command("import", cls=TakesPaths)
@click.argument("out", type=NamedPath())
@click.option("--type", "machine_type", help="What the machine is; 'machine' if not given.")
@click.option("--id", "machine_id", help="Which one it is; '00' if not given.")
@recording_options
@click.option("--channel", type=click.IntRange(min=0), help="Channel to listen to; 0 is the first.")
@click.option("--add", is_flag=True, help="Add to the data set that OUT is.")
@click.option("--yes", is_flag=True, help="Write without asking.")
def import_recordings(
    out: Path,
    machine_type: str | None,
    machine_id: str | None,
    channel: int | None,
    add: bool,
    yes: bool,
    **options: Any,  # noqa: ANN401  # of all kinds
) -> None:
    """Cut recordings of any names and lengths into the data set OUT.

    Silence, clipped sound and bursts are left out. The plan is shown first; on a terminal you are
    asked, elsewhere --yes or --dry-run says what to do. OUT is there whole or not at all, and
    nothing in it is ever overwritten.
    """
    from edgeflow.recordings.plan import SHOWN
    from edgeflow.recordings.planning import plan_sources
    from edgeflow.recordings.writing import (
        check_free,
        known_sounds,
        training_clips,
        write_recordings,
    )

    choice = choice_of(options)
    if choice.machines and machine_id is not None:
        raise ConfigError("--machines takes the ids from the folders' names: leave --id out")
    sources = choice.sources(machine_type, machine_id)
    check_free(out, add=add)
    plan = plan_sources(sources, choice.spec(channel), known_sounds(out) if add else {})
    if add:
        plan.standing = training_clips(out)
    with FaultTally() as tally:
        tally.tell(plan.faults)
        click.echo(plan.to_text(None if choice.dry_run else SHOWN))
        if choice.dry_run:
            return
        if plan.clips and not yes and not _agreed(out, len(plan.clips)):
            say(f"{out}: nothing written")
            return
        write_recordings(plan, out, add=add)
        several = any(heard.channels > 1 for heard in plan.recordings)
        mend = f"; they keep their channels: train with --channel {channel}" if several else ""
        say(f"{out}: {len(plan.clips)} clips written{mend}")


def _agreed(out: Path, clips: int) -> bool:
    """Whether the user wants it; where nobody can be asked, that is an error."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError("nobody can be asked here: say --yes to write, or --dry-run to look only")
    return click.confirm(f"Write {clips} clips to {printable(out)}?", default=True, err=True)


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
