"""What NVIDIA's and Python's software is installed under a root."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from edgeflow_runtime.board.rooted import RootedFiles
from edgeflow_runtime.documents import Document

JETPACKS = {
    "39.2.1": "7.2.1",
    "39.2.0": "7.2",
    "38.4.0": "7.1",
    "38.2.1": "7.0",
    "38.2.0": "7.0",
    "36.5.2": "6.2.3",
    "36.5.0": "6.2.2",
    "36.4.7": "6.2.1",
    "36.4.4": "6.2.1",
    "36.4.3": "6.2",
    "36.4.0": "6.1",
    "36.3.0": "6.0",
    "35.6.2": "5.1.5",
    "35.6.1": "5.1.5",
    "35.6.0": "5.1.4",
    "35.5.0": "5.1.3",
    "35.4.1": "5.1.2",
    "35.3.1": "5.1.1",
    "35.2.1": "5.1",
    "35.1.0": "5.0.2",
}
"""JetPack by Jetson Linux (L4T), for a board without the nvidia-jetpack package."""


@dataclass(frozen=True)
class Binding(Document):
    """TensorRT's Python binding as a package of the system."""

    python: str
    """The Python that it is for, such as ``3.10``."""

    version: str | None
    """Its version, such as ``10.3.0``."""

    folder: str
    """The folder that holds it."""


def version_tuple(version: str | None) -> tuple[int, ...]:
    """The numbers a version starts with; empty if there are none.

    Example:
        >>> version_tuple("10.3.0.30-1+cuda12.5"), version_tuple(None)
        ((10, 3, 0, 30), ())
    """
    return tuple(int(part) for part in (upstream(version) or "").split(".") if part)


def installed_packages(status: str) -> dict[str, str]:
    """Versions of the installed packages in the text of dpkg's ``status`` file."""
    versions = {}
    for stanza in re.split(r"\n\s*\n", status):
        fields = dict(re.findall(r"^(Package|Status|Version): *(.*?) *$", stanza, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed") and {"Package", "Version"} <= set(
            fields
        ):
            versions[fields["Package"]] = fields["Version"]
    return versions


def read_l4t(files: RootedFiles, packages: dict[str, str]) -> str | None:
    """Release of Jetson Linux (L4T), such as ``36.4.3``."""
    pattern = r"R(\d{1,4}) \(release\), REVISION: (\d{1,4}(?:\.\d{1,4})*)"
    release = re.search(pattern, files.text("etc/nv_tegra_release") or "", re.ASCII)
    return f"{release[1]}.{release[2]}" if release else upstream(packages.get("nvidia-l4t-core"))


def read_jetpack(packages: dict[str, str], l4t: str | None) -> str | None:
    """JetPack's version; SD card images lack its package, so Jetson Linux tells it too."""
    return upstream(packages.get("nvidia-jetpack")) or JETPACKS.get(l4t or "")


def read_cuda(files: RootedFiles, packages: dict[str, str]) -> str | None:
    """Version of the CUDA toolkit, or of the runtime where the toolkit does not say."""
    try:
        version = json.loads(files.text("usr/local/cuda/version.json") or "")["cuda"]["version"]
    except (ValueError, TypeError, LookupError, RecursionError):
        version = None
    if isinstance(version, str) and upstream(version):
        return version
    runtimes = [v for k, v in packages.items() if re.fullmatch(r"cuda-cudart-\d+-\d+", k)]
    newest = upstream(max(runtimes, key=version_tuple, default=None))
    return newest or _library_version(files, "libcudart")


def read_tensorrt(files: RootedFiles, packages: dict[str, str]) -> str | None:
    """Version of the TensorRT library, by its file, or by its package where there is no file."""
    names = [name for name in packages if re.fullmatch(r"libnvinfer\d+", name)]
    package = max((packages[name] for name in names), key=version_tuple, default=None)
    return _library_version(files, "libnvinfer") or upstream(package)


def _library_version(files: RootedFiles, stem: str) -> str | None:
    """The fullest version in the names of the library that is loaded: ``10.3.0``, not ``10``."""
    paths = [path.rsplit("/", 1) for path in files.libraries(stem)]
    versions = [name.split(".so.")[1] for folder, name in paths if folder == paths[0][0]]
    return max(versions, key=lambda v: (v.count("."), version_tuple(v)), default=None)


def read_bindings(files: RootedFiles) -> Iterator[Binding]:
    """TensorRT's Python bindings among the system's packages."""
    default = first_group(files.real("usr/bin/python3"), r"python(3\.\d{1,3})$")
    for base in ("usr/local/lib", "usr/lib"):
        for name in files.names(base):
            python = first_group(name, r"^python(3(?:\.\d{1,3})?)$")
            folder = f"{base}/{name}/dist-packages"
            if python and files.names(f"{folder}/tensorrt"):
                python = default if python == "3" and default else python
                yield Binding(python, _binding_version(files, folder), f"/{folder}")


def _binding_version(files: RootedFiles, folder: str) -> str | None:
    for name in files.names(folder):
        named = first_group(name, r"^tensorrt-(\d[\w.+]*)\.dist-info$")
        if named:
            told = first_group(files.text(f"{folder}/{name}/METADATA"), r"(?m)^Version: *(\S+)")
            return told or named
    return None


def read_pythons(files: RootedFiles) -> tuple[str, ...]:
    """Versions of the system's Pythons, oldest first."""
    names = [name for folder in ("usr/bin", "usr/local/bin") for name in files.names(folder)]
    versions = {first_group(name, r"^python(3\.\d{1,3})$") for name in names}
    return tuple(sorted((version for version in versions if version), key=version_tuple))


def upstream(version: str | None) -> str | None:
    """The numbers that a version starts with: ``6.2`` of ``6.2+b77``."""
    return first_group(version, r"^(?:\d{1,4}:)?(\d{1,9}(?:\.\d{1,9})*)")


def first_group(text: str | None, pattern: str) -> str | None:
    """What the first group of ``pattern`` finds in ``text``."""
    match = re.search(pattern, text or "", re.ASCII)
    return match[1] if match else None
