"""A data set from a plan: there at once or not at all, and a record of where its clips are from."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from edgeflow.dataset import CLIP_NAME, Dataset
from edgeflow.recordings.cutting import CutSpec, PlannedClip
from edgeflow.recordings.plan import Plan
from edgeflow.recordings.sound import clip_file, open_recording
from edgeflow.recordings.sources import Source
from edgeflow_runtime.errors import DataError, StorageError
from edgeflow_runtime.progress import Progress
from edgeflow_runtime.storage import write_bytes, write_text

RECORD = "recordings.json"
"""What a data set says of where its clips come from."""

SCHEMA = "edgeflow.recordings.v1"


def write_recordings(plan: Plan, out: str | Path, *, add: bool = False) -> Dataset:
    """Cut the clips of a plan into the data set ``out``, which is there whole or not at all.

    Args:
        plan: from :func:`~edgeflow.recordings.planning.plan_recordings`.
        out: a new or empty folder.
        add: whether it may be a data set that is there, to which clips are added.

    Raises:
        DataError: something is there already, or there is no clip to write.
        StorageError: the disk refuses, or has too little room.
    """
    out = Path(out)
    if not plan.clips:
        raise DataError(f"nothing is left to write into '{out}': no clip can be cut")
    check_free(out, add=add)
    imports = read_imports(out) if add else []
    _check_room(plan, out)
    with _beside(out) as folder:
        named = _named(plan.clips, out)
        _cut_all(named, folder)
        document = {"schema": SCHEMA, "imports": [*imports, _entry(plan, named)]}
        text = json.dumps(document, indent=1) + "\n"
        if out.exists() and any(out.iterdir()):
            _move_in(named, folder, out)
            write_text(out / RECORD, text)
        else:
            write_text(folder / RECORD, text)
            os.replace(folder, out)
    return Dataset.scan(out)


def check_free(out: Path, *, add: bool) -> None:
    """Refuse a place that is taken. Raises :class:`DataError`."""
    if out.exists() and not out.is_dir():
        raise DataError(f"'{out}' is a file: name a folder for the data set")
    if not add and out.is_dir() and any(out.iterdir()):
        raise DataError(f"'{out}' is there already: add to it with --add, or name a new folder")


def read_imports(out: Path) -> list[Any]:
    """What the data set ``out`` says of its imports; nothing where it says nothing.

    Raises:
        DataError: the record is damaged, or of a version that is not known.
    """
    path = out / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        schema, imports = record["schema"], list(record["imports"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"'{path}' is damaged: name a new folder") from error
    if schema != SCHEMA:
        raise DataError(f"'{path}' is of schema {schema!r}, expected {SCHEMA!r}: name a new folder")
    return imports


def known_sounds(out: Path) -> dict[str, str]:
    """The recordings that the data set ``out`` was cut from: paths by digest."""
    return {
        recording["sha256"]: recording["path"]
        for entry in read_imports(out)
        for recording in entry["recordings"]
        if recording["sha256"]
    }


def training_clips(out: Path) -> Counter[str]:
    """How many training clips of each machine the data set ``out`` holds."""
    return Counter(
        f"{path.parent.parent.name}_id_{match[2]}"
        for path in out.glob("*/train/*")
        if (match := CLIP_NAME.fullmatch(path.name))
    )


def holds(out: Path, sources: Sequence[Source], spec: CutSpec) -> bool:
    """Whether ``out`` was cut from these very recordings in this way; ``False`` if it is not there.

    Raises:
        DataError: it holds something else.
    """
    if not out.exists():
        return False
    entries = read_imports(out)
    mend = "choose another folder, or delete it to cut anew"
    if len(entries) != 1:
        raise DataError(f"'{out}' holds other clips than these recordings give: {mend}")
    keys = ("path", "bytes", "machine", "anomalous")
    asked = [{key: told[key] for key in keys} for told in entries[0]["recordings"]]
    if entries[0]["spec"] != spec.to_dict():
        raise DataError(f"'{out}' was cut with other settings: {mend}")
    if asked != [_told(source) for source in sources]:
        raise DataError(f"'{out}' was cut from other recordings than these are now: {mend}")
    return True


def _told(source: Source) -> dict[str, Any]:
    try:
        size = source.path.stat().st_size
    except OSError as error:
        raise DataError(f"'{source.path}' cannot be read: {error.strerror}") from error
    return {
        "path": str(source.path.resolve()),
        "bytes": size,
        "machine": source.machine.name,
        "anomalous": source.anomalous,
    }


def _entry(plan: Plan, named: list[tuple[str, PlannedClip]]) -> dict[str, Any]:
    """What the record says of this import."""
    heard = {h.source: h for h in plan.recordings}
    recordings = []
    for source in plan.sources:
        one = heard.get(source)
        facts = {"sha256": one and one.digest, "seconds": one and one.seconds}
        recordings.append(_told(source) | facts)
    return {
        "spec": plan.spec.to_dict(),
        "recordings": recordings,
        "clips": [
            {
                "clip": name,
                "recording": str(clip.heard.source.path.resolve()),
                "start_sample": clip.start,
                "start_seconds": clip.start / clip.heard.rate_hz,
            }
            for name, clip in named
        ],
        "left_out": [
            {
                "recording": str(part.path.resolve()),
                "start_seconds": part.start_s,
                "end_seconds": part.end_s,
                "reason": part.reason,
            }
            for part in plan.left_out
        ],
        "unreadable": plan.faults,
    }


def _check_room(plan: Plan, out: Path) -> None:
    place = next(p for p in (out, *out.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(place).free
    if plan.size_bytes > free:
        raise StorageError(
            f"'{out}' may take {plan.size_bytes / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free: "
            "name a place with more room, or a longer --hop"
        )


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into, gone at the end unless it was renamed."""
    out = out.absolute()
    folder = out.with_name(f".{out.name}.{secrets.token_hex(6)}")
    try:
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise StorageError(f"'{out}' could not be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _named(clips: Sequence[PlannedClip], out: Path) -> list[tuple[str, PlannedClip]]:
    """Each clip with its path in the data set; numbers go on after those that are in ``out``."""
    numbers: dict[tuple[str, str], int] = {}
    for path in out.glob("*/*/*"):
        if match := CLIP_NAME.fullmatch(path.name):
            key = f"{path.parent.parent.name}_id_{match[2]}", match[1].lower()
            numbers[key] = max(numbers.get(key, 0), int(match[3]) + 1)
    named = []
    for clip in clips:
        word = "anomaly" if clip.heard.source.anomalous else "normal"
        machine, suffix = clip.machine, clip.heard.encoding[0].lower()
        number = numbers.get((machine.name, word), 0)
        numbers[machine.name, word] = number + 1
        file = f"{word}_id_{machine.machine_id}_{number:08d}.{suffix}"
        named.append((f"{machine.machine_type}/{clip.split}/{file}", clip))
    return named


def _cut_all(named: list[tuple[str, PlannedClip]], folder: Path) -> None:
    with Progress("cutting", len(named), "clip") as progress:
        for _, group in groupby(named, key=lambda pair: id(pair[1].heard)):
            parts = list(group)
            heard = parts[0][1].heard
            with open_recording(heard.source.path) as sound:
                for name, clip in parts:
                    stored = sound.stored(clip.start, clip.samples)
                    content = clip_file(stored, heard.rate_hz, heard.encoding)
                    write_bytes(folder / name, content)
                    progress.advance()


def _move_in(named: list[tuple[str, PlannedClip]], folder: Path, out: Path) -> None:
    """Move new clips into a data set; none of them is there, and none is overwritten."""
    for name, _ in named:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        if (out / name).exists():
            raise DataError(f"'{out / name}' came into being meanwhile: import again")
        os.rename(folder / name, out / name)
