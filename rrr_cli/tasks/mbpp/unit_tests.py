"""A unit test of the form `assert CONDITION`, taken apart so that no object can lie its way through it.

The model's process gives values of expressions as plain data, and they are compared here, on that copy: an `__eq__`
that is always true is never asked. A condition is `a == b` (or another comparison), `math.isclose(a, b, …)`, `not`,
`and`, `or` of conditions, or else an expression that has to be true (`inner.py`, where it compares within). A side that
uses only literals, built-ins and the standard library (`set((1, 2))`, `sys.getsizeof("a")`) is worked out without the
model's code.
"""

from __future__ import annotations

import ast
import builtins
import math
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from rrr_cli import sandbox
from rrr_cli.sandbox import Job
from rrr_cli.tasks.mbpp.inner import rewritten

MAX_TEST = 4_000  # characters
OPERATORS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}


@dataclass(frozen=True)
class Literal:
    """A side that is a literal."""

    value: object


@dataclass(frozen=True)
class Clean:
    """A side that is worked out in the sandbox, without the model's code."""

    expression: str
    imports: tuple[str, ...]

    @property
    def value(self) -> object:
        return clean_value(self.expression, self.imports)


@dataclass(frozen=True)
class Asked:
    """A side that needs the model's code: the value number `index` of the test's expressions."""

    index: int


Side = Literal | Clean | Asked


@dataclass(frozen=True)
class Condition:
    """`kind`: compare, isclose, not, and, or, true, inner. `parts`: sides; of not, and, or conditions; an Inner."""

    kind: str
    parts: tuple[Any, ...]
    operators: tuple[type[ast.cmpop], ...] = ()
    tolerances: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class UnitTest:
    """One assert: its text, what to ask the model's process for, and the condition on the values."""

    source: str
    asked: tuple[str, ...]  # parts of the source, for people
    expressions: tuple[str, ...]  # what to evaluate for each
    condition: Condition

    def holds(self, values: Sequence[object]) -> bool:
        """Whether the test passes on the values of `expressions`. Raises RrrError (exit 4): no sandbox works here."""
        try:
            return _holds(self.condition, values)
        except (TypeError, ValueError, ArithmeticError, RecursionError):  # 1 < "a", or isclose of a text
            return False


@dataclass
class _Reader:
    source: str
    clean: bool  # whether a side may be worked out without the model's code
    imports: dict[str, str]  # name -> the statement that the tests import it by
    asked: list[str] = field(default_factory=list)
    expressions: list[str] = field(default_factory=list)

    def condition(self, node: ast.expr) -> Condition:
        match node:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Condition("not", (self.condition(operand),))
            case ast.BoolOp(op=op, values=values):
                kind = "and" if isinstance(op, ast.And) else "or"
                return Condition(kind, tuple(self.condition(value) for value in values))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                sides = tuple(self.side(side) for side in (left, *comparators))
                return Condition("compare", sides, tuple(type(op) for op in ops))
            case ast.Call(func=ast.Attribute(value=ast.Name("math"), attr="isclose"), args=[a, b], keywords=keywords):
                tolerances = tuple((str(k.arg), float(ast.literal_eval(k.value))) for k in keywords)
                return Condition("isclose", (self.side(a), self.side(b)), (), tolerances)
        if any(isinstance(part, ast.Compare) for part in ast.walk(node)):
            inner, asked = rewritten(f"({ast.get_source_segment(self.source, node)})", len(self.asked))
            self.asked += [text for text, _ in asked]
            self.expressions += [expression for _, expression in asked]
            return Condition("inner", (inner,))
        return Condition("true", (self.ask(node, "True if {} else False"),))

    def side(self, node: ast.expr) -> Side:
        try:
            return Literal(ast.literal_eval(node))
        except (ValueError, TypeError):
            pass
        imports = _imports(node, self.imports) if self.clean else None
        if imports is not None:
            return Clean(f"({ast.get_source_segment(self.source, node)})", imports)
        return self.ask(node, "{}")

    def ask(self, node: ast.expr, form: str) -> Asked:
        text = ast.get_source_segment(self.source, node) or ""
        self.asked.append(text)
        self.expressions.append(form.format(f"({text})"))  # parentheses, as it may stand on several lines
        return Asked(len(self.asked) - 1)


@lru_cache(maxsize=10_000)
def read_test(source: str, imports: str = "") -> UnitTest:
    """A test, and what it may use beside the model's code: what is imported for it.

    Raises ValueError: it isn't one assert, or it is longer than 4,000 characters.
    """
    if len(source) > MAX_TEST:
        raise ValueError(f"a test of {len(source)} characters")
    source = source.strip()
    try:
        body = ast.parse(source).body
        if len(body) != 1 or not isinstance(body[0], ast.Assert):
            raise ValueError("not one assert statement")
        if not any(isinstance(node, ast.Name) for node in ast.walk(body[0].test)):
            raise ValueError("nothing in it needs the code")
        reader = _Reader(source, True, _imported(imports))
        condition = reader.condition(body[0].test)
        if not reader.asked:  # the function has a built-in's name, such as sum: it is the model's all the same
            reader = _Reader(source, False, {})
            condition = reader.condition(body[0].test)
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"not an assert that can be read ({type(error).__name__})") from None
    if not reader.asked:
        raise ValueError("nothing in it needs the code")
    return UnitTest(source, tuple(reader.asked), tuple(reader.expressions), condition)


@lru_cache(maxsize=10_000)
def clean_value(expression: str, imports: tuple[str, ...]) -> object:
    """The value of an expression of a test's own, worked out in the sandbox."""
    [outcome] = sandbox.execute([Job("\n".join(imports), "", "", (expression,))])
    return outcome.values[0] if outcome.values else sandbox.Other("missing")


def _imports(node: ast.expr, imported: Mapping[str, str]) -> tuple[str, ...] | None:
    """The imports that the expression needs, or None where it names anything else but them and built-ins."""
    bases = {id(n.value) for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    imports = set()
    for name in ast.walk(node):
        if isinstance(name, ast.Name) and name.id in imported:
            imports.add(imported[name.id])
        elif isinstance(name, ast.Name) and not hasattr(builtins, name.id):
            if id(name) not in bases or name.id not in sys.stdlib_module_names:
                return None
            imports.add(f"import {name.id}")
    return tuple(sorted(imports))


def _imported(imports: str) -> dict[str, str]:
    """Name -> the statement that imports it. A star gives names that only running it tells: none."""
    try:
        statements = [node for node in ast.parse(imports).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    named = [(alias.asname or alias.name, node) for node in statements for alias in node.names]
    return {name.split(".")[0]: ast.unparse(node) for name, node in named}


def _holds(condition: Condition, values: Sequence[object]) -> bool:
    parts = condition.parts
    if condition.kind == "not":
        return not _holds(parts[0], values)
    if condition.kind == "inner":
        return bool(parts[0].holds(values))
    if condition.kind in ("and", "or"):
        return (all if condition.kind == "and" else any)(_holds(part, values) for part in parts)
    operands: list[Any] = [values[side.index] if isinstance(side, Asked) else side.value for side in parts]
    if condition.kind == "isclose":
        return math.isclose(*operands, **dict(condition.tolerances))
    if condition.kind == "true":
        return operands[0] is True
    pairs = zip(condition.operators, operands, operands[1:], strict=False)
    return all(bool(OPERATORS[kind](a, b)) for kind, a, b in pairs)
