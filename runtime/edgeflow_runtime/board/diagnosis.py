"""What a board lacks for a monitor, and the exact command that mends it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace

from edgeflow_runtime.board.facts import Board, Microphone
from edgeflow_runtime.board.installed import version_tuple
from edgeflow_runtime.board.interpreter import BASE_PACKAGES, PythonFacts
from edgeflow_runtime.documents import Document
from edgeflow_runtime.extras import install_command
from edgeflow_runtime.printable import printable

OLDEST_PYTHON = (3, 10)
OLDEST_L4T = (36, 4)
OLDEST_JETPACK = (6, 1)
OLDEST_TENSORRT, NEWEST_TENSORRT = (10, 3), (11, 4)
WRITTEN_FOR = "edgeflow is written for TensorRT 10.3 to 11.4, which JetPack 6.1 and newer bring"

LITTLE_MEMORY_BYTES = 2 * 10**9
LITTLE_DISK_BYTES = 10**9

INSTALL = "sudo apt-get update && sudo apt-get install --yes"
FLASH = {
    "orin": "flash JetPack 6.2 or 7.2: https://developer.nvidia.com/embedded/jetpack",
    "thor": "flash JetPack 7.2: https://developer.nvidia.com/embedded/jetpack",
}
DRIVERS = {"orin": "nvidia-l4t-cuda-nvgpu", "thor": "nvidia-l4t-cuda-openrm"}
"""The package with the driver's library since Jetson Linux 39."""

SWAP = (
    "sudo fallocate -l 4G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && "
    "sudo swapon /swapfile && echo '/swapfile none swap sw 0 0' | sudo tee -a /etc/fstab"
)


@dataclass(frozen=True)
class Finding(Document):
    """One thing that was looked at."""

    level: str
    """``ok``; ``note``, which can stay as it is; ``missing``, which something needs."""

    subject: str
    """What was looked at, such as ``TensorRT``."""

    detail: str
    """What is there or not, and what that means."""

    mend: str | None = None
    """The command that mends it; None if nothing is to be done, or nothing can be."""


def diagnose(board: Board, python: PythonFacts | None) -> list[Finding]:
    """Say what ``board`` has and lacks for a monitor that ``python`` runs.

    Without ``python``, only the board is judged: so for a root that another machine reads.
    """
    findings = [*_python(python)]
    if board.is_jetson:
        findings += _jetson(board, python)
    else:
        findings += _computer(board, python)
    findings += [*_memory(board), *_disk(board), *_microphones(board, python)]
    return [replace(finding, detail=printable(finding.detail)) for finding in findings]


def board_rows(board: Board, python: PythonFacts | None) -> list[tuple[str, str]]:
    """What was read, as rows of a name and a text; what is not known is left out."""
    memory, power, mode = board.memory, board.power, board.power.mode
    rows: list[tuple[str, str | None]] = [
        ("board", board.model),
        ("system", _joined(" on ", board.system, board.architecture)),
        ("Jetson Linux", board.l4t),
        ("JetPack", board.jetpack),
        ("GPU", board.family and f"{board.family}, compute capability {board.compute_capability}"),
        ("driver", _joined(", ", board.driver, board.driver_library)),
        ("CUDA", _joined(", ", board.cuda, board.nvcc)),
        ("TensorRT", board.tensorrt),
        *(("", f"for Python {b.python} in {b.folder}") for b in board.bindings),
        ("power mode", f"{mode.name} ({mode.id})" if mode else None),
        ("clocks", power.governor),
        ("memory", _joined(" of ", _size(memory.available_bytes), _size(memory.total_bytes))),
        ("swap", _size(memory.swap_bytes)),
        ("free disk", _size(board.disk_free_bytes)),
        *(("microphone", f"{m.title} ({m.alsa})") for m in board.microphones if not m.is_routed),
        *(_python_rows(python) if python else ()),
        ("unreadable", ", ".join(board.unreadable) or None),
    ]
    return [(name, printable(text)) for name, text in rows if text]


def _python_rows(python: PythonFacts) -> Iterator[tuple[str, str | None]]:
    yield "Python", f"{python.version}, {python.executable}"
    have = (f"{name} {version}" for name, version in python.packages.items() if version)
    yield "packages", ", ".join(have) or None


def _joined(word: str, *parts: str | None) -> str | None:
    return word.join(part for part in parts if part) or None


def _size(count: int | None) -> str | None:
    return None if count is None else f"{count / 1e9:.1f} GB"


def _program(python: PythonFacts) -> str:
    return shlex.quote(python.executable)


def _python(python: PythonFacts | None) -> Iterator[Finding]:
    if python is None:
        return
    if version_tuple(python.version) < OLDEST_PYTHON:
        yield Finding("missing", "Python", f"{python.version}; edgeflow needs 3.10 or newer")
        return
    lacking = [name for name in BASE_PACKAGES if not python.packages.get(name)]
    if lacking:
        yield Finding(
            "missing",
            "Python",
            f"{python.version} lacks {', '.join(lacking)}",
            f"{_program(python)} -m {install_command()}",
        )
    else:
        yield Finding("ok", "Python", f"{python.version} with all that the CPU needs")


