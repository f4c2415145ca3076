"""The board's processor: the base install has wheels for it, and scores alike on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import soundfile
import soxr
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from edgeflow_runtime import Scorer
from edgeflow_runtime.bundle import Bundle

REPOSITORY = Path(__file__).parents[2]
SDISTS = ("python_speech_features",)
"""Pure Python without a published wheel: pip builds one, on the board as here."""
NATIVE = {"cffi", "numpy", "onnxruntime", "protobuf", "safetensors", "scipy", "soundfile", "soxr"}
"""Must come built for the processor: soundfile, for one, has a wheel for any that holds no
libsndfile."""


@dataclass(frozen=True)
class System:
    """What a board's Python and C library are, which decides what wheels it takes."""

    name: str
    python: str
    glibc: int
    """The minor version: 35 for glibc 2.35."""

    @property
    def platforms(self) -> list[str]:
        """Every tag its own pip takes; a pip elsewhere must be told each."""
        tags = [f"manylinux_2_{minor}_aarch64" for minor in range(self.glibc, 16, -1)]
        return [*tags, "manylinux2014_aarch64", "linux_aarch64"]

    def wants(self, requirement: Requirement) -> bool:
        """Whether its markers hold there; a pip elsewhere would ask them of its own machine."""
        there = {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "platform_machine": "aarch64",
            "extra": "",
        }
        return requirement.marker is None or requirement.marker.evaluate(there)

    def constraints(self) -> str:
        """The pins that hold there."""
        lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
        pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
        return "".join(f"{pin.name}{pin.specifier}\n" for pin in pins if self.wants(pin))


JETPACK_6 = System("JetPack 6", "3.10", 35)
JETPACK_7 = System("JetPack 7", "3.12", 39)
DEBIAN = System("bookworm", "3.11", 36)
"""The oldest Debian with a Python that edgeflow runs on, and of its C libraries the one nearest to
JetPack 6's. Its name is the suite's."""


