"""Progress that a person watches as a bar and a log keeps as plain lines."""

from __future__ import annotations

import shutil
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


class BuildProgress:
    """A line that is rewritten on a terminal, a plain line every 15 seconds in a log.

    For work whose phases are not known beforehand: it shows the phase and the time since the start.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._said = self._started - LOG_INTERVAL_S  # so that a log says at once what goes on
        self._live = sys.stderr.isatty()

    def show(self, phase: str, done: int, steps: int) -> None:
        """Say where the work is; ``steps`` is 0 where nobody knows."""
        now = time.monotonic()
        of = f" {done}/{steps}" if steps else ""
        line = f"building, {now - self._started:.0f} s: {phase}{of}"
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{line[:width]}", end="", file=sys.stderr, flush=True)
        elif now - self._said >= LOG_INTERVAL_S:
            self._said = now
            print(line, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room on the terminal for a line of something else."""
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> BuildProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
