"""The command that measures detection: AUC and pAUC beside the baseline."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeflow_runtime.backends.names import BACKENDS, CPU
from edgeflow_runtime.cli.options import FaultTally

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeflow.dataset import Dataset, Machine
    from edgeflow.evaluation import MachineResult
    from edgeflow_runtime.manifest import Features, MachineId


@click.command()
@click.argument("run_or_bundle", type=click.Path(path_type=Path), metavar="RUN|BUNDLE")
@click.argument("data", type=click.Path(path_type=Path))
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

    for package in ("torch", "sklearn"):
        require(package, "train")
    from edgeflow.dataset import Dataset
    from edgeflow.training.run import find_runs
    from edgeflow_runtime.errors import ConfigError

    dataset = Dataset.scan(data)
    bundles = _bundles(run_or_bundle)
    if not bundles and backend != CPU:
        raise ConfigError(f"--backend {backend} runs bundles; '{run_or_bundle}' holds runs")
    results = []
    with FaultTally() as tally:
        for path in bundles or find_runs(run_or_bundle):
            with tally.one():
                results.append(
                    _evaluate_bundle(path, dataset, channel, backend)
                    if bundles
                    else _evaluate_run(path, dataset, channel)
                )
        if results:
            {"json": _print_json, "csv": _print_csv}.get(style or "", _print_table)(results)


def _bundles(path: Path) -> list[Path]:
    """The bundle that ``path`` is, or the bundles in it; none if it holds runs."""
    if path.is_file():
        return [path]
    return sorted(path.glob("*.edgeflow"))


def _evaluate_run(folder: Path, dataset: Dataset, channel: int | None) -> MachineResult:
    import torch

    from edgeflow.evaluation import evaluate_machine
    from edgeflow.features import FeatureStore
    from edgeflow.training.run import TrainedRun
    from edgeflow.training.run_scores import RunScores

    run = TrainedRun.load(folder)
    store = FeatureStore(_features(run.features, channel))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = _machine(dataset, run.record.config.machine)
    return evaluate_machine(machine, RunScores(run, store, device), store)


def _evaluate_bundle(
    path: Path, dataset: Dataset, channel: int | None, backend: str
) -> MachineResult:
    import numpy as np

    from edgeflow.evaluation import evaluate_machine
    from edgeflow.features import FeatureStore
    from edgeflow_runtime.errors import DataError
    from edgeflow_runtime.progress import track
    from edgeflow_runtime.scorer import Scorer

    scorer = Scorer.load(
        path,
        channel=channel,
        allow_clipped=True,
        backend=backend,
        warn=partial(click.echo, err=True),
    )
    manifest = scorer.bundle.manifest

    def scores(paths: Sequence[Path]) -> npt.NDArray[np.float64]:
        found = []
        name = f"scoring {manifest.machine.name}"
        for result in track(scorer.score_files(paths), name, len(paths)):
            if result.score is None:
                raise DataError(result.error)
            found.append(result.score)
        return np.array(found)

    store = FeatureStore(_features(manifest.features, channel))
    return evaluate_machine(_machine(dataset, manifest.machine), scores, store)


def _features(features: Features, channel: int | None) -> Features:
    return features if channel is None else dataclasses.replace(features, channel=channel)


def _machine(dataset: Dataset, machine: MachineId) -> Machine:
    return dataset.machine(machine.machine_type, machine.machine_id)


def _print_json(results: list[MachineResult]) -> None:
    from edgeflow.evaluation import mean_of

    document = {
        "schema": "edgeflow.evaluation.v1",
        "machines": [_finite(dataclasses.asdict(result)) for result in results],
        "mean": _finite(dict(mean_of(results))),
    }
    click.echo(json.dumps(document, indent=2))


def _finite(figures: dict[str, object]) -> dict[str, object]:
    """NaN, which JSON lacks, as null."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in figures.items()
    }


def _print_csv(results: list[MachineResult]) -> None:
    from edgeflow.evaluation import MachineResult, mean_of

    columns = [field.name for field in dataclasses.fields(MachineResult)]
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n", restval="")
    writer.writeheader()
    for result in results:
        writer.writerow(dataclasses.asdict(result))
    writer.writerow({"machine": "mean", **mean_of(results)})


def _print_table(results: list[MachineResult]) -> None:
    from edgeflow.evaluation import mean_of

    width = max(len("machine"), *(len(result.machine) for result in results))
    click.echo(f"{'':<{width}}        flow        baseline       clips")
    click.echo(f"{'machine':<{width}}    AUC   pAUC    AUC   pAUC   normal/anomalous")
    for result in results:
        figures = (result.auc, result.pauc, result.baseline_auc, result.baseline_pauc)
        counts = f"{result.normal}/{result.anomalous}"
        click.echo(f"{result.machine:<{width}}{_percents(figures)}   {counts}")
    means = mean_of(results)
    figures = (means["auc"], means["pauc"], means["baseline_auc"], means["baseline_pauc"])
    click.echo(f"{'mean':<{width}}{_percents(figures)}")


def _percents(figures: Sequence[float]) -> str:
    return "".join("      -" if math.isnan(f) else f"{100 * f:7.1f}" for f in figures)
