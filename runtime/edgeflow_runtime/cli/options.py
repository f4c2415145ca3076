"""What the commands share: options, documents and levels, and going on after a fault."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from click.core import ParameterSource

from edgeflow_runtime.errors import EdgeflowError

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
            self._faults += 1
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)

    def __enter__(self) -> FaultTally:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._faults:
            click.get_current_context().exit(2)
