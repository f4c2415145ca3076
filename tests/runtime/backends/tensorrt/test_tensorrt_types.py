"""Which calls of TensorRT's edgeflow makes: only those that its stub lists, and NVIDIA's has."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import edgeflow_runtime.backends.tensorrt as room
from edgeflow_runtime.backends.tensorrt.tensorrt_module import is_installed

FILES = {path.name: path.read_text() for path in Path(room.__file__).parent.glob("*.py")}
STUB = Path(room.__file__).with_name("tensorrt_types.pyi")
MODULES = {"TensorRt", "AheadOfTime"}
"""Classes of the stub that stand for the module itself."""

RTX_ALONE = {"AheadOfTimeConfig": "IBuilderConfig"}
"""Classes that are called otherwise there."""


def listed() -> set[tuple[str, str]]:
    """Every class of the stub with each of its attributes."""
    classes = [node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ClassDef)]
    return {
        (owner.name, item.name if isinstance(item, ast.FunctionDef) else item.target.id)
        for owner in classes
        for item in owner.body
        if isinstance(item, (ast.FunctionDef, ast.AnnAssign))
    }


@pytest.mark.parametrize(("owner", "name"), sorted(listed()))
def test_nothing_is_listed_that_is_not_used(owner: str, name: str):
    text = "".join(FILES.values())
    assert name == "__init__" or re.search(rf"\.{name}\b", text), f"{owner}.{name}"


def test_no_other_file_holds_objects_of_tensorrt():
    """The type checker sees to it that what is typed calls nothing else; nothing may be untyped."""
    for path in Path(room.__file__).parents[2].rglob("*.py"):
        text = path.read_text()
        assert "import tensorrt" not in text, path
        if path.name not in FILES:
            assert not re.search(r"\btrt\.", text), path
        assert not re.search(r"\btrt: Any\b", text), path


def test_the_type_checker_refuses_what_is_not_listed(tmp_path: Path):
    api = pytest.importorskip("mypy.api", reason="pip install -c constraints.txt mypy")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from edgeflow_runtime.backends.tensorrt.tensorrt_types import IBuilderConfig, TensorRt\n"
        "def f(trt: TensorRt, config: IBuilderConfig) -> None:\n"
        "    config.clear_flag(trt.BuilderFlag.TF32)\n"
        "    config.clear_flag(trt.BuilderFlag.FP16)\n"
    )
    stub = tmp_path / "edgeflow_runtime" / "backends" / "tensorrt" / "tensorrt_types.pyi"
    stub.parent.mkdir(parents=True)
    for folder in (stub.parent, *stub.parents[1:3]):
        (folder / "__init__.pyi").touch()
    stub.write_text(STUB.read_text())
    options = ["--config-file=", "--strict", f"--cache-dir={tmp_path / 'cache'}"]
    said, _, status = api.run([*options, str(wrong)])
    (line,) = (line for line in said.splitlines() if "error:" in line)
    assert (status, "FP16" in line, ":4:" in line) == (1, True, True)


@pytest.mark.skipif(
    not is_installed("tensorrt-rtx"),
    reason="TensorRT-RTX is not installed: pip install -c constraints.txt '.[rtx]'",
)
def test_what_is_listed_exists_in_nvidias_own_bindings():
    """TensorRT-RTX stands at the newest end: what 11 dropped, it dropped as well."""
    import tensorrt_rtx as trt

    for owner, name in listed() - {("DataType", "name")}:
        holder = trt if owner in MODULES else getattr(trt, RTX_ALONE.get(owner, owner))
        assert inspect.getattr_static(holder, name, None) is not None, (owner, name)
    assert not hasattr(trt.BuilderFlag, "FP16")
