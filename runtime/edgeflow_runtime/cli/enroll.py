"""The commands that learn on the board from normal clips: enroll, calibrate."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeflow_runtime.cli.options import NamedPath, listen_option, say, warn
from edgeflow_runtime.cli.pipe_options import check_clips, pipe_format, pipe_options

if TYPE_CHECKING:
    from edgeflow_runtime.bundle import Bundle
    from edgeflow_runtime.clip_reader import Clip
    from edgeflow_runtime.enrolled_bundle import EnrolledBundle
    from edgeflow_runtime.manifest import Threshold
    from edgeflow_runtime.recalibration import Recalibration

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option(
        "--false-alarms", "promise",
        help="Share of normal clips that may alarm: 1%, 0.01, or '1 per week' with "
        "--listen; the bundle's own if not given.",
    ),
    listen_option,
    click.option(
        "--channel", type=click.IntRange(min=0), help="Channel to listen to; 0 is the first."
    ),
    pipe_options,
)  # fmt: skip
"""Of both commands: the promise, and what is listened to."""


def _listening(command: Command) -> Command:
    """Add :data:`OPTIONS`."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("base", type=NamedPath())
@click.argument("clips", nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=NamedPath(), help="The new bundle.")
@click.option(
    "--id", "machine_id",
    help="What the machine is called; the output's name behind its last '_' if not given.",
)  # fmt: skip
@click.option("--add", is_flag=True, help="BASE is enrolled: add these clips to its own.")
@_listening
@click.pass_context
def enroll(
    context: click.Context,
    base: Path,
    clips: tuple[str, ...],
    output: Path,
    machine_id: str | None,
    add: bool,
    promise: str | None,
    listen: str | None,
    channel: int | None,
    rate: int | None,
    channels: int,
    encoding: str,
) -> None:
    """Make a monitor of a machine never seen, from a base and its first clips.

    One normal clip is enough to begin. CLIPS are sound files, folders that are searched for them,
    or - for a pipe that ends. What is longer than the base's clips is cut into such.

        arecord -d 60 -f S16_LE -r 16000 -t raw | edgeflow enroll fan.base.edgeflow - -o 07.edgeflow

    More clips later refine it: edgeflow enroll fan_07.edgeflow MORE --add -o fan_07.edgeflow
    """
    from edgeflow_runtime.bundle import Bundle
    from edgeflow_runtime.enrolled_bundle import check_base, enrol_clips

    check_clips(context, clips)
    bundle = Bundle.load(base)
    check_base(bundle, add=add)
    if add and machine_id is not None:
        raise click.UsageError("--id: the machine keeps its name with --add; leave it out")
    machine_id = bundle.manifest.machine.machine_id if add else _machine_id(machine_id, output)
    p = _probability(bundle.manifest.threshold, promise, listen)
    heard = _heard(bundle, clips, channel, rate, channels, encoding)
    made = enrol_clips(
        bundle, heard, output, machine_id=machine_id, false_alarm_probability=p, add=add
    )
    for line in _enrolled_lines(made):
        say(line)


def _machine_id(given_id: str | None, output: Path) -> str:
    """``07`` of ``fan_07.edgeflow``, if none is given."""
    from edgeflow_runtime.manifest import WORD

    machine_id = output.name.partition(".")[0].rpartition("_")[2] if given_id is None else given_id
    if not WORD.fullmatch(machine_id):
        raise click.UsageError(
            f"{machine_id!r} is no machine's id: give letters, digits, '-' and '_' with --id"
        )
    return machine_id


def _probability(threshold: Threshold, promise: str | None, listen: str | None) -> float:
    """What is promised, the bundle's own if nothing is said."""
    from edgeflow_runtime.calibration import probability

    if promise is None:
        if listen is not None:
            raise click.UsageError("--listen belongs to --false-alarms '1 per week': give both")
        return threshold.false_alarm_probability
    return probability(promise, listen)


def _heard(
    bundle: Bundle,
    clips: tuple[str, ...],
    channel: int | None,
    rate: int | None,
    channels: int,
    encoding: str,
) -> list[Clip]:
    """The normal clips, from files or the pipe."""
    from edgeflow_runtime.clip_reader import find_clips
    from edgeflow_runtime.normal_clips import NormalClips

    normal = NormalClips(bundle, channel, warn)
    if "-" not in clips:
        return normal.of_files(find_clips([Path(clip) for clip in clips]))
    return normal.of_pipe(sys.stdin.buffer, pipe_format(bundle, rate, channels, encoding))


