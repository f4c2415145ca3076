"""``python -m edgeflow_benchmarks.enrolment DATA``: monitors of machines never seen, by clips.

Each machine in turn is left out of its base and enrolled from a few of its training clips, several
times. AUC is over its test clips. False alarms are counted on every normal clip that it was not
enrolled from. The last row is a monitor trained the usual way: all training clips of all machines.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
import numpy as np

from edgeflow.dataset import Dataset, Machine
from edgeflow.evaluation import auc_and_pauc
from edgeflow.features import FeatureStore
from edgeflow.models.linear import SETTINGS
from edgeflow.standard import least_spread, standard_view
from edgeflow_benchmarks.environment import describe
from edgeflow_runtime.base import Base
from edgeflow_runtime.calibration import threshold_from_scores
from edgeflow_runtime.cli.options import NamedPath, warn
from edgeflow_runtime.enrolment import enrol
from edgeflow_runtime.errors import DataError, EdgeflowError
from edgeflow_runtime.linear_fit import LinearFit, Rows, Sisters, fit_linear, unlearned_nll
from edgeflow_runtime.logmel import LogMelSpec
from edgeflow_runtime.manifest import Features
from edgeflow_runtime.progress import track

EXIT_FAULT = 2


@dataclass(frozen=True, eq=False)
class Measured:
    """One machine's clips as the view measures them, (n, T, M) dB; (n, D) once standardised."""

    train: Rows
    """Normal ones to learn from."""
    normal: Rows
    """Normal ones to test on."""
    anomalous: Rows
    """Anomalous ones to test on."""


@dataclass(frozen=True)
class Outcome:
    """What one monitor did; the figures are ``None`` where it was refused."""

    machine_type: str
    """For example ``fan``."""
    clips: int
    """It was enrolled from; 0 for all, the usual way."""
    auc: float | None = None
    """Over the machine's test clips."""
    false_alarms: float | None = None
    """The share of normal clips above the threshold that it had not learned."""
    detected: float | None = None
    """The share of anomalous ones."""
    unlike: bool = False
    """Whether it was found to be unlike its sisters."""


def outcomes_of(
    machines: dict[str, Measured],
    features: Features,
    machine_type: str,
    clips: Sequence[int],
    p: float,
    draws: int,
) -> Iterator[Outcome]:
    """Leave each machine of a type out in turn, and enrol it; then train it the usual way."""
    for name, machine in machines.items():
        others = {other: m.train for other, m in machines.items() if other != name}
        usual = standardised(others | {name: machine.train}, machine, features)
        yield _trained(machine_type, name, *usual, p)
        base, target = standardised(others, machine, features)
        base.check()
        for n in clips:
            if n <= len(target.train):
                for draw in range(draws):
                    yield _enrolled(machine_type, base, target, n, p, draw)


def standardised(
    sisters: dict[str, Rows], machine: Measured, features: Features
) -> tuple[Base, Measured]:
    """A base of ``sisters`` as training makes it, and a machine as that base's view sees it."""
    view = standard_view(SETTINGS.view, list(sisters.values()), features)

    def seen(table: Rows) -> Rows:
        rows: Rows = view.standardise(table).reshape(len(table), -1).astype(np.float64)
        return rows

    rows = {name: seen(theirs) for name, theirs in sisters.items()}
    parts = (seen(part) for part in (machine.train, machine.normal, machine.anomalous))
    floor = least_spread(view)
    return Base(rows, floor, np.empty((0, len(floor)))), Measured(*parts)


def _enrolled(
    machine_type: str, base: Base, target: Measured, n: int, p: float, draw: int
) -> Outcome:
    order = np.random.default_rng([draw, n]).permutation(len(target.train))
    try:
        made = enrol(replace(base, own=target.train[order[:n]]), p, 0.0)
    except DataError:  # unlike its sisters, and too few to stand alone
        return Outcome(machine_type, n, unlike=True)
    unlearned = np.concatenate([target.normal, target.train[order[n:]]])
    outcome = partial(Outcome, machine_type, n, unlike=bool(made.unlike))
    return outcome(*_figures(made.fit, made.threshold.value, target, unlearned))


