"""Where a figure was measured: device, versions, commit and load, without which it says little."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from edgeflow_runtime.extras import require

PACKAGES = ("edgeflow", "numpy", "torch", "onnxruntime", "librosa")

BLAS_SETTING = "OPENBLAS_CORETYPE"
"""Where this is set, numpy's matrix product may be slower than the processor allows."""


def describe() -> dict[str, str]:
    """Device, versions, commit and load, as text by name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    versions = [f"{name} {_version(name)}" for name in PACKAGES]
    return {
        "device": f"{cpu_name()}, {len(os.sched_getaffinity(0))} cores, {memory:.1f} GB",
        "versions": ", ".join([f"python {platform.python_version()}", *versions]),
        "numpy's BLAS": _blas(),
        "commit": commit(Path(__file__).parent),
        "load average": load(),
    }


def load() -> str:
    """The load average over 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def cpu_name() -> str:
    """The board's or the processor's name, as far as the system tells."""
    board = Path("/proc/device-tree/model")
    if board.exists():
        return board.read_text(errors="replace").strip("\0\n ")
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit(folder: Path) -> str:
    """The checkout's commit, with ``+`` if files differ from it; ``none`` outside a checkout."""
    head = _git(folder, "rev-parse", "--short", "HEAD")
    if not head:
        return "none"
    return f"{head}+" if _git(folder, "status", "--porcelain") else head


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _blas() -> str:
    pools = require("threadpoolctl", "bench").threadpool_info()
    kinds = [
        f"{pool['internal_api']} {pool['version']} for {pool.get('architecture', 'any')}"
        for pool in pools
        if pool["user_api"] == "blas"
    ]
    forced = os.environ.get(BLAS_SETTING)
    note = f" (forced by {BLAS_SETTING}={forced})" if forced else ""
    return (", ".join(kinds) or "unknown") + note
