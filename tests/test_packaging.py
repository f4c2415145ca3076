"""What the wheel holds, and that every module can be imported from it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

from edgeflow import __version__

ROOT = Path(__file__).parent.parent
SOURCES = {
    "edgeflow": ROOT / "edgeflow",
    "edgeflow_export": ROOT / "export" / "edgeflow_export",
    "edgeflow_runtime": ROOT / "runtime" / "edgeflow_runtime",
    "edgeflow_benchmarks": ROOT / "benchmarks" / "edgeflow_benchmarks",
}
MODULES = [
    ".".join((name, *path.relative_to(source).with_suffix("").parts)).removesuffix(".__init__")
    for name, source in SOURCES.items()
    for path in sorted(source.rglob("*.py"))
    if path.name != "__main__.py"
]


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_nothing_else(tmp_path: Path):
    source = tmp_path / "source"  # a copy, so that no build folder of the checkout has a part in it
    leave = shutil.ignore_patterns(".git", ".venv", "build", "demo", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=leave)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, source]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("edgeflow-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        f"{name}/{path.relative_to(source).as_posix()}"
        for name, source in SOURCES.items()
        for path in source.rglob("*")
        if path.suffix in (".py", ".json") or path.name == "py.typed"
    }
    assert found == expected


def test_setup_and_package_agree_on_the_version():
    declared = re.search(r'version="([^"]+)"', (ROOT / "setup.py").read_text())
    assert declared
    assert declared[1] == __version__


@pytest.mark.parametrize("name", MODULES)
def test_every_module_opens_with_one_sentence(name: str):
    words = import_module(name).__doc__
    assert words
    first = words.split("\n\n")[0].strip()
    assert first.endswith((".", "::"))


BASE = [name for name in MODULES if name.startswith("edgeflow_runtime")]


def test_the_runtime_imports_without_any_extra():
    blocked = ["torch", "onnx", "onnxscript", "sklearn", "matplotlib", "librosa"]
    code = (
        "import sys\n"
        f"for name in {blocked!r}: sys.modules[name] = None\n"
        f"for name in {BASE!r}: __import__(name)\n"
        "import edgeflow.cli, edgeflow.cli.data, edgeflow.cli.train, edgeflow.cli.evaluate\n"
        "import edgeflow_export.cli, edgeflow.dataset, edgeflow.survey, edgeflow.synth\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_dependency_is_pinned():
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    setup = (ROOT / "setup.py").read_text()
    wanted = set(re.findall(r'"([A-Za-z][\w.-]*)>=', setup)) - {"tensorrt"}  # it comes with JetPack
    assert {name.replace("_", "-").lower() for name in wanted} <= pinned
