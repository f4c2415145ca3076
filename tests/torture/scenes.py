"""The commands that are tortured, each with a folder to work in, and what must hold afterwards."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.torture.disk import Call, Disk, calls_in
from tests.torture.forks import Done, Forks

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}")
"""What :func:`edgeflow_runtime.storage.atomic_file` calls a file that is not whole yet."""

ENOSPC, EIO, SHORT, KILL = "28", "5", "short", "kill"

CHANGES = {
    "create", "truncate", "write", "fsync", "rename", "unlink", "mkdir", "rmdir", "resize", "chmod",
}  # fmt: skip
"""Calls that change what is on the disk, and can find it full."""

Tree = dict[str, str]
"""SHA-256 by path of what is in a folder, without what differs from run to run."""


@dataclass(frozen=True)
class Scene:
    """A command, and what stands in its folder beforehand."""

    name: str
    """What it is called."""
    arguments: tuple[str, ...]
    """Of the command line; ``WORK`` and ``INPUTS`` stand for the folders."""
    tries: int
    """How many faults the short form tries; slow commands get few."""
    inputs: tuple[str, ...] = ()
    """What of the inputs is copied into the folder first."""


def synth(machines: int, clips: int) -> tuple[str, ...]:
    """The command that makes some fans."""
    sizes = "--machines", str(machines), "--clips", str(clips), "--seconds", "1"
    return ("data", "synth", "WORK/data", "--types", "fan", *sizes)


SCENES = (
    Scene("synth", synth(1, 2), 12),
    Scene("train", ("train", "INPUTS/data", "--type", "fan", "--id", "00", "--model", "maf",
                    "--loss", "eq5", "--preset", "small", "--epochs", "1",
                    "-o", "WORK/new/run"), 3),
    Scene("export", ("export", "INPUTS/run", "-o", "WORK/old.edgeflow", "--false-alarms", "0.2"), 2,
          ("old.edgeflow",)),
    Scene("score", ("score", "INPUTS/old.edgeflow", "INPUTS/clips", "--csv",
                    "--map", "WORK/maps"), 4),
    Scene("build", ("build", "WORK/old.edgeflow", "--backend", "tensorrt-rtx"), 2,
          ("old.edgeflow",)),
)  # fmt: skip


class Torture:
    """A folder in which a scene is played again and again, each time with another fault.

    Args:
        forks: runs the commands, with the library that injects faults preloaded.
        folder: an empty folder.
    """

    def __init__(self, forks: Forks, folder: Path) -> None:
        self._forks, self._folder = forks, folder
        self.inputs, self.work = folder / "inputs", folder / "work"
        self.inputs.mkdir()
        self._count, self._log = folder / "count", folder / "log"
        self._make_inputs()

    def _make_inputs(self) -> None:
        """Sounds, a run, its bundle, and two clips to score."""
        for arguments in (
            [*synth(2, 3)],
            [*SCENES[1].arguments[:-1], "WORK/run"],
            ["export", "INPUTS/run", "-o", "WORK/old.edgeflow", "--false-alarms", "0.4"],
        ):
            self.work = self.inputs
            done = self._run(arguments, cache=self._folder / "cache")
            assert done.status == 0, done.err
        self.work = self._folder / "work"
        clips = sorted((self.inputs / "data/fan/test").iterdir())
        (self.inputs / "clips").mkdir()
        for clip in (clips[0], clips[-1]):
            shutil.copy(clip, self.inputs / "clips")
        shutil.rmtree(self.inputs / "data/fan/test")
        (self.inputs / "out").unlink()

    def begin(self, scene: Scene) -> None:
        """Lay out the folder as it is before the command."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        for name in scene.inputs:
            shutil.copy(self.inputs / name, self.work / name)

    def play(
        self,
        scene: Scene,
        at: int = 0,
        how: str = "0",
        memory_mb: int | None = None,
        user: int | None = None,
        **environment: str,
    ) -> Done:
        """Run the command, with a fault at the given call, 0 for none, or in other surroundings."""
        arguments = list(scene.arguments)
        return self._run(arguments, at, how, memory_mb=memory_mb, user=user, **environment)

    def _run(
        self,
        arguments: list[str],
        at: int = 0,
        how: str = "0",
        cache: Path | None = None,
        **options: Any,
    ) -> Done:
        self._count.write_bytes(bytes(8))
        self._log.write_bytes(b"")
        places = {"WORK": str(self.work), "INPUTS": str(self.inputs)}
        filled = [re.sub("^(WORK|INPUTS)", lambda name: places[name[0]], a) for a in arguments]
        return self._forks.run(
            filled,
            self.work / "out",
            **options,
            FAULT_FOLDERS=f"{self.work}:{self.inputs}",
            FAULT_COUNT=str(self._count),
            FAULT_LOG=str(self._log),
            FAULT_AT=str(at),
            FAULT_HOW=how,
            EDGEFLOW_CACHE=str(cache or self.work / "cache"),
            MPLCONFIGDIR=str(self._folder / "matplotlib"),
        )

    def calls(self) -> list[Call]:
        """What the last command asked of the watched folders."""
        return list(calls_in(self._log.read_bytes()))

    def tree(self) -> Tree:
        """What stands in the folder."""
        return tree_of({
            path.relative_to(self.work).as_posix(): path.read_bytes()
            for path in self.work.rglob("*") if path.is_file()
        })  # fmt: skip

    def lay(self, content: dict[str, bytes | None]) -> None:
        """Make the folder hold ``content``, as a disk does after a power cut."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        for path, data in content.items():
            if data is None:
                (self.work / path).mkdir(parents=True, exist_ok=True)
            else:
                (self.work / path).write_bytes(data)


@dataclass(frozen=True)
class Reference:
    """What a scene comes to when nothing fails."""

    done: Done
    """How it ends."""
    calls: list[Call]
    """What it asks of the disk."""
    tree: Tree
    """What it leaves."""
    versions: dict[str, set[str]]
    """SHA-256 of every whole content that each file ever has."""

    @classmethod
    def of(cls, torture: Torture, scene: Scene) -> Reference:
        """Play ``scene`` without a fault."""
        torture.begin(scene)
        before, disk = torture.tree(), Disk(torture.work)
        done = torture.play(scene)
        calls, tree = torture.calls(), torture.tree()
        versions: dict[str, set[str]] = defaultdict(set)
        for state in (before, tree):
            for path, sha256 in state.items():
                versions[path].add(sha256)
        for call in calls:
            disk.play(call)
            if call.op == "rename" and (file := disk.names.get(call.other)):
                path = str(Path(call.other).relative_to(torture.work))
                versions[path] |= set(tree_of({path: bytes(file.now)}).values())
        return cls(done, calls, tree, versions)

    def faults(self) -> Iterator[tuple[int, str]]:
        """Every place in which the scene can be made to fail, and how."""
        for place, call in enumerate(self.calls, 1):
            yield place, EIO
            if call.op in CHANGES:
                yield place, ENOSPC
                yield place, KILL
            if call.op in ("write", "read"):
                yield place, SHORT

    def misfits(self, tree: Tree, *, killed: bool) -> list[str]:
        """Files that are neither the old nor the new ones."""
        wrong = []
        for path, sha256 in tree.items():
            if TEMPORARY.fullmatch(Path(path).name):
                wrong += [] if killed else [f"{path} is left over"]
            elif sha256 not in self.versions[path]:
                wrong.append(f"{path} is neither old nor new")
        return wrong


def tree_of(files: dict[str, bytes]) -> Tree:
    """SHA-256 of each file, but for standard output and locks; times are left out of documents."""
    return {
        path: hashlib.sha256(_timeless(path, content)).hexdigest()
        for path, content in sorted(files.items())
        if path != "out" and not path.endswith(".lock")
    }


def _timeless(path: str, content: bytes) -> bytes:
    if not path.endswith((".json", ".jsonl")):
        return content
    return re.sub(rb'"seconds": [0-9.e-]+', b"", content)


def complaint(done: Done, reference: Done) -> str | None:
    """What is wrong with the way a command ended, if anything is."""
    if done.status == reference.status:
        return None
    errors = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    if done.status != 2:
        return f"status {done.status}"
    if len(errors) != 1 or "Traceback" in done.err or "unforeseen" in done.err:
        return f"said {json.dumps(done.err[-300:])}"
    return None
