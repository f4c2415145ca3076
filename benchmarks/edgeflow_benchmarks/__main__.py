"""``python -m edgeflow_benchmarks``: ratios against what people do today, in one run."""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path

import click

from edgeflow_runtime.cli.options import NamedPath, warn
from edgeflow_runtime.errors import EdgeflowError
from edgeflow_runtime.extras import require

EXIT_FAULT = 2

PACKAGES = {
    "practice": ("librosa", "threadpoolctl", "torch", "onnx", "onnxscript"),
    "gpu": ("threadpoolctl", "torch", "onnx", "onnxscript"),
}
"""The suites, each a module here, and what they need: the extra ``bench`` brings it."""


@click.command()
@click.argument("suite", type=click.Choice(list(PACKAGES)), default="practice")
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
@click.option("-o", "--output", type=NamedPath(), help="Also write the JSON document here.")
@click.option("--quick", is_flag=True, help="A smoke run: small flows, few repeats, no goals.")
def main(suite: str, as_json: bool, output: Path | None, quick: bool) -> None:
    """Measure edgeflow on this machine.

    SUITE is practice, beside librosa, torch and this machine's matrix rate (about three minutes on
    two quiet cores), or gpu: the typed graphs on the GPU, or without one on what is here. A goal
    that is missed is printed, not an error.
    """
    try:
        for package in PACKAGES[suite]:
            require(package, "bench")
        _measure(suite, as_json, output, quick)
    except EdgeflowError as error:
        warn(f"Error: {error}")
        sys.exit(EXIT_FAULT)


def _measure(suite: str, as_json: bool, output: Path | None, quick: bool) -> None:
    from edgeflow_benchmarks.environment import describe, load
    from edgeflow_benchmarks.extent import FULL, QUICK
    from edgeflow_benchmarks.report import document, table
    from edgeflow_benchmarks.runners import gpu_facts
    from edgeflow_runtime.storage import write_text

    environment = describe() | (dict(gpu_facts()) if suite == "gpu" else {})
    notes: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="edgeflow-bench-") as folder:
        measure = import_module(f"edgeflow_benchmarks.{suite}").measure
        rows = list(measure(Path(folder), QUICK if quick else FULL, notes))
    environment |= {"load average at the end": load()} | notes
    text = document(environment, rows)
    if as_json:
        click.echo(text, nl=False)
    else:
        for name, value in environment.items():
            click.echo(f"{name}: {value}")
        click.echo(f"\n{table(rows)}")
    if output:
        write_text(output, text)


if __name__ == "__main__":
    main(prog_name="python -m edgeflow_benchmarks")