def _computer(board: Board, python: PythonFacts | None) -> Iterator[Finding]:
    """A machine that is no Jetson: a PC, a server, another maker's board."""
    what = f"no Jetson, {board.architecture or 'unknown architecture'}: scoring on the CPU works"
    if not (board.driver or board.driver_library):
        yield Finding("ok", "board", f"{what}; no NVIDIA driver")
        return
    packages = python.packages if python else {}
    lacking = [name for name in ("tensorrt", "pycuda") if not packages.get(name)]
    if python is None or not lacking:
        driver = f"NVIDIA driver {board.driver or 'of unknown version'}"
        yield Finding("ok", "board", f"{what}; {driver}")
        return
    detail = f"{what}; for its NVIDIA GPU, {' and '.join(lacking)} would be needed"
    yield Finding("note", "board", detail, f"{_program(python)} -m {install_command('gpu')}")


def _jetson(board: Board, python: PythonFacts | None) -> Iterator[Finding]:
    if _is_old(board):
        yield _old_jetpack(board)
    else:
        yield _jetpack(board)
        yield _driver(board)
        yield from _tensorrt(board, python)
    yield from _power(board)


def _is_old(board: Board) -> bool:
    if board.l4t:
        return version_tuple(board.l4t) < OLDEST_L4T
    return bool(board.jetpack) and version_tuple(board.jetpack) < OLDEST_JETPACK


def _jetpack_name(board: Board) -> str:
    parts = (board.jetpack, board.l4t and f"Jetson Linux {board.l4t}")
    return _joined(", ", *parts) or "version unknown"


def _old_jetpack(board: Board) -> Finding:
    detail = f"{_jetpack_name(board)} is too old for the GPU: {WRITTEN_FOR}; the CPU can score"
    if board.family in ("xavier", "tx2", "nano"):
        detail += f"; there is no such JetPack for a {board.family}"
        return Finding("missing", "JetPack", detail)
    return Finding("missing", "JetPack", detail, FLASH.get(board.family or "", FLASH["orin"]))


def _jetpack(board: Board) -> Finding:
    if board.l4t or board.jetpack:
        return Finding("ok", "JetPack", _jetpack_name(board))
    detail = f"{_jetpack_name(board)}: this may be a container, or another system than NVIDIA's"
    return Finding("note", "JetPack", detail)


def _driver(board: Board) -> Finding:
    if board.driver_library:
        return Finding("ok", "driver", _joined(", ", board.driver, board.driver_library) or "")
    newer = version_tuple(board.l4t) >= (39,)
    package = DRIVERS.get(board.family or "", "nvidia-l4t-cuda") if newer else "nvidia-l4t-cuda"
    detail = "no libcuda.so.1; a container must be started with --runtime nvidia"
    return Finding("missing", "driver", detail, f"{INSTALL} --reinstall {package}")


def _tensorrt(board: Board, python: PythonFacts | None) -> Iterator[Finding]:
    """The library first, then what stands on it: one mend at a time."""
    if board.tensorrt is None:
        detail = f"no libnvinfer; {WRITTEN_FOR}"
        yield Finding("missing", "TensorRT", detail, f"{INSTALL} nvidia-jetpack")
        return
    version = version_tuple(board.tensorrt)[:2]
    if version < OLDEST_TENSORRT:
        detail = f"{board.tensorrt} is too old: {WRITTEN_FOR}"
        yield Finding("missing", "TensorRT", detail, f"{INSTALL} nvidia-jetpack")
        return
    if version > NEWEST_TENSORRT:
        detail = f"{board.tensorrt} is newer than what was tried: {WRITTEN_FOR}"
        yield Finding("note", "TensorRT", detail)
    else:
        yield Finding("ok", "TensorRT", board.tensorrt)
    yield _binding(board, python)
    if python and (not board.bindings or any(b.python == python.minor for b in board.bindings)):
        yield _pycuda(board, python)  # for another Python, the environment has to change first


def _binding(board: Board, python: PythonFacts | None) -> Finding:
    subject = "TensorRT for Python"
    imported = python.packages.get("tensorrt") if python else None
    if imported and version_tuple(imported)[:2] == version_tuple(board.tensorrt)[:2]:
        return Finding("ok", subject, imported)
    if python and imported:
        return _other_binding(board, python, imported)
    fitting = [b for b in board.bindings if python is None or b.python == python.minor]
    if not board.bindings:
        return Finding("missing", subject, "none", f"{INSTALL} python3-libnvinfer")
    if python is None:
        return Finding("ok", subject, ", ".join(f"Python {b.python}" for b in fitting))
    if not fitting:
        return _other_python(board, python)
    if not python.system_site_packages:
        command = (python.executable, "-m", "venv", "--system-site-packages", "--upgrade")
        detail = f"in {fitting[0].folder}, which {python.prefix} does not see"
        return Finding("missing", subject, detail, shlex.join((*command, python.prefix)))
    detail = f"in {fitting[0].folder}, yet {python.executable} does not find it"
    return Finding("missing", subject, detail, f"{INSTALL} --reinstall python3-libnvinfer")


