"""Mutation testing: each small wrong in a copy of the tree, and whether a test notices it.

::

    python -m tests.mutants.run [--most N] [MODULE ...]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tests.mutants.mutations import Mutant, mutants_of

ROOT = Path(__file__).parents[2]

SLOW = "not subprocess and not heavy and not loads_neither and not closed_what_it_opened"
"""Tests that start processes of their own, which would take most of the time."""

TESTS = {
    "edgeflow/losses.py": ["edgeflow/test_losses.py"],
    "runtime/edgeflow_runtime/views.py": ["runtime/test_views.py"],
    "runtime/edgeflow_runtime/verdicts.py": ["runtime/test_verdicts.py"],
    "runtime/edgeflow_runtime/batch_runner.py": ["runtime/test_batch_runner.py"],
    "runtime/edgeflow_runtime/calibration.py": ["runtime/test_calibration.py"],
    "runtime/edgeflow_runtime/linear_fit.py": ["runtime/test_linear_fit.py"],
    "runtime/edgeflow_runtime/pooling.py": ["runtime/test_pooling.py"],
    "export/edgeflow_export/gate.py": ["export/test_gate.py"],
    "runtime/edgeflow_runtime/logmel.py": ["runtime/test_logmel.py"],
    "runtime/edgeflow_runtime/bundle.py": ["runtime/test_bundle.py"],
    "runtime/edgeflow_runtime/backends/tensorrt/engine_store.py": [
        "runtime/backends/tensorrt/test_engine_store.py"
    ],
    "runtime/edgeflow_runtime/audio.py": ["runtime/test_audio.py"],
}  # fmt: skip
"""The core, and what tests it."""

LOADED = "torch", "onnx", "onnxruntime", "scipy.stats", "sklearn.metrics", "soundfile"
"""What takes long to import and never changes."""


@dataclass
class Trial:
    """A copy of the tree in which one module goes wrong again and again."""

    tree: Path
    """The copy."""
    module: str
    """Path of the module in it."""
    patience_s: float = 100.0
    """How long the tests may take."""

    def survives(self, source: str) -> bool:
        """Whether the module's tests pass with ``source`` in its place."""
        (self.tree / self.module).write_text(source)
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            signal.alarm(int(self.patience_s) + 10)  # should nobody be left to end it
            self._test()
        began = time.monotonic()
        while time.monotonic() - began < self.patience_s:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status) == 0
            time.sleep(0.02)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False

    def _test(self) -> None:
        """Run the tests in this fork and end it."""
        import pytest

        os.chdir(self.tree)
        quiet = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(quiet, descriptor)
        tests = [str(self.tree / "tests" / name) for name in TESTS[self.module]]
        options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-k", SLOW]
        os._exit(
            pytest.main([*options, str(self.tree / self.module), *filter(os.path.exists, tests)])
        )


def surviving(module: str, tree: Path, most: int | None) -> tuple[int, list[Mutant]]:
    """How many mutants of a module were tried, and those that no test noticed."""
    source = (ROOT / module).read_text()
    trial = Trial(tree, module)
    began = time.monotonic()
    if not trial.survives(source):
        raise SystemExit(f"{module}: its tests fail as it is")
    trial.patience_s = 10 + 5 * (time.monotonic() - began)
    mutants = list(mutants_of(source))
    if most is not None and len(mutants) > most:
        mutants = random.Random(module).sample(mutants, most)
    left = []
    for mutant in mutants:
        if trial.survives(mutant.source):
            left.append(mutant)
            print("survived", module, mutant.line, mutant.what, flush=True)
    (tree / module).write_text(source)
    return len(mutants), left


def copied_tree(folder: Path) -> Path:
    """A copy of what the tests need."""
    for name in ("edgeflow", "export", "runtime", "benchmarks", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, folder)
    return folder


def main(arguments: Sequence[str] | None = None) -> Iterator[str]:
    """Try the mutants of the modules that are named, or of all; say what survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(TESTS))
    parser.add_argument("--most", type=int, help="try a sample of this many of each module")
    chosen = parser.parse_args(arguments)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # forks take none
    for name in LOADED:
        import_module(name)
    with tempfile.TemporaryDirectory(prefix="edgeflow-mutants-") as folder:
        tree = copied_tree(Path(folder))
        paths = [tree, tree / "export", tree / "runtime", tree / "benchmarks"]
        sys.path[:0] = list(map(str, paths))
        os.environ["PYTHONPATH"] = os.pathsep.join(map(str, paths))
        sys.dont_write_bytecode = True
        for module in chosen.modules:
            tried, left = surviving(module, tree, chosen.most)
            yield f"{module}: {tried - len(left)} of {tried} noticed"
            yield from (f"    line {mutant.line}: {mutant.what}" for mutant in left)


if __name__ == "__main__":
    for line in main():
        print(line, flush=True)
