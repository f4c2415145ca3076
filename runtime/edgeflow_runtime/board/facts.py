"""What this board is: facts read from files under a root."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeflow_runtime.board.installed import (
    Binding,
    first_group,
    installed_packages,
    read_bindings,
    read_cuda,
    read_jetpack,
    read_l4t,
    read_pythons,
    read_tensorrt,
)
from edgeflow_runtime.board.rooted import RootedFiles
from edgeflow_runtime.documents import Document

FAMILIES = {
    "tegra264": "thor",
    "tegra234": "orin",
    "tegra194": "xavier",
    "tegra186": "tx2",
    "tegra210": "nano",
}
"""Jetson families by the chip that the device tree names."""

COMPUTE_CAPABILITIES = {"thor": "11.0", "orin": "8.7", "xavier": "7.2", "tx2": "6.2", "nano": "5.3"}

ELF_MACHINES = {0x03: "i686", 0x28: "armv7l", 0x3E: "x86_64", 0xB7: "aarch64", 0xF3: "riscv64"}


@dataclass(frozen=True)
class PowerMode(Document):
    """One of nvpmodel's power modes."""

    id: int
    """What ``nvpmodel -m`` takes."""

    name: str
    """Its name, such as ``MAXN_SUPER``."""


@dataclass(frozen=True)
class Power(Document):
    """How fast the board is allowed to run."""

    mode: PowerMode | None
    """The mode in use; None if that is not known."""

    modes: tuple[PowerMode, ...]
    """All modes of the board, in the order of its configuration."""

    governor: str | None
    """The CPU's frequency governor, such as ``schedutil``."""

    @property
    def highest(self) -> PowerMode | None:
        """The mode with the highest limits: MAXN_SUPER, MAXN, or the one with the most watts."""
        for name in ("MAXN_SUPER", "MAXN"):
            for mode in self.modes:
                if mode.name.upper() == name:
                    return mode
        return max(self.modes, key=_watts, default=None)


@dataclass(frozen=True)
class Memory(Document):
    """Main memory, which a Jetson's GPU shares, in bytes; None where not known."""

    total_bytes: int | None
    """All of it."""

    available_bytes: int | None
    """What a new process can have without swapping."""

    swap_bytes: int | None
    """Swap, used or not, compressed memory (zram) included."""


@dataclass(frozen=True)
class Microphone(Document):
    """A device that ALSA can capture from."""

    card: str
    """Short name of its card, such as ``Device``."""

    device: int
    """Number of the device on its card."""

    title: str
    """Long name of its card, such as ``USB PnP Sound Device``."""

    driver: str
    """Driver of its card, such as ``USB-Audio``."""

    @property
    def alsa(self) -> str:
        """What ``arecord -D`` takes."""
        return f"hw:CARD={self.card},DEV={self.device}"

    @property
    def is_routed(self) -> bool:
        """Whether it records only what is routed to it: a Jetson's audio crossbar, a loopback."""
        return self.driver in ("tegra-ape", "Loopback", "Dummy") or self.card == "APE"


@dataclass(frozen=True)
class AudioGroup(Document):
    """The group of those who may record."""

    gid: int
    """Its number."""

    members: tuple[str, ...]
    """The users that it names."""


@dataclass(frozen=True)
class Board(Document):
    """Facts about a machine; None, or empty, where they are not to be had."""

    root: str
    """The folder that was read as the machine's root."""

    model: str | None
    """Such as ``NVIDIA Jetson AGX Orin Developer Kit``."""

    family: str | None
    """``thor``, ``orin``, ``xavier``, ``tx2`` or ``nano``; None on a PC."""

    compute_capability: str | None
    """Of the integrated GPU, such as ``8.7``; None on a PC."""

    architecture: str | None
    """Of the programs under the root, such as ``aarch64``."""

    system: str | None
    """Such as ``Ubuntu 22.04.5 LTS``."""

    l4t: str | None
    """Release of Jetson Linux, such as ``36.4.3``; None on a PC."""

    jetpack: str | None
    """Such as ``6.2``."""

    cuda: str | None
    """Version of the CUDA runtime, such as ``12.6.68``."""

    nvcc: str | None
    """Where CUDA's compiler is; pycuda is not built without it."""

    tensorrt: str | None
    """Version of the TensorRT library, such as ``10.3.0``."""

    bindings: tuple[Binding, ...]
    """TensorRT's Python bindings among the system's packages."""

    pythons: tuple[str, ...]
    """Versions of Python in the system's folders of programs, oldest first."""

    driver_library: str | None
    """Where the driver's library (libcuda) is."""

    driver: str | None
    """Version of the NVIDIA kernel driver, where it says so."""

    memory: Memory
    """Main memory."""

    disk_free_bytes: int | None
    """Space that a user has left on the file system that holds the root."""

    power: Power
    """Power modes and clocks."""

    microphones: tuple[Microphone, ...]
    """Capture devices."""

    audio: AudioGroup | None
    """Who may record."""

    unreadable: tuple[str, ...]
    """Files that are there but may not be read; they count as missing."""

    @property
    def is_jetson(self) -> bool:
        """Whether it is a Jetson, on whatever carrier board."""
        return bool(self.family or self.l4t or "jetson" in (self.model or "").lower())


