"""A condition that compares within an expression, as `all(abs(a - b) < 0.1 for a, b in zip(f(2), [1, 2]))`.

The parts that need the model's code are asked of its process, as plain data: `f(2)`; within a loop, all its values at
once, as a list. The rest is Python's to work out, in a sandbox without the model's code, so that no object of the
model's can lie in a comparison. Reads and writes nothing. Refused: such a part that depends on
the argument of a lambda.
"""

from __future__ import annotations

import ast
import builtins
import io
import pickle
import sys
import types
from dataclasses import dataclass, field
from typing import Any

from rrr_cli import sandbox
from rrr_cli.sandbox import Job, Other
from rrr_cli.sandbox.values import Tagged

LAZY = ("map", "filter")  # calls whose value is an iterator
ITERATE = (  # calls that go through their first argument, zip through all
    "all", "any", "enumerate", "frozenset", "list", "max", "min", "reversed", "set", "sorted", "sum", "tuple", "zip")
VIEWS = ("items", "keys", "values")  # of a dict, which is data, as they aren't


@dataclass(frozen=True)
class Inner:
    """The condition with the names `_0`, `_1`, … for the values `indices` of the test's expressions."""

    expression: str
    modules: tuple[str, ...]
    indices: tuple[int, ...]

    def holds(self, values: list[object]) -> bool:
        """Whether it is true of the values. Raises ValueError: one isn't plain; RrrError (exit 4): no sandbox."""
        lines = [f"import {name}" for name in self.modules]
        lines += [f"_{i} = __import__('pickle').loads({packed(values[i])!r})" for i in self.indices]
        [outcome] = sandbox.execute([Job("\n".join(lines), "", "", (f"True if ({self.expression}) else False",))])
        return len(outcome.values) == 1 and outcome.values[0] is True


class _Pickler(pickle.Pickler):
    """Packs the values that `sandbox/values.py` builds; nothing of rrr_cli can be imported where they are unpacked."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Other):
            raise ValueError("a value that isn't plain data")
        if isinstance(value, Tagged):
            fields = value.content if value.kind == "fields" else [("name", value.content)]
            return types.SimpleNamespace, (), {" ": (value.kind, value.type_name), **dict(fields)}
        kinds: dict[type, tuple[Any, Any]] = {
            type({}.keys()): (dict.keys, dict.fromkeys), type({}.items()): (dict.items, dict),
            type({}.values()): (dict.values, lambda values: dict(enumerate(values)))}
        if type(value) not in kinds:
            return NotImplemented
        view, made = kinds[type(value)]
        return view, (made(value),)


def packed(value: object) -> bytes:
    """A value of a model's process for one without the model's code. Raises ValueError: it isn't plain data."""
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


@dataclass
class _Loop:
    """One `for` of a comprehension, and the names that the values asked for have in it."""

    source: str  # for X in Y
    names: frozenset[str]
    needs: set[str]  # names that Y and the guards depend on
    guards: list[str] = field(default_factory=list)
    columns: list[tuple[str, str]] = field(default_factory=list)  # name in the loop, name of the list


