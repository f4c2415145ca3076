"""``python -m edgeflow_benchmarks``: ratios against what people do today, in one run."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeflow_runtime.errors import EdgeflowError
from edgeflow_runtime.extras import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeflow_benchmarks.report import Row

EXIT_FAULT = 2

EXTRAS = {
    "librosa": "bench",
    "threadpoolctl": "bench",
    "torch": "bench",
    "onnx": "bench",
    "onnxscript": "bench",
}
"""What the measurement needs, and the extra that brings it."""


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    clips: int
    """Different clips."""
    together: int
    """Clips scored in one go."""
    many: int
    """Clips of the command that scores many."""
    logmel_rounds: int
    """Repeats of log-Mel."""
    glow_rounds: int
    """Repeats of a Glow."""
    maf_rounds: int
    """Repeats of a MAF."""
    command_rounds: int
    """Repeats of a command."""
    matrix: int
    """Rows and columns of the square matrices."""


FULL = Extent(6, 4, 20, 21, 5, 9, 5, 2048)
QUICK = Extent(2, 2, 3, 2, 2, 2, 1, 256)


@click.command()
@click.option("--json", "path", type=click.Path(path_type=Path), help="Also write JSON to a file.")
@click.option("--quick", is_flag=True, help="A smoke run: small flows, few repeats, no goals.")
def main(path: Path | None, quick: bool) -> None:
    """Measure edgeflow beside librosa, torch and this machine's matrix rate.

    Takes about three minutes on two quiet cores. A goal that is missed is printed, not an error.
    """
    try:
        _measure(path, quick)
    except EdgeflowError as error:
        click.echo(f"Error: {' '.join(str(error).split())}", err=True)
        sys.exit(EXIT_FAULT)


def _measure(path: Path | None, quick: bool) -> None:
    for package, extra in EXTRAS.items():
        require(package, extra)
    from edgeflow_benchmarks.environment import describe, load
    from edgeflow_benchmarks.report import document, table
    from edgeflow_runtime.storage import write_text

    environment = describe()
    for name, text in environment.items():
        click.echo(f"{name:<14}{text}")
    with tempfile.TemporaryDirectory(prefix="edgeflow-bench-") as folder:
        rows = list(_rows(Path(folder), quick))
    environment["load average at the end"] = load()
    click.echo(f"{'at the end':<14}{load()}\n\n{table(rows)}")
    if path:
        write_text(path, document(environment, rows))


def _rows(folder: Path, quick: bool) -> Iterator[Row]:
    from edgeflow.models.glow import GlowSpec
    from edgeflow.models.maf import MAFSpec
    from edgeflow.synth import RATE_HZ, SynthSpec, synthesise
    from edgeflow_benchmarks.files_to_verdicts import SHARE_GOAL, measure_rate, measure_scoring
    from edgeflow_benchmarks.logmel import measure_logmel
    from edgeflow_benchmarks.models import make_model
    from edgeflow_benchmarks.report import Goal
    from edgeflow_benchmarks.startup import measure_startup
    from edgeflow_runtime.audio import Intake, read_sound

    extent = QUICK if quick else FULL
    synthesise(folder / "clips", SynthSpec(types=("fan",), machines=1, clips=extent.clips))
    clips = sorted((folder / "clips" / "fan" / "train").glob("*.wav"))
    together = clips[: extent.together]
    _say("log-Mel")
    yield from measure_logmel(read_sound(clips[0], Intake(RATE_HZ)), extent.logmel_rounds)

    _say("exporting a Glow and a MAF")
    glow_spec = GlowSpec(blocks=2, steps=1, hidden=16) if quick else GlowSpec()
    maf_spec = MAFSpec(blocks=2, hidden=32) if quick else MAFSpec()
    glow = make_model(glow_spec, 4, clips, folder / "glow.edgeflow")
    maf = make_model(maf_spec, 4, clips, folder / "maf.edgeflow")
    _say("scoring beside torch")
    goal = None if quick else Goal(2.3, "x")
    yield from measure_scoring("Glow", glow, together, extent.glow_rounds, goal)
    yield from measure_scoring("MAF", maf, together, extent.maf_rounds, None)
    _say("scoring beside the matrix rate")
    share = None if quick else SHARE_GOAL
    yield from measure_rate("Glow", glow, together, extent.glow_rounds, extent.matrix, share)
    yield from measure_rate("MAF", maf, together, extent.maf_rounds, extent.matrix, None)
    _say("commands")
    rounds, many = extent.command_rounds, extent.many
    yield from measure_startup(glow.bundle, clips, rounds, many=many, judge=not quick)


def _say(what: str) -> None:
    click.echo(f"measuring: {what}", err=True)


if __name__ == "__main__":
    main(prog_name="python -m edgeflow_benchmarks")