def _other_binding(board: Board, python: PythonFacts, imported: str) -> Finding:
    """A binding of another version than the library: half an upgrade, or pip's own."""
    if any(binding.version == imported for binding in board.bindings):
        detail = f"{imported} does not fit the library, {board.tensorrt}"
        mend = f"{INSTALL} --reinstall python3-libnvinfer"
        return Finding("missing", "TensorRT for Python", detail, mend)
    detail = f"{imported} from pip hides JetPack's, which fits the library, {board.tensorrt}"
    names = [f"tensorrt-cu{n}{part}" for n in (12, 13) for part in ("", "-bindings", "-libs")]
    mend = f"{_program(python)} -m pip uninstall --yes tensorrt {' '.join(names)}"
    return Finding("note", "TensorRT for Python", detail, mend)


def _other_python(board: Board, python: PythonFacts) -> Finding:
    """A binding runs in one minor version of Python only, so the environment has to change."""
    version = max((b.python for b in board.bindings), key=version_tuple)
    venv = shlex.quote(python.prefix if python.in_venv else ".venv")
    detail = f"for Python {version}, but Python {python.minor} is running"
    mend = (
        f"{INSTALL} python{version}-venv && "
        f"python{version} -m venv --clear --system-site-packages {venv} && "
        f"{venv}/bin/python -m {install_command()}"
    )
    return Finding("missing", "TensorRT for Python", detail, mend)


def _pycuda(board: Board, python: PythonFacts) -> Finding:
    if python.packages.get("pycuda"):
        return Finding("ok", "pycuda", python.packages["pycuda"] or "")
    packages = f"build-essential python{python.minor}-dev"
    detail = "not installed; it is compiled here, which takes minutes"
    if board.nvcc is None:
        packages += " nvidia-jetpack"
        detail += ", with CUDA's compiler, which is missing too"
    build = f"PATH=/usr/local/cuda/bin:$PATH {_program(python)} -m {install_command('jetson')}"
    mend = f"{INSTALL} {packages} && {build}"
    return Finding("missing", "pycuda", detail, mend)


def _power(board: Board) -> Iterator[Finding]:
    mode, highest = board.power.mode, board.power.highest
    if mode is None or highest is None:
        return
    if mode.id == highest.id:
        yield Finding("ok", "power mode", mode.name)
        return
    detail = f"{mode.name}; {highest.name} is faster, draws more power and gives more heat"
    yield Finding("note", "power mode", detail, f"sudo nvpmodel -m {highest.id}")


def _memory(board: Board) -> Iterator[Finding]:
    available, swap = board.memory.available_bytes, board.memory.swap_bytes or 0
    if available is None:
        return
    detail = f"{_size(available)} available and {_size(swap)} swap"
    if available + swap >= LITTLE_MEMORY_BYTES:
        yield Finding("ok", "memory", detail)
    else:
        detail += "; building an engine may be killed"
        yield Finding("note", "memory", detail, SWAP)


def _disk(board: Board) -> Iterator[Finding]:
    free = board.disk_free_bytes
    if free is None:
        return
    if free >= LITTLE_DISK_BYTES:
        yield Finding("ok", "disk", f"{_size(free)} free")
    else:
        mend = "sudo apt-get clean && sudo journalctl --vacuum-size=100M"
        yield Finding("note", "disk", f"only {_size(free)} free", mend)


def _microphones(board: Board, python: PythonFacts | None) -> Iterator[Finding]:
    real = [m for m in board.microphones if not m.is_routed]
    if real:
        detail = "; ".join(f"{m.title}: arecord -D {shlex.quote(m.alsa)}" for m in real)
        yield Finding("ok", "microphone", detail)
        yield from _audio_group(board, python)
        return
    yield Finding("note", "microphone", _no_microphone(board.microphones))


def _no_microphone(routed: tuple[Microphone, ...]) -> str:
    if not routed:
        return "none: plug one in; arecord -l lists what is there"
    return (
        f"only {len(routed)} channels of {routed[0].title}, which are silent unless something is "
        "wired and routed to them; plug in a USB microphone and look again"
    )


def _audio_group(board: Board, python: PythonFacts | None) -> Iterator[Finding]:
    if python is None or board.audio is None or python.is_root:
        return
    if board.audio.gid in python.groups:
        yield Finding("ok", "audio group", f"{python.user or 'the user'} may record")
    elif python.user in board.audio.members:
        detail = f"{python.user} is in it since this login began: log out and in again"
        yield Finding("note", "audio group", detail, "newgrp audio")
    else:
        user = shlex.quote(python.user) if python.user else '"$USER"'
        detail = f"{python.user or 'the user'} is not in it and may not be allowed to record"
        yield Finding(
            "note", "audio group", detail, f"sudo usermod -aG audio {user} && newgrp audio"
        )
