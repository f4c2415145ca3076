"""Each rule speaks on a board that needs it and is silent on one that does not."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgeflow_runtime.board.diagnosis import Finding, board_rows, diagnose
from edgeflow_runtime.board.facts import AudioGroup, Board, Memory, PowerMode, read_board
from edgeflow_runtime.board.interpreter import PythonFacts, read_python
from edgeflow_runtime.extras import install_command

Plant = Callable[[str], Path]

PYTHON = PythonFacts(
    version="3.10.12",
    executable="/home/orin/monitor/bin/python",
    prefix="/home/orin/monitor",
    in_venv=True,
    system_site_packages=True,
    packages={
        "numpy": "2.2.6",
        "scipy": "1.15.3",
        "onnxruntime": "1.23.2",
        "soundfile": "0.13.1",
        "soxr": "1.0.0",
        "safetensors": "0.7.0",
        "tensorrt": "10.3.0",
        "pycuda": "2026.1",
    },
    user="orin",
    is_root=False,
    groups=(29, 44, 1000),
)


@pytest.fixture
def board(plant: Plant) -> Board:
    """A board that lacks nothing."""
    return replace(read_board(plant("orin_nano_jetpack_6_2")), disk_free_bytes=10**11)


def without(python: PythonFacts, *names: str) -> PythonFacts:
    return replace(python, packages=python.packages | dict.fromkeys(names))


def calls(board: Board, python: PythonFacts | None) -> dict[str, Finding]:
    """What is not well, by subject."""
    findings = diagnose(board, python)
    subjects = [finding.subject for finding in findings]
    assert len(subjects) == len(set(subjects))
    return {finding.subject: finding for finding in findings if finding.level != "ok"}


def only(board: Board, python: PythonFacts | None, subject: str, level: str) -> Finding:
    """The one thing that is not well."""
    unwell = calls(board, python)
    assert list(unwell) == [subject]
    assert unwell[subject].level == level
    return unwell[subject]


def test_nothing_is_to_be_mended_on_a_good_board(board: Board):
    assert calls(board, PYTHON) == {}
    subjects = [finding.subject for finding in diagnose(board, PYTHON)]
    assert subjects == [
        "Python",
        "JetPack",
        "driver",
        "TensorRT",
        "TensorRT for Python",
        "pycuda",
        "power mode",
        "memory",
        "disk",
        "microphone",
        "audio group",
    ]
    assert not any(finding.mend for finding in diagnose(board, PYTHON))


def test_a_board_alone(board: Board):
    assert calls(board, None) == {}
    assert calls(replace(board, bindings=()), None).keys() == {"TensorRT for Python"}


def test_an_agx_orin_without_a_microphone(plant: Plant):
    board = replace(read_board(plant("agx_orin_jetpack_7_2")), disk_free_bytes=10**11)
    packages = PYTHON.packages | {"tensorrt": "10.16.2.10"}
    python = replace(PYTHON, version="3.12.3", packages=packages)
    finding = only(board, python, "microphone", "note")
    assert "20 channels of NVIDIA Jetson AGX Orin APE" in finding.detail
    assert finding.mend is None
    assert calls(replace(board, microphones=()), python)["microphone"].detail.startswith("none")


def test_a_thor_below_its_highest_power_mode(plant: Plant):
    board = replace(read_board(plant("thor_jetpack_7_2")), disk_free_bytes=10**11)
    packages = PYTHON.packages | {"tensorrt": "10.16.2.10"}
    python = replace(PYTHON, version="3.12.3", packages=packages)
    finding = only(board, python, "power mode", "note")
    assert finding.mend == "sudo nvpmodel -m 0"
    assert "more power" in finding.detail


def test_a_microphone_comes_with_its_command(board: Board):
    (finding,) = [f for f in diagnose(board, PYTHON) if f.subject == "microphone"]
    assert finding.detail == "USB PnP Audio Device: arecord -D hw:CARD=Device,DEV=0"


def test_no_tensorrt(board: Board):
    finding = only(
        replace(board, tensorrt=None, bindings=()),
        without(PYTHON, "tensorrt", "pycuda"),
        "TensorRT",
        "missing",
    )
    assert finding.mend == "sudo apt-get update && sudo apt-get install --yes nvidia-jetpack"


@pytest.mark.parametrize(("version", "level"), [("10.2.0", "missing"), ("11.5.0", "note")])
def test_a_tensorrt_out_of_range(board: Board, version: str, level: str):
    packages = PYTHON.packages | {"tensorrt": version}
    finding = only(
        replace(board, tensorrt=version), replace(PYTHON, packages=packages), "TensorRT", level
    )
    assert "10.3 to 11.4" in finding.detail


@pytest.mark.parametrize("version", ["10.3.0", "10.16.2", "11.4.1"])
def test_a_tensorrt_in_range(board: Board, version: str):
    packages = PYTHON.packages | {"tensorrt": version}
    assert calls(replace(board, tensorrt=version), replace(PYTHON, packages=packages)) == {}


def test_no_binding(board: Board):
    python = without(PYTHON, "tensorrt")
    finding = only(replace(board, bindings=()), python, "TensorRT for Python", "missing")
    assert finding.mend
    assert finding.mend.endswith("sudo apt-get install --yes python3-libnvinfer")


def test_a_binding_for_another_python(board: Board):
    python = replace(without(PYTHON, "tensorrt", "pycuda"), version="3.12.3")
    finding = only(board, python, "TensorRT for Python", "missing")
    assert finding.detail == "for Python 3.10, but Python 3.12 is running"
    assert finding.mend == (
        "sudo apt-get update && sudo apt-get install --yes python3.10-venv && "
        "python3.10 -m venv --clear --system-site-packages /home/orin/monitor && "
        f"/home/orin/monitor/bin/python -m {install_command()}"
    )


def test_an_environment_that_does_not_see_the_binding(board: Board):
    python = replace(without(PYTHON, "tensorrt"), system_site_packages=False)
    finding = only(board, python, "TensorRT for Python", "missing")
    assert finding.mend == (
        "/home/orin/monitor/bin/python -m venv --system-site-packages --upgrade /home/orin/monitor"
    )


def test_a_binding_that_is_there_and_not_found(board: Board):
    finding = only(board, without(PYTHON, "tensorrt"), "TensorRT for Python", "missing")
    assert finding.mend
    assert finding.mend.endswith("--reinstall python3-libnvinfer")


def test_a_binding_of_another_version_than_the_library(board: Board):
    finding = only(replace(board, tensorrt="10.4.0"), PYTHON, "TensorRT for Python", "missing")
    assert finding.mend
    assert finding.mend.endswith("--reinstall python3-libnvinfer")
    python = replace(PYTHON, packages=PYTHON.packages | {"tensorrt": "10.13.0.35"})
    finding = only(board, python, "TensorRT for Python", "note")
    assert finding.mend
    assert finding.mend.startswith(f"{PYTHON.executable} -m pip uninstall --yes tensorrt ")


def test_no_pycuda(board: Board):
    finding = only(board, without(PYTHON, "pycuda"), "pycuda", "missing")
    assert finding.mend == (
        "sudo apt-get update && sudo apt-get install --yes build-essential python3.10-dev && "
        "PATH=/usr/local/cuda/bin:$PATH "
        f"{PYTHON.executable} -m {install_command('jetson')}"
    )
    finding = only(replace(board, nvcc=None), without(PYTHON, "pycuda"), "pycuda", "missing")
    assert "nvidia-jetpack" in (finding.mend or "")
    assert calls(replace(board, nvcc=None), PYTHON) == {}


@pytest.mark.parametrize(
    ("l4t", "jetpack", "family", "mend"),
    [
        ("35.4.1", "5.1.2", "orin", "flash JetPack 6.2 or 7.2"),
        ("36.3.0", "6.0", "orin", "flash JetPack 6.2 or 7.2"),
        (None, "6.0", "orin", "flash JetPack 6.2 or 7.2"),
        ("35.4.1", "5.1.2", "xavier", None),
    ],
)
def test_an_old_jetpack(board: Board, l4t: str | None, jetpack: str, family: str, mend: str | None):
    old = replace(board, l4t=l4t, jetpack=jetpack, family=family, tensorrt="8.5.2")
    finding = only(old, without(PYTHON, "tensorrt", "pycuda"), "JetPack", "missing")
    assert "10.3 to 11.4" in finding.detail
    assert "the CPU can score" in finding.detail
    assert (finding.mend or "").startswith(mend or "")
    assert bool(finding.mend) == bool(mend)


@pytest.mark.parametrize(("l4t", "jetpack"), [("36.4.0", "6.1"), ("40.1.0", None), (None, "7.3")])
def test_a_jetpack_that_is_new_enough(board: Board, l4t: str | None, jetpack: str | None):
    assert calls(replace(board, l4t=l4t, jetpack=jetpack), PYTHON) == {}


def test_a_jetson_that_does_not_tell_its_release(board: Board):
    only(replace(board, l4t=None, jetpack=None), PYTHON, "JetPack", "note")


@pytest.mark.parametrize(
    ("l4t", "family", "package"),
    [
        ("36.4.3", "orin", "nvidia-l4t-cuda"),
        ("39.2.0", "orin", "nvidia-l4t-cuda-nvgpu"),
        ("39.2.0", "thor", "nvidia-l4t-cuda-openrm"),
    ],
)
def test_no_driver(board: Board, l4t: str, family: str, package: str):
    bare = replace(board, l4t=l4t, family=family, driver_library=None)
    finding = only(bare, PYTHON, "driver", "missing")
    assert (finding.mend or "").endswith(f" --reinstall {package}")


def test_an_unknown_power_mode_is_not_judged(board: Board):
    assert calls(replace(board, power=replace(board.power, mode=None)), PYTHON) == {}
    lower = replace(board.power, mode=PowerMode(0, "15W"))
    finding = only(replace(board, power=lower), PYTHON, "power mode", "note")
    assert finding.mend == "sudo nvpmodel -m 2"


@pytest.mark.parametrize(
    ("available", "swap", "little"),
    [(1_500_000_000, 0, True), (1_500_000_000, None, True), (1_500_000_000, 10**9, False)],
)
def test_little_memory(board: Board, available: int, swap: int | None, little: bool):
    low = replace(board, memory=Memory(8 * 10**9, available, swap))
    if little:
        assert "mkswap" in (only(low, PYTHON, "memory", "note").mend or "")
    else:
        assert calls(low, PYTHON) == {}


def test_little_disk(board: Board):
    for free in (0, 999_999_999):
        only(replace(board, disk_free_bytes=free), PYTHON, "disk", "note")
    assert calls(replace(board, disk_free_bytes=None), PYTHON) == {}


def test_who_may_record(board: Board):
    outside = replace(PYTHON, groups=(1000,))
    assert only(board, outside, "audio group", "note").mend == "newgrp audio"  # since this login
    stranger = replace(outside, user="ann")
    finding = only(board, stranger, "audio group", "note")
    assert finding.mend == "sudo usermod -aG audio ann && newgrp audio"
    assert calls(board, replace(stranger, is_root=True)) == {}
    assert calls(replace(board, audio=None), stranger) == {}
    assert calls(replace(board, audio=AudioGroup(1000, ())), stranger) == {}


def test_packages_that_the_cpu_needs(board: Board):
    finding = only(board, without(PYTHON, "soxr", "numpy"), "Python", "missing")
    assert finding.detail == "3.10.12 lacks numpy, soxr"
    assert finding.mend == f"{PYTHON.executable} -m {install_command()}"


def test_a_python_that_is_too_old(board: Board):
    python = replace(PYTHON, version="3.8.10")
    finding = calls(board, python)["Python"]
    assert finding.detail == "3.8.10; edgeflow needs 3.10 or newer"


def test_a_machine_that_is_no_jetson(tmp_path: Path, board: Board):
    computer = replace(
        read_board(tmp_path),
        architecture="x86_64",
        microphones=board.microphones,
        disk_free_bytes=10**11,
    )
    python = without(PYTHON, "tensorrt", "pycuda")
    assert calls(computer, python) == {}
    (finding,) = [f for f in diagnose(computer, python) if f.subject == "board"]
    assert "no Jetson, x86_64: scoring on the CPU works" in finding.detail
    with_gpu = replace(computer, driver="595.78")
    finding = only(with_gpu, without(python, "pycuda"), "board", "note")
    assert finding.mend == f"{PYTHON.executable} -m {install_command('gpu')}"
    assert calls(with_gpu, PYTHON) == {}


def test_texts_of_a_foreign_root_cannot_steer_the_terminal(board: Board):
    evil = replace(board, model="Jet\x1b[2Json", power=replace(board.power, governor="a\nb"))
    rows = dict(board_rows(evil, PYTHON))
    assert rows["board"] == r"Jet\x1b[2Json"
    assert rows["clocks"] == r"a\nb"
    mode = PowerMode(0, "\x1b[31m15W")
    evil = replace(board, power=replace(board.power, mode=mode))
    assert "\x1b" not in calls(evil, PYTHON)["power mode"].detail


def test_rows(board: Board):
    rows = board_rows(board, PYTHON)
    assert ("GPU", "orin, compute capability 8.7") in rows
    assert ("", "for Python 3.10 in /usr/lib/python3.10/dist-packages") in rows
    assert ("power mode", "MAXN_SUPER (2)") in rows
    assert ("memory", "5.7 GB of 8.0 GB") in rows
    assert all(text for _, text in rows)
    assert ("free disk", "0.0 GB") in board_rows(replace(board, disk_free_bytes=0), None)


def test_rows_of_nothing(tmp_path: Path):
    assert [name for name, _ in board_rows(read_board(tmp_path), None)] == ["free disk"]


def test_the_running_python():
    python = read_python()
    assert python.version == ".".join(map(str, sys.version_info[:3]))
    assert python.prefix == sys.prefix
    assert python.packages["numpy"]
    assert PythonFacts.from_dict(python.to_dict()) == python
    assert python.is_root == (os.geteuid() == 0)


def test_reading_the_python_imports_nothing_heavy():
    code = (
        "import sys; from edgeflow_runtime.board.interpreter import read_python; read_python();"
        "print({'numpy', 'tensorrt', 'pycuda', 'onnxruntime'} & set(sys.modules))"
    )
    runtime = Path(__file__).parents[3] / "runtime"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(runtime)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


def test_a_folder_of_its_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert read_python().packages["tensorrt"] is None
    (tmp_path / "tensorrt/__init__.py").write_text("raise SystemError")
    assert read_python().packages["tensorrt"] == "unknown"


def test_the_mend_of_an_environment_mends_it(tmp_path: Path, board: Board):
    """The command is run: it is the one that a user will paste."""
    venv = tmp_path / "a monitor"
    create = [sys.executable, "-m", "venv", "--without-pip", venv]
    subprocess.run(create, check=True, capture_output=True)
    python = replace(
        without(PYTHON, "tensorrt"),
        prefix=str(venv),
        executable=str(venv / "bin/python"),
        system_site_packages=False,
    )
    kept = venv / "kept"
    kept.touch()
    mend = calls(board, python)["TensorRT for Python"].mend
    assert mend
    assert shlex.split(mend)[-1] == str(venv)
    subprocess.run(mend, shell=True, check=True, capture_output=True)
    assert "include-system-site-packages = true" in (venv / "pyvenv.cfg").read_text()
    assert kept.exists()
