"""What the site adds to the pages that are written: the Python reference, the root's pages."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent

PACKAGES = {"edgeflow": "", "edgeflow_runtime": "runtime", "edgeflow_export": "export"}
"""What is documented for Python, and the folder of the repository that it is in."""

NO_INTERFACE = {"cli", "__main__"}
"""Modules that are the command line; docs/cli.md is theirs."""

ROOT_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
"""Pages that stand at the repository's root, where one looks for them."""

DRAWING = re.compile(r'<img alt="[^"]*" src="(pictures/[\w-]+\.svg)" ?/>')


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the chapters of ``nav`` whose pages are counted, not listed."""
    sys.path[:0] = [str(ROOT / folder) for folder in PACKAGES.values()]
    chapters = {title: pages for item in config.nav for title, pages in item.items()}
    records = ["decisions/index.md", *(f"decisions/{path.name}" for path in _records())]
    chapters["Architecture"][1]["Decisions"] += records
    chapters["Python"] += [_entry(_load(package)) for package in PACKAGES]
    chapters["Project"] += ROOT_PAGES
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each module, and the pages of the root."""
    for name in PACKAGES:
        for module in _walk(_load(name)):
            files.append(File.generated(config, _page(module), content=_reference(module)))
    for name in ROOT_PAGES:
        words = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, name, content=words))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Mend links to the root's pages, and close two pages with a list of what is below them."""
    for name in ROOT_PAGES:
        markdown = markdown.replace(f"](../{name})", f"]({name})")
    if page.file.src_uri == "reference/index.md":
        return markdown + "\n" + "\n".join(_line("reference", _load(name)) for name in PACKAGES)
    if page.file.src_uri == "decisions/index.md":
        titles = {path.name: _title(path) for path in _records()}
        return markdown + "\n" + "\n".join(f"- [{title}]({name})" for name, title in titles.items())
    return markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put drawings into the page itself, so that they follow its switch from light to dark."""
    return DRAWING.sub(lambda match: (ROOT / "docs" / match[1]).read_text(encoding="utf-8"), html)


def _load(package: str) -> griffe.Module:
    """The package as its source says, nothing of it run."""
    module = griffe.load(package, search_paths=[ROOT / PACKAGES[package]], submodules=True)
    assert isinstance(module, griffe.Module)
    return module


def _children(module: griffe.Module) -> list[griffe.Module]:
    """The modules right below, those that are no interface left out."""
    below = sorted(module.modules.items())
    return [child for name, child in below if name not in NO_INTERFACE and name[0] != "_"]


def _walk(module: griffe.Module) -> Iterator[griffe.Module]:
    yield module
    for child in _children(module):
        yield from _walk(child)


def _page(module: griffe.Module) -> str:
    """Where a module's page stands below the site."""
    inner = "/index" if _children(module) else ""
    return f"reference/{module.path.replace('.', '/')}{inner}.md"


def _entry(module: griffe.Module) -> dict[str, Any]:
    """A module's place in ``nav``, with those below it."""
    below = _children(module)
    page = _page(module)
    return {module.name: [page, *map(_entry, below)] if below else page}


def _reference(module: griffe.Module) -> str:
    """A module's page: what it defines, what can be had from it, and what is below it."""
    own = [name for name, member in module.members.items() if _is_shown(member)]
    members = f"[{', '.join(own)}]" if own else "false"
    words = [f"---\ntitle: {module.path}\n---\n"]
    words += [f"::: {module.path}\n    options:\n      members: {members}\n"]
    if module.is_package and not module.parent:
        words += [_front_door(module.path)]
    below = _children(module)
    if below:
        folder = _page(module).removesuffix("/index.md")
        words += ["## Modules\n", *(_line(folder, child) for child in below)]
    return "\n".join(words) + "\n"


def _is_shown(member: griffe.Object | griffe.Alias) -> bool:
    skipped = member.is_alias or member.is_module or member.name.startswith("_")
    return not skipped and member.has_docstring


def _line(folder: str, module: griffe.Module) -> str:
    """A module as an item of a list on a page in ``folder``: a link, and its first sentence."""
    assert module.docstring is not None, f"{module.path} has no docstring"
    first = " ".join(module.docstring.value.split("\n\n")[0].split())
    return f"- [`{module.name}`]({_page(module).removeprefix(folder + '/')}): {first}"


def _records() -> list[Path]:
    """The decisions, but for the page that lists them."""
    folder = ROOT / "docs" / "decisions"
    return sorted(path for path in folder.glob("*.md") if path.name != "index.md")


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")


def _front_door(package: str) -> str:
    """The names that a package gives whoever imports it, in full, wherever they are defined."""
    module = importlib.import_module(package)
    names = [name for name in getattr(module, "__all__", ()) if not name.startswith("_")]
    things = {name: getattr(module, name) for name in names}
    return "".join(
        f"::: {thing.__module__}.{thing.__qualname__}\n    options:\n"
        f"      heading: {package}.{name}\n      toc_label: {name}\n"
        "      heading_level: 2\n      skip_local_inventory: true\n\n"
        for name, thing in things.items()
    )
