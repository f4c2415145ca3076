"""The options that say which recordings there are and how they are cut, of two commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeflow_runtime.cli.options import FaultTally, FiniteFloat, NamedPath
from edgeflow_runtime.errors import ConfigError, DataError
from edgeflow_runtime.manifest import MachineId

if TYPE_CHECKING:
    from edgeflow.dataset import Dataset
    from edgeflow.recordings.cutting import CutSpec
    from edgeflow.recordings.sources import Source

SEVERAL = ("--normal", "--abnormal", "--sisters")
"""Options that take one path or several."""

Command = TypeVar("Command", bound=Callable[..., Any])


class TakesPaths(click.Command):
    """Lets one ``--normal`` name several paths, as a shell's ``*`` gives them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments."""
        try:
            return super().parse_args(ctx, list(_repeated(args)))
        except click.MissingParameter as error:
            if not set(SEVERAL) & set(args):
                raise
            mend = "name it first, as all paths after --normal and the like are recordings"
            raise click.UsageError(f"{error.format_message()} {mend}") from error


def _repeated(args: list[str]) -> Iterator[str]:
    """``--normal a b`` as ``--normal a --normal b``."""
    option, follows = "", False
    for word in args:
        if word.startswith("-"):
            option, follows = word if word in SEVERAL else "", False
        elif option:
            if follows:
                yield option
            follows = True
        yield word


class SisterPath(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """An id and a path."""

    name = "NAME=PATH"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Path]:
        """Both, or a usage error."""
        name, equals, path = str(value).partition("=")
        if not (name and equals and path):
            self.fail(f"{value!r} names no sister and its recordings: write NAME=PATH", param, ctx)
        return name, Path(path)


@dataclass(frozen=True)
class RecordingChoice:
    """What the options say."""

    normal: tuple[Path, ...]
    abnormal: tuple[Path, ...]
    sisters: tuple[tuple[str, Path], ...]
    machines: Path | None
    seconds: float
    hop: float | None
    test_share: float | None
    keep_bursts: bool
    dry_run: bool

    def __bool__(self) -> bool:
        return bool(self.normal or self.machines)

    def target(
        self, machine_type: str | None, machine_id: str | None, *, every: bool
    ) -> tuple[str, str | None]:
        """Type and id of the machine to train; no id for every one."""
        from edgeflow.recordings import sources

        if machine_id is None and not every:
            if self.machines:
                raise ConfigError("name the machine's folder with --id, or train --all")
            machine_id = sources.DEFAULT_ID
        return machine_type or sources.DEFAULT_TYPE, machine_id

    def spec(self, channel: int | None) -> CutSpec:
        """How to cut."""
        from edgeflow.recordings.cutting import CutSpec

        return CutSpec(self.seconds, self.hop, channel, self.test_share, self.keep_bursts)

    def sources(self, machine_type: str | None, machine_id: str | None) -> list[Source]:
        """The recordings. Raises :class:`ConfigError` where the options do not fit each other."""
        from edgeflow.recordings import sources

        machine_type = machine_type or sources.DEFAULT_TYPE
        if self.machines:
            if self.normal or self.abnormal or self.sisters:
                raise ConfigError(
                    "--machines names all recordings: leave --normal, --abnormal and --sisters out"
                )
            found = sources.find_machines(self.machines, machine_type)
            ids = sorted({source.machine.machine_id for source in found})
            if machine_id not in (None, *ids):
                raise ConfigError(
                    f"'{self.machines}' holds no machine {machine_id!r}; it has {', '.join(ids)}"
                )
            return found
        if not self.normal:
            raise ConfigError("name recordings with --normal, or with --machines")
        sisters: dict[str, list[str | Path]] = {}
        for name, path in self.sisters:
            sisters.setdefault(name, []).append(path)
        machine = MachineId(machine_type, machine_id or sources.DEFAULT_ID)
        return sources.find_sources(machine, self.normal, self.abnormal, sisters)


def cut_beside(
    run: Path,
    choice: RecordingChoice,
    machine_type: str,
    machine_id: str | None,
    channel: int | None,
    tally: FaultTally,
) -> Dataset | None:
    """The data set beside a run, cut from the recordings unless it stands; none of a dry run.

    Raises:
        DataError: the recordings cannot be used, the machine has too few clips, or other clips
            stand there.
    """
    from edgeflow.dataset import Dataset
    from edgeflow.recordings.planning import plan_sources
    from edgeflow.recordings.writing import holds, write_recordings
    from edgeflow.training.run import OWN_DATA, RECORD

    sources, spec, out = (
        choice.sources(machine_type, machine_id),
        choice.spec(channel),
        run / OWN_DATA,
    )
    if not choice.dry_run and holds(out, sources, spec):
        return Dataset.scan(out)
    if not choice.dry_run and (run / RECORD).exists():
        raise DataError(f"'{run}' holds a training on another data set: choose another folder")
    plan = plan_sources(sources, spec)
    tally.tell(plan.faults)
    click.echo(plan, err=not choice.dry_run)
    if machine_id is not None:
        plan.require_training(MachineId(machine_type, machine_id))
    return None if choice.dry_run else write_recordings(plan, out)


OPTIONS = (
    click.option(
        "--normal", multiple=True, type=NamedPath(), metavar="PATH...",
        help="Recordings of the machine in good order: files, or folders of any names.",
    ),
    click.option(
        "--abnormal", multiple=True, type=NamedPath(), metavar="PATH...",
        help="Recordings of it with something wrong, to test on.",
    ),
    click.option(
        "--sisters", multiple=True, type=SisterPath(), metavar="NAME=PATH...",
        help="Recordings of other machines of the type in good order, with an id for each.",
    ),
    click.option(
        "--machines", type=NamedPath(), metavar="FOLDER",
        help="In place of these: a folder in which each folder is a machine of the type.",
    ),
    click.option(
        "--seconds", type=FiniteFloat(), default=10.0, show_default=True,
        help="Length of the clips that recordings are cut into.",
    ),
    click.option(
        "--hop", type=FiniteFloat(),
        help="Seconds from one clip's beginning to the next; as --seconds if not given.",
    ),
    click.option(
        "--test-share", type=FiniteFloat(),
        help="Share of the normal clips to test on, the last ones; a fifth beside --abnormal, else "
        "none, if not given.",
    ),
    click.option(
        "--keep-bursts", is_flag=True,
        help="Leave in what is far louder than usual, such as hands on the microphone.",
    ),
    click.option("--dry-run", is_flag=True, help="Show the plan for the recordings and stop."),
)  # fmt: skip

NAMES = tuple(field for field in RecordingChoice.__dataclass_fields__)


def recording_options(command: Command) -> Command:
    """Give a command the options of recordings; :func:`choice_of` collects them."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def choice_of(options: dict[str, Any]) -> RecordingChoice:
    """The options of recordings, taken out of all ``options``."""
    return RecordingChoice(**{name: options.pop(name) for name in NAMES})
