"""``python -m edgeflow_benchmarks.gpu``: typed graphs on whatever runs here, beside torch, at once.

One command, unchanged from a workstation to a Jetson: it builds engines where TensorRT is, takes
ONNX Runtime and torch where they are, says of the rest why it is missing, and measures clips per
second in each batch size, in turns, on the same windows.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeflow_runtime.errors import EdgeflowError
from edgeflow_runtime.extras import require

if TYPE_CHECKING:
    from edgeflow.models.spec import ModelSpec
    from edgeflow_benchmarks.models import RandomModel
    from edgeflow_benchmarks.report import Row
    from edgeflow_benchmarks.runners import Run, Runners

EXIT_FAULT = 2
PRECISIONS = ("fp32", "fp16", "int8")
REFERENCE = "torch eager"
FLOW_ALONE = "torch eager, the flow alone"


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    clips: int
    """Different clips of ten seconds."""
    rounds: int
    """Repeats."""
    windows: tuple[int, ...]
    """Batch sizes of windows."""
    sounds: tuple[int, ...]
    """Batch sizes of clips, for the graph that starts at the samples."""


FULL = Extent(8, 7, (1, 16, 80), (1, 4))
QUICK = Extent(2, 1, (1, 4), (1, 2))


@click.command()
@click.option("--json", "path", type=click.Path(path_type=Path), help="Also write JSON to a file.")
@click.option("--quick", is_flag=True, help="A smoke run: small flows, few repeats.")
def main(path: Path | None, quick: bool) -> None:
    """Measure the typed graphs on this machine's GPU, or without one on what it has."""
    try:
        for package in ("torch", "onnx", "onnxscript", "threadpoolctl"):
            require(package, "bench")
        _measure(path, QUICK if quick else FULL, small=quick)
    except EdgeflowError as error:
        click.echo(f"Error: {' '.join(str(error).split())}", err=True)
        sys.exit(EXIT_FAULT)


def _measure(path: Path | None, extent: Extent, *, small: bool) -> None:
    from edgeflow_benchmarks.environment import describe
    from edgeflow_benchmarks.report import document, table
    from edgeflow_benchmarks.runners import gpu_facts
    from edgeflow_runtime.storage import write_text

    environment = describe() | dict(gpu_facts())
    for name, text in environment.items():
        click.echo(f"{name:<14}{text}")
    notes: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="edgeflow-bench-") as folder:
        rows = list(_rows(Path(folder), extent, small, notes))
    click.echo(f"\n{table(rows)}\n")
    for name, text in notes.items():
        click.echo(f"{name}: {text}")
    if path:
        write_text(path, document(environment | notes, rows))


def _rows(folder: Path, extent: Extent, small: bool, notes: dict[str, str]) -> Iterator[Row]:
    from edgeflow.models.glow import GlowSpec
    from edgeflow.models.maf import MAFSpec
    from edgeflow.synth import SynthSpec, synthesise
    from edgeflow_benchmarks.models import make_model

    synthesise(folder / "clips", SynthSpec(types=("fan",), machines=1, clips=extent.clips))
    clips = sorted((folder / "clips" / "fan" / "train").glob("*.wav"))
    specs: dict[str, ModelSpec] = {
        "Glow": GlowSpec(blocks=2, steps=1, hidden=16) if small else GlowSpec(),
        "MAF": MAFSpec(blocks=2, hidden=32) if small else MAFSpec(),
    }
    for name, spec in specs.items():
        click.echo(f"measuring: {name}", err=True)
        model = make_model(spec, 4, clips, folder / f"{name}.edgeflow")
        with ExitStack() as stack:
            yield from _flow_rows(name, model, clips, extent, notes, stack)
            yield from _command_rows(name, model, clips, extent)


