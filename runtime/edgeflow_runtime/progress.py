"""Progress that a person watches as a bar and a log keeps as plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from edgeflow_runtime.printable import printable

Item = TypeVar("Item")

LOG_INTERVAL_S = 15.0


def track(items: Iterable[Item], label: str, total: int, unit: str = "clip") -> Iterator[Item]:
    """Yield ``items`` while showing how far they are.

    On a terminal a bar is drawn on standard error; elsewhere one plain line is written at most
    every 15 seconds, so that a log neither stays silent nor fills with carriage returns.
    """
    with Progress(label, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()


class Progress:
    """A bar on a terminal, lines in a log.

    Args:
        label: what is going on.
        total: how many units there are; ``None`` where nobody knows, which shows the time instead.
        unit: what one is called.
        done: how many were done before.
    """

    def __init__(self, label: str, total: int | None, unit: str = "step", done: int = 0) -> None:
        label = printable(label)
        self._label, self._total, self._unit, self._done = label, total, unit, done
        self._bar: Any = None
        self._began = self._said = time.monotonic()
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                desc=label,
                total=total,
                unit=unit,
                initial=done,
                leave=False,
                dynamic_ncols=True,
                bar_format=None if total else "{desc}, {elapsed}{postfix}",
            )
        elif total is None:
            self._said -= LOG_INTERVAL_S  # so that a log says at once what goes on

    def advance(self, note: str = "", steps: int = 1) -> None:
        """``steps`` more units are done; ``note`` says how it stands."""
        self._done += steps
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=not steps)
            self._bar.update(steps)
        elif time.monotonic() - self._said >= LOG_INTERVAL_S:
            self._said = time.monotonic()
            print(f"{self._label}{self._state()}  {note}".rstrip(), file=sys.stderr, flush=True)

    def foresee(self, unit_s: float) -> None:
        """Say in a log how long the rest takes at ``unit_s`` a unit; a bar says so itself."""
        rest = None if self._total is None else self._total - self._done
        if self._bar is None and rest and rest * unit_s >= LOG_INTERVAL_S:
            seconds = rest * unit_s
            span = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
            print(f"{self._label}: about {span} for {rest} {self._unit}s", file=sys.stderr)

    def show(self, phase: str, done: int, steps: int) -> None:
        """Say which phase goes on, and how far it is; ``steps`` is 0 where nobody knows."""
        self.advance(f"{phase} {done}/{steps}" if steps else phase, steps=0)

    def _state(self) -> str:
        if self._total is None:
            return f", {time.monotonic() - self._began:.0f} s:"
        return f": {self._done} of {self._total} {self._unit}s"

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
