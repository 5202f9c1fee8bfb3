"""Expressions of integers and decimals with + - * / as trees, which can be evaluated one operation at a time."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

_SIGNS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_RANKS = {"+": 1, "-": 1, "*": 2, "/": 2}


@dataclass(frozen=True)
class Pair:
    """An operation on two expressions. It `is_negated` where a minus stands before its parentheses."""

    left: "Tree"
    sign: str
    right: "Tree"
    is_negated: bool = False


Tree = Fraction | Pair


def parse(text: str) -> Tree:
    """Return the tree of an expression; raises `ValueError` for any other text."""
    try:
        return _tree(ast.parse(text.strip(), mode="eval").body)
    except SyntaxError as error:
        raise ValueError(text) from error


def _tree(node: ast.expr) -> Tree:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return Fraction(str(value))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _tree(operand)
            return -inner if isinstance(inner, Fraction) else Pair(inner.left, inner.sign, inner.right, not inner.is_negated)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _SIGNS:
            return Pair(_tree(left), _SIGNS[type(op)], _tree(right))
    raise ValueError(ast.dump(node))


def value(tree: Tree) -> Fraction:
    """Return the value of a tree; raises `ZeroDivisionError`."""
    return tree if isinstance(tree, Fraction) else _result(value(tree.left), tree.sign, value(tree.right), tree.is_negated)


def _result(a: Fraction, sign: str, b: Fraction, is_negated: bool) -> Fraction:  # noqa: FBT001
    made = a / b if sign == "/" else {"+": a + b, "-": a - b, "*": a * b}[sign]
    return -made if is_negated else made


def shown(tree: Tree, rank: int = 0) -> str:
    """Return a tree as text without spaces, with the parentheses that it needs inside an operation of `rank`."""
    if isinstance(tree, Fraction):
        return str(tree)
    own = _RANKS[tree.sign]
    text = f"{shown(tree.left, own)}{tree.sign}{shown(tree.right, own + 1)}"
    if tree.is_negated:
        return f"-({text})"
    return f"({text})" if own < rank else text


def operations(tree: Tree) -> Iterator[tuple[Tree, Fraction, str, Fraction]]:
    """Yield the expression before each operation, and that operation, in the order of evaluation."""
    while isinstance(tree, Pair):
        a, sign, b = first(tree)
        yield tree, a, sign, b
        tree = reduced(tree, _result(a, sign, b, is_negated=False))


def first(tree: Pair) -> tuple[Fraction, str, Fraction]:
    """Return the operation of two numbers that comes first."""
    for side in (tree.left, tree.right):
        if isinstance(side, Pair):
            return first(side)
    if not (isinstance(tree.left, Fraction) and isinstance(tree.right, Fraction)):
        raise TypeError("the next operation must be one of numbers")
    return tree.left, tree.sign, tree.right


def reduced(tree: Pair, made: Fraction) -> Tree:
    """Return the tree with `made` in place of the operation that comes first."""
    if isinstance(tree.left, Pair):
        return Pair(reduced(tree.left, made), tree.sign, tree.right, tree.is_negated)
    if isinstance(tree.right, Pair):
        return Pair(tree.left, tree.sign, reduced(tree.right, made), tree.is_negated)
    return -made if tree.is_negated else made
