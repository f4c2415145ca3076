"""The front door: every command by name, loaded only when it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from edgeflow import __version__
from edgeflow_runtime.errors import EdgeflowError

COMMANDS = {
    "data": ("edgeflow.cli.data:data", "Make and look at data sets."),
    "train": ("edgeflow.cli.train:train", "Train a monitor, or one for every machine."),
    "evaluate": (
        "edgeflow.cli.evaluate:evaluate",
        "Print AUC and pAUC per machine beside the one-second baseline.",
    ),
    "export": ("edgeflow_export.cli:export", "Export a run as a bundle for the board."),
    "inspect": ("edgeflow_runtime.cli:inspect", "Show what a bundle holds, its hashes checked."),
    "verify": (
        "edgeflow_runtime.cli:verify",
        "Check a bundle's hashes and replay its golden recording here.",
    ),
    "score": (
        "edgeflow_runtime.cli:score",
        "Score clips with a bundle: normal, anomalous or unknown.",
    ),
}
"""Where each command lives, and its one line of help, kept here so that help imports nothing."""

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
        try:
            command = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise Fault(f"'edgeflow {cmd_name}' needs {error.name!r}, which is missing") from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run a command; a fault becomes one line, an interruption status 130."""
        try:
            return super().invoke(ctx)
        except EdgeflowError as error:
            raise Fault(" ".join(str(error).split())) from error
        except click.UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                raise
            raise Fault(" ".join(error.format_message().split())) from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            _close_quietly()
            ctx.exit(EXIT_FAULT)
        except OSError as error:
            where = f"'{error.filename}': " if error.filename else ""
            raise Fault(f"{where}{error.strerror or error}") from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # what nobody foresaw must not pass for a verdict
            if os.environ.get("EDGEFLOW_DEBUG"):
                raise
            what = " ".join(f"{type(error).__name__}: {error}".split())
            more = "please report it; EDGEFLOW_DEBUG=1 shows more"
            raise Fault(f"unforeseen: {what}; {more}") from error


@click.group(cls=FrontDoor, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeflow")
def cli() -> None:
    """Acoustic anomaly monitors for edge boards: train, export, score."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Open the front door for the process's arguments; exits with the command's status."""
    # Threads that wait must not spin: where another process shares the cores, OpenMP's default
    # makes a training step up to ten times slower. Read by torch when it loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        cli.main(arguments, prog_name="edgeflow")
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(0)


def _close_quietly() -> None:
    """Point standard output at nothing, so that closing it does not complain of the broken pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
