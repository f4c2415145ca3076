"""What is read from the roots of boards, and that no root can make it fail or escape."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow_runtime.board.facts import Board, PowerMode, read_board
from edgeflow_runtime.board.installed import installed_packages
from edgeflow_runtime.board.rooted import RootedFiles

Plant = Callable[[str], Path]

NAMES = ("orin_nano_jetpack_6_2", "agx_orin_jetpack_7_2", "thor_jetpack_7_2")
NOBODY = 65534


def test_an_orin_nano(plant: Plant):
    board = read_board(plant("orin_nano_jetpack_6_2"))
    assert board.is_jetson
    assert board.model == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (board.family, board.compute_capability) == ("orin", "8.7")
    assert (board.architecture, board.system) == ("aarch64", "Ubuntu 22.04.5 LTS")
    assert (board.l4t, board.jetpack) == ("36.4.3", "6.2")
    assert (board.cuda, board.nvcc) == ("12.6.11", "/usr/local/cuda/bin/nvcc")
    assert board.tensorrt == "10.3.0"
    (binding,) = board.bindings
    assert (binding.python, binding.version) == ("3.10", "10.3.0")
    assert binding.folder == "/usr/lib/python3.10/dist-packages"
    assert board.pythons == ("3.10",)
    assert board.driver_library == "/usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1"
    assert board.driver == "540.4.0"
    assert board.memory.total_bytes == 7802416 * 1024
    assert board.memory.available_bytes == 5614872 * 1024
    assert board.memory.swap_bytes == 3901200 * 1024
    assert board.power.mode == board.power.highest == PowerMode(2, "MAXN_SUPER")
    assert [mode.name for mode in board.power.modes] == ["15W", "25W", "MAXN_SUPER", "7W"]
    assert board.power.governor == "schedutil"
    assert board.audio is not None
    assert (board.audio.gid, board.audio.members) == (29, ("pulse", "orin"))
    assert board.unreadable == ()


def test_its_microphone_is_told_from_its_crossbar(plant: Plant):
    board = read_board(plant("orin_nano_jetpack_6_2"))
    (real,) = [m for m in board.microphones if not m.is_routed]
    assert (real.alsa, real.title) == ("hw:CARD=Device,DEV=0", "USB PnP Audio Device")
    assert len([m for m in board.microphones if m.is_routed]) == 20  # playback only: none of HDA


def test_an_agx_orin(plant: Plant):
    board = read_board(plant("agx_orin_jetpack_7_2"))
    assert board.model == "NVIDIA Jetson AGX Orin Developer Kit"
    assert (board.family, board.compute_capability) == ("orin", "8.7")
    assert board.system == "Ubuntu 24.04.4 LTS"
    assert (board.l4t, board.jetpack, board.cuda) == ("39.2.0", "7.2", "13.2.1")
    assert board.tensorrt == "10.16.2"
    assert [(b.python, b.version) for b in board.bindings] == [("3.12", "10.16.2.10")]
    assert board.driver_library == "/opt/nvidia/l4t-gpu-libs/nvgpu/libcuda.so.1"
    assert board.driver == "595.78"
    assert board.power.mode == board.power.highest == PowerMode(0, "MAXN")
    assert board.microphones
    assert all(m.is_routed for m in board.microphones)


def test_a_thor_without_the_jetpack_package(plant: Plant):
    board = read_board(plant("thor_jetpack_7_2"))
    assert (board.family, board.compute_capability) == ("thor", "11.0")
    assert (board.l4t, board.jetpack) == ("39.2.0", "7.2")
    assert board.driver_library == "/opt/nvidia/l4t-gpu-libs/openrm/libcuda.so.1"
    assert board.power.mode == PowerMode(1, "120W")
    assert board.power.highest == PowerMode(0, "MAXN")
    assert [m.alsa for m in board.microphones if not m.is_routed] == ["hw:CARD=Audio,DEV=0"]


@pytest.mark.parametrize("name", NAMES)
def test_a_board_travels_as_a_document(plant: Plant, name: str):
    board = read_board(plant(name))
    assert Board.from_dict(board.to_dict()) == board


@pytest.mark.parametrize("name", NAMES)
def test_links_of_the_trees_stay_text(name: str):
    folder = Path(__file__).parent / "trees"
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    links = (folder / f"{name}.links").read_text().splitlines()
    assert any(" -> /" in link for link in links)


def test_packages_tell_what_files_do_not(plant: Plant):
    root = plant("agx_orin_jetpack_7_2")
    (root / "etc/nv_tegra_release").unlink()
    shutil.rmtree(root / "usr/local/cuda-13.2")
    for path in (root / "usr/lib/aarch64-linux-gnu").iterdir():
        path.unlink()
    board = read_board(root)
    assert (board.l4t, board.cuda, board.tensorrt) == ("39.2.0", "13.2.75", "10.16.2.10")
    assert board.nvcc is None


def test_the_name_of_the_runtime_tells_where_packages_do_not(plant: Plant):
    root = plant("orin_nano_jetpack_6_2")
    (root / "var/lib/dpkg/status").unlink()
    (root / "usr/local/cuda-12.6/version.json").write_text("[]")
    assert read_board(root).cuda == "12.6.68"


def test_removed_packages_do_not_count():
    text = "Package: a\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: b\nVersion: 2\n"
    held = "\nPackage: c\nStatus: hold ok installed\nVersion: 3\n"
    assert installed_packages(text + held) == {"c": "3"}


def test_empty_libraries_of_a_container_do_not_count(plant: Plant):
    root = plant("orin_nano_jetpack_6_2")
    (root / "usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1.1").write_bytes(b"")
    assert read_board(root).driver_library is None


def test_a_carrier_board_with_a_name_of_its_own_is_known_by_its_chip(plant: Plant):
    root = plant("thor_jetpack_7_2")
    (root / "sys/firmware/devicetree/base/model").write_bytes(b"ACME Box 7\0")
    board = read_board(root)
    assert (board.model, board.family) == ("ACME Box 7", "thor")
    (root / "sys/firmware/devicetree/base/compatible").unlink()
    assert read_board(root).family is None
    assert read_board(root).is_jetson  # by its release


@pytest.mark.parametrize(
    ("modes", "highest"),
    [
        ("ID=0 NAME=MODE_15W_2CORE|ID=8 NAME=MODE_20W_6CORE|ID=7 NAME=MODE_20W_4CORE", 8),
        ("NAME=7W ID=1|NAME=10W ID=5", 5),
        ("ID=3 NAME=25W|ID=0 NAME=MAXN", 0),
    ],
)
def test_the_highest_power_mode(plant: Plant, modes: str, highest: int):
    root = plant("orin_nano_jetpack_6_2")
    conf = "".join(f"< POWER_MODEL {mode} >\nCPU_ONLINE CORE_0 1\n" for mode in modes.split("|"))
    (root / "etc/nvpmodel/nvpmodel_p3767_0003_super.conf").write_text(conf)
    mode = read_board(root).power.highest
    assert mode is not None
    assert mode.id == highest


def test_a_mode_that_the_configuration_does_not_name(plant: Plant):
    root = plant("orin_nano_jetpack_6_2")
    (root / "var/lib/nvpmodel/status").write_text("pmode:0009 fmode:quiet")
    assert read_board(root).power.mode == PowerMode(9, "unknown")


def test_an_empty_root(tmp_path: Path):
    board = read_board(tmp_path)
    document = board.to_dict()
    assert document.pop("root") == str(tmp_path)
    assert document.pop("disk_free_bytes") > 0  # of the file system that holds the root
    assert document.pop("memory") == dict.fromkeys(("total_bytes", "available_bytes", "swap_bytes"))
    assert document.pop("power") == {"mode": None, "modes": [], "governor": None}
    assert not any(document.values())
    assert not board.is_jetson


def test_a_root_that_is_not_there(tmp_path: Path):
    board = read_board(tmp_path / "none")
    assert board.model is board.disk_free_bytes is None


def test_this_machine():
    board = read_board()
    assert board.architecture
    assert board.memory.total_bytes
    assert Board.from_dict(board.to_dict()) == board


GARBAGE = [
    b"",
    b"\0",
    b"\xff\xfe\x80" * 99,
    b"\x7fELF",
    b"[" * 100_000,
    b"9" * 20_000,
    b"{}",
    b"< >",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=[repr(g[:4]) for g in GARBAGE])
@pytest.mark.parametrize("name", NAMES)
def test_garbage_in_every_file(plant: Plant, name: str, garbage: bytes):
    root = plant(name)
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.write_bytes(garbage)
    assert Board.from_dict(read_board(root).to_dict())


@settings(max_examples=60, deadline=None)
@given(
    where=st.sampled_from(
        (
            "etc/nv_tegra_release",
            "etc/group",
            "etc/nvpmodel.conf",
            "etc/os-release",
            "etc/ld.so.conf.d/a.conf",
            "proc/asound/cards",
            "proc/asound/pcm",
            "proc/device-tree/model",
            "proc/device-tree/compatible",
            "proc/driver/nvidia/version",
            "proc/meminfo",
            "usr/local/cuda/version.json",
            "var/lib/dpkg/status",
            "var/lib/nvpmodel/status",
            "bin/sh",
        )
    ),
    content=st.binary(max_size=300)
    | st.text("0123456789 :[]-<>/=.,\n\0RID{}\"'PackgeStusVriondlcw", max_size=300).map(str.encode),
)
def test_any_bytes_in_any_file(where: str, content: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, where)
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        assert Board.from_dict(read_board(folder).to_dict())


KINDS: dict[str, Callable[[Path], object]] = {
    "folder": Path.mkdir,
    "pipe": os.mkfifo,  # opening one without a writer would wait for ever
    "loop": lambda path: path.symlink_to(path.name),
    "long link": lambda path: path.symlink_to("/" + "x/" * 1000),
    "nothing": lambda path: None,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_something_else_in_place_of_every_file(plant: Plant, name: str, kind: str):
    root = plant(name)
    for path in [p for p in root.rglob("*") if p.is_file() and not p.is_symlink()]:
        path.unlink()
        KINDS[kind](path)
    board = read_board(root)
    assert board.model is board.l4t is board.tensorrt is board.driver_library is None


def test_a_link_never_leads_out_of_the_root(tmp_path: Path):
    outside = tmp_path / "outside"
    outside.write_text("secret")
    root = tmp_path / "root"
    (root / "proc/device-tree").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "proc/device-tree/model").symlink_to(outside)
    (root / "etc/os-release").symlink_to("../../../outside")
    (root / "usr").symlink_to("/usr")
    (root / "bin").symlink_to("../../../../../../../../bin")
    board = read_board(root)
    assert board.model is board.system is board.architecture is None
    assert board.pythons == ()
    (root / str(outside).strip("/")).parent.mkdir(parents=True)
    (root / str(outside).strip("/")).write_text("inside")
    assert read_board(root).model == "inside"


def test_a_chain_of_links_ends(tmp_path: Path):
    for number in range(60):
        (tmp_path / str(number)).symlink_to(f"/{number + 1}")
    (tmp_path / "60").write_text("end")
    files = RootedFiles(tmp_path)
    assert files.real("0") is None
    assert files.text("30") == "end"


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Root reads everything, so it steps down for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def guarded(plant: Plant) -> Iterator[Path]:
    """A root in a folder that everyone may enter, with a file and a folder that nobody may read."""
    folder = Path(tempfile.mkdtemp())
    root = folder / "root"
    shutil.copytree(plant("orin_nano_jetpack_6_2"), root, symlinks=True)
    closed = (root / "var/lib/dpkg/status", root / "usr/lib/python3.10/dist-packages")
    folder.chmod(0o755)
    for path in closed:
        path.chmod(0)
    yield root
    for path in closed:
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_what_may_not_be_read_is_missing_and_named(guarded: Path, ordinary_user: None):
    board = read_board(guarded)
    assert board.unreadable == (
        "/usr/lib/python3.10/dist-packages/tensorrt",
        "/var/lib/dpkg/status",
    )
    assert board.bindings == ()
    assert board.jetpack == "6.2"  # by the release
