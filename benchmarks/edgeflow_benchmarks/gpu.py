"""Typed graphs on whatever runs here, beside torch, at once.

One suite, unchanged from a workstation to a Jetson: it builds engines where TensorRT is, takes
ONNX Runtime and torch where they are, says of the rest why it is missing, and measures clips per
second in each batch size, in turns, on the same windows.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click
import numpy as np

from edgeflow_benchmarks.extent import Extent
from edgeflow_benchmarks.files_to_verdicts import edgeflow_scores
from edgeflow_benchmarks.models import RandomModel, clip_samples, make_model, write_typed
from edgeflow_benchmarks.report import Row
from edgeflow_benchmarks.runners import (
    Run,
    Runners,
    engine_runs,
    onnxruntime_runs,
    torch_runs,
)
from edgeflow_benchmarks.timing import interleave, pair_ratio
from edgeflow_runtime.arrays import Rows
from edgeflow_runtime.backends.tensorrt.engine_record import EngineRecord
from edgeflow_runtime.bundle import Bundle
from edgeflow_runtime.scorer import Scorer
from edgeflow_runtime.views import WindowSpec

PRECISIONS = ("fp32", "fp16", "int8")
REFERENCE = "torch eager"
FLOW_ALONE = "torch eager, the flow alone"


def measure(folder: Path, extent: Extent, notes: dict[str, str]) -> Iterator[Row]:
    """Every row; what is not here, and what is said of engines, goes to ``notes``.

    Args:
        folder: a temporary one.
        extent: how much.
        notes: added to.
    """
    clips = extent.make_clips(folder / "clips")
    for name, spec in extent.specs().items():
        click.echo(f"measuring: {name}", err=True)
        model = make_model(spec, WindowSpec(spec.frames, 4), clips, folder / f"{name}.edgeflow")
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
    for kind, runners in (("", windows), (" from samples", sounds)):
        notes |= {k: f"not here: {v}" for k, v in runners.absent.items()}
        notes |= {f"{name}{kind}, {k}": _built(v) for k, v in runners.records.items()}
    per_clip = len(rows) / len(clips)
    yield from _rates(f"{name} on {device}", windows, rows, extent.windows, per_clip, extent)
    samples = clip_samples(clips)  # (clips, n)
    # What starts at the samples stands beside torch's flow alone, which starts at the windows.
    flow = windows.runs[REFERENCE]
    alone: dict[str, Run] = {FLOW_ALONE: lambda batch: flow(rows[: round(len(batch) * per_clip)])}
    sounds.runs = alone | sounds.runs
    yield from _rates(f"{name} from samples", sounds, samples, extent.sounds, 1.0, extent)


def _built(record: EngineRecord) -> str:
    worst = f"{record.proof.nll:.1e}" if record.proof else "unproven"
    return (
        f"built in {record.seconds:.1f} s by {record.key.backend} {record.key.version} for "
        f"{record.key.gpu}; off the golden recording by {worst} nats/dim"
    )


def _rates(
    name: str,
    runners: Runners,
    rows: Rows,
    buckets: Sequence[int],
    per_clip: float,
    extent: Extent,
) -> Iterator[Row]:
    """Clips per second of each runner in each batch size, beside the first of them."""
    for bucket in buckets:
        batch = np.ascontiguousarray(np.resize(rows, (bucket, *rows.shape[1:])))
        actions = {k: partial(run, batch) for k, run in runners.runs.items()}
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
