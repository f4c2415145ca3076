"""The commands of a board's GPU and of the board itself: build, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeflow_runtime.options import ENGINES
from edgeflow_runtime.progress import BuildProgress

if TYPE_CHECKING:
    from edgeflow_runtime.board.diagnosis import Finding
    from edgeflow_runtime.engines.build import Built
    from edgeflow_runtime.stages import Stage

EXIT_OK, EXIT_MISSING, EXIT_DIFFERENT = 0, 1, 2

COLOURS = {"ok": "green", "note": "yellow", "missing": "red", "differs": "red"}


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--batch", "buckets", type=click.IntRange(1, 4096), multiple=True,
    help="A batch size, of windows or of clips; give several.  [default: 1, 16, 80; clips 1, 4]",
)  # fmt: skip
@click.option(
    "--workspace", type=click.IntRange(16, 65536), default=512, show_default=True,
    help="Megabytes that TensorRT may use while it builds.",
)  # fmt: skip
@click.option(
    "--backend", type=click.Choice(ENGINES), default="tensorrt",
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
        built = build_engine(bundle, order, progress.show)
    for name, text in _engine_rows(built).items():
        click.echo(f"{name:<12}{text}")


def _engine_rows(built: Built) -> dict[str, str]:
    """What was built, for people."""
    record = built.record
    key, proof = record.key, record.proof
    layers = ", ".join(f"{n} {name.lower()}" for name, n in sorted(record.layers.items()))
    ran = (
        f"within {proof.nll:.1e} nats/dim of the golden recording (allowed {proof.allowed:.0e})"
        if proof
        else "never: there is no GPU here"
    )
    build = f" build {key.build}" if key.build else ""
    return {
        "what": record.label,
        "where": str(built.path) if built.path else "nowhere: the engine that is proven stays",
        "graph": f"{key.graph}, {record.precision}; parsed layers: {layers}",
        "for": f"{key.gpu or 'GPUs'} of compute capability {key.compute_capability}, "
        f"{key.backend} {key.version}{build}",
        "batches": ", ".join(map(str, record.buckets)),
        "built in": f"{record.seconds:.1f} s",
        "ran": ran,
    }


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--root", type=click.Path(path_type=Path, exists=True, file_okay=False), default="/",
    help="Read the board's facts below this folder, such as a mounted SD card.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON.")
@click.pass_context
def doctor(context: click.Context, bundle: Path | None, root: Path, as_json: bool) -> None:
    """Say what this board is, what it lacks, and what mends that.

    With BUNDLE, its golden recording is also replayed on each backend that is here, stage by stage,
    and the first stage that differs is named; a missing engine is built first. The exit status is 0
    if all is well, 1 if something is missing, 2 if a stage differs or BUNDLE cannot be read.
    """
    from edgeflow_runtime.board.diagnosis import board_rows, diagnose
    from edgeflow_runtime.board.facts import read_board
    from edgeflow_runtime.board.interpreter import read_python
    from edgeflow_runtime.stages import first_difference

    here = root.resolve() == Path("/")
    board, python = read_board(root), read_python() if here else None
    findings = diagnose(board, python)
    if not as_json:
        for name, text in board_rows(board, python):
            click.echo(f"{name:<14}{text}")
        click.echo()
        _print_findings(findings)
        if bundle and not here:
            click.echo("\nthe replay runs on this machine, not on the one that was read:")
    stages = _replay(bundle, as_json) if bundle else []
    if as_json:
        document = {
            "board": board.to_dict(),
            "python": python.to_dict() if python else None,
            "findings": [finding.to_dict() for finding in findings],
            "stages": [stage.to_dict() for stage in stages],
        }
        click.echo(json.dumps(document, indent=2))
    if first_difference(stages):
        context.exit(EXIT_DIFFERENT)
    levels = {finding.level for finding in findings} | {stage.level for stage in stages}
    context.exit(EXIT_MISSING if "missing" in levels else EXIT_OK)


def _print_findings(findings: list[Finding]) -> None:
    for finding in findings:
        level = click.style(f"{finding.level:<9}", fg=COLOURS[finding.level])
        click.echo(f"{level}{finding.subject:<21}{finding.found}")
        if finding.mend:
            click.echo(f"         run: {finding.mend}")


def _replay(bundle: Path, quiet: bool) -> list[Stage]:
    """Go through the golden recording's stages, printing each unless JSON is wanted."""
    from edgeflow_runtime.stages import first_difference, replay_stages

    stages = []
    with BuildProgress() as progress:
        for stage in replay_stages(bundle, progress.show):
            stages.append(stage)
            if not quiet:
                progress.clear()
                level = click.style(f"{stage.level:<9}", fg=COLOURS[stage.level])
                click.echo(f"{level}{stage.name:<33}{stage.found}")
    different = first_difference(stages)
    if different and not quiet:
        click.echo(f"the first difference is in: {different.name}")
    return stages
