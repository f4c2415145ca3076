"""Fuzzing without coverage: seeded changes of the corpus, each tried in a process that may die."""

from __future__ import annotations

import mmap
import os
import random
import resource
import signal
import struct
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.fuzz.harnesses import HARNESSES
from tests.fuzz.limits import CORPUS, MEMORY, PATIENCE_S

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""What lengths and counts go wrong with."""


def corpus(name: str) -> list[Path]:
    """The files of a harness, in order."""
    return sorted(path for path in (CORPUS / name).iterdir() if path.is_file())


def changed(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """``count`` changes of ``seeds``, the same for the same ``seed``."""
    rng = random.Random(seed)
    for _ in range(count):
        content = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            _change(content, seeds, rng)
        yield bytes(content)


def _change(content: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(content) + 1)
    length = rng.choice((1, 2, 4, 8, 64, 512))
    kind = rng.randrange(6)
    if kind == 0:
        content[at : at + 1] = bytes([rng.randrange(256)])
    elif kind == 1:
        content[at : at + 4] = struct.pack(rng.choice(("<I", ">I")), rng.choice(NUMBERS))
    elif kind == 2:
        del content[at : at + length]
    elif kind == 3:
        content[at:at] = content[at : at + length] * rng.choice((1, 2, 100))
    elif kind == 4:
        other = rng.choice(seeds)
        start = rng.randrange(len(other) + 1)
        content[at : at + length] = other[start : start + length]
    else:
        content[at:at] = rng.randbytes(length)


def first_fault(name: str, cases: Sequence[bytes]) -> tuple[bytes, str] | None:
    """The first case that a harness does not bear, and what became of it; ``None`` if it bears all.

    It runs in a fork, so that a crash of compiled code is found, too.
    """
    place = mmap.mmap(-1, 8)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _try_all(name, cases, place, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as heard:
        text = heard.read().decode()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return None
    case = cases[struct.unpack("q", place)[0]]
    return case, text or f"killed by {signal.Signals(-code).name if code < 0 else code}"


def _try_all(name: str, cases: Sequence[bytes], place: mmap.mmap, writer: int) -> None:
    """Try the cases in this fork and end it; which one is at hand stands in ``place``."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        for number, case in enumerate(cases):
            place[:] = struct.pack("q", number)
            signal.alarm(PATIENCE_S)
            HARNESSES[name](case)
    except BaseException:
        os.write(writer, traceback.format_exc()[-4000:].encode(errors="replace"))
        os._exit(1)
    os._exit(0)
