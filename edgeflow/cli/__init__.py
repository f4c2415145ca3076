"""The front door: every command by name, loaded only when it is used."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from _thread import interrupt_main
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import click

from edgeflow import __version__
from edgeflow_runtime.errors import EdgeflowError
from edgeflow_runtime.printable import one_line, printable

COMMANDS = {
    "data": ("edgeflow.cli.data:data", "Make and look at data sets."),
    "train": ("edgeflow.cli.train:train", "Train a monitor, or one for every machine."),
    "evaluate": (
        "edgeflow.cli.evaluate:evaluate",
        "Print how clips rank, false alarms and anomalies caught, per machine.",
    ),
    "export": ("edgeflow_export.cli:export", "Export a run as a bundle for the board."),
    "enroll": (
        "edgeflow_runtime.cli.enroll:enroll",
        "Make a monitor of a machine never seen, from a base and its first clips.",
    ),
    "calibrate": (
        "edgeflow_runtime.cli.enroll:calibrate",
        "Set a bundle's threshold anew, from normal clips where it listens.",
    ),
    "inspect": (
        "edgeflow_runtime.cli.bundles:inspect",
        "Show what a bundle holds, its hashes checked.",
    ),
    "verify": (
        "edgeflow_runtime.cli.bundles:verify",
        "Check a bundle's hashes and replay its golden recording here.",
    ),
    "build": (
        "edgeflow_runtime.cli.engines:build",
        "Build a bundle's engine on this board and prove it there.",
    ),
    "score": (
        "edgeflow_runtime.cli.score:score",
        "Score clips with a bundle: normal, anomalous or unknown.",
    ),
    "doctor": (
        "edgeflow_runtime.cli.engines:doctor",
        "Say what this board is, what it lacks, and what mends that.",
    ),
    "schema": (
        "edgeflow_runtime.cli.schema:schema",
        "Print the JSON Schema of a clip's result.",
    ),
}
"""Where each command lives, and its one line of help, kept here so that help imports nothing."""

INTERRUPTED = threading.Event()
"""Set once the user has interrupted."""

EXIT_FAULT = 2
EXIT_INTERRUPTED = 130


class Fault(click.ClickException):
    """What the user sees of an error: one line, exit status 2."""

    exit_code = EXIT_FAULT


class FrontDoor(click.Group):
    """Lists commands without importing them; turns errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order they are used in."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401
    ) -> click.Context:
        """Read the arguments; what is wrong with them becomes one line."""
        with _one_line():
            return super().make_context(info_name, args, parent, color=_colour(), **extra)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run a command; a fault becomes one line, an interruption status 130."""
        if sys.stdout is None:
            raise Fault("standard output is closed: there is nowhere to print to")
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn whatever is raised into one line, and a status that is no verdict's."""
    try:
        yield
    except click.UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # asks for the help, and gets it
            raise
        raise Fault(one_line(error.format_message())) from error
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except KeyboardInterrupt:
        _say_interrupted()
    except BrokenPipeError as error:
        _close_quietly()
        raise click.exceptions.Exit(EXIT_FAULT) from error
    except BaseException as error:  # a library may leave by SystemExit, or panic in Rust
        if INTERRUPTED.is_set():  # it took the interruption for a fault of its own
            _say_interrupted()
        if os.environ.get("EDGEFLOW_DEBUG"):
            raise
        raise Fault(_describe(error)) from error


def _describe(error: BaseException) -> str:
    """One line for any error; what nobody foresaw must not pass for a verdict either."""
    text = one_line(error)
    if isinstance(error, EdgeflowError):
        return text
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name!r} is missing: edgeflow is not installed whole, install it again"
    if isinstance(error, MemoryError):
        return f"out of memory: {text}".removesuffix(": ")
    if isinstance(error, OSError):
        where = f"'{printable(error.filename)}': " if error.filename else ""
        return f"{where}{error.strerror or text}"
    more = "please report it; EDGEFLOW_DEBUG=1 shows more"
    return f"unforeseen: {type(error).__name__}: {text}; {more}"


def _say_interrupted() -> NoReturn:
    click.echo("interrupted", err=True)
    raise click.exceptions.Exit(EXIT_INTERRUPTED)


def _colour() -> bool | None:
    """Whether to colour what is printed; ``None`` leaves it to whether it goes to a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None


@click.group(cls=FrontDoor, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeflow")
def cli() -> None:
    """Acoustic anomaly monitors for edge boards: train, export, score."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Open the front door for the process's arguments; returns the command's status."""
    # Threads that wait must not spin: where another process shares the cores, OpenMP's default
    # makes a training step up to ten times slower. Read by torch when it loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if sys.stderr is None:  # closed by whoever started us: no file may take its place
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # a name may hold what the terminal's code lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGINT, _interrupt)
    sys.unraisablehook = _interrupt_again
    try:
        return cli.main(arguments, prog_name="edgeflow", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return EXIT_FAULT
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED


def _interrupt(*_: object) -> NoReturn:
    """Remember an interruption, as C code that is being imported may swallow it."""
    INTERRUPTED.set()
    raise KeyboardInterrupt


def _interrupt_again(ignored: sys.UnraisableHookArgs) -> None:
    """Bring back an interruption that fell into a callback of a weak reference: Python drops it."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        threading.Timer(0.01, interrupt_main).start()
    else:
        sys.__unraisablehook__(ignored)


def _close_quietly() -> None:
    """Point standard output at nothing, so that closing it does not complain of the broken pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
