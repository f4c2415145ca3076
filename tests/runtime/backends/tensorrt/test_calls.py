"""Which calls of TensorRT's edgeflow makes: only those that 10.3 to 11.4 all have."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import edgeflow_runtime.backends.tensorrt as engines
from edgeflow_runtime.backends.tensorrt.tensorrt_module import is_installed

ENGINES = Path(engines.__file__).parent
LIST = Path(__file__).with_name("tensorrt_calls.txt")
ROOM = ("compiler.py", "cuda.py", "library.py", "backend.py")
"""The files that hold objects of TensorRT's."""

OBJECTS = {
    "trt": "trt",
    "_trt": "trt",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "source": "ITensor",
    "parser": "OnnxParser",
    "error": "ParserError",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "layer": "ILayer",
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "_runtime": "Runtime",
    "run": "IExecutionContext",
    "Logger": "Logger",
    "BuilderFlag": "BuilderFlag",
    "MemoryPoolType": "MemoryPoolType",
    "NetworkDefinitionCreationFlag": "NetworkDefinitionCreationFlag",
    "TensorIOMode": "TensorIOMode",
    "ExecutionContextAllocationStrategy": "ExecutionContextAllocationStrategy",
    "ILogger": "ILogger",
    "IProgressMonitor": "IProgressMonitor",
    "ComputeCapability": "ComputeCapability",
}
"""What a name in these files holds: the house gives each kind of object one name."""

ELEMENTS = {"_runs": "IExecutionContext"}
"""What a collection of that name holds."""

RESULTS = {
    "get_output": "ITensor",
    "get_input": "ITensor",
    "get_layer": "ILayer",
    "get_timing_cache": "ITimingCache",
    "get_error": "ParserError",
}
"""What a call returns, where it is used at once."""

OURS = {
    # Objects of our own that share a name with TensorRT's.
    "error.name",
    "engine.compile_engine",
}


def listed(prefix=""):
    lines = [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    plain = {line for line in lines if ": " not in line}
    return plain | {line.split(": ")[1] for line in lines if prefix and line.startswith(prefix)}


def kind_of(node):
    """What TensorRT calls the object that an expression gives; ``None`` if it is none of its."""
    if isinstance(node, ast.Name):
        return OBJECTS.get(node.id)
    if isinstance(node, ast.Attribute):
        return OBJECTS.get(node.attr)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute):
        return ELEMENTS.get(node.value.attr)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return RESULTS.get(node.func.attr)
    return None


def calls(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Attribute):
            continue
        kind = kind_of(node.value)
        if kind and ast.unparse(node) not in OURS:
            yield f"{kind}.{node.attr}"


def all_calls():
    return {call for name in ROOM for call in calls(ENGINES / name)}


def test_every_call_is_in_the_list():
    assert all_calls() - listed("rtx") == set()


def test_the_list_holds_nothing_that_is_not_called():
    assert listed("rtx") - all_calls() == set()


def test_other_files_hold_no_object_of_tensorrt():
    for path in ENGINES.parent.rglob("*.py"):
        if path.parent != ENGINES or path.name not in ROOM:
            text = path.read_text()
            assert "import tensorrt" not in text, path
            assert "trt." not in text.replace("trt.__version__", ""), path


def test_a_call_outside_the_list_would_be_found(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("config.set_flag(trt.BuilderFlag.FP16)\nnetwork.get_layer(0).precision\n")
    assert set(calls(path)) - listed() == {
        "IBuilderConfig.set_flag",
        "BuilderFlag.FP16",
        "ILayer.precision",
    }


@pytest.mark.skipif(
    not is_installed("tensorrt-rtx"),
    reason="TensorRT-RTX is not installed: pip install -c constraints.txt '.[rtx]'",
)
def test_the_listed_calls_exist_in_nvidias_own_bindings():
    """TensorRT-RTX stands at the newest end: what 11 dropped, it dropped as well."""
    import tensorrt_rtx as trt

    for name in listed("rtx"):
        owner, _, attribute = name.partition(".")
        holder = trt if owner == "trt" else getattr(trt, owner)
        assert inspect.getattr_static(holder, attribute, None) is not None, name
    assert not hasattr(trt.BuilderFlag, "FP16")
