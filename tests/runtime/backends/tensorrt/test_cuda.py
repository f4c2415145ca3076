"""pycuda itself, over a fake driver and a fake TensorRT: the GPU's side of an engine, and the CLI.

The calls, their order, their threads and what becomes of the memory are real; the numbers come from
the processor. Each check is a process of its own, see ``cuda_checks.py``.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeflow_runtime.backends.tensorrt.engine_store import EngineStore
from edgeflow_runtime.backends.tensorrt.nvidia_driver import probe_gpu
from edgeflow_runtime.errors import DeviceError

HERE = Path(__file__).parent
CHECKS = HERE / "cuda_checks.py"
LACKING = "cuMemAllocManaged"
"""What the old driver does not have yet, as those of CUDA 12.6 lack cuEventElapsedTime_v2."""


def what_is_missing():
    """Why these tests cannot run here."""
    if importlib.util.find_spec("pycuda") is None:
        return "no pycuda: tests/runtime/backends/tensorrt/install_pycuda.sh builds it without CUDA"
    if not compiler():
        return "there is no C compiler: apt-get install gcc"
    try:
        return f"a real driver is here: {probe_gpu()}"
    except DeviceError:
        return None


def compiler():
    return shutil.which("cc") or shutil.which("gcc")


pytestmark = pytest.mark.skipif(bool(what_is_missing()), reason=str(what_is_missing()))


def linked():
    """The driver's functions that pycuda is linked with: all must be there, or it does not load."""
    folder = Path(importlib.util.find_spec("pycuda").origin).parent
    (module,) = folder.glob("_driver*.so")
    names = re.findall(rb"(?<=\0)cu[A-Z]\w+(?=\0)", module.read_bytes())
    return {name.decode() for name in names}


def compile_driver(folder, without=None):
    """A folder with a libcuda.so.1 that has all of ``linked`` but for ``without``."""
    folder.mkdir()
    weak = "__attribute__((weak)) int {}(void) {{ return 801; }}\n"
    rest = folder / "rest.c"
    rest.write_text("".join(map(weak.format, sorted(linked() - {without}))))
    options = ["-shared", "-fPIC", "-pthread", "-o", folder / "libcuda.so.1"]
    subprocess.run([compiler(), *options, rest, HERE / "fake_cuda.c"], check=True)
    return folder


@pytest.fixture(scope="session")
def machine(tmp_path_factory):
    """Runs Python where the fake driver and the fake TensorRT are installed."""
    root = tmp_path_factory.mktemp("machine")
    drivers = {"new": compile_driver(root / "new"), "old": compile_driver(root / "old", LACKING)}
    shutil.copy(HERE / "fake_tensorrt.py", root / "tensorrt.py")
    # A real TensorRT-RTX has no use for a fake driver.
    (root / "sitecustomize.py").write_text("import sys\nsys.modules['tensorrt_rtx'] = None\n")
    paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    base = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}

    def run(arguments, driver="new", **more):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**base, "LD_LIBRARY_PATH": str(drivers[driver]), **more},
        )

    return run


def checks():
    found = ast.parse(CHECKS.read_text()).body
    names = [node.name for node in found if isinstance(node, ast.FunctionDef)]
    return [name for name in names if name.startswith("check_")]


MACHINES = {
    "check_a_driver_that_is_too_old": {"FAKE_CUDA_VERSION": "6050"},
    "check_a_driver_that_lacks_functions": {"driver": "old"},
}


@pytest.mark.parametrize("name", checks())
def test_on_the_fake_gpu(machine, name):
    done = machine([CHECKS, name], **MACHINES.get(name, {}))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def bundle(bundle_path, tmp_path):
    return Path(shutil.copy(bundle_path, tmp_path / "fan.edgeflow"))


@pytest.fixture
def clips(sounds):
    return sorted(sounds.rglob("*.wav"))[:3]


@pytest.fixture
def edgeflow(machine):
    def run(*arguments, **more):
        return machine(["-m", "edgeflow", *arguments], **more)

    return run


