"""Small wrongs: every change of one operator, constant, condition or argument of a module."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
TWINS = {"FLOW": "AUDIO", "AUDIO": "FLOW", "NORMAL": "ANOMALOUS", "ANOMALOUS": "NORMAL"}
"""Names that are easily taken for each other."""


@dataclass(frozen=True)
class Mutant:
    """A module with one small wrong in it."""

    line: int
    """Where."""
    what: str
    """Before and after, as code."""
    source: str
    """The whole module."""


def mutants_of(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its nodes.

    Example:
        >>> [mutant.what for mutant in mutants_of("a = b < 3")]
        ['b < 3 -> b <= 3', 'b < 3 -> b >= 3', '3 -> 4']
    """
    tree = ast.parse(source)
    nodes = list(_living(tree))
    for place, node in enumerate(nodes):
        for change in _changes(node):
            other = copy.deepcopy(tree)
            twin = list(_living(other))[place]
            change(twin)
            if isinstance(twin, ast.Expr):
                before, after = ast.unparse(node), "nothing"
                twin.value = ast.Constant(None)
            else:
                before, after = ast.unparse(node), ast.unparse(twin)
            what = f"{before} -> {after}"
            yield Mutant(getattr(node, "lineno", 0), " ".join(what.split()), ast.unparse(other))


def _living(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that do something: no annotations, docstrings, decorators, messages, imports."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        for child in value if isinstance(value, list) else [value]:
            dead = isinstance(child, (ast.Import, ast.ImportFrom, ast.Raise, ast.JoinedStr))
            text = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if isinstance(child, ast.AST) and not dead and not text and not _for_types(child):
                yield child
                yield from _living(child)


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _changes(node: ast.AST) -> Iterator:
    """What can be done to a node; each changes a copy of it in place."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in COMPARISONS[type(node.ops[0])]:
            yield lambda it, other=other: it.ops.__setitem__(0, other())
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in ARITHMETIC:
        yield lambda it: setattr(it, "op", ARITHMETIC[type(it.op)]())
    elif isinstance(node, ast.BoolOp):
        yield lambda it: setattr(it, "op", ast.And() if isinstance(it.op, ast.Or) else ast.Or())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield lambda it: setattr(it, "operand", ast.UnaryOp(type(it.op)(), it.operand))
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str)):
        yield lambda it: setattr(it, "value", _other(it.value))
    elif isinstance(node, (ast.Name, ast.Attribute)) and _name(node) in TWINS:
        field = "id" if isinstance(node, ast.Name) else "attr"
        yield lambda it: setattr(it, field, TWINS[_name(it)])
    elif isinstance(node, ast.Call) and len(node.args) > 1:
        if not any(isinstance(argument, ast.Starred) for argument in node.args[:2]):
            yield lambda it: it.args.insert(0, it.args.pop(1))
    elif isinstance(node, (ast.If, ast.IfExp)) and not isinstance(node.test, ast.Compare):
        yield lambda it: setattr(it, "test", ast.UnaryOp(ast.Not(), it.test))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield lambda it: None  # the statement is left out


def _name(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def _other(value: bool | int | float | str) -> bool | int | float | str:
    if isinstance(value, bool):
        return not value
    return (
        f"{value}?"
        if isinstance(value, str)
        else value + 1
        if isinstance(value, int)
        else value * 2
    )
