"""Make the tiny bundles beside this file: ``python tests/bundles/make.py``, in a git checkout.

What today's code reads must not only be what today's code writes. So the bundles of formats 1 to 3
are trained, exported and scored by the code that wrote these formats, checked out for as long as it
takes, and ``scores.json`` holds what it made of them. An old bundle that is there stays as it is.
The sounds are the synthesiser's.

One thing is taken out of the old graphs: stack traces that torch noted in format 1, for they hold
paths of the machine that exported.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgeflow.models.spec import ModelSpec
    from edgeflow.training.recipe import Recipe
    from edgeflow_runtime.views import WindowSpec

HERE = Path(__file__).resolve().parent
SCORES = HERE / "scores.json"

OLD = {
    "maf_format_1.edgeflow": "a07939b",
    "maf_format_2.edgeflow": "9342ce5",
    "maf_format_3.edgeflow": "a5760a7",
}
"""The old bundles, and the commit whose code makes each."""

FEATURES = {"rate_hz": 16000, "frame": 256, "hop": 128, "bands": 32}
MAF = {"bands": 32, "hidden": 16, "blocks": 2}
GLOW = {"frames": 16, "bands": 32, "blocks": 2, "steps": 2, "hidden": 8}
SCHEDULE = {"epochs": 3, "batch": 16, "optimiser": "adam", "learning_rate": 1e-3}
SPLIT = {"channel": None, "holdout": 0.1, "seed": 0}


def clips_from(golden: np.ndarray) -> dict[str, np.ndarray]:
    """Clips to score, by name: the golden recording's samples, which no machine rounds otherwise.

    Example:
        >>> clips_from(np.array([0.5, -0.25], np.float32))["backwards"]
        array([-0.25,  0.5 ], dtype=float32)
    """
    return {"golden": golden, "backwards": golden[::-1].copy(), "halved": golden / 2}


def make() -> None:
    """Every bundle, and the scores of the old ones; then see that today's code gives the same."""
    from edgeflow.synth import SynthSpec, synthesise

    with TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["EDGEFLOW_CACHE"] = str(folder / "cache")
        synthesise(folder / "sounds", SynthSpec(("fan",), machines=1, clips=8, seconds=1.0))
        make_todays(folder)
        scores = json.loads(SCORES.read_text()) if SCORES.exists() else {}
        for bundle, commit in OLD.items():
            if not (HERE / bundle).exists():
                scores[bundle] = made_by(commit, bundle, folder)
    SCORES.write_text(json.dumps(scores, indent=2) + "\n")
    for bundle, record in scores.items():
        check(bundle, record["scores"])


def make_todays(folder: Path) -> None:
    """A MAF, the same with a graph that starts at the samples, and a Glow."""
    import torch

    from edgeflow.models.glow import GlowSpec
    from edgeflow.models.maf import MAFSpec
    from edgeflow.training.train import train_run
    from edgeflow_export.bundle_from_run import export
    from edgeflow_runtime.views import WindowSpec

    models = {
        "maf": (MAFSpec(**MAF), WindowSpec(frames=4, hop=4)),
        "glow": (GlowSpec(**GLOW), WindowSpec(frames=16, hop=8)),
    }
    for name, (model, view) in models.items():
        train_run(recipe_of(model, view, folder), folder / name, torch.device("cpu"))
        export(folder / name, HERE / f"{name}.edgeflow")
    export(folder / "maf", HERE / "maf_audio.edgeflow", audio_in="float32")
    make_base(folder)


def make_base(folder: Path) -> None:
    """A base of three fans, from which the tests enrol a fourth."""
    import torch

    from edgeflow.models.linear import LinearSpec
    from edgeflow.models.maf import MAFSpec
    from edgeflow.models.spec import ModelSettings
    from edgeflow.synth import SynthSpec, synthesise
    from edgeflow.training.train import train_run
    from edgeflow_export.bundle_from_run import export
    from edgeflow_runtime.manifest import MachineId
    from edgeflow_runtime.views import PoolSpec, WindowSpec

    synthesise(folder / "sisters", SynthSpec(("fan",), machines=3, clips=12, seconds=1.0))
    view = PoolSpec(("mean", "max", "spread:32"))
    recipe = dataclasses.replace(
        recipe_of(MAFSpec(**MAF), WindowSpec(4, 4), folder),
        data=str(folder / "sisters"),
        machine=MachineId("fan", ""),
        settings=ModelSettings(LinearSpec(bands=32), view),
        holdout=0.0,
    )
    train_run(recipe, folder / "base", torch.device("cpu"))
    export(folder / "base", HERE / "fan.base.edgeflow", false_alarm_probability=0.05)


