"""What edgeflow costs beside what people do today: librosa, torch, and the matrix rate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from edgeflow.synth import RATE_HZ
from edgeflow_benchmarks.extent import Extent
from edgeflow_benchmarks.files_to_verdicts import SHARE_GOAL, measure_rate, measure_scoring
from edgeflow_benchmarks.logmel import measure_logmel
from edgeflow_benchmarks.models import make_model
from edgeflow_benchmarks.pooled import measure_pooled
from edgeflow_benchmarks.report import Goal, Row
from edgeflow_benchmarks.startup import measure_startup
from edgeflow_runtime.audio import Intake, read_sound
from edgeflow_runtime.views import WindowSpec


def measure(folder: Path, extent: Extent, notes: dict[str, str]) -> Iterator[Row]:
    """Every row of the comparison; nothing goes to ``notes``.

    Args:
        folder: a temporary one.
        extent: how much.
        notes: for what is no row.
    """
    clips = extent.make_clips(folder / "clips")
    together = clips[: extent.together]
    _say("log-Mel")
    yield from measure_logmel(read_sound(clips[0], Intake(RATE_HZ)), extent.logmel_rounds)

    _say("a pooled linear monitor")
    path = folder / "linear.edgeflow"
    yield measure_pooled(clips, path, extent.logmel_rounds, judge=not extent.small)

    _say("exporting a Glow and a MAF")
    models = {
        name: make_model(spec, WindowSpec(spec.frames, 4), clips, folder / f"{name}.edgeflow")
        for name, spec in extent.specs().items()
    }
    _say("scoring beside torch")
    goals = {} if extent.small else {"Glow": Goal(2.3, "x")}
    for name, model in models.items():
        yield from measure_scoring(name, model, together, extent.rounds, goals.get(name))
    _say("scoring beside the matrix rate")
    shares = {} if extent.small else {"Glow": SHARE_GOAL}
    for name, model in models.items():
        share = shares.get(name)
        yield from measure_rate(name, model, together, extent.rounds, extent.matrix, share)
    _say("commands")
    yield from measure_startup(
        models["Glow"].bundle, clips, extent.command_rounds, many=extent.many,
        judge=not extent.small,
    )  # fmt: skip


def _say(what: str) -> None:
    click.echo(f"measuring: {what}", err=True)
