"""Progress that a person watches as a bar and a log keeps as plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

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
        total: how many units there are.
        unit: what one is called.
        done: how many were done before.
    """

    def __init__(self, label: str, total: int, unit: str, done: int = 0) -> None:
        self._label, self._total, self._unit, self._done = label, total, unit, done
        self._bar: Any = None
        self._said = time.monotonic()
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                desc=label, total=total, unit=unit, initial=done, leave=False, dynamic_ncols=True
            )

    def advance(self, note: str = "", steps: int = 1) -> None:
        """``steps`` more units are done; ``note`` says how it stands."""
        self._done += steps
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(steps)
        elif time.monotonic() - self._said >= LOG_INTERVAL_S:
            self._said = time.monotonic()
            line = f"{self._label}: {self._done} of {self._total} {self._unit}s"
            print(f"{line}  {note}".rstrip(), file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
