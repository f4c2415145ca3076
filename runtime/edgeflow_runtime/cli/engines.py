"""The commands of a board's GPU and of the board itself: build, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeflow_runtime.backends.names import AUDIO, ENGINES, FLOW
from edgeflow_runtime.cli.options import (
    NamedPath,
    audio_in_option,
    echo_document,
    say,
    styled,
)
from edgeflow_runtime.progress import Progress

if TYPE_CHECKING:
    from edgeflow_runtime.backends.tensorrt.build import Built

EXIT_OK, EXIT_MISSING = 0, 1


@click.command()
@click.argument("bundle", type=NamedPath())
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
@audio_in_option
def build(
    bundle: Path, buckets: tuple[int, ...], workspace: int, backend: str, audio_in: bool
) -> None:
    """Build a bundle's engine on this board and prove it there.

    Each batch size becomes an optimisation profile. The engine counts only once it has replayed the
    golden recording on this board's GPU within the bundle's tolerance; until then the one before
    stays. Without a GPU, tensorrt-rtx compiles the graph for others: a check, no engine to run.
    """
    from edgeflow_runtime.backends.tensorrt.build import build_engine
    from edgeflow_runtime.backends.tensorrt.engine_record import BuildOrder

    graph = AUDIO if audio_in else FLOW
    order = BuildOrder(str(bundle), graph, backend, buckets, workspace * 2**20)
    with Progress("building", None) as progress:
        built = build_engine(order, progress.show)
    for name, text in _engine_rows(built).items():
        say(f"{name:<12}{text}")


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
@click.argument("bundle", required=False, type=NamedPath())
@click.option(
    "--root", type=NamedPath(exists=True, file_okay=False), default="/",
    help="Read the board's facts below this folder, such as a mounted SD card.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="All of it as a JSON document.")
@click.pass_context
def doctor(context: click.Context, bundle: Path | None, root: Path, as_json: bool) -> None:
    """Say what this board is, what it lacks, and what mends that.

    It looks, and changes nothing. With BUNDLE, also whether an engine was built of it: 'edgeflow
    build' builds one, 'edgeflow verify --stages' runs it. The exit status is 0 if all is well, 1 if
    something is missing, 2 if BUNDLE cannot be read.
    """
    from edgeflow_runtime.board.diagnosis import board_rows, diagnose
    from edgeflow_runtime.board.engines import diagnose_engines
    from edgeflow_runtime.board.facts import read_board
    from edgeflow_runtime.board.interpreter import read_python

    here = root.resolve() == Path("/")
    board, python = read_board(root), read_python() if here else None
    findings = diagnose(board, python)
    if bundle:
        findings += diagnose_engines(bundle, board)
    if as_json:
        document = {
            "board": board.to_dict(),
            "python": python.to_dict() if python else None,
            "findings": [finding.to_dict() for finding in findings],
        }
        echo_document("edgeflow.diagnosis.v1", document)
    else:
        for name, text in board_rows(board, python):
            say(f"{name:<14}{text}")
        click.echo()
        for finding in findings:
            click.echo(f"{styled(finding.level)}{finding.subject:<21}{finding.detail}")
            if finding.mend:
                say(f"         run: {finding.mend}")
    context.exit(EXIT_MISSING if any(f.level == "missing" for f in findings) else EXIT_OK)
