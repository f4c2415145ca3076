"""edgeflow: acoustic anomaly monitors for edge boards, from recordings to verdicts.

::

    import edgeflow as ef

    data = ef.Dataset.scan("sounds")
    run = ef.train(data.machine("fan", "00"), model="maf", loss="eq5", preset="small", out="run")
    print(ef.evaluate(run, data))
    bundle = ef.export(run, "fan.edgeflow", precision="auto")
    print(ef.Scorer.load("fan.edgeflow").score("clip.wav").verdict)

Recordings of any names and lengths become a data set by a plan::

    plan = ef.plan_recordings(["good_day.wav"], sisters={"02": ["other.wav"]}, machine_type="fan")
    print(plan)
    data = ef.write_recordings(plan, "sounds")

Names are loaded when they are first used: the base install has no torch, and scoring needs none.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# By name, not by import: what exports stands above this package, as in the table of commands.
_HOMES = {
    "Bundle": "edgeflow_runtime.bundle",
    "ClipResult": "edgeflow_runtime.verdicts",
    "Dataset": "edgeflow.dataset",
    "EdgeflowError": "edgeflow_runtime.errors",
    "Evaluation": "edgeflow.evaluation_result",
    "Exported": "edgeflow_export.bundle_from_run",
    "Machine": "edgeflow.dataset",
    "Scorer": "edgeflow_runtime.scorer",
    "TrainedRun": "edgeflow.training.run",
    "evaluate": "edgeflow.evaluation",
    "export": "edgeflow_export.bundle_from_run",
    "plan_recordings": "edgeflow.recordings.planning",
    "write_recordings": "edgeflow.recordings.writing",
    "train": "edgeflow.training.train",
}

_EXTRAS = {
    "edgeflow.training": "train",
    "edgeflow_export": "export",
    "edgeflow.evaluation": "evaluate",
}
"""Which extra brings what a module needs."""

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a public name when it is first used.

    Raises:
        MissingExtraError: it needs a package that is not installed.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from edgeflow_runtime.extras import missing

        extras = [extra for home, extra in _EXTRAS.items() if _HOMES[name].startswith(home)]
        if not extras or error.name is None or error.name.startswith("edgeflow"):
            raise
        raise missing(error.name, extras[0]) from error


def __dir__() -> list[str]:
    return __all__
