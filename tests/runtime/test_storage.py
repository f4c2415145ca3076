"""Files are whole or not there."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from edgeflow_runtime.errors import StorageError
from edgeflow_runtime.storage import atomic_file, write_text


def test_an_error_in_the_block_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path):
    path = tmp_path / "file"
    write_text(path, "old")

    def interrupted() -> None:
        with atomic_file(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made_and_the_usual_mode_is_kept(tmp_path: Path):
    write_text(tmp_path / "a" / "b", "x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "a" / "b").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_disk_that_refuses_is_one_error_and_keeps_the_old_file(tmp_path: Path):
    path = tmp_path / "file"
    write_text(path, "old")
    code = (
        "import sys; from edgeflow_runtime.storage import write_text\n"
        "from edgeflow_runtime.errors import StorageError\n"
        "try: write_text(sys.argv[1], 'x' * 100_000)\n"
        "except StorageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert done.stdout == f"'{path}' could not be written: File too large\n"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"'.*file/x' could not be written"):
        write_text(tmp_path / "file" / "x", "y")
