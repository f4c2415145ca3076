"""From recordings to a verdict: train, evaluate, export, score.

    python examples/quickstart.py SOUNDS OUT

SOUNDS is a data set in the layout of DCASE 2020 Task 2, such as ``edgeflow data synth`` makes; the
run and the bundle go to OUT.
"""

import sys
from pathlib import Path

import edgeflow as ef


def main(sounds: str, out: str, epochs: int = 30) -> None:
    """Make a monitor of the first machine and listen to its test clips."""
    data = ef.Dataset.scan(sounds)
    machine = next(iter(data.machines.values()))
    folder = Path(out)

    run = ef.train(machine, folder / "run", model="maf", loss="eq5", preset="small", epochs=epochs)
    print(f"{machine.id.name}: {run}")

    evaluation = ef.evaluate(run, data)
    print(evaluation)

    bundle = ef.export(run, folder / f"{machine.id.name}.edgeflow", precision="auto")
    print(f"{bundle.path}: threshold {bundle.threshold.value:.3f}, {bundle.graph.precision}")

    with ef.Scorer.load(bundle.path) as scorer:
        for clip in (*machine.test_normal[:2], *machine.test_anomalous[:2]):
            result = scorer.score(clip)
            print(f"{clip.name}: {result.verdict}, {result.score:.3f} nats/dim")


if __name__ == "__main__":
    main(*sys.argv[1:])
