"""Which recordings there are, and of which machine: files and folders of any names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from edgeflow.dataset import CLIP_NAME
from edgeflow_runtime.clip_reader import SOUND_SUFFIXES, files_inside
from edgeflow_runtime.errors import ConfigError, DataError
from edgeflow_runtime.manifest import WORD, MachineId

ABNORMAL = "abnormal"
"""Folder in a machine's folder that holds recordings of it with something wrong."""

DEFAULT_TYPE, DEFAULT_ID = "machine", "00"
"""What a machine is called that nobody named."""

Paths = Sequence[str | Path]


@dataclass(frozen=True)
class Source:
    """One recording."""

    path: Path
    """The file."""
    machine: MachineId
    """What it is of."""
    anomalous: bool
    """Whether something is wrong with the machine in it."""


def find_sources(
    machine: MachineId,
    normal: Paths,
    abnormal: Paths = (),
    sisters: Mapping[str, Paths] | None = None,
) -> list[Source]:
    """The recordings of a machine and of its sisters, files as given, folders searched.

    Args:
        machine: the machine to watch.
        normal: recordings of it in good order.
        abnormal: recordings of it with something wrong.
        sisters: by id, recordings of other machines of the type in good order.

    Raises:
        ConfigError: a name is no word, or two machines have one id.
        DataError: a path is missing, or a folder holds no recording, or abnormal ones among those
            in good order.
    """
    _check_word("type", machine.machine_type)
    _check_word("id", machine.machine_id)
    sources = [Source(path, machine, False) for path in _normal_files(normal)]
    sources += [Source(path, machine, True) for path in _files(abnormal)]
    for name, paths in (sisters or {}).items():
        _check_word("id", name)
        if name == machine.machine_id:
            raise ConfigError(f"the machine itself has the id {name!r}: name its sister otherwise")
        sister = MachineId(machine.machine_type, name)
        sources += [Source(path, sister, False) for path in _normal_files(paths)]
    return sources


def find_machines(folder: str | Path, machine_type: str) -> list[Source]:
    """The recordings below ``folder``, where each folder is a machine of the type.

    A folder ``abnormal`` in a machine's folder holds recordings with something wrong.

    Raises:
        DataError: there is no folder in it, or two folders give one id.
    """
    folder, names = Path(folder), dict[str, Path]()
    _check_word("type", machine_type)
    _check_there(folder)
    inside = (
        sorted(p for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []
    )
    sources = []
    for path in filter(Path.is_dir, inside):
        name = re.sub(r"[^\w-]+", "-", normalize("NFC", path.name)).strip("-") or "-"
        if name in names:
            raise DataError(
                f"'{names[name]}' and '{path}' are both the machine {name!r}: rename one"
            )
        names[name], machine = path, MachineId(machine_type, name)
        for file in _inside(path):
            anomalous = file.relative_to(path).parts[0].lower() == ABNORMAL
            sources.append(Source(file, machine, anomalous))
    if not sources:
        raise DataError(f"'{folder}' holds no folder of recordings: each is to be a machine")
    return sources


def _normal_files(paths: Paths) -> Iterator[Path]:
    """:func:`_files` of a machine in good order, as far as folders and names tell."""
    for folder in map(Path, paths):
        for path in _files([folder]):
            if path != folder and _says_abnormal(path.relative_to(folder)):
                raise DataError(
                    f"'{path}' is called abnormal, and lies in '{folder}', which is said to be "
                    "normal: name the normal recordings alone"
                )
            yield path


def _says_abnormal(path: Path) -> bool:
    match = CLIP_NAME.fullmatch(path.name)
    in_folder = ABNORMAL in (part.lower() for part in path.parts[:-1])
    return in_folder or bool(match and match[1].lower() == "anomaly")


def _files(paths: Paths) -> Iterator[Path]:
    for path in map(Path, paths):
        _check_there(path)
        yield from _inside(path) if path.is_dir() else [path]


def _inside(folder: Path) -> list[Path]:
    """The recordings in a folder and its folders, in order; hidden ones are none."""
    found = files_inside(folder, SOUND_SUFFIXES)
    if not found:
        raise DataError(f"'{folder}' holds no recording ({', '.join(SOUND_SUFFIXES)})")
    return found


def _check_there(path: Path) -> None:
    try:
        path.stat()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "is missing" if missing else f"cannot be read: {error.strerror}"
        raise DataError(f"'{path}' {reason}") from error


def _check_word(what: str, text: str) -> None:
    if not WORD.fullmatch(text):
        raise ConfigError(
            f"a machine's {what} is a word of letters, digits, '-' and '_', found {text!r}"
        )
