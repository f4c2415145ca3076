"""What commands share that hear files or a pipe: the options of a pipe, and what goes together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeflow_runtime.cli.options import given

if TYPE_CHECKING:
    from edgeflow_runtime.bundle import Bundle
    from edgeflow_runtime.pipe import PcmFormat

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option(
        "--rate", type=click.IntRange(100, 10_000_000), help="From a pipe: sample rate in Hz."
    ),
    click.option(
        "--channels", type=click.IntRange(1, 1024), default=1, help="From a pipe: channels."
    ),
    click.option(
        "--encoding", type=click.Choice(["s16", "s32", "f32"]), default="s16",
        help="From a pipe: sample type, little-endian.",
    ),
)  # fmt: skip

NAMES = ("rate", "channels", "encoding")


def pipe_options(command: Command) -> Command:
    """Give a command the options that tell what a pipe holds; files say it themselves."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def check_clips(context: click.Context, clips: tuple[str, ...], *further: str) -> None:
    """Refuse what would be ignored; ``further`` are options that also belong to a pipe."""
    if "" in clips:
        raise click.UsageError("a clip's name is empty: name a file or a folder")
    if "-" not in clips:
        if needless := given(context, *NAMES, *further):
            raise click.UsageError(
                f"{needless}: only for sound from a pipe, '-'; files say what they hold: leave it "
                "out"
            )
    elif len(clips) > 1:
        raise click.UsageError("'-' is the pipe; it cannot be heard together with files")


def pipe_format(bundle: Bundle, rate: int | None, channels: int, encoding: str) -> PcmFormat:
    """What standard input holds.

    Raises:
        AudioError: it is closed, or the bundle takes log-Mel arrays.
    """
    from edgeflow_runtime.errors import AudioError
    from edgeflow_runtime.pipe import PcmFormat

    spec = bundle.manifest.features.logmel
    if spec is None:
        raise AudioError("this monitor was trained on log-Mel arrays; it cannot listen to a pipe")
    if sys.stdin is None:
        raise AudioError("standard input is closed: there is no pipe to listen to")
    return PcmFormat(rate or spec.rate_hz, channels, encoding)
