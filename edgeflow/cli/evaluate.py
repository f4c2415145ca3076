"""The command that measures detection: AUC and pAUC beside the baseline."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeflow_runtime.backends.names import BACKENDS, CPU
from edgeflow_runtime.cli.options import FaultTally, NamedPath, warn

if TYPE_CHECKING:
    from edgeflow.evaluation import Evaluation


@click.command()
@click.argument("run_or_bundle", type=NamedPath(), metavar="RUN|BUNDLE")
@click.argument("data", type=NamedPath())
@click.option("--json", "style", flag_value="json", help="A JSON document.")
@click.option("--csv", "style", flag_value="csv", help="Comma-separated values.")
@click.option("--channel", type=click.IntRange(min=0), help="Channel to listen to; 0 is the first.")
@click.option(
    "--backend", type=click.Choice(BACKENDS), default=CPU, show_default=True,
    help="What runs a bundle's flow.",
)  # fmt: skip
def evaluate(
    run_or_bundle: Path, data: Path, style: str | None, channel: int | None, backend: str
) -> None:
    """Print AUC and pAUC per machine beside the one-second baseline.

    RUN|BUNDLE is a run, a folder of runs, a bundle or a folder of bundles. pAUC is the area up to a
    false positive rate of 0.1, standardised. The baseline is the Mahalanobis distance of the mean
    log-Mel spectrum, fitted in about a second.
    """
    from edgeflow_runtime.extras import require

    require("sklearn", "evaluate")
    from edgeflow.dataset import Dataset
    from edgeflow.evaluation import Evaluation, evaluate_monitor, find_monitors

    dataset = Dataset.scan(data)
    results = []
    with FaultTally() as tally:
        for path in find_monitors(run_or_bundle):
            with tally.one():
                results.append(
                    evaluate_monitor(path, dataset, channel=channel, backend=backend, warn=warn)
                )
        if results:
            _print(Evaluation(tuple(results)), style)


def _print(evaluation: Evaluation, style: str | None) -> None:
    if style == "json":
        document = {
            "schema": "edgeflow.evaluation.v1",
            "machines": evaluation.records(),
            "mean": evaluation.means(),
        }
        click.echo(json.dumps(document, indent=2))
    elif style == "csv":
        records = evaluation.records()
        writer = csv.DictWriter(sys.stdout, list(records[0]), lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows([*records, {"machine": "mean", **evaluation.means()}])
    else:
        click.echo(evaluation)
