"""What the wheel holds, and that every module can be imported from it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

from edgeflow import __version__
from edgeflow_runtime import extras

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


def built(kind: str, source: Path, out: Path) -> Path:
    """The wheel or the source distribution of ``source``."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that no build folder of the checkout has a part in what is built."""
    copy = tmp_path_factory.mktemp("copy") / "edgeflow"
    leave = (".git", ".venv", "build", "demo", "site", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*leave))
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", checkout, tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path):
    inside = {name for name in contents(wheel) if ".dist-info/" not in name}
    expected = {
        f"{name}/{path.relative_to(source).as_posix()}"
        for name, source in SOURCES.items()
        for path in source.rglob("*")
        if path.suffix in (".py", ".pyi", ".json") or path.name == "py.typed"
    }
    assert inside == expected


@pytest.mark.slow
def test_the_registrys_page_needs_no_repository(wheel: Path):
    (metadata,) = (v for k, v in contents(wheel).items() if k.endswith(".dist-info/METADATA"))
    head, _, page = metadata.decode().partition("\n\n")
    for line in ("License-Expression: Apache-2.0", "Author: ", "Keywords: ", "Project-URL: "):
        assert f"\n{line}" in head
    assert "workstation" in head
    targets = re.findall(r"\]\(([^)]*)\)", page)
    assert targets
    assert [link for link in targets if not link.startswith(("https://", "#"))] == []


@pytest.mark.slow
def test_the_source_distribution_holds_all_and_makes_the_same_wheel(
    checkout: Path, wheel: Path, tmp_path: Path
):
    sdist = built("sdist", checkout, tmp_path)
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path, filter="data")
    for part in (
        "CHANGELOG.md", "LICENSE", "constraints.txt", "docs/cli.md", "examples/quickstart.py",
        "tests/conftest.py", "Makefile", "CONTRIBUTING.md", "tests/on_base_install.sh",
        *(f"tests/bundles/{path.name}" for path in (ROOT / "tests" / "bundles").iterdir()),
    ):  # fmt: skip
        assert part in names
    again = built("wheel", tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path)
    assert contents(again) == contents(wheel)


def test_what_is_missing_is_said_with_a_command_that_works(monkeypatch: pytest.MonkeyPatch):
    command = extras.install_command("plot")
    assert command == f"pip install -c {ROOT}/constraints.txt '{ROOT}[plot]'"
    monkeypatch.setattr(extras, "SOURCE", ROOT / "tests")  # as it is where a wheel is installed
    assert extras.install_command("plot") == "pip install 'edgeflow[plot]'"


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


EXTRAS = ["torch", "onnx", "onnxscript", "sklearn", "matplotlib", "librosa"]
BASE = [name for name in MODULES if name.startswith("edgeflow_runtime")]


def test_the_runtime_imports_without_any_extra():
    code = (
        "import sys\n"
        f"for name in {EXTRAS!r}: sys.modules[name] = None\n"
        f"for name in {BASE!r}: __import__(name)\n"
        "import edgeflow.cli, edgeflow.cli.data, edgeflow.cli.train, edgeflow.cli.evaluate\n"
        "import edgeflow_export.cli, edgeflow.dataset, edgeflow.survey, edgeflow.synth\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_runtimes_tests_do_without_any_extra():
    """Their conftests, too; ``make test-base`` runs them where there really is none."""
    code = (
        "import sys, pytest\n"
        f"for name in {EXTRAS!r}: sys.modules[name] = None\n"
        "sys.exit(pytest.main(['tests/runtime', '--collect-only', '-q', '-p', 'no:cacheprovider']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_dependency_is_pinned():
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    setup = (ROOT / "setup.py").read_text()
    wanted = set(re.findall(r'"([A-Za-z][\w.-]*)(?:\[\w+\])?>=', setup)) - {
        "tensorrt"
    }  # it comes with JetPack
    assert {name.replace("_", "-").lower() for name in wanted} <= pinned
