"""The data set on disk: DCASE's folders and names, each file whole, a second run a no-op."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from edgeflow.synth.machines import anomaly_for, render
from edgeflow.synth.sources import Signal
from edgeflow.synth.spec import MACHINE_IDS, RATE_HZ, SynthSpec
from edgeflow_runtime.errors import DataError
from edgeflow_runtime.progress import track
from edgeflow_runtime.storage import write_bytes, write_text

GENERATOR = 1
"""Version of the sounds: raised whenever the same spec would give other clips."""

DONE, BEGUN, TRUTH = "synth.json", "synth.partial.json", "anomalies.csv"


@dataclass(frozen=True)
class Clip:
    """One clip of the set."""

    machine_type: str
    """One of the machine types."""

    machine: int
    """Place of the machine among its type's, from 0."""

    number: int
    """Number of the clip among the machine's normal, or anomalous, clips."""

    split: str
    """``train`` or ``test``."""

    anomalous: bool
    """Whether something is wrong in it."""

    @property
    def file(self) -> str:
        """Path inside the set, as the challenge names it.

        Example:
            >>> Clip("fan", 1, 7, "test", anomalous=True).file
            'fan/test/anomaly_id_02_00000007.wav'
        """
        word = "anomaly" if self.anomalous else "normal"
        name = f"{word}_id_{MACHINE_IDS[self.machine]}_{self.number:08d}.wav"
        return f"{self.machine_type}/{self.split}/{name}"


def clips_of(spec: SynthSpec) -> Generator[Clip, None, None]:
    """Every clip of the set, in the order of writing."""
    for machine_type in spec.types:
        for machine in range(spec.machines):
            for number in range(spec.clips):
                yield Clip(machine_type, machine, number, "train", anomalous=False)
            for number in range(spec.test_clips):
                yield Clip(machine_type, machine, spec.clips + number, "test", anomalous=False)
                yield Clip(machine_type, machine, number, "test", anomalous=True)


def synthesise(out: str | Path, spec: SynthSpec) -> int:
    """Write the set of ``spec`` into the folder ``out`` and return how many clips were written.

    A set that already stands there is left as it is, and one that was interrupted is finished:
    only missing clips are written. ``synth.json`` comes last, so where it stands the set is whole.

    Raises:
        DataError: ``out`` holds something else, or a set of another spec; it is left untouched.
        StorageError: the disk refused a write; the clips written so far stand.
    """
    out = Path(out)
    _claim(out, spec)
    todo = [clip for clip in clips_of(spec) if not (out / clip.file).exists()]
    if not todo and (out / DONE).exists() and (out / TRUTH).exists():
        (out / BEGUN).unlink(missing_ok=True)  # a power cut may bring it back
        return 0
    write_text(out / BEGUN, _document(spec))
    with closing(_rendered(todo, spec)) as made:
        for clip, content in track(made, "synthesising", len(todo)):
            write_bytes(out / clip.file, content)
    write_text(out / TRUTH, _truth(spec))
    write_text(out / DONE, _document(spec))
    (out / BEGUN).unlink(missing_ok=True)
    return len(todo)


def _claim(out: Path, spec: SynthSpec) -> None:
    """Refuse a folder that holds anything but a set, whole or begun, of this very spec."""
    try:
        if not out.exists():
            return
        if not out.is_dir():
            raise DataError(f"'{out}' is a file: name a folder for the data set.")
        marker = next((out / name for name in (DONE, BEGUN) if (out / name).exists()), None)
        # What a killed beginning leaves of its marker is nobody else's file.
        empty = all(path.name.startswith(f".{BEGUN}.") for path in out.iterdir())
        standing = json.loads(marker.read_text()) if marker else None
    except (OSError, ValueError) as error:
        raise DataError(f"'{out}' cannot be read: name a new or empty folder.") from error
    if not marker and not empty:
        raise DataError(f"'{out}' holds other files: name a new or empty folder.")
    wanted = json.loads(_document(spec))
    if marker and standing != wanted:
        held = _difference(standing, wanted)
        raise DataError(f"'{out}' holds another set ({held}): name a new or empty folder.")


def _difference(standing: object, wanted: dict[str, object]) -> str:
    """The first entry in which two documents differ, in words."""
    held = standing if isinstance(standing, dict) else {}
    for name, value in wanted.items():
        if held.get(name) != value:
            return f"{name} {json.dumps(held.get(name))}, asked for {json.dumps(value)}"
    return "with entries unknown to this version"


def _document(spec: SynthSpec) -> str:
    """The spec as synth.json holds it; the order of the types does not count."""
    entries = {"generator": GENERATOR, **asdict(spec), "types": sorted(spec.types)}
    return json.dumps(entries, indent=2) + "\n"


def _truth(spec: SynthSpec) -> str:
    """The table anomalies.csv: what is wrong in each anomalous clip, and how badly."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("file", "kind", "severity"))
    for clip in clips_of(spec):
        if clip.anomalous:
            anomaly = anomaly_for(spec, clip.machine_type, clip.machine, clip.number)
            table.writerow((clip.file, anomaly.kind, f"{anomaly.severity:.3f}"))
    return text.getvalue()


def _rendered(clips: list[Clip], spec: SynthSpec) -> Generator[tuple[Clip, bytes], None, None]:
    """The clips with their files' content, made a few ahead by a thread for each core.

    The caller writes: only a few clips are ever held, and Ctrl-C waits for those in the making
    alone. Threads are enough, as numpy's and scipy's inner loops run without Python's lock.
    """
    workers = os.cpu_count() or 1
    ahead: deque[tuple[Clip, Future[bytes]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="synth")
    try:
        for clip in clips:
            ahead.append((clip, pool.submit(_wave, clip, spec)))
            if len(ahead) > 2 * workers:
                made, future = ahead.popleft()
                yield made, future.result()
        while ahead:
            made, future = ahead.popleft()
            yield made, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _wave(clip: Clip, spec: SynthSpec) -> bytes:
    """The clip as a mono 16-bit WAV file."""
    samples = render(spec, clip.machine_type, clip.machine, clip.number, anomalous=clip.anomalous)
    file = io.BytesIO()
    soundfile.write(file, _quantised(samples), RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _quantised(samples: Signal) -> NDArray[np.int16]:
    """``samples`` in steps of a 16-bit converter."""
    return np.asarray(np.rint(samples * np.float32(32767.0)), np.int16)