def _enrolled_lines(made: EnrolledBundle) -> list[str]:
    """What was made of whom, for people."""
    machine, enrolled = made.bundle.manifest.machine, made.enrolled
    record = made.bundle.manifest.enrolment
    assert record is not None
    sisters = len(record.sisters)
    lent = f"{record.blend:.0%} of the covariance from {sisters} sisters"
    lines = [f"{made.bundle.path}: {machine.name}, {record.clips} clip(s), {lent}"]
    if enrolled.unlike:
        lines.append(
            f"UNLIKE its {sisters} sisters in its {' and '.join(enrolled.unlike)}: it borrows "
            "nothing from them, and stands on its own clips alone; is it of this type, and heard "
            "from such a place?"
        )
    lines += _threshold_lines(enrolled.threshold)
    return lines


def _threshold_lines(limit: Threshold) -> list[str]:
    """A threshold, its promise, and where the rate lies that it gives."""
    from edgeflow_runtime.calibration import percent

    lines = [
        f"threshold {limit.value:.4f}, for {percent(limit.false_alarm_probability)} false alarms"
    ]
    if limit.rate_low is not None and limit.rate_high is not None:
        lines.append(
            f"which gives between {limit.rate_low:.2%} and {limit.rate_high:.2%} (90 % confidence)"
        )
    lines.append(f"set by {limit.method}")
    return lines


@click.command()
@click.argument("bundle", type=NamedPath())
@click.argument("normal", nargs=-1, required=True)
@click.option(
    "-o", "--output", type=NamedPath(),
    help="The bundle with the new threshold; only a report if not given.",
)  # fmt: skip
@click.option("--allow-laxer", is_flag=True, help="Also write a threshold above the old one.")
@_listening
@click.pass_context
def calibrate(
    context: click.Context,
    bundle: Path,
    normal: tuple[str, ...],
    output: Path | None,
    allow_laxer: bool,
    promise: str | None,
    listen: str | None,
    channel: int | None,
    rate: int | None,
    channels: int,
    encoding: str,
) -> None:
    """Set a bundle's threshold anew, from normal clips where it listens.

    NORMAL are sound files, folders that are searched for them, or - for a pipe that ends, none of
    which the monitor has learned. What is longer than its clips is cut into such. Without -o it
    only says what the threshold would be.
    """
    from edgeflow_runtime.base import Base
    from edgeflow_runtime.bundle_writer import write_again
    from edgeflow_runtime.enrolled_bundle import rows_of
    from edgeflow_runtime.recalibration import (
        check_unlearned,
        recalibrate,
        recalibrated,
        scores_of,
    )
    from edgeflow_runtime.scorer import Scorer

    check_clips(context, normal)
    if allow_laxer and output is None:
        raise click.UsageError("--allow-laxer belongs to -o: without it nothing is written")
    with Scorer.load(bundle, channel=channel, warn=warn) as s:
        p = _probability(s.bundle.manifest.threshold, promise, listen)
        heard = _heard(s.bundle, normal, channel, rate, channels, encoding)
        if s.bundle.base is not None:
            known = Base.from_tensors(s.bundle.base)
            known.check_new([clip.name for clip in heard], rows_of(s.bundle, heard))
        check_unlearned(s.bundle, heard)
        made = recalibrate(s.bundle.manifest.threshold, scores_of(s, heard), p)
        whole = s.bundle
    for line in _calibrated_lines(made):
        say(line)
    if output:
        write_again(recalibrated(whole, made, output, allow_laxer=allow_laxer))
        say(f"written to {output}")


def _calibrated_lines(made: Recalibration) -> list[str]:
    """What a threshold was and is."""
    from edgeflow_runtime.calibration import advice, percent

    low, high = made.old_rate()
    clips = made.new.heldout_clips
    change = f"{abs(made.laxer):.4f} {'laxer' if made.laxer > 0 else 'stricter'}"
    lines = [
        f"was {made.old.value:.4f}, for {percent(made.old.false_alarm_probability)} false alarms: "
        f"{made.alarms} of these {clips} clips alarm, so the rate lies between {low:.2%} and "
        f"{high:.2%} (90 % confidence)",
        f"would be {made.new.value:.4f}, {change}",
        *_threshold_lines(made.new),
    ]
    if advised := advice(made.new):
        lines.append(advised)
    return lines
