"""The command that measures: ranks, false alarms and anomalies caught, beside the baseline."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeflow_runtime.backends.names import BACKENDS, CPU
from edgeflow_runtime.cli.options import (
    FaultTally,
    NamedPath,
    echo_document,
    listen_option,
    warn,
)

if TYPE_CHECKING:
    from edgeflow.evaluation_result import Evaluation


@click.command()
@click.argument("run_or_bundle", type=NamedPath(), metavar="RUN|BUNDLE")
@click.argument("data", type=NamedPath())
@click.option("--json", "style", flag_value="json", help="A JSON document.")
@click.option("--csv", "style", flag_value="csv", help="Comma-separated values.")
@click.option(
    "--false-alarms",
    help="Of a run: the rate that its threshold promises, as export takes it (1% if not given).",
)
@listen_option
@click.option(
    "--baseline", type=click.Choice(["linear", "clip-mean"]), default="linear", show_default=True,
    help="The linear flow, or the same on the clip mean with the machine's own covariance.",
)  # fmt: skip
@click.option(
    "--plots", type=NamedPath(),
    help="Folder for pictures: training curve, histogram of scores, ROC.",
)  # fmt: skip
@click.option("--channel", type=click.IntRange(min=0), help="Channel to listen to; 0 is the first.")
@click.option(
    "--backend", type=click.Choice(BACKENDS), default=CPU, show_default=True,
    help="What runs a bundle's flow.",
)  # fmt: skip
def evaluate(
    run_or_bundle: Path,
    data: Path,
    style: str | None,
    false_alarms: str | None,
    listen: str | None,
    baseline: str,
    plots: Path | None,
    channel: int | None,
    backend: str,
) -> None:
    """Print how clips rank, false alarms and anomalies caught, per machine.

    RUN|BUNDLE is a run, a folder of runs, a bundle or a folder of bundles. AUC and pAUC (up to a
    false positive rate of 0.1, standardised) stand beside those of the baseline: the linear flow,
    fitted in a second. Rates are those at the threshold in force, with an exact 90 % interval.
    """
    from edgeflow_runtime.extras import require

    require("sklearn", "evaluate")
    if plots:
        require("matplotlib", "plot")
    from edgeflow.dataset import Dataset
    from edgeflow.evaluation import evaluate_monitor
    from edgeflow.evaluation_result import Evaluation
    from edgeflow.subjects import find_monitors
    from edgeflow_runtime.calibration import probability

    rate = None if false_alarms is listen is None else probability(false_alarms, listen)
    dataset = Dataset.scan(data)
    results = []
    with FaultTally() as tally:
        for path in find_monitors(run_or_bundle):
            with tally.one():
                result = evaluate_monitor(
                    path,
                    dataset,
                    channel=channel,
                    backend=backend,
                    baseline=baseline,
                    rate=rate,
                    sisters=plots is not None,
                    warn=warn,
                )
                results.append(result)
                if plots:
                    from edgeflow.plots import save_plots

                    save_plots(result, path if path.is_dir() else None, plots)
        if results:
            _print(Evaluation(tuple(results)), style)


def _print(evaluation: Evaluation, style: str | None) -> None:
    if style == "json":
        document = {"machines": evaluation.records(), "mean": evaluation.means()}
        echo_document("edgeflow.evaluation.v2", document)
    elif style == "csv":
        records = evaluation.records()
        writer = csv.DictWriter(sys.stdout, list(records[0]), lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows([*records, {"machine": "mean", **evaluation.means()}])
    else:
        click.echo(evaluation)
