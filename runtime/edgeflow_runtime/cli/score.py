"""The command that scores clips."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeflow_runtime.backends.names import BACKENDS
from edgeflow_runtime.cli.options import FiniteFloat, NamedPath, audio_in_option, warn
from edgeflow_runtime.cli.pipe_options import check_clips, pipe_format, pipe_options
from edgeflow_runtime.printable import printable

if TYPE_CHECKING:
    from edgeflow_runtime.bundle import Bundle
    from edgeflow_runtime.picture import MapScale
    from edgeflow_runtime.scorer import Scorer
    from edgeflow_runtime.verdicts import ClipResult

EXIT_NORMAL, EXIT_ANOMALY, EXIT_FAULT = 0, 1, 2

STATUSES = {"normal": EXIT_NORMAL, "anomalous": EXIT_ANOMALY, "unknown": EXIT_FAULT}

COLOURS = {"normal": "green", "anomalous": "red", "unknown": "yellow"}


@click.command()
@click.argument("bundle", type=NamedPath())
@click.argument("clips", nargs=-1, required=True)
@click.option("--threshold", type=FiniteFloat(), help="Threshold in place of the bundle's.")
@click.option("--channel", type=click.IntRange(min=0), help="Channel to listen to; 0 is the first.")
@click.option("--json", "style", flag_value="json", help="JSON lines (the default in a pipe).")
@click.option("--csv", "style", flag_value="csv", help="Comma-separated values.")
@click.option("--table", "style", flag_value="table", help="A table (the default on a terminal).")
@click.option("--map", "maps", type=NamedPath(), help="Save NLL maps to this folder.")
@click.option("--workers", type=click.IntRange(min=1), help="Threads; all cores if not given.")
@click.option(
    "--backend", type=click.Choice(BACKENDS), default="auto", show_default=True,
    help="What runs the flow; auto takes an engine built here, else the CPU.",
)  # fmt: skip
@click.option("--require-gpu", is_flag=True, help="Refuse to score on the CPU.")
@audio_in_option
@click.option("--no-proof", is_flag=True, help="Score without a replay of the golden recording.")
@click.option(
    "--every", type=FiniteFloat(0.1, 3600),
    help="Seconds judged at a time; as long as the clips that it learned from if not given.",
)  # fmt: skip
@click.option("--allow-short", is_flag=True, help="Judge shorter sounds, too, with a warning.")
@pipe_options
@click.option(
    "--timeout", type=FiniteFloat(0.1, 86400),
    help="From a pipe: seconds without sound until a clip is unknown; three clips if not given.",
)  # fmt: skip
@click.pass_context
def score(
    context: click.Context,
    bundle: Path,
    clips: tuple[str, ...],
    threshold: float | None,
    channel: int | None,
    style: str | None,
    maps: Path | None,
    workers: int | None,
    backend: str,
    require_gpu: bool,
    audio_in: bool,
    no_proof: bool,
    every: float | None,
    allow_short: bool,
    rate: int | None,
    channels: int,
    encoding: str,
    timeout: float | None,
) -> None:
    """Score clips with a bundle: normal, anomalous or unknown.

    CLIPS are sound files, folders that are searched for them, or - for sound from a pipe
    (16-bit mono PCM at the monitor's rate unless the options say otherwise, or WAV):

        arecord -f S16_LE -r 16000 -t raw | edgeflow score fan.edgeflow -

    A longer file is judged in stretches, a line each, and then one that sums them up on
    standard error.

    The exit status is 0 if all clips are normal, 1 if one is anomalous, 2 if one is unknown.
    """
    check_clips(context, clips, "timeout")
    if "-" in clips and maps:
        raise click.UsageError("--map draws files; it cannot draw a pipe")
    from edgeflow_runtime.scorer import Scorer

    with Scorer.load(
        bundle,
        threshold=threshold,
        channel=channel,
        workers=workers,
        every=every,
        allow_short=allow_short,
        backend=backend,
        require_gpu=require_gpu,
        audio_in=audio_in,
        prove=not no_proof,
        warn=warn,
    ) as scorer:
        if "-" in clips:
            fmt = pipe_format(scorer.bundle, rate, channels, encoding)
            results = scorer.score_pipe(sys.stdin.buffer, fmt, timeout)
        else:
            results = _score_files(scorer, clips, maps is not None)
        pictures = Pictures(scorer.bundle, maps) if maps else None
        status = _print_scores(results, style or _default_style(), pictures)
    context.exit(status)


def _default_style() -> str:
    return "table" if sys.stdout.isatty() else "json"


def _score_files(scorer: Scorer, clips: tuple[str, ...], maps: bool) -> Iterator[ClipResult]:
    """Score clips, one by one as they are taken from what this returns."""
    from edgeflow_runtime.clip_reader import find_clips

    paths = find_clips([Path(clip) for clip in clips])
    if maps:
        from edgeflow_runtime.extras import require

        require("matplotlib", "plot")
    if len(paths) > 1 and not sys.stdout.isatty():  # on a terminal the table shows how far
        from edgeflow_runtime.progress import track

        return scorer.score_files(track(paths, "scoring", len(paths)), maps=maps)
    return scorer.score_files(paths, maps=maps)


class Pictures:
    """Saves the map of each clip that was judged, under a name that is its own."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self._bundle, self._folder = bundle, folder
        self._used: set[str] = set()
        self._scale: MapScale | None = None

    def save(self, result: ClipResult) -> None:
        """Draw one clip; nothing if it could not be judged.

        Raises:
            StorageError: the picture cannot be written.
        """
        from edgeflow_runtime.picture import map_scale, save_map

        if result.score is None:
            return
        stem = Path(result.clip).stem
        if result.stretches > 1:
            stem = f"{stem}@{result.offset_seconds:.1f}s"
        names = (stem if k == 1 else f"{stem}-{k}" for k in count(1))
        name = next(name for name in names if name not in self._used)
        self._used.add(name)
        self._scale = self._scale or map_scale(self._bundle)
        save_map(result, self._bundle, self._scale, self._folder / f"{name}.png")


def _print_scores(results: Iterable[ClipResult], style: str, pictures: Pictures | None) -> int:
    """Print each result as it comes, and only then draw it; return the exit status."""
    from edgeflow_runtime.summary import summaries

    printers = {"json": lambda: _print_json, "csv": _csv_printer, "table": _table_printer}
    write = printers[style]()
    statuses = {EXIT_NORMAL}

    def printed() -> Iterator[ClipResult]:
        for result in results:
            write(result)
            if result.error:
                warn(f"Error: {printable(result.error)}")
            statuses.add(STATUSES[result.verdict])
            if pictures and not _drawn(pictures, result):
                statuses.add(EXIT_FAULT)
            yield result

    for summary in summaries(printed()):
        if summary.stretches > 1:
            warn(summary)
    return max(statuses)


def _drawn(pictures: Pictures, result: ClipResult) -> bool:
    """Whether a clip's picture is there; no verdict is lost for one that is not."""
    from edgeflow_runtime.errors import EdgeflowError

    try:
        pictures.save(result)
    except EdgeflowError as error:
        warn(f"Error: {printable(error)}")
        return False
    return True


def _print_json(result: ClipResult) -> None:
    click.echo(json.dumps(result.to_dict(), allow_nan=False))


def _csv_printer() -> Callable[[ClipResult], None]:
    started = False

    def write(result: ClipResult) -> None:
        nonlocal started
        record = result.to_dict()
        if not started:
            _csv_writer(record).writerow(record)
            started = True
        _csv_writer(record.values()).writerow(record.values())
        sys.stdout.flush()

    return write


def _csv_writer(values: Iterable[object]) -> Any:  # noqa: ANN401  # csv names no such type
    """What writes these values: it would leave a lone carriage return unquoted."""
    if any("\r" in str(value) for value in values):
        return csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_ALL)
    return csv.writer(sys.stdout, lineterminator="\n")


def _table_printer() -> Callable[[ClipResult], None]:
    started = False

    def write(result: ClipResult) -> None:
        nonlocal started
        if not started:
            click.echo(f"{'verdict':<10}{'score':>9}{'threshold':>11}{'seconds':>9}  clip")
            started = True
        score = "-" if result.score is None else f"{result.score:.4f}"
        length = "-" if result.seconds is None else f"{result.seconds:.1f}"
        verdict = click.style(f"{result.verdict:<10}", fg=COLOURS[result.verdict])
        click.echo(
            f"{verdict}{score:>9}{result.threshold:>11.4f}{length:>9}  {printable(result.label)}"
        )

    return write
