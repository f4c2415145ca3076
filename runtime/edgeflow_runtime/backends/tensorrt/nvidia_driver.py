"""Which GPU is here, asked of the driver itself, before anything that crashes without one.

Without a driver TensorRT does not raise: it ends the process. So ``libcuda`` is loaded and started
through ctypes first, and only when it answers does anything else touch the GPU.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from edgeflow_runtime.errors import DeviceError

LIBRARY = "libcuda.so.1"

CAUSES = {
    2: "the GPU is out of memory",
    3: "the driver is shutting down",
    34: "the libcuda that was found is a stub: it came with the CUDA toolkit, not with a driver",
    35: "the driver is older than this CUDA: update the driver",
    100: "the driver finds no GPU (on a Jetson, is this user in the groups video and render?)",
    101: "the driver names no such GPU",
    802: "the GPU is not ready yet: try again in a minute",
    803: "the driver's kernel module and its library are of two versions: reboot after an update",
    804: "this GPU does not support CUDA forward compatibility: update the driver itself",
    999: "the driver reports an unknown error: reboot, then look at dmesg",
}
"""What CUDA's error codes mean to whoever has to mend them (CUDA driver API, ``CUresult``)."""

COMPUTE_MAJOR, COMPUTE_MINOR, INTEGRATED, MULTIPROCESSORS = 75, 76, 18, 16
"""``CUdevice_attribute`` numbers."""


@dataclass(frozen=True)
class Gpu:
    """The GPU that work goes to."""

    name: str
    """As the driver calls it, for example ``Orin``."""
    compute_capability: str
    """For example ``8.7``."""
    driver: str
    """The newest CUDA that the driver speaks, for example ``12.6``."""
    memory: int
    """Its memory in bytes; on a Jetson it is the board's."""
    integrated: bool
    """Whether it shares the memory of the processor, as on a Jetson."""
    multiprocessors: int
    """Streaming multiprocessors: every Orin is called ``Orin``, from 4 of them to 16."""


def probe_gpu(index: int = 0, library: str = LIBRARY) -> Gpu:
    """Ask the driver for a GPU.

    Args:
        index: which one, from 0.
        library: name or path of the driver's library.

    Raises:
        DeviceError: there is no driver, it does not start, or it has no such GPU.
    """
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        raise DeviceError(
            f"there is no NVIDIA driver here ({library} cannot be loaded): edgeflow doctor says "
            "what is missing"
        ) from error
    _call(cuda, "cuInit", ctypes.c_uint(0))
    version, device, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    _call(cuda, "cuDriverGetVersion", ctypes.byref(version))
    _call(cuda, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(index))
    _call(cuda, "cuDeviceGetName", name, ctypes.c_int(len(name)), device)
    _call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    major, minor, integrated, multiprocessors = (
        _attribute(cuda, which, device)
        for which in (COMPUTE_MAJOR, COMPUTE_MINOR, INTEGRATED, MULTIPROCESSORS)
    )
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major}.{minor}",
        driver=cuda_version(version.value),
        memory=memory.value,
        integrated=bool(integrated),
        multiprocessors=multiprocessors,
    )


def cuda_version(number: int) -> str:
    """CUDA's way to write a version, as people write it.

    Example:
        >>> cuda_version(12060)
        '12.6'
    """
    return f"{number // 1000}.{number % 1000 // 10}"


def explain(code: int) -> str:
    """What a CUDA error code means, in words."""
    return CAUSES.get(code, f"CUDA error {code}")


def _attribute(cuda: ctypes.CDLL, which: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(which), device)
    return value.value


def _call(cuda: ctypes.CDLL, function: str, *arguments: object) -> None:
    try:
        code = getattr(cuda, function)(*arguments)
    except AttributeError as error:
        raise DeviceError(f"'{cuda._name}' is no CUDA driver: it lacks {function}") from error
    if code:
        raise DeviceError(f"the NVIDIA driver refuses {function}: {explain(code)}")
