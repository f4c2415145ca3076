"""The board's commands: score, build, inspect, verify, doctor."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeflow_runtime.options import FiniteFloat
from edgeflow_runtime.progress import BuildProgress

if TYPE_CHECKING:
    from edgeflow_runtime.bundle import Bundle
    from edgeflow_runtime.engines.record import EngineRecord
    from edgeflow_runtime.scoring import ClipScore, Scorer

EXIT_NORMAL, EXIT_ANOMALY, EXIT_FAULT = 0, 1, 2

BACKENDS = ("auto", "tensorrt", "tensorrt-rtx", "onnxruntime")

COLOURS = {"normal": "green", "anomalous": "red", "unknown": "yellow"}


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("clips", nargs=-1, required=True)
@click.option("--threshold", type=FiniteFloat(), help="Threshold in place of the bundle's.")
@click.option("--channel", type=click.IntRange(min=0), help="Channel to listen to; 0 is the first.")
@click.option("--json", "style", flag_value="json", help="JSON lines (the default in a pipe).")
@click.option("--csv", "style", flag_value="csv", help="Comma-separated values.")
@click.option("--table", "style", flag_value="table", help="A table (the default on a terminal).")
@click.option(
    "--map", "maps", type=click.Path(path_type=Path), help="Save NLL maps to this folder."
)
@click.option("--workers", type=click.IntRange(min=1), help="Threads; all cores if not given.")
@click.option(
    "--backend", type=click.Choice(BACKENDS), default="auto", show_default=True,
    help="What runs the flow; auto takes an engine built here, else the CPU.",
)  # fmt: skip
@click.option("--require-gpu", is_flag=True, help="Refuse to score on the CPU.")
@click.option("--audio-in", is_flag=True, help="Run the graph that starts at the samples.")
@click.option("--every", type=FiniteFloat(0.1, 3600), help="From a pipe: seconds in one clip.")
@click.option("--rate", type=click.IntRange(min=1), help="From a pipe: sample rate in Hz.")
@click.option("--channels", type=click.IntRange(min=1), default=1, help="From a pipe: channels.")
@click.option(
    "--encoding",
    type=click.Choice(["s16", "s32", "f32"]),
    default="s16",
    help="From a pipe: sample type, little-endian.",
)
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
    every: float | None,
    rate: int | None,
    channels: int,
    encoding: str,
) -> None:
    """Score clips with a bundle: normal, anomalous or unknown.

    CLIPS are sound files, folders that are searched for them, or - for sound from a pipe
    (16-bit mono PCM at the monitor's rate unless the options say otherwise, or WAV):

        arecord -f S16_LE -r 16000 -t raw | edgeflow score fan.edgeflow -

    The exit status is 0 if all clips are normal, 1 if one is anomalous, 2 if one is unknown.
    """
    from edgeflow_runtime.clips import find_clips
    from edgeflow_runtime.errors import AudioError
    from edgeflow_runtime.scoring import Scorer

    scorer = Scorer.load(
        bundle,
        threshold=threshold,
        channel=channel,
        workers=workers,
        backend=backend,
        require_gpu=require_gpu,
        audio_in=audio_in,
        warn=_warn,
    )
    results: Iterator[ClipScore]
    if "-" in clips:
        if len(clips) > 1:
            raise AudioError("'-' is the pipe; it cannot be scored together with files")
        if maps:
            raise AudioError("--map draws files; it cannot draw a pipe")
        results = _score_pipe(scorer, every, rate, channels, encoding)
    else:
        paths = find_clips([Path(clip) for clip in clips])
        if maps:
            from edgeflow_runtime.extras import require

            require("matplotlib", "plot")
        results = scorer.score_files(paths, maps=maps is not None)
        if maps:
            results = _draw(results, scorer.bundle, maps)
        if len(paths) > 1 and not sys.stdout.isatty():  # on a terminal the table shows how far
            from edgeflow_runtime.progress import track

            results = track(results, "scoring", len(paths))
    context.exit(_print_scores(results, style or _default_style()))


def _warn(text: str) -> None:
    click.echo(text, err=True)


def _default_style() -> str:
    return "table" if sys.stdout.isatty() else "json"


def _score_pipe(
    scorer: Scorer, every: float | None, rate: int | None, channels: int, encoding: str
) -> Iterator[ClipScore]:
    """Score what comes through standard input, clip by clip, as it comes."""
    from edgeflow_runtime.audio import check_rate, choose_channel
    from edgeflow_runtime.errors import AudioError
    from edgeflow_runtime.pcm import PcmFormat, read_clips

    manifest = scorer.bundle.manifest
    spec = manifest.features.logmel
    if spec is None:
        raise AudioError("this monitor was trained on log-Mel arrays; it cannot listen to a pipe")
    if sys.stdin is None:
        raise AudioError("standard input is closed: there is no pipe to listen to")
    seconds = every or manifest.threshold.clip_seconds
    fmt = PcmFormat(rate or spec.rate_hz, channels, encoding)
    whole = None
    for number, (samples, rate_hz) in enumerate(read_clips(sys.stdin.buffer, fmt, seconds)):
        if number == 0:  # wrong for the first clip is wrong for all of the pipe
            check_rate("-", rate_hz, scorer.reader.min_rate_hz)
            reader = scorer.reader
            choose_channel("-", samples.shape[1], reader.channel, reader.usual_channel)
        if whole and len(samples) < whole / 2:
            break  # the last scrap of a stream says little: its score would vary too much
        whole = whole or len(samples)
        start = number * whole / rate_hz
        yield scorer.judge(samples, rate_hz, name=f"-@{start:.1f}s")


def _draw(results: Iterator[ClipScore], bundle: Bundle, folder: Path) -> Iterator[ClipScore]:
    """Save the map of each clip that was judged, under a name that is its own."""
    from edgeflow_runtime.picture import save_map

    used: set[str] = set()
    for result in results:
        if result.nll_map is not None:
            stem = Path(result.file).stem
            names = (stem if k == 1 else f"{stem}-{k}" for k in count(1))
            name = next(name for name in names if name not in used)
            used.add(name)
            save_map(result, bundle, folder / f"{name}.png")
        yield result


def _print_scores(results: Iterable[ClipScore], style: str) -> int:
    """Print each result as it comes; return the exit status."""
    printers = {"json": lambda: _print_json, "csv": _csv_printer, "table": _table_printer}
    write = printers[style]()
    status = EXIT_NORMAL
    for result in results:
        write(result)
        if result.error:
            click.echo(f"Error: {result.error}", err=True)
            status = EXIT_FAULT
        elif result.verdict == "anomalous":
            status = max(status, EXIT_ANOMALY)
    return status


def _print_json(result: ClipScore) -> None:
    click.echo(json.dumps(result.to_dict(), allow_nan=False))


def _csv_printer() -> Callable[[ClipScore], None]:
    columns = ("file", "score", "threshold", "verdict", "seconds", "windows", "backend", "device")
    writer = csv.DictWriter(sys.stdout, [*columns, "error"], lineterminator="\n", restval="")
    started = False

    def write(result: ClipScore) -> None:
        nonlocal started
        if not started:
            writer.writeheader()
            started = True
        writer.writerow(result.to_dict())
        sys.stdout.flush()

    return write


def _table_printer() -> Callable[[ClipScore], None]:
    started = False

    def write(result: ClipScore) -> None:
        nonlocal started
        if not started:
            click.echo(f"{'verdict':<10}{'score':>9}{'threshold':>11}{'seconds':>9}  clip")
            started = True
        found = "-" if result.score is None else f"{result.score:.4f}"
        length = "-" if result.seconds is None else f"{result.seconds:.1f}"
        verdict = click.style(f"{result.verdict:<10}", fg=COLOURS[result.verdict])
        click.echo(f"{verdict}{found:>9}{result.threshold:>11.4f}{length:>9}  {result.file}")

    return write


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The whole manifest as JSON.")
def inspect(bundle: Path, as_json: bool) -> None:
    """Show what a bundle holds, its hashes checked."""
    from edgeflow_runtime.bundle import Bundle

    found = Bundle.load(bundle)
    manifest = found.manifest
    if as_json:
        click.echo(json.dumps(manifest.to_dict(), indent=2))
        return
    spec, limit, past = manifest.features.logmel, manifest.threshold, manifest.training
    listens = (
        f"{spec.rate_hz} Hz, frame {spec.frame}, hop {spec.hop}, {spec.bands} bands "
        f"({spec.filterbank})"
        if spec
        else f"log-Mel arrays of {manifest.features.bands} bands, made elsewhere"
    )
    outliers = "" if past.outlier_ceiling is None else (
        f", against {past.outlier_clips} clips of others below c = {past.outlier_ceiling:.4f}"
    )  # fmt: skip
    rows = {
        "monitor": manifest.monitor.name,
        "format": f"{manifest.format_version}, {bundle.stat().st_size / 1e6:.1f} MB",
        "listens to": listens,
        "window": f"{manifest.window.frames} frames, one every {manifest.window.hop}",
        "flow": f"{past.model}, {manifest.precision}, {len(found.onnx) / 1e6:.1f} MB of ONNX",
        "trained": f"{past.loss}, {past.epochs} epochs, {past.target_clips} clips{outliers}",
        "threshold": f"{limit.value:.4f} {manifest.score_unit}",
        "set from": f"{limit.heldout_clips} held-out clips of {limit.clip_seconds:.1f} s for "
        f"{limit.false_alarm_probability:.2%} false alarms",
        "made with": ", ".join(f"{k} {v}" for k, v in sorted(past.versions.items())),
    }
    for name, text in rows.items():
        click.echo(f"{name:<12}{text}")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
def verify(bundle: Path) -> None:
    """Check a bundle's hashes and replay its golden recording here."""
    from edgeflow_runtime.backend import OnnxRuntimeBackend
    from edgeflow_runtime.bundle import Bundle
    from edgeflow_runtime.errors import BackendError
    from edgeflow_runtime.golden import replay

    found = Bundle.load(bundle)
    backend = OnnxRuntimeBackend(found.onnx)
    click.echo("hashes      all match")
    result = replay(found, backend)
    if found.manifest.features.logmel:
        click.echo(
            f"log-Mel     within {result.logmel_db:.1e} dB of the record "
            f"(allowed {result.logmel_allowed_db:.0e})"
        )
    click.echo(
        f"NLL         within {result.nll:.1e} nats/dim over {result.windows} windows "
        f"(allowed {result.nll_allowed:.0e}), {backend.name} on {backend.device}"
    )
    if not result.passed:
        raise BackendError(f"'{bundle}' does not give its golden scores on this machine")
    click.echo("verified")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--batch", "buckets", type=click.IntRange(1, 4096), multiple=True,
    help="A batch size, of windows or of clips; give several.  [default: 1, 16, 64; clips 1, 4]",
)  # fmt: skip
@click.option(
    "--workspace", type=click.IntRange(16, 65536), default=512, show_default=True,
    help="Megabytes that TensorRT may use while it builds.",
)  # fmt: skip
@click.option(
    "--backend", type=click.Choice(["tensorrt", "tensorrt-rtx"]), default="tensorrt",
    show_default=True, help="Which library builds.",
)  # fmt: skip
@click.option("--audio-in", is_flag=True, help="Build the graph that starts at the samples.")
def build(
    bundle: Path, buckets: tuple[int, ...], workspace: int, backend: str, audio_in: bool
) -> None:
    """Build a bundle's engine on this board and prove it there.

    Each batch size becomes an optimisation profile. The engine counts only once it has replayed the
    golden recording on this board's GPU within the bundle's tolerance; until then the one before
    stays. Without a GPU, tensorrt-rtx compiles the graph for others: a check, no engine to run.
    """
    from edgeflow_runtime.engines.build import BuildOrder, build_engine

    order = BuildOrder("audio" if audio_in else "flow", backend, buckets, workspace * 2**20)
    with BuildProgress() as progress:
        record = build_engine(bundle, order, progress.show)
    for name, text in _engine_rows(bundle, record).items():
        click.echo(f"{name:<12}{text}")


def _engine_rows(bundle: Path, record: EngineRecord) -> dict[str, str]:
    """What was built, for people."""
    key, proof = record.key, record.proof
    layers = ", ".join(f"{n} {name.lower()}" for name, n in sorted(record.layers.items()))
    ran = (
        f"within {proof.nll:.1e} nats/dim of the golden recording (allowed {proof.allowed:.0e})"
        if proof
        else "never: there is no GPU here"
    )
    build = f" build {key.build}" if key.build else ""
    return {
        "what": f"{record.label}: {bundle.with_suffix('.engines') / record.file}",
        "graph": f"{key.graph}, {record.precision}; parsed layers: {layers}",
        "for": f"{key.gpu or 'GPUs'} of compute capability {key.compute_capability}, "
        f"{key.backend} {key.version}{build}",
        "batches": ", ".join(map(str, record.buckets)),
        "built in": f"{record.seconds:.1f} s",
        "ran": ran,
    }
