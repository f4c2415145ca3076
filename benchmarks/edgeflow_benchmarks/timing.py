"""Fair timing: interleaved repeats, medians of pairs, and processes watched from outside."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgeflow
import edgeflow_export
import edgeflow_runtime
from edgeflow_runtime.errors import BackendError
from edgeflow_runtime.extras import require

WATCHER = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, capture_output=True, text=True)
seconds = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([seconds, peak, done.returncode, done.stderr[-300:]]))
"""
"""Runs a command in a process of its own: a child started from this one, which holds torch, would
count this one's memory as its own peak until it becomes another program."""


@dataclass(frozen=True)
class Process:
    """What a command cost."""

    seconds: float
    """From start to end, in seconds."""
    peak_mb: float
    """Largest resident memory, in MB (10^6 bytes)."""


def interleave(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Run every action once a round, one after the other, after one round that does not count.

    Returns:
        For each action its ``rounds`` durations in seconds.

    Example:
        >>> times = interleave({"a": lambda: None, "b": lambda: sum(range(9999))}, rounds=3)
        >>> [len(found) for found in times.values()]
        [3, 3]
    """
    for action in actions.values():
        action()
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            begin = time.perf_counter()
            action()
            times[name].append(time.perf_counter() - begin)
    return times


def pair_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the ratios, pair by pair: what slows both of a pair leaves it as it is.

    Example:
        >>> pair_ratio([2.0, 40.0, 6.0], [1.0, 20.0, 2.0])
        2.0
    """
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread on one core, and BLAS on one thread, until the block ends."""
    threadpoolctl = require("threadpoolctl", "bench")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        with threadpoolctl.threadpool_limits(1):
            yield
    finally:
        os.sched_setaffinity(0, cores)


def watch(command: Sequence[str | Path], accepted: Sequence[int] = (0,)) -> Process:
    """Run ``command`` to its end and measure it.

    Args:
        command: the program and its arguments.
        accepted: the exit statuses of a run that counts.

    Raises:
        BackendError: it ended with another status.
    """
    watcher = [sys.executable, "-I", "-S", "-c", WATCHER]
    done = subprocess.run(
        [*watcher, *map(str, command)],
        env=_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, peak_kib, status, complaint = json.loads(done.stdout)
    if status not in accepted:
        text = " ".join(str(part) for part in command[:4])
        raise BackendError(f"'{text} ...' ended with status {status}: {complaint.strip()}")
    return Process(seconds, peak_kib * 1024 / 1e6)


def watch_in_turn(
    commands: Mapping[str, Sequence[str | Path]], rounds: int, accepted: Sequence[int]
) -> dict[str, list[Process]]:
    """:func:`watch` every command once a round, one after the other; the first round is not kept.

    Raises:
        BackendError: one ended with a status that is not ``accepted``.
    """
    processes: dict[str, list[Process]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            process = watch(command, accepted)
            if number:
                processes[name].append(process)
    return processes


def _environment() -> dict[str, str]:
    """The environment of this process, in which a child finds the very code that runs here."""
    packages: tuple[Any, ...] = (edgeflow, edgeflow_export, edgeflow_runtime)
    roots = dict.fromkeys(str(Path(package.__file__).parents[1]) for package in packages)
    inherited = os.environ.get("PYTHONPATH")
    paths = [*roots, inherited] if inherited else [*roots]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