class _Rewriter(ast.NodeTransformer):
    def __init__(self, tree: ast.expr, first: int) -> None:
        self.first, self.asked, self.loops = first, list[tuple[str, str]](), list[_Loop]()
        stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        self.bound = stored | {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
        bases = {n.value.id for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
        self.modules = {name for name in bases if name in sys.stdlib_module_names} - self.bound

    def is_models(self, node: ast.AST) -> bool:
        """Whether it is a name that the model's code gives."""
        return (isinstance(node, ast.Name) and node.id not in self.bound and node.id not in self.modules
                and not hasattr(builtins, node.id))

    def visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, ast.expr) or not any(map(self.is_models, ast.walk(node))):
            return node
        if self.is_whole(node):
            return self.ask(node)
        if isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)):
            return self.visit_loop(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ITERATE:
            return self.visit_iteration(node, node.func.id)
        return self.generic_visit(node)

    def visit_iteration(self, node: ast.Call, name: str) -> ast.AST:
        several = len(node.args) if name == "zip" else int(len(node.args) == 1 or name not in ("max", "min"))
        node.args = [*map(self.items, node.args[:several]), *map(self.expression, node.args[several:])]
        for keyword in node.keywords:
            keyword.value = self.expression(keyword.value)
        return node

    def is_whole(self, node: ast.expr) -> bool:
        """Whether the model's process works it out: a call of the model's own, or of a built-in with its function."""
        if isinstance(node, ast.Call):
            if any(map(self.is_models, [*node.args, *(keyword.value for keyword in node.keywords)])):
                return True
            return self.is_whole(node.func)
        if isinstance(node, ast.Attribute):
            return self.is_whole(node.value) and (node.attr not in VIEWS or self.is_models(node.value))
        return self.is_models(node)

    def items(self, node: ast.expr) -> ast.expr:
        """What is gone through: of the model's own its items are asked for, as a generator is no data."""
        return self.ask(node, "list({})") if self.is_whole(node) else self.expression(node)

    def ask(self, node: ast.expr, form: str = "{}") -> ast.Name:
        source = text = ast.unparse(node)
        lazy = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in LAZY
        source = ("list({})" if lazy else form).format(source)
        used = self.bound_in(node)
        if not used:
            return ast.Name(self.name(source, text), ast.Load())
        first, before = 0, None
        while used != before:  # a loop that is asked for needs what its list and guards depend on
            first = next((i for i, loop in enumerate(self.loops) if loop.names & used), len(self.loops))
            before, used = used, used.union(*(loop.needs for loop in self.loops[first:]))
        if not used <= frozenset[str]().union(*(loop.names for loop in self.loops)):
            raise ValueError(f"{source} depends on a lambda; write an assert for each")
        for loop in reversed(self.loops[first:]):
            guarded = f"({source}) if {' and '.join(loop.guards)} else None" if loop.guards else source
            source = f"[{guarded} {loop.source}]"
        outside = self.name(source, source)
        for depth, loop in enumerate(self.loops[first:]):
            inside = f"_{depth}{outside}"
            loop.columns.append((inside, outside))
            outside = inside
        return ast.Name(outside, ast.Load())

    def bound_in(self, node: ast.AST) -> set[str]:
        parts = list(ast.walk(node))
        own = {n.id for n in parts if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        own |= {n.arg for n in parts if isinstance(n, ast.arg)}
        return {n.id for n in parts if isinstance(n, ast.Name)} & self.bound - own

    def name(self, source: str, text: str) -> str:
        self.asked.append((text, f"({source})"))
        return f"_{self.first + len(self.asked) - 1}"

    def visit_loop(self, node: ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp) -> ast.AST:
        outer = len(self.loops)
        for one in node.generators:
            names = frozenset(n.id for n in ast.walk(one.target) if isinstance(n, ast.Name))
            loop = _Loop(f"for {ast.unparse(one.target)} in {ast.unparse(one.iter)}", names, self.bound_in(one.iter))
            one.iter = self.items(one.iter)
            self.loops.append(loop)
            for i, test in enumerate(one.ifs):
                guard = f"({ast.unparse(test)})"
                one.ifs[i] = self.expression(test)
                loop.guards.append(guard)
                loop.needs |= self.bound_in(test) - names
        for name in ("elt", "key", "value"):
            if hasattr(node, name):
                setattr(node, name, self.expression(getattr(node, name)))
        for one, loop in zip(node.generators, self.loops[outer:], strict=True):
            if loop.columns:
                target = [one.target, *(ast.Name(inside, ast.Store()) for inside, _ in loop.columns)]
                lists = [one.iter, *(ast.Name(name, ast.Load()) for _, name in loop.columns)]
                one.target = ast.Tuple(target, ast.Store())
                one.iter = ast.Call(ast.Name("zip", ast.Load()), lists, [ast.keyword("strict", ast.Constant(True))])
        del self.loops[outer:]
        return node

    def expression(self, node: ast.expr) -> ast.expr:
        return self.visit(node)  # type: ignore[return-value]


def rewritten(source: str, first: int) -> tuple[Inner, list[tuple[str, str]]]:
    """The condition of an expression's text, and what to ask for: its text for people and the expression, each.

    `first`: how many expressions the test has so far. Raises ValueError: it can't be taken apart.
    """
    tree = ast.parse(source, mode="eval").body
    rewriter = _Rewriter(tree, first)
    clean = ast.unparse(ast.fix_missing_locations(rewriter.visit(tree)))
    indices = tuple(range(first, first + len(rewriter.asked)))
    return Inner(clean, tuple(sorted(rewriter.modules)), indices), rewriter.asked
