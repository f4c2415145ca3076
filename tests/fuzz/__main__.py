"""Coverage-guided fuzzing with Atheris: each harness for a while, what it finds kept in a folder.

::

    python -m tests.fuzz [--seconds S] [--found FOLDER] [HARNESS ...]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.limits import CORPUS, MEMORY, PATIENCE_S

NAMES = (
    "bundle", "edited_bundle", "graph", "manifest", "engine_record", "pipe", "wav", "flac", "npy",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run each harness in a process of its own; the number of those that found something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--seconds", type=int, default=60, help="for each harness")
    parser.add_argument(
        "--found", type=Path, default=Path("fuzz-found"), help="what fails goes here"
    )
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.one:
        _fuzz(chosen.names[0], chosen.seconds, chosen.found)
    chosen.found.mkdir(exist_ok=True)
    failed = 0
    for name in chosen.names:
        command = [sys.executable, "-m", "tests.fuzz", "--one", name]
        options = ["--seconds", str(chosen.seconds), "--found", str(chosen.found)]
        failed += subprocess.run([*command, *options]).returncode != 0
    return failed


def _fuzz(name: str, seconds: int, found: Path) -> None:
    """Fuzz one harness in this process; never returns."""
    import atheris

    with atheris.instrument_imports(include=["edgeflow_runtime", "zipfile", "safetensors", "json"]):
        from tests.fuzz.harnesses import HARNESSES
    folder = Path(tempfile.mkdtemp(prefix=f"edgeflow-{name}-"))
    for path in (CORPUS / name).iterdir():
        shutil.copy(path, folder)
    limits = [f"-timeout={PATIENCE_S}", f"-rss_limit_mb={MEMORY >> 20}", "-print_final_stats=1"]
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={found}{os.sep}{name}-"]
    atheris.Setup([sys.argv[0], *limits, *options, "-verbosity=0", str(folder)], HARNESSES[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
