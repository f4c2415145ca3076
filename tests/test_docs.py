"""The documents name every command and option, link to what is there, and make a site."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest

import edgeflow_runtime
from edgeflow.cli import COMMANDS, cli

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
RECORDS = [page for page in PAGES if page.parent.name == "decisions" and page.stem != "index"]
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*-to-*.svg"))


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


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_a_decision_is_short_and_in_three_parts(record: Path):
    words = record.read_text()
    assert len(words.splitlines()) <= 30
    for part in ("Context", "Decision", "Consequences"):
        assert f"**{part}.**" in words


def test_pictures_are_those_that_their_script_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(ROOT / "docs" / "making")
    import pictures

    for draw in pictures.WAYS:
        pictures.write(draw(), tmp_path)
    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert drawn == {path.name: path.read_text() for path in PICTURES}


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.stem)
def test_pictures_tell_their_story_to_whoever_cannot_see_them(picture: Path):
    space = "{http://www.w3.org/2000/svg}"
    root = ET.fromstring(picture.read_text())
    named = root.get("aria-labelledby", "").split()
    title, story = root.find(f"{space}title"), root.find(f"{space}desc")
    assert title is not None
    assert story is not None
    assert [title.get("id"), story.get("id")] == named
    assert len(story.text or "") > 200 > len(title.text or "") > 10
    assert picture.name in (ROOT / "docs" / "architecture.md").read_text()


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.stem)
def test_pictures_name_files_that_are_there(picture: Path):
    words = " ".join(ET.fromstring(picture.read_text()).itertext())
    sources = [
        path.as_posix()
        for folder in ("edgeflow", "export", "runtime")
        for path in (ROOT / folder).rglob("*.py")
    ]
    named = re.findall(r"[\w/]+\.py\b", words)
    assert named
    for name in named:
        assert any(source.endswith(f"/{name}") for source in sources), f"there is no {name}"


ALONE = """
import sys
def refuse(event, _):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise OSError("the site must be built without a network")
sys.addaudithook(refuse)
from mkdocs.__main__ import cli
cli()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site: strictly, from a process that can ask nobody for anything."""
    pytest.importorskip("mkdocstrings", reason="pip install -c constraints.txt '.[docs]' brings it")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-c", ALONE, "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


class Loaded(HTMLParser):
    """What a page makes a browser fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = ("src", "srcset", "poster", "data") + (("href",) if tag in ("link", "use") else ())
        self.addresses += [value for name, value in attrs if name in names and value]


def test_the_site_loads_nothing_from_elsewhere(site: Path):
    for page in site.rglob("*.html"):
        for address in Loaded(page.read_text()).addresses:
            assert not re.match(r"(\w+:)?//", address), f"{page.name} loads {address}"
    for sheet in [*site.rglob("*.css"), *site.rglob("*.svg"), *site.rglob("*.html")]:
        away = re.search(r"(url\(|@import)\s*['\"]?(\w+:)?//[^)]*", sheet.read_text())
        assert not away, f"{sheet.name} loads {away and away[0]}"


def test_the_reference_holds_every_public_name(site: Path):
    page = (site / "reference" / "edgeflow_runtime" / "index.html").read_text()
    headings = re.findall(r'doc-symbol-\w+"></code>\s*edgeflow_runtime\.(\w+)', page)
    assert headings == edgeflow_runtime.__all__


def test_docstrings_leave_no_restructured_text_behind(site: Path):
    for page in (site / "reference").rglob("*.html"):
        left = re.search(r":(attr|class|data|exc|func|meth|mod):|\.\. \w+::", page.read_text())
        assert not left, f"{page.relative_to(site)} shows {left and left[0]}"
    assert any("</math>" in page.read_text() for page in (site / "reference").rglob("*.html"))


def test_the_site_lists_every_decision(site: Path):
    page = (site / "decisions" / "index.html").read_text()
    assert all(f'href="{record.stem}.html"' in page for record in RECORDS)


def test_drawings_stand_in_the_page_so_that_they_follow_its_colours(site: Path):
    page = (site / "architecture.html").read_text()
    assert page.count('<svg xmlns="http://www.w3.org/2000/svg" class="drawing"') == len(PICTURES)
