"""The documents name every command and option, and link to what is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgeflow.cli import COMMANDS, cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {child}", c) for child, c in command.commands.items())
        else:
            yield name, command


ALL = dict(commands())


@pytest.mark.parametrize("name", ALL)
def test_every_command_and_option_is_documented(name: str):
    pages = (ROOT / "docs" / "cli.md").read_text()
    match = re.search(rf"## edgeflow {name}\b.*?(?=\n## |\Z)", pages, re.DOTALL)
    assert match, f"docs/cli.md has no chapter on {name}"
    for option in ALL[name].params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} {option.name} has no help"
            for word in option.opts:
                assert f"`{word}`" in match[0], f"docs/cli.md: {name} lacks {word}"
    assert ALL[name].help


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_commands_in_the_documents_exist():
    for page in PAGES:
        blocks = "\n".join(re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL))
        for name in re.findall(r"(?<![.\w])edgeflow (\w+)", blocks):
            assert name in COMMANDS, f"{page.name} runs 'edgeflow {name}'"