def _flow_rows(
    name: str,
    model: RandomModel,
    clips: Sequence[Path],
    extent: Extent,
    notes: dict[str, str],
    stack: ExitStack,
) -> Iterator[Row]:
    """Windows, then whole sounds, through every runner in every batch size."""
    import numpy as np

    from edgeflow_benchmarks.models import clip_samples, write_typed
    from edgeflow_benchmarks.runners import Runners, engine_runs, onnxruntime_runs, torch_runs
    from edgeflow_runtime.bundle import Bundle

    windows, sounds = Runners(), Runners()
    rows = model.windows(clips)  # (N, T, M)
    device = torch_runs(windows, model.flow, np.ascontiguousarray(rows[: extent.windows[-1]]))
    for precision in PRECISIONS:
        path = model.bundle.with_name(f"{name}-{precision}.edgeflow")
        write_typed(model, precision, clips, path, extent.sounds)
        bundle = Bundle.load(path)
        engine_runs(windows, path, "flow", precision, extent.windows, stack)
        onnxruntime_runs(windows, bundle.onnx, precision, extent.windows)
        engine_runs(sounds, path, "audio", precision, extent.sounds, stack)
        onnxruntime_runs(sounds, bundle.graph("audio"), precision, extent.sounds)
    for kind, found in (("", windows), (" from samples", sounds)):
        notes |= {k: f"not here: {v}" for k, v in found.absent.items()}
        notes |= {f"{name}{kind}, {k}": _built(v) for k, v in found.records.items()}
    per_clip = len(rows) / len(clips)
    yield from _rates(f"{name} on {device}", windows, rows, extent.windows, per_clip, extent)
    samples = clip_samples(clips)  # (clips, n)
    # What starts at the samples stands beside torch's flow alone, which starts at the windows.
    flow = windows.runs[REFERENCE]
    alone: dict[str, Run] = {FLOW_ALONE: lambda batch: flow(rows[: round(len(batch) * per_clip)])}
    sounds.runs = alone | sounds.runs
    yield from _rates(f"{name} from samples", sounds, samples, extent.sounds, 1.0, extent)


def _built(record: Any) -> str:  # noqa: ANN401
    worst = f"{record.proof.nll:.1e}" if record.proof else "unproven"
    return (
        f"built in {record.seconds:.1f} s by {record.key.backend} {record.key.version} for "
        f"{record.key.gpu}; off the golden recording by {worst} nats/dim"
    )


def _rates(
    name: str,
    found: Runners,
    rows: Any,  # noqa: ANN401
    buckets: Sequence[int],
    per_clip: float,
    extent: Extent,
) -> Iterator[Row]:
    """Clips per second of each runner in each batch size, beside the first of them."""
    import numpy as np

    from edgeflow_benchmarks.report import Row
    from edgeflow_benchmarks.timing import interleave, pair_ratio

    for bucket in buckets:
        batch = np.ascontiguousarray(np.resize(rows, (bucket, *rows.shape[1:])))
        actions = {k: partial(run, batch) for k, run in found.runs.items()}
        times = interleave(actions, extent.rounds)
        clips, against = bucket / per_clip, next(iter(times))
        reference = clips / statistics.median(times[against])
        for runner, seconds in times.items():
            yield Row(
                what=f"{name}, batch {bucket}, {runner}",
                edgeflow=clips / statistics.median(seconds),
                unit="clips/s",
                against=against,
                reference=reference,
                ratio=pair_ratio(times[against], seconds),
            )


def _command_rows(
    name: str, model: RandomModel, clips: Sequence[Path], extent: Extent
) -> Iterator[Row]:
    """Sound files to verdicts, on the GPU where there is an engine, and on the CPU."""
    from edgeflow_benchmarks.files_to_verdicts import edgeflow_scores
    from edgeflow_benchmarks.report import Row
    from edgeflow_benchmarks.timing import interleave, pair_ratio
    from edgeflow_runtime.scorer import Scorer

    with ExitStack() as stack:
        scorers: dict[str, Scorer] = {}
        for precision in PRECISIONS:
            path = model.bundle.with_name(f"{name}-{precision}.edgeflow")
            for backend in ("auto", "onnxruntime"):
                scorer = stack.enter_context(Scorer.load(path, backend=backend))
                label = f"{scorer.backend.name} {precision}"
                scorers.setdefault(label, scorer)
        actions = {k: partial(edgeflow_scores, s, list(clips)) for k, s in scorers.items()}
        times = interleave(actions, extent.rounds)
        against = "onnxruntime fp32"
        for label, seconds in times.items():
            yield Row(
                what=f"{name}, files to verdicts, {label}",
                edgeflow=len(clips) / statistics.median(seconds),
                unit="clips/s",
                against=against,
                reference=len(clips) / statistics.median(times[against]),
                ratio=pair_ratio(times[against], seconds),
            )


if __name__ == "__main__":
    main(prog_name="python -m edgeflow_benchmarks.gpu")