@pytest.fixture
def built(edgeflow, bundle):
    """A bundle with an engine."""
    done = edgeflow("build", bundle, "--workspace", 16)
    assert done.returncode == 0, done.stderr
    assert "Orin (fake) of compute capability 8.7" in done.stdout
    assert "of the golden recording (allowed" in done.stdout
    return bundle


def scores(done):
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("options", [("--backend", "tensorrt", "--require-gpu"), ()])
def test_an_engine_scores_like_the_processor(edgeflow, built, clips, options):
    record = EngineStore(built).record("flow", "tensorrt")
    assert record.proof.buckets == record.buckets
    assert record.buckets[0] == 1
    assert record.key.gpu == "Orin (fake)"
    done = edgeflow("score", built, *clips, *options)
    expected = scores(edgeflow("score", built, *clips, "--backend", "onnxruntime"))
    for found, right in zip(scores(done), expected, strict=True):
        assert found["score"] == pytest.approx(right["score"], abs=1e-5)
        assert found["backend"] == "tensorrt"
        assert found["device"] == "Orin (fake) (compute capability 8.7)"
        assert (right["backend"], right["device"]) == ("onnxruntime", "cpu")
    assert "Error" not in done.stderr
    assert "PyCUDA" not in done.stderr


def test_every_stage_holds_the_engine_too(edgeflow, built):
    done = edgeflow("verify", built, "--stages")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "NLL on tensorrt " in line]
    assert line.startswith("ok ")
    assert "Orin (fake)" in line


def test_a_doctor_looks_and_builds_nothing(edgeflow, bundle):
    done = edgeflow("doctor", bundle)
    assert re.search("^note +engine of flow +none", done.stdout, re.MULTILINE), done.stdout
    assert EngineStore(bundle).record("flow", "tensorrt") is None


def test_a_doctor_names_the_engine(edgeflow, built):
    done = edgeflow("doctor", built)
    pattern = r"^ok +engine of flow +tensorrt for Orin \(fake\), "
    assert re.search(pattern, done.stdout, re.MULTILINE), done.stdout


def test_an_engine_that_gives_wrong_numbers_is_not_used(edgeflow, built, clips):
    good = EngineStore(built).record("flow", "tensorrt")
    for offset in ("0.01", "nan"):
        done = edgeflow("build", built, "--workspace", 16, FAKE_TENSORRT_OFFSET=offset)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].endswith("are allowed: it is not used")
        assert "PyCUDA" not in done.stderr
    assert EngineStore(built).record("flow", "tensorrt") == good
    assert len(list(EngineStore(built).folder.glob("*.engine"))) == 1
    found = scores(edgeflow("score", built, *clips))
    assert {clip["backend"] for clip in found} == {"tensorrt"}


def test_after_an_update_of_the_driver_the_processor_scores_until_the_next_build(
    edgeflow, built, clips
):
    done = edgeflow("score", built, *clips, FAKE_CUDA_VERSION="99010")
    assert {clip["backend"] for clip in scores(done)} == {"onnxruntime"}
    assert "scoring on the CPU: " in done.stderr
    assert "a driver of CUDA 99.0, here is 99.1" in done.stderr
    refused = edgeflow("score", built, *clips, "--require-gpu", FAKE_CUDA_VERSION="99010")
    assert refused.returncode == 2
    assert "run edgeflow build" in refused.stderr


def test_where_pycuda_is_too_new_the_processor_scores(edgeflow, built, clips):
    done = edgeflow("score", built, *clips, driver="old")
    assert {clip["backend"] for clip in scores(done)} == {"onnxruntime"}
    assert "scoring on the CPU: " in done.stderr
    assert "undefined symbol: cuMemAllocManaged" in done.stderr


def test_a_fault_amid_scoring_is_one_line(edgeflow, built, clips):
    done = edgeflow("score", built, *clips, FAKE_CUDA_FAIL="cuEventSynchronize:0:700")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: the GPU failed")
    assert "illegal memory access" in line
