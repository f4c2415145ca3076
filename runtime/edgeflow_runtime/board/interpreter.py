"""Which Python runs edgeflow here, what it can import, and for whom."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from edgeflow_runtime.documents import Document

BASE_PACKAGES = ("numpy", "scipy", "onnxruntime", "soundfile", "soxr", "safetensors")
"""What scoring on the CPU needs."""

GPU_PACKAGES = ("tensorrt", "pycuda")
"""What scoring on an NVIDIA GPU needs besides."""

OTHER_NAMES = {
    "onnxruntime": ("onnxruntime-gpu",),
    "tensorrt": ("tensorrt-cu13", "tensorrt-cu12"),
}
"""Other distributions that bring a module."""


@dataclass(frozen=True)
class PythonFacts(Document):
    """Facts about the Python that runs edgeflow."""

    version: str
    """Such as ``3.10.12``."""

    executable: str
    """Its program."""

    prefix: str
    """The folder of its environment."""

    in_venv: bool
    """Whether that is a virtual environment."""

    system_site_packages: bool
    """Whether it sees the packages of the system."""

    packages: dict[str, str | None]
    """Versions of what edgeflow may import, by module; None if it cannot be imported."""

    user: str | None
    """Who runs it."""

    is_root: bool
    """Whether that is root."""

    groups: tuple[int, ...]
    """Numbers of the groups that the process is in."""

    @property
    def minor(self) -> str:
        """Such as ``3.10``: what a compiled package is made for."""
        return ".".join(self.version.split(".")[:2])


def read_python() -> PythonFacts:
    """Facts about the running Python; no package is imported for them."""
    in_venv = sys.prefix != sys.base_prefix
    return PythonFacts(
        version=platform.python_version(),
        executable=sys.executable or f"{sys.prefix}/bin/python3",
        prefix=sys.prefix,
        in_venv=in_venv,
        system_site_packages=not in_venv or _sees_system_packages(Path(sys.prefix)),
        packages={name: _version(name) for name in (*BASE_PACKAGES, *GPU_PACKAGES)},
        user=_user(),
        is_root=os.geteuid() == 0,
        groups=tuple(sorted({*os.getgroups(), os.getegid()})),
    )


def _sees_system_packages(prefix: Path) -> bool:
    try:
        lines = (prefix / "pyvenv.cfg").read_text(errors="replace").splitlines()
    except OSError:
        return False
    settings = {key.strip(): value.strip() for key, _, value in (s.partition("=") for s in lines)}
    return settings.get("include-system-site-packages", "").lower() == "true"


def _version(module: str) -> str | None:
    """Version of an importable module; ``unknown`` if nothing tells it."""
    try:
        spec = util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:  # a mere folder of that name is no package
        return None
    for name in (module, *OTHER_NAMES.get(module, ())):
        try:
            return metadata.version(name) or "unknown"
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def _user() -> str | None:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's number without a name
        return None
