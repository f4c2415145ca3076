"""TensorRT and TensorRT-RTX: which is installed, and its module once it is safe to import."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from edgeflow_runtime.backends.tensorrt.nvidia_driver import explain
from edgeflow_runtime.errors import DeviceError
from edgeflow_runtime.extras import install_command

if TYPE_CHECKING:
    from edgeflow_runtime.backends.tensorrt.tensorrt_types import ILogger, TensorRt

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""The Python module of each backend that runs engines."""

OLDEST = (10, 3)
"""The oldest TensorRT whose calls and operators are used here: that of JetPack 6.1 and 6.2."""

SHARED_OBJECTS = {
    "tensorrt": "libnvinfer.so.{major}",
    "tensorrt-rtx": "libtensorrt_rtx.so.{major}",
}


def is_installed(backend: str) -> bool:
    """Whether the module of ``backend`` can be found; it is not imported."""
    return importlib.util.find_spec(MODULES[backend]) is not None


def mend(backend: str) -> str:
    """What installs the module of ``backend``."""
    if backend == "tensorrt-rtx":
        return f"run {install_command('rtx')}"
    return (
        "on a Jetson it comes with JetPack (edgeflow doctor says what is missing); on a PC run "
        f"{install_command('gpu')}"
    )


def import_library(backend: str) -> TensorRt:
    """The module of ``backend``; probe the driver first if anything shall run.

    Raises:
        DeviceError: it is not installed, too old, or its own libraries are missing.
    """
    module = MODULES[backend]
    try:
        trt = cast("TensorRt", importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name != module:
            raise DeviceError(f"{module} is broken: it needs {error.name!r}") from error
        raise DeviceError(f"{module} is not installed: {mend(backend)}") from error
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DeviceError(f"{module} cannot be loaded: {reason}; {mend(backend)}") from error
    if backend == "tensorrt" and version_of(trt.__version__) < OLDEST:
        raise DeviceError(
            f"TensorRT {trt.__version__} is too old: edgeflow needs 10.3 or newer (JetPack 6.1)"
        )
    return trt


def version_of(text: str) -> tuple[int, ...]:
    """The numbers of a version, to compare.

    Example:
        >>> version_of("10.16.1.11") > version_of("10.3.0")
        True
    """
    return tuple(int(number) for number in re.findall(r"\d+", text))


def library_build(backend: str, version: str) -> int | None:
    """The build number of the library itself, which the module's version may not tell.

    ``None`` where the library does not answer.
    """
    name = SHARED_OBJECTS[backend].format(major=version.split(".")[0])
    try:
        return int(ctypes.CDLL(name).getInferLibBuildVersion())
    except (OSError, AttributeError):
        return None


def decode(messages: Sequence[str]) -> str:
    """What TensorRT's errors come to, in one line, with a mend where one is known.

    The first error of a build tells the cause; those after it only say that the build failed.
    """
    for message in messages:
        code = re.search(r"CUDA initialization failure with error: (\d+)", message)
        if code:
            return explain(int(code[1]))
    text = " ".join((messages[0] if messages else "it gives no reason").split())
    if re.search(r"out of memory|OutOfMemory|insufficient memory|bad_alloc", text, re.IGNORECASE):
        text += ": stop other programs, add swap, or lower --workspace and --batch"
    return text


def make_logger(trt: TensorRt, heard: Callable[[str], None]) -> ILogger:
    """A logger for TensorRT that hands its errors to ``heard`` and drops the rest."""

    class Errors(trt.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: int, message: str) -> None:
            if severity in (trt.Logger.ERROR, trt.Logger.INTERNAL_ERROR):
                heard(message)

    return Errors()
