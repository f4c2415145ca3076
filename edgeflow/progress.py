"""Progress that a person watches as a bar and a log keeps as plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

LOG_INTERVAL_S = 15.0


def track(items: Iterable[Item], label: str, total: int, unit: str = "clip") -> Iterator[Item]:
    """Yield ``items`` while showing how far they are.

    On a terminal a bar is drawn on standard error; elsewhere one plain line is written at most
    every 15 seconds, so that a log neither stays silent nor fills with carriage returns.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=label, total=total, unit=unit, leave=False)
        return
    last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last >= LOG_INTERVAL_S:
            last = time.monotonic()
            print(f"{label}: {done} of {total} {unit}s", file=sys.stderr, flush=True)
