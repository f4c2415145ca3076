"""No failure looks like the 1 that means anomalous: each is one line, however early it comes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
AS_A_SCRIPT = [sys.executable, "-c", "from edgeflow.__main__ import main; main()"]
"""What the console script of an installation does."""
AS_A_MODULE = [sys.executable, "-m", "edgeflow"]

FAULTS = {
    "no module": "raise ModuleNotFoundError(\"No module named 'gone'\", name='gone')",
    "no library": "raise ImportError('libgone.so.1: cannot open\\nshared object file')",
    "damaged": "x = = 3",
    "no memory": "raise MemoryError",
    "no end": "def again(): again()\nagain()",
    "leaves": "raise SystemExit(1)",
    "leaves well": "raise SystemExit(0)",
    "panics": "class PanicException(BaseException): pass\nraise PanicException('in Rust')",
    "unforeseen": "1 / 0",
}
"""What a package may do when it is imported."""


def run(
    command: list[str], broken: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    paths = [*([str(broken)] if broken else []), os.environ.get("PYTHONPATH", ""), str(ROOT)]
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def fails(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    for part in parts:
        assert part in line
    assert done.stdout == ""


@pytest.mark.parametrize("start", [AS_A_SCRIPT, AS_A_MODULE], ids=["script", "module"])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_start(fault: str, start: list[str], tmp_path: Path):
    (tmp_path / "click.py").write_text(FAULTS[fault])
    fails(run([*start, "score", "x", "y"], tmp_path), "edgeflow could not go on: ")


@pytest.mark.parametrize("package", ["numpy", "soundfile", "onnxruntime"])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_go_on(
    fault: str, package: str, bundle_path: Path, sounds: Path, tmp_path: Path
):
    (tmp_path / f"{package}.py").write_text(FAULTS[fault])
    clip = next((sounds / "fan" / "test").iterdir())
    fails(run([*AS_A_MODULE, "score", str(bundle_path), str(clip)], tmp_path))


def test_a_fault_of_the_command_line_itself(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(
        "import click\ndef broken(*_, **__): raise ZeroDivisionError('by chance')\n"
        "click.Group.main = broken\n"
    )
    fails(run([*AS_A_MODULE, "--help"], tmp_path), "ZeroDivisionError: by chance")


def test_a_missing_package_says_what_mends_it(tmp_path: Path):
    (tmp_path / "click.py").write_text(FAULTS["no module"])
    done = run([*AS_A_MODULE, "--help"], tmp_path)
    fails(done, "No module named 'gone'", "install edgeflow again")


def test_debugging_shows_the_traceback_and_ends_with_2(tmp_path: Path):
    for package in ("click", "numpy"):
        (tmp_path / f"{package}.py").write_text(FAULTS["unforeseen"])
        done = run([*AS_A_MODULE, "score", "x", "y"], tmp_path, EDGEFLOW_DEBUG="1")
        assert done.returncode == 2
        assert "Traceback" in done.stderr
        (tmp_path / f"{package}.py").unlink()


@pytest.mark.parametrize("start", [AS_A_SCRIPT, AS_A_MODULE], ids=["script", "module"])
@pytest.mark.parametrize("package", ["click", "numpy"])
def test_an_interruption_while_a_package_loads(package: str, start: list[str], tmp_path: Path):
    interrupt = f"import os\nos.kill(os.getpid(), {int(signal.SIGINT)})\n"
    # C code that is being initialised may take the interruption for a fault of its own.
    swallow = "try:\n    for _ in range(10**6): pass\nexcept KeyboardInterrupt:\n    1 / 0\n"
    (tmp_path / f"{package}.py").write_text(interrupt + swallow)
    done = run([*start, "score", "x", "y"], tmp_path)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("start", [AS_A_SCRIPT, AS_A_MODULE], ids=["script", "module"])
def test_an_interruption_in_a_callback_that_python_drops(start: list[str], tmp_path: Path):
    (tmp_path / "numpy.py").write_text(
        f"import os, time, weakref\n"
        f"def interrupted(_): os.kill(os.getpid(), {int(signal.SIGINT)}); time.sleep(1)\n"
        f"thing = {{1}}\n"
        f"reference = weakref.ref(thing, interrupted)\n"
        f"del thing\n"
        f"time.sleep(20)\n"
        f"1 / 0\n"
    )
    done = run([*start, "score", "x", "y"], tmp_path)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["score", "--help"], ["schema"], ["--version"]])
def test_a_full_disk_under_standard_output(arguments: list[str]):
    line = f"{sys.executable} -m edgeflow {' '.join(arguments)} >/dev/full"
    fails(run(["sh", "-c", line]), "No space left on device")


@pytest.mark.parametrize("arguments", ["--help", "schema"])
def test_a_reader_that_leaves_at_once(arguments: str):
    line = f"({sys.executable} -m edgeflow {arguments}; echo $? >&2) | true"
    done = run(["sh", "-c", f"{line}; sleep 0.2"])
    assert done.stderr in ("0\n", "2\n")  # 0 where the pipe took all before its reader left


def test_the_installed_command_is_the_one_that_is_tested():
    setup = (ROOT / "setup.py").read_text()
    assert re.search(r'"edgeflow=edgeflow\.__main__:main"', setup)
