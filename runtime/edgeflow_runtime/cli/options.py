"""What the commands share: options, documents and levels, and going on after a fault."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edgeflow_runtime.errors import EdgeflowError
from edgeflow_runtime.printable import one_line, printable

LEVEL_COLOURS = {"ok": "green", "note": "yellow", "missing": "red", "differs": "red"}

audio_in_option = click.option(
    "--audio-in", is_flag=True,
    help="The graph that starts at the samples: export adds it, build builds it, score runs it.",
)  # fmt: skip
"""The same flag of three commands."""

listen_option = click.option(
    "--listen",
    help="With --false-alarms as a rate per time: how often a clip is judged, as 'every 10 s'.",
)
"""Of whatever sets a threshold."""


def given(context: click.Context, *names: str) -> str:
    """Those of the options ``names`` that the user gave, by comma; empty if there is none."""
    sources = {name: context.get_parameter_source(name) for name in names}
    chosen = [name for name, source in sources.items() if source != ParameterSource.DEFAULT]
    return ", ".join(f"--{name.replace('_', '-')}" for name in chosen)


def echo_document(schema: str, document: dict[str, Any]) -> None:
    """Print a JSON document that names its schema, such as ``edgeflow.survey.v1``."""
    click.echo(json.dumps({"schema": schema, **document}, indent=2, allow_nan=False))


def styled(level: str) -> str:
    """A level such as ``ok`` or ``missing`` as the first column of a row."""
    return click.style(f"{level:<9}", fg=LEVEL_COLOURS[level])


def say(text: object) -> None:
    """Print one line for people; what is in it cannot steer a terminal or forge another."""
    click.echo(printable(text))


def warn(text: object) -> None:
    """Print one line on standard error."""
    click.echo(one_line(text), err=True)


class NamedPath(click.Path):
    """A path that is not empty: of an unset variable it would be the current folder."""

    def __init__(self, **more: Any) -> None:  # noqa: ANN401  # as click has it
        super().__init__(path_type=Path, **more)

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:  # noqa: ANN401  # as click has it
        """The path, or a usage error."""
        if not os.fspath(value):
            self.fail("the path is empty: name a file or a folder", param, ctx)
        return Path(os.fsdecode(super().convert(value, param, ctx)))


class FiniteFloat(click.FloatRange):
    """A number in a range that is neither NaN nor, where the range is open, infinite."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:  # noqa: ANN401  # as click has it
        """The number, or a usage error."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number

    def _describe_range(self) -> str:
        """Nothing where there are no bounds, which click would print as bounds of None."""
        bounded = self.min is not None or self.max is not None
        return super()._describe_range() if bounded else ""


class FaultTally:
    """Lets a command that does one thing after another report a fault and go on.

    Each fault is a line on standard error, and the command ends with exit status 2.

    Example::

        with FaultTally() as tally:
            for machine in machines:
                with tally.one():
                    train(machine)
    """

    def __init__(self) -> None:
        self._faults = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Do one of the things."""
        try:
            yield
        except EdgeflowError as error:
            self.tell([str(error)])

    def tell(self, faults: Iterable[str]) -> None:
        """Report faults that stopped nothing."""
        for fault in faults:
            self._faults += 1
            warn(f"Error: {fault}")

    def __enter__(self) -> FaultTally:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._faults:
            click.get_current_context().exit(2)