def recipe_of(model: ModelSpec, view: WindowSpec, folder: Path) -> Recipe:
    """A training of a second."""
    from edgeflow.losses import LossSpec
    from edgeflow.models.spec import ModelSettings, Schedule
    from edgeflow.training.recipe import Recipe
    from edgeflow_runtime.logmel import LogMelSpec
    from edgeflow_runtime.manifest import MachineId

    schedule = Schedule(**SCHEDULE)
    return Recipe(
        data=str(folder / "sounds"),
        machine=MachineId("fan", "00"),
        loss=LossSpec("nll"),
        settings=ModelSettings(model, view, schedule, schedule),
        logmel=LogMelSpec(**FEATURES),
        **SPLIT,
    )


def made_by(commit: str, bundle: str, folder: Path) -> dict[str, object]:
    """Make ``bundle`` with the code of ``commit``: that commit, and the scores it gives."""
    with tree_of(commit, folder) as tree:
        path = os.pathsep.join(str(tree / part) for part in (".", "export", "runtime"))
        command = [sys.executable, __file__, bundle, folder]
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, check=True
        )
    return {"commit": commit, "scores": json.loads(done.stdout)}


@contextmanager
def tree_of(commit: str, folder: Path) -> Iterator[Path]:
    """The files of ``commit``, for as long as they are needed."""
    tree = folder / commit
    git = ["git", "-C", HERE, "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", tree, commit], check=True)
    try:
        yield tree
    finally:
        subprocess.run([*git, "remove", "--force", tree], check=True)


def make_old(bundle: str, folder: Path) -> dict[str, float]:
    """What the child does, for which ``edgeflow`` is the old code: the scores by clip."""
    import torch
    from edgeflow.flows import MAFSpec
    from edgeflow.training.config import FlowSettings, Schedule, TrainConfig
    from edgeflow_runtime.scoring import Scorer
    from edgeflow_runtime.windows import WindowSpec

    from edgeflow.losses import LossSpec
    from edgeflow.training.run import TrainedRun, train_run
    from edgeflow_export.bundle_from_run import bundle_from_run
    from edgeflow_runtime.logmel import LogMelSpec
    from edgeflow_runtime.manifest import Monitor

    schedule = Schedule(**SCHEDULE)
    settings = FlowSettings(MAFSpec(**MAF), WindowSpec(4, 4), schedule, schedule)
    sounds, run, path = str(folder / "sounds"), folder / bundle, HERE / bundle
    monitor, loss = Monitor("fan", "00"), LossSpec("nll")
    config = TrainConfig(sounds, monitor, loss, settings, LogMelSpec(**FEATURES), **SPLIT)
    train_run(config, run, torch.device("cpu"))
    bundle_from_run(TrainedRun.load(run), path)
    drop_stack_traces(path)
    scorer = Scorer.load(path)
    clips = clips_from(scorer.bundle.golden["samples"])
    return {name: scorer.score(samples, 16000).score for name, samples in clips.items()}


def make_third(bundle: str, folder: Path) -> dict[str, float]:
    """Likewise of format 3, whose code already had today's names."""
    import torch

    from edgeflow.models.maf import MAFSpec
    from edgeflow.training.train import train_run
    from edgeflow_export.bundle_from_run import export
    from edgeflow_runtime import Scorer
    from edgeflow_runtime.views import WindowSpec

    recipe = recipe_of(MAFSpec(**MAF), WindowSpec(frames=4, hop=4), folder)
    train_run(recipe, folder / bundle, torch.device("cpu"))
    export(folder / bundle, HERE / bundle)
    scorer = Scorer.load(HERE / bundle)
    clips = clips_from(scorer.bundle.golden["samples"])
    return {name: scorer.score(samples, 16000).score for name, samples in clips.items()}


def drop_stack_traces(path: Path) -> None:
    """Write an old bundle again, by the old code, without them."""
    import onnx
    from edgeflow_export.bundle_writer import write_bundle

    from edgeflow_runtime.bundle import Bundle

    whole = Bundle.load(path)
    model = onnx.load_from_string(whole.onnx)
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if "stack_trace" not in entry.key]
        node.ClearField("metadata_props")
        node.metadata_props.extend(kept)
    write_bundle(path, whole.manifest, model.SerializeToString(), whole.frontend, whole.golden)


def check(bundle: str, scores: dict[str, float]) -> None:
    """Today's code gives the scores of the old one, bit for bit."""
    from edgeflow_runtime import Scorer

    with Scorer.load(HERE / bundle) as scorer:
        clips = clips_from(scorer.bundle.golden["samples"])
        today = {name: scorer.score(samples, 16000).score for name, samples in clips.items()}
    if today != scores:
        sys.exit(f"{bundle}: today's code gives {today}, the old one gave {scores}")
    print(f"{bundle}: equal bits on {len(today)} clips")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        made = make_third if "format_3" in sys.argv[1] else make_old
        print(json.dumps(made(sys.argv[1], Path(sys.argv[2]))))
    else:
        make()