def _trained(machine_type: str, name: str, base: Base, target: Measured, p: float) -> Outcome:
    sisters = Sisters([rows for other, rows in base.sisters.items() if other != name])
    fit = fit_linear(target.train, sisters, base.floor)
    scores = unlearned_nll(fit, target.train, sisters, base.floor)
    threshold = threshold_from_scores(scores, p, 0.0, fit.least_nll)
    return Outcome(machine_type, 0, *_figures(fit, threshold.value, target, target.normal))


def _figures(
    fit: LinearFit, threshold: float, target: Measured, unlearned: Rows
) -> tuple[float, float, float]:
    anomalous = fit.nll(target.anomalous)
    auc, _ = auc_and_pauc(fit.nll(target.normal), anomalous)
    alarms = fit.nll(unlearned) > threshold
    return auc, float(alarms.mean()), float((anomalous > threshold).mean())


def rows_of(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The table, for a page: by type and clips, means over machines and draws."""
    yield "| type | clips | AUC | false alarms | anomalies caught | unlike | monitors |"
    yield "|---|---|---|---|---|---|---|"
    types = list(dict.fromkeys(one.machine_type for one in outcomes))
    for kind in (*types, *(["all"] if len(types) > 1 else [])):
        mine = [one for one in outcomes if kind in ("all", one.machine_type)]
        for n in sorted({one.clips for one in mine}, key=lambda n: n or 1_000_000):
            some = [one for one in mine if one.clips == n]
            auc, alarms, caught = (
                _mean([getattr(one, field) for one in some])
                for field in ("auc", "false_alarms", "detected")
            )
            share = sum(one.unlike for one in some)
            yield (
                f"| {kind} | {n or 'all, trained'} | {auc:.3f} | {alarms:.1%} | {caught:.0%} | "
                f"{share} | {len(some)} |"
            )


def _mean(figures: list[float | None]) -> float:
    known = [figure for figure in figures if figure is not None]
    return float(np.mean(known)) if known else float("nan")


def _measured(machine: Machine, store: FeatureStore) -> Measured:
    view, name = SETTINGS.view, machine.id.name
    return Measured(
        *(
            np.concatenate([view.measure(x) for x in store.read_all(paths, name)])
            for paths in (machine.train, machine.test_normal, machine.test_anomalous)
        )
    )


@click.command()
@click.argument("data", type=NamedPath())
@click.option("--clips", default="1,3,5,7", show_default=True, help="To enrol from, by comma.")
@click.option("--false-alarms", "p", type=float, default=0.05, show_default=True, help="Promised.")
@click.option("--draws", default=3, show_default=True, help="Choices of these clips.")
@click.option("--json", "as_json", is_flag=True, help="Every monitor, as a JSON document.")
def main(data: Path, clips: str, p: float, draws: int, as_json: bool) -> None:
    """Measure monitors of machines never seen, by the number of clips that they were enrolled from.

    DATA is a data set of sounds, in which every type has at least three machines.
    """
    try:
        dataset, spec = Dataset.scan(data), LogMelSpec()
        features = Features(spec.bands, spec.rate_hz, None, spec)
        store = FeatureStore(features)
        outcomes: list[Outcome] = []
        for kind in track(dataset.types, "enrolling", len(dataset.types)):
            machines = {m.id.name: _measured(m, store) for m in dataset.of_type(kind)}
            counts = [int(n) for n in clips.split(",")]
            outcomes += outcomes_of(machines, features, kind, counts, p, draws)
    except EdgeflowError as error:
        warn(f"Error: {error}")
        sys.exit(EXIT_FAULT)
    if as_json:
        monitors = [dataclasses.asdict(outcome) for outcome in outcomes]
        click.echo(json.dumps({"environment": describe(), "monitors": monitors}, indent=2))
        return
    for name, value in {**describe(), "promised": f"{p:.1%}", "draws": str(draws)}.items():
        click.echo(f"{name}: {value}")
    click.echo("\n" + "\n".join(rows_of(outcomes)))


if __name__ == "__main__":
    main(prog_name="python -m edgeflow_benchmarks.enrolment")
