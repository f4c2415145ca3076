"""Names and texts of others reach a terminal without steering it; files of theirs keep them."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import soundfile
from click.testing import CliRunner

from edgeflow.cli import COMMANDS, cli
from edgeflow_runtime.cli.options import NamedPath
from edgeflow_runtime.printable import one_line, printable

EVIL = [
    "clear\x1b[2J.wav", "two\nError: forged.wav", "carriage\rreturn.wav", "turned\u202egnp.wav",
    "bell\x07.wav", "c1\x9b31m.wav", "no text \udcff.wav", "line\u2028end.wav", "Lüfter 風.wav",
]  # fmt: skip


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edgeflow", *(os.fsencode(str(a)) for a in arguments)]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment})


@pytest.fixture
def folder(sounds: Path, tmp_path: Path) -> Path:
    """A clip under each of the names, and one of each that is broken."""
    clip = min((sounds / "fan" / "test").iterdir())
    for name in EVIL:
        shutil.copy(clip, tmp_path / name)
        (tmp_path / f"broken {name}").write_bytes(b"")
    return tmp_path


def as_bytes(name: str) -> bytes:
    """The file's name, whatever the system took its bytes for."""
    return name.encode(errors="surrogateescape")


def steers(text: str) -> set[str]:
    return {letter for letter in text if not letter.isprintable()} - {"\n"}


def test_printable():
    assert printable("plain Lüfter 風.wav") == "plain Lüfter 風.wav"
    assert printable("a\x1b[2J\n\r\t\x9b\u202e\udcff") == r"a\x1b[2J\n\r\t\x9b\u202e\udcff"
    assert one_line("first\n   second\x1b") == r"first second\x1b"


@pytest.mark.parametrize("style", ["--table", "--json", "--csv"])
@pytest.mark.parametrize(
    "environment",
    [{}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "LANG": "C"}],
    ids=["utf-8", "ascii", "C"],
)
def test_every_style_takes_every_name(
    bundle_path: Path, folder: Path, style: str, environment: dict[str, str]
):
    done = run("score", bundle_path, folder, style, PYTHONCOERCECLOCALE="0", **environment)
    assert done.returncode == 2
    errors = done.stderr.decode()
    assert len(errors.splitlines()) == len(EVIL)
    assert all(line.startswith("Error: '") for line in errors.splitlines())
    assert not steers(errors)
    text = done.stdout.decode()
    paths = sorted(str(folder / f"{kind}{name}") for name in EVIL for kind in ("", "broken "))
    if style == "--table":
        assert len(text.splitlines()) == 1 + len(paths)
        assert not steers(text)
    if style == "--json":
        names = [json.loads(line)["clip"] for line in text.splitlines()]
        assert sorted(map(as_bytes, names)) == sorted(map(as_bytes, paths))
    if style == "--csv":
        names = [row["clip"] for row in csv.DictReader(io.StringIO(text, newline=""))]
        assert len(names) == len(paths)
        if not environment:
            shown = [path.encode(errors="backslashreplace").decode() for path in paths]
            assert sorted(names) == sorted(shown)


def test_a_data_set_of_such_names(sounds: Path, tmp_path: Path):
    data = tmp_path / "data"
    shutil.copytree(sounds / "fan", data / "fan")
    shutil.copytree(sounds / "fan", data / "f\x1b[31man")
    (data / "fan" / "train" / "stray\n! forged.wav").write_bytes(b"")
    shown = run("data", "info", data)
    assert not steers(shown.stdout.decode() + shown.stderr.decode())
    document = json.loads(run("data", "info", data, "--json").stdout)
    assert any("stray\n! forged.wav" in line for line in document["wrong"])
    assert len(document["wrong"]) == len(shown.stdout.splitlines()) - len(document["machines"]) - 2
    for command in (
        ["train", data / "gone\x1b[2J", "--all", "-o", tmp_path / "run"],
        ["train", data, "--type", "x\x1b[2J", "--id", "00", "-o", tmp_path / "run"],
        ["score", "gone\x1b[2J\nError: forged", "a.wav"],
        ["score", "--bogus\x1b[2J", "x", "y"],
        ["evaluate", "gone\x1b[2J", data],
    ):
        done = run(*command)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert not steers(done.stderr.decode())


def commands() -> dict[str, click.Command]:
    context = click.Context(cli)
    found: dict[str, click.Command] = {}
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command
        inner = command.commands if isinstance(command, click.Group) else {}
        found |= {f"{name} {key}": value for key, value in inner.items()} or {name: command}
    return found


def test_no_path_of_any_command_may_be_empty(bundle_path: Path, sounds: Path):
    seen = 0
    for name, command in commands().items():
        for parameter in command.params:
            if isinstance(parameter.type, click.Path):
                assert isinstance(parameter.type, NamedPath), f"{name} {parameter.name}"
                seen += 1
    assert seen >= 12
    for arguments in (
        ["train", str(sounds), "--all", "-o", ""],
        ["export", "run", "-o", ""],
        ["score", str(bundle_path), "a.wav", "--map", ""],
        ["score", str(bundle_path), ""],
        ["data", "synth", ""],
        ["doctor", "--root", ""],
    ):
        found = CliRunner().invoke(cli, arguments)
        assert (found.exit_code, found.stdout) == (2, "")
        assert "empty" in found.stderr


def test_a_table_row_of_a_long_name_stays_one_row(bundle_path: Path, sounds: Path, tmp_path: Path):
    path = tmp_path / "x\n\n.wav"
    samples, rate = soundfile.read(min((sounds / "fan" / "test").iterdir()))
    soundfile.write(str(path), samples, rate)
    shown = run("score", bundle_path, path, "--table").stdout.decode()
    assert len(shown.splitlines()) == 2