def read_board(root: str | Path = "/") -> Board:
    """Read what the machine under ``root`` is; what cannot be read is None or empty.

    Nothing is run, and nothing outside ``root`` is read, with two exceptions: the free space is
    that of the file system that holds ``root``, and where no program under ``/`` tells the
    architecture, Python does.
    """
    files = RootedFiles(root)
    packages = installed_packages(files.text("var/lib/dpkg/status") or "")
    family, l4t = _family(files), read_l4t(files, packages)
    return Board(
        root=str(root),
        model=_model(files),
        family=family,
        compute_capability=COMPUTE_CAPABILITIES.get(family or ""),
        architecture=_architecture(files),
        system=_system(files),
        l4t=l4t,
        jetpack=read_jetpack(packages, l4t),
        cuda=read_cuda(files, packages),
        nvcc=next((f"/{p}" for p in ("usr/local/cuda/bin/nvcc",) if files.is_full_file(p)), None),
        tensorrt=read_tensorrt(files, packages),
        bindings=tuple(read_bindings(files)),
        pythons=read_pythons(files),
        driver_library=next((f"/{path}" for path in files.libraries("libcuda")), None),
        driver=first_group(files.text("proc/driver/nvidia/version"), r"NVRM.*?\s(\d+(?:\.\d+)+)\s"),
        memory=_memory(files),
        disk_free_bytes=_disk_free(files.root),
        power=_power(files),
        microphones=tuple(_microphones(files)),
        audio=_audio_group(files),
        unreadable=tuple(f"/{path}" for path in files.unreadable),
    )


def _model(files: RootedFiles) -> str | None:
    places = (
        "proc/device-tree/model",
        "sys/firmware/devicetree/base/model",
        "sys/class/dmi/id/product_name",
    )
    return next((text for place in places if (text := files.text(place))), None)


def _family(files: RootedFiles) -> str | None:
    """By the chip, since makers of carrier boards choose names of their own for the model."""
    for folder in ("proc/device-tree", "sys/firmware/devicetree/base"):
        chip = first_group(files.text(f"{folder}/compatible"), r"nvidia,(tegra\d{3})\b")
        if chip in FAMILIES:
            return FAMILIES[chip]
    model = (_model(files) or "").lower()
    named = (name for name in FAMILIES.values() if re.search(rf"\bjetson\b.*\b{name}\b", model))
    return next(named, None)


def _architecture(files: RootedFiles) -> str | None:
    for path in ("bin/sh", "usr/bin/env", "usr/bin/python3", "sbin/init"):
        head = files.read(path, 20) or b""
        if head.startswith(b"\x7fELF") and len(head) == 20:
            machine = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
            return ELF_MACHINES.get(machine, f"ELF machine {machine}")
    return platform.machine() or None if files.root == "/" else None


def _system(files: RootedFiles) -> str | None:
    for path in ("etc/os-release", "usr/lib/os-release"):
        name = first_group(files.text(path), r"(?m)^PRETTY_NAME=[\"']?([^\"'\n]+)")
        if name:
            return name.strip()
    return None


def _memory(files: RootedFiles) -> Memory:
    text = files.text("proc/meminfo")
    keys = ("MemTotal", "MemAvailable", "SwapTotal")
    values = [first_group(text, rf"(?m)^{key}: *(\d{{1,15}}) kB") for key in keys]
    return Memory(*(None if value is None else int(value) * 1024 for value in values))


def _disk_free(root: str) -> int | None:
    try:
        disk = os.statvfs(root)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def _power(files: RootedFiles) -> Power:
    modes = tuple(_power_modes(files.text("etc/nvpmodel.conf") or ""))
    chosen = first_group(files.text("var/lib/nvpmodel/status"), r"pmode: *(\d{1,4})")
    names = {mode.id: mode for mode in modes}
    mode = names.get(int(chosen), PowerMode(int(chosen), "unknown")) if chosen else None
    governor = files.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return Power(mode, modes, governor or None)


def _power_modes(text: str) -> Iterator[PowerMode]:
    for line in re.findall(r"(?m)^\s*<\s*POWER_MODEL\b([^>\n]*)>", text):
        number, name = first_group(line, r"\bID=(\d{1,4})\b"), first_group(line, r"\bNAME=(\S+)")
        if number and name:
            yield PowerMode(int(number), name)


def _watts(mode: PowerMode) -> tuple[int, int]:
    """Watts and cores that the name of a mode tells."""
    watts, cores = (first_group(mode.name, rf"(\d{{1,4}})_?{unit}") for unit in ("W", "CORE"))
    return int(watts or 0), int(cores or 0)


def _microphones(files: RootedFiles) -> Iterator[Microphone]:
    pattern = r"(?m)^ *(\d{1,4}) \[([^\]\n]*)\]: *(.*?) - (.*)$"
    named = re.findall(pattern, files.text("proc/asound/cards") or "", re.ASCII)
    cards = {int(number): (name.strip(), driver, title) for number, name, driver, title in named}
    pattern = r"(?m)^(\d{1,4})-(\d{1,4}): .*: capture \d"
    for card, device in re.findall(pattern, files.text("proc/asound/pcm") or "", re.ASCII):
        name, driver, title = cards.get(int(card), (card, "unknown", "unknown"))
        yield Microphone(name, int(device), title.strip(), driver)


def _audio_group(files: RootedFiles) -> AudioGroup | None:
    pattern = r"(?m)^audio:[^:\n]*:(\d{1,9}):([^:\n]*)$"
    group = re.search(pattern, files.text("etc/group") or "", re.ASCII)
    return group and AudioGroup(int(group[1]), tuple(filter(None, group[2].strip().split(","))))
