"""Asking the driver: none, one that refuses, one that is old, one that answers."""

from __future__ import annotations

import ctypes.util
import subprocess
import sys

import pytest

from edgeflow_runtime.backends.tensorrt.nvidia_driver import CAUSES, Gpu, explain, probe_gpu
from edgeflow_runtime.errors import DeviceError


def test_no_driver_is_one_line_with_a_mend():
    with pytest.raises(DeviceError, match=r"no NVIDIA driver here \(libnone.so.1.*edgeflow doctor"):
        probe_gpu(library="libnone.so.1")


def test_another_library_is_no_driver():
    with pytest.raises(DeviceError, match="is no CUDA driver: it lacks cuInit"):
        probe_gpu(library=ctypes.util.find_library("c"))


@pytest.mark.parametrize("code", sorted(CAUSES))
def test_a_driver_that_does_not_start_says_why(fake_driver, code):
    with pytest.raises(DeviceError) as caught:
        probe_gpu(library=fake_driver(init=code))
    assert str(caught.value) == f"the NVIDIA driver refuses cuInit: {CAUSES[code]}"


def test_unknown_codes_are_named():
    assert explain(12345) == "CUDA error 12345"


def test_a_driver_that_answers(fake_driver):
    found = probe_gpu(library=fake_driver(version=12060))
    assert found == Gpu("Orin", "8.7", "12.6", 7990000000, integrated=True, multiprocessors=16)


def test_a_gpu_that_is_not_there(fake_driver):
    with pytest.raises(DeviceError, match="refuses cuDeviceGet: the driver names no such GPU"):
        probe_gpu(1, library=fake_driver())


def test_nothing_of_tensorrt_is_touched_without_a_driver(bundle_path):
    """TensorRT ends the process without a driver: it must not even be imported."""
    try:
        probe_gpu()
    except DeviceError:
        pass
    else:
        pytest.skip("this machine has a GPU")
    code = (
        "import sys\n"
        "from edgeflow_runtime.bundle import Bundle\n"
        "from edgeflow_runtime.backends.select import open_backend\n"
        "from edgeflow_runtime.errors import DeviceError\n"
        "try:\n"
        f"    open_backend(Bundle.load({str(bundle_path)!r}), 'tensorrt-rtx')\n"
        "except DeviceError as error:\n"
        "    print(error)\n"
        "print([m for m in sys.modules if m.startswith(('tensorrt', 'pycuda'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no NVIDIA driver" in done.stdout
    assert done.stdout.endswith("[]\n")
