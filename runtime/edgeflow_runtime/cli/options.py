"""What the commands share: options that refuse NaN, and going on after a fault."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from edgeflow_runtime.errors import EdgeflowError


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
