"""From recordings to a plan: each is listened to, then clips are laid over what can be used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeflow.recordings.cutting import CutSpec, LeftOut, PlannedClip, cut, split
from edgeflow.recordings.listening import Heard, blocks_in, burst_limit_db, listen
from edgeflow.recordings.plan import Plan
from edgeflow.recordings.sources import DEFAULT_ID, DEFAULT_TYPE, Paths, Source, find_sources
from edgeflow_runtime.audio import choose_channel
from edgeflow_runtime.errors import AudioError, DataError
from edgeflow_runtime.manifest import MachineId
from edgeflow_runtime.progress import Progress
from edgeflow_runtime.sound_file import sound_info


def plan_recordings(
    normal: Paths,
    *,
    abnormal: Paths = (),
    sisters: Mapping[str, Paths] | None = None,
    machine_type: str = DEFAULT_TYPE,
    machine_id: str = DEFAULT_ID,
    seconds: float = 10.0,
    hop: float | None = None,
    channel: int | None = None,
    test_share: float | None = None,
    keep_bursts: bool = False,
) -> Plan:
    """Plan how recordings of any names and lengths become a data set; nothing is written yet.

    Args:
        normal: files and folders of the machine in good order.
        abnormal: of the machine with something wrong, to test on.
        sisters: by id, of other machines of the type in good order.
        machine_type: what the machine is.
        machine_id: which one it is.
        seconds: length of a clip.
        hop: seconds from the beginning of one clip to that of the next; as ``seconds`` if not
            given.
        channel: the channel to listen to; the first is 0.
        test_share: share of a machine's normal clips to test on, the last ones; a fifth where it
            has abnormal ones, else none, if not given.
        keep_bursts: leave in what is far louder than usual.

    Raises:
        DataError: a path is missing, a folder is empty, a recording needs a channel chosen, or one
            sound is said to be two things.
        ConfigError: a name is no word, or a number makes no sense.
    """
    spec = CutSpec(seconds, hop, channel, test_share, keep_bursts)
    machine = MachineId(machine_type, machine_id)
    return plan_sources(find_sources(machine, normal, abnormal, sisters), spec)


def plan_sources(
    sources: Sequence[Source], spec: CutSpec, known: Mapping[str, str] | None = None
) -> Plan:
    """:func:`plan_recordings` of what was found, but for the sounds whose digests are ``known``."""
    plan = Plan(spec, list(sources))
    plan.recordings = _listen_to_all(sources, spec, plan.faults)
    fresh = _without_doubles(plan, known or {})
    for machine in plan.machines:
        mine = [heard for heard in fresh if heard.source.machine == machine]
        normal = [heard for heard in mine if not heard.source.anomalous]
        limit = math.inf if spec.keep_bursts else burst_limit_db(normal, spec.seconds)
        clips: list[PlannedClip] = []
        for heard in mine:
            laid, left_out, rest_s = cut(heard, spec, math.inf if heard.source.anomalous else limit)
            clips += laid
            plan.left_out += left_out
            plan.rests_s += rest_s
        clips, dropped = split(clips, spec.test_share)
        plan.clips += clips
        plan.dropped += dropped
    return plan


def _listen_to_all(sources: Sequence[Source], spec: CutSpec, faults: list[str]) -> list[Heard]:
    """Listen to every recording; those that cannot be read become lines of ``faults``.

    Raises:
        DataError: a recording has several channels and none is chosen.
    """
    readable, blocks = [], 0
    for source in sources:
        try:
            info = sound_info(source.path)
        except AudioError as error:
            faults.append(str(error))
            continue
        _check_channel(source.path, info.channels, spec.channel)
        readable.append(source)
        blocks += blocks_in(info.samples, info.channels)
    heard = []
    with Progress("listening", blocks, "block") as progress:
        for source in readable:
            try:
                heard.append(listen(source, spec.channel, progress.advance))
            except AudioError as error:
                faults.append(str(error))
    return heard


def _check_channel(path: Path, channels: int, channel: int | None) -> None:
    """Say before anything else that a channel must be chosen: it is so for every recording."""
    if channel is None:
        try:
            choose_channel(str(path), channels, channel)
        except AudioError as error:
            raise DataError(str(error)) from error


def _without_doubles(plan: Plan, known: Mapping[str, str]) -> list[Heard]:
    """The recordings whose sound was not there before; the others are left out.

    Raises:
        DataError: one sound is said to be of two machines, or normal and abnormal.
    """
    first: dict[str, Source] = {}
    fresh = []
    for heard in plan.recordings:
        source, other = heard.source, first.get(heard.digest)
        if heard.digest in known:
            reason = f"is in the data set already, from '{known[heard.digest]}'"
        elif other is None or heard.silent.all():
            first[heard.digest] = source
            fresh.append(heard)
            continue
        elif (other.machine, other.anomalous) != (source.machine, source.anomalous):
            raise DataError(
                f"'{other.path}' and '{source.path}' hold the same sound, and are said to differ: "
                "name each recording once"
            )
        else:
            reason = f"is there already, as '{other.path}'"
        plan.left_out.append(LeftOut(source.path, 0.0, heard.seconds, reason))
    return fresh
