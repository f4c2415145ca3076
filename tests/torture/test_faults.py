"""Whatever call of the disk fails: one line, the old file or the new, and the next try succeeds."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from edgeflow_runtime.backends.tensorrt.tensorrt_module import is_installed
from tests.torture.disk import Disk
from tests.torture.scenes import CHANGES, KILL, SCENES, Reference, Scene, Torture, complaint

TIMES = float(os.environ.get("EDGEFLOW_TORTURE", 1))
"""How many times the short form's sample is tried; ``make torture`` sets inf, for every call."""

LONG = TIMES > 1

by_name = pytest.mark.parametrize("scene", SCENES, ids=[scene.name for scene in SCENES])


@pytest.fixture
def reference(torture: Torture, scene: Scene) -> Reference:
    if scene.name == "build" and not is_installed("tensorrt-rtx"):
        pytest.skip("TensorRT-RTX is not installed: pip install -c constraints.txt '.[rtx]'")
    found = Reference.of(torture, scene)
    assert found.done.status in (0, 1), found.done.err
    return found


def sampled(cases: list, scene: Scene) -> list:
    tries = int(min(scene.tries * TIMES, len(cases)))
    return random.Random(scene.name).sample(cases, tries)


@by_name
def test_every_fault_of_the_disk(torture: Torture, scene: Scene, reference: Reference):
    again = Reference.of(torture, scene)
    assert again.tree == reference.tree, "the command gives other files each time"
    wrong: list[str] = []
    ends: Counter[int] = Counter()
    for at, how in sampled(list(reference.faults()), scene):
        torture.begin(scene)
        done = torture.play(scene, at, how)
        ends[done.status] += 1
        call = reference.calls[at - 1]
        where = f"{call.op} {call.path} failing with {how} (call {at})"
        found = torture.tree()
        said = complaint(done, reference.done)
        if said and not (how == KILL and done.status == -9):
            wrong.append(f"{where}: {said}")
        elif done.status == reference.done.status and found != reference.tree:
            wrong.append(f"{where}: ends well, but with other files")
        wrong += [f"{where}: {name}" for name in reference.misfits(found, killed=how == KILL)]
        after = torture.play(scene)
        if after.status != reference.done.status:
            wrong.append(f"{where}: the next try: {after.status} {after.err[-300:]}")
        elif left := differences(torture.tree(), reference, killed=how == KILL):
            wrong.append(f"{where}: the next try differs in {left}")
    print(f"{scene.name}: {len(reference.calls)} calls, faults by exit status {dict(ends)}")
    assert not wrong, "\n".join(wrong)


def differences(found: dict[str, str], reference: Reference, *, killed: bool) -> list[str]:
    """Files that a finished command should have left otherwise; what was killed leaves scraps."""
    names = {*found, *reference.tree}
    scraps = {n for n in names - {*reference.versions} if killed and Path(n).name.startswith(".")}
    return sorted(n for n in names - scraps if found.get(n) != reference.tree.get(n))


@by_name
def test_a_power_cut_after_every_call(torture: Torture, scene: Scene, reference: Reference):
    torture.begin(scene)
    disk = Disk(torture.work)
    wrong: list[str] = []
    states: dict[frozenset, tuple[int, dict[str, bytes | None]]] = {}
    for place, call in enumerate(reference.calls, 1):
        disk.play(call)
        if call.op not in CHANGES - {"write", "resize"}:
            continue
        for names_kept in (False, True):
            state = disk.after_power_cut(names_kept=names_kept)
            states.setdefault(frozenset(state.items()), (place, state))
    kept = [path for path in disk.lost() if path != "out" and not path.endswith(".lock")]
    wrong += disk.faults + [f"{path} is lost after a good end" for path in kept]
    for place, state in sampled(list(states.values()), scene):
        call = reference.calls[place - 1]
        where = f"power cut after {call.op} {call.path} (call {place})"
        torture.lay(state)
        wrong += [f"{where}: {name}" for name in reference.misfits(torture.tree(), killed=True)]
        after = torture.play(scene)
        if after.status != reference.done.status:
            wrong.append(f"{where}: the next try: {after.status} {after.err[-300:]}")
        elif left := differences(torture.tree(), reference, killed=True):
            wrong.append(f"{where}: the next try differs in {left}")
    print(f"{scene.name}: {len(states)} states after a power cut")
    assert not wrong, "\n".join(wrong)


INSPECT = Scene("inspect", ("inspect", "INPUTS/old.edgeflow"), 6)

MEMORY_MB = range(0, 400, 8)
"""Address space beyond what is loaded, in steps."""


@pytest.mark.parametrize("name", ["score", "export", "inspect"])
def test_memory_that_runs_out(torture: Torture, name: str):
    scene = next((scene for scene in SCENES if scene.name == name), INSPECT)
    reference = Reference.of(torture, scene)
    wrong: list[str] = []
    ends: Counter[int] = Counter()
    for memory_mb in sampled(list(MEMORY_MB), scene):
        torture.begin(scene)
        done = torture.play(scene, memory_mb=memory_mb)
        ends[done.status] += 1
        where = f"{name} with {memory_mb} MB"
        if said := complaint(done, reference.done):
            wrong.append(f"{where}: {said}")
        wrong += [f"{where}: {name}" for name in reference.misfits(torture.tree(), killed=False)]
    print(f"{name}: limits of memory by exit status {dict(ends)}")
    assert not wrong, "\n".join(wrong)