def pip(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", *map(str, arguments), "--quiet", "--retries", "1"]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels that are built here: edgeflow's, and those of the sdists."""
    folder, copy = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("source") / "edgeflow"
    if Version(version("pip")) < Version("22.2"):
        pytest.skip(f"pip {version('pip')} cannot report: pip install 'pip>=22.2'")
    constraints = ("-c", REPOSITORY / "constraints.txt")
    probe = pip("download", "--no-deps", *constraints, "-d", copy.parent, "click")
    if probe.returncode:
        pytest.skip("no package index can be reached: name one with 'pip config'")
    leave = shutil.ignore_patterns(".*", "build", "demo", "*.egg-info", "__pycache__")
    shutil.copytree(REPOSITORY, copy, ignore=leave)
    built = pip("wheel", "--no-deps", *constraints, "-w", folder, copy, *SDISTS)
    assert built.returncode == 0, built.stderr
    assert all(path.name.endswith("-none-any.whl") for path in folder.iterdir())
    return folder


def install(system: System, wheels: Path, folder: Path, *options: str) -> list[dict[str, Any]]:
    """Have pip install edgeflow's wheel for ``system`` to ``folder``/site; return what it took."""
    constraints, report = folder / "constraints.txt", folder / "report.json"
    constraints.write_text(system.constraints())
    platforms = [f"--platform={tag}" for tag in system.platforms]
    (wheel,) = wheels.glob("edgeflow-*.whl")
    found = pip(
        "install", *options, "--target", folder / "site", "--report", report,
        "--only-binary=:all:", "--implementation=cp", f"--python-version={system.python}",
        *platforms, "--find-links", wheels, "-c", constraints, wheel,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return json.loads(report.read_text())["install"]


@pytest.mark.slow
@pytest.mark.parametrize("system", [JETPACK_6, JETPACK_7], ids=lambda system: system.name)
def test_the_base_install_has_wheels_for_the_board(system: System, wheels: Path, tmp_path: Path):
    taken = install(system, wheels, tmp_path, "--dry-run")
    metadata = [it["metadata"] for it in taken]
    versions = {canonicalize_name(about["name"]): about["version"] for about in metadata}
    assert versions.keys() >= {*NATIVE, "edgeflow", *map(canonicalize_name, SDISTS)}
    for it in taken:
        wheel = unquote(it["download_info"]["url"].rpartition("/")[2])
        name, _, _, tags = parse_wheel_filename(wheel)  # refuses what is no wheel
        platforms = {tag.platform for tag in tags}
        assert platforms & {"any", *system.platforms}, wheel
        assert not re.search("x86|i686|amd64|win", " ".join(platforms)), wheel
        assert name not in NATIVE or "any" not in platforms, wheel
        for line in it["metadata"].get("requires_dist", ()):
            wanted = Requirement(line)
            if system.wants(wanted):
                assert versions[canonicalize_name(wanted.name)] in wanted.specifier, (name, line)


PROGRAMS = {"mmdebstrap": "mmdebstrap", "qemu-aarch64-static": "qemu-user-static"}
MISSING = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
UNREACHABLE = ("Failed to fetch", "Could not resolve", "Could not connect", "Cannot initiate")

PROCESSORS = ("cortex-a76", "max")
"""The nearest of qemu's to Orin's Cortex-A78AE, and one with the long vectors (SVE) of Thor's."""
ORIN = """processor\t: 0
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd42
CPU revision\t: 1

"""


@dataclass(frozen=True)
class Guest:
    """A Debian for aarch64 in a folder: nothing of this machine can be seen from within."""

    root: Path

    def run(self, processor: str, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a program of the guest's. It can start none itself: only this one is emulated."""
        qemu = ["chroot", self.root, "/qemu", "-cpu", processor]
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": "/site",
            "LC_ALL": "C.UTF-8",
        }
        words = [str(word) for word in (*qemu, *command)]
        return subprocess.run(words, env=environment, capture_output=True, text=True)

    def python(self, processor: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        return self.run(processor, f"/usr/bin/python{DEBIAN.python}", *arguments)


def debootstrap(root: Path) -> None:
    """Unpack a Debian to ``root``, from the mirror that this machine's apt uses if it is one."""
    listing = ["apt-get", "indextargets", "--format=$(ORIGIN) $(CODENAME) $(REPO_URI)"]
    targets = subprocess.run(listing, capture_output=True, text=True).stdout.splitlines()
    ours = [line.split()[2] for line in targets if line.startswith(f"Debian {DEBIAN.name} ")]
    command = [
        "mmdebstrap", "--mode=root", "--variant=extract", "--skip=check/qemu", "--arch=arm64",
        "--include=python3,libstdc++6,libc-bin", DEBIAN.name, root, *ours[:1],
    ]  # fmt: skip
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode and any(words in made.stderr for words in UNREACHABLE):
        pytest.skip("no Debian mirror of arm64 can be reached: try 'apt-get update', or a proxy")
    assert made.returncode == 0, made.stderr


@pytest.fixture
def guest(wheels: Path, tmp_path: Path) -> Iterator[Guest]:
    """Debian with the base install in it; gone after the test, for it is 400 MB."""
    root = tmp_path / "root"
    try:
        debootstrap(root)
        qemu = shutil.which("qemu-aarch64-static")
        assert qemu
        shutil.copy(qemu, root / "qemu")
        install(DEBIAN, wheels, root)
        # A fake of what a kernel tells of its processor: this machine's own must not be read.
        for path in ("sys/devices/system/cpu/possible", "sys/devices/system/cpu/present"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text("0\n")
        (root / "proc").mkdir(exist_ok=True)
        (root / "proc" / "cpuinfo").write_text(ORIN)
        machine = Guest(root)
        cached = machine.run(PROCESSORS[0], "/sbin/ldconfig")
        assert cached.returncode == 0, cached.stderr
        yield machine
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def clips(
    bundle_path: Path, sounds: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> list[Path]:
    """The golden recording, a WAV, the same as 44.1 kHz FLAC, and a real one where there is one."""
    clip = min((sounds / "fan" / "test").glob("*_id_00_*"))
    samples, rate = soundfile.read(clip, dtype="float32")
    golden, flac = tmp_path / "golden.wav", tmp_path / "resampled.flac"
    soundfile.write(golden, Bundle.load(bundle_path).golden["samples"], rate, subtype="FLOAT")
    soundfile.write(flac, soxr.resample(samples, rate, 44100), 44100)
    found = [golden, clip, flac]
    with suppress(pytest.skip.Exception):
        mimii: Path = request.getfixturevalue("mimii")
        found.append(min((mimii / "fan" / "test").glob("*.*")))
    return found


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root: run the tests with sudo")
@pytest.mark.skipif(bool(MISSING), reason=f"run 'apt-get install {' '.join(MISSING)}' first")
def test_the_board_scores_like_the_workstation(
    guest: Guest, bundle_path: Path, glow_path: Path, clips: list[Path]
):
    bundles = (bundle_path, glow_path)
    for path in (*bundles, *clips):
        shutil.copy(path, guest.root)
    for processor in PROCESSORS:
        machine = guest.python(processor, "-c", "import platform; print(platform.machine())")
        assert machine.stdout == "aarch64\n", machine.stderr
        for bundle in bundles:
            board = f"{bundle.stem} on {processor}"
            verified = guest.python(processor, "-m", "edgeflow", "verify", f"/{bundle.name}")
            assert verified.returncode == 0, verified.stderr
            assert verified.stdout.endswith("verified\n")
            names = [f"/{clip.name}" for clip in clips]
            scored = guest.python(processor, "-m", "edgeflow", "score", f"/{bundle.name}", *names)
            assert scored.returncode in (0, 1), scored.stderr  # 1: a clip is anomalous
            found = [json.loads(line) for line in scored.stdout.splitlines()]
            expected = [it.to_dict() for it in Scorer.load(bundle).score_files(clips)]
            apart = [abs(x["score"] - y["score"]) for x, y in zip(found, expected, strict=True)]
            print(f"{board}: within {max(apart):.1e} nats/dim of this machine's scores")
            assert max(apart) <= 1e-4, board
            for key in ("verdict", "seconds", "windows", "backend"):
                assert [it[key] for it in found] == [it[key] for it in expected], board
