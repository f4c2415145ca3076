"""Docstrings are written in reStructuredText; the site reads Markdown: what differs, rewritten."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable
from html import escape
from typing import Any

from griffe import Class, Docstring, Extension, GriffeLoader, Module, NameResolutionError, Object
from latex2mathml.converter import convert

MATH = re.compile(
    r"^([ ]*)\.\. math::((?:.*\n?)(?:\1[ ]+\S.*\n?|[ ]*\n(?=\1[ ]+\S))*)", re.MULTILINE
)
"""A formula: on the directive's own line, and on those that are indented more."""

LITERAL = re.compile(r"^([ ]*)(\S?.*?)::\n\n((?:\1[ ]+.*\n?|[ ]*\n)+)", re.MULTILINE)
"""A line that ends in ``::``, and the indented block after it."""

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(~?)([\w.]+)`")
"""A name of Python's; a tilde asks for its last part only."""

BARE = re.compile(r"(<mi>(?:cos|exp|ln|log|sin)</mi>)(?!<mo)")
"""A function and, without a bracket, what it is taken of."""

Resolve = Callable[[str], str | None]
"""From a name as it is written to its full path, or None where nothing is called that."""


def markdown(words: str, resolve: Resolve) -> str:
    r"""A docstring with formulas as MathML, literal blocks fenced, and roles as links.

    Example:
        >>> markdown("See :func:`~house.room.door`.", lambda name: name)
        'See <autoref optional identifier="house.room.door"><code>door</code></autoref>.'
    """
    words = MATH.sub(_formula, words)
    words = LITERAL.sub(_fenced, words)
    return ROLE.sub(lambda match: _link(match, resolve), words)


def _formula(match: re.Match[str]) -> str:
    indent, latex = match[1], " ".join(match[2].split())
    mathml = BARE.sub(r'\1<mspace width="0.17em"/>', convert(latex, display="block"))
    return f"{indent}{mathml}\n"


def _fenced(match: re.Match[str]) -> str:
    indent, lead, block = match[1], match[2], textwrap.dedent(match[3]).strip("\n")
    try:
        ast.parse(block)
        language = "python"
    except SyntaxError:
        language = "text"
    opening = f"{lead}:\n\n" if lead else ""
    fenced = textwrap.indent(f"```{language}\n{block}\n```\n", indent)
    return f"{indent}{opening}{fenced}\n"


def _link(match: re.Match[str], resolve: Resolve) -> str:
    shortened, name = match.groups()
    path = resolve(name)
    shown = f"<code>{escape(name.rpartition('.')[2] if shortened else name)}</code>"
    return f'<autoref optional identifier="{path}">{shown}</autoref>' if path else shown


class Restructured(Extension):
    """Rewrites every docstring of a package once all of it is read."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **_: Any) -> None:  # noqa: ANN401
        """Called by griffe."""
        _rewrite(pkg)


def _rewrite(thing: Object) -> None:
    if isinstance(thing.docstring, Docstring):
        thing.docstring.value = markdown(thing.docstring.value, lambda name: _path(thing, name))
    for member in thing.members.values():
        if isinstance(member, Object):
            _rewrite(member)
    if isinstance(thing, Class) and thing.docstring and "dataclass" in thing.labels:
        _list_fields(thing, thing.docstring)


def _list_fields(thing: Class, docstring: Docstring) -> None:
    """Move what is said under each field of a dataclass into one list: a page stays a page."""
    fields = [field for field in thing.attributes.values() if field.docstring]
    if fields:
        docstring.value += "\n\nAttributes:"
    for field in fields:
        assert field.docstring is not None
        words = " ".join(field.docstring.value.split())
        docstring.value += f"\n    {field.name}: {words}"
        field.docstring = None


def _path(thing: Object, name: str) -> str | None:
    if name in thing.members:
        return thing.members[name].canonical_path
    try:
        return thing.resolve(name)
    except NameResolutionError:
        return name if "." in name else None
