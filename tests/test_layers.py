"""Imports point down and never in a circle, and what a shell user waits for stays light."""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

import rrr_cli

PACKAGE = Path(rrr_cli.__file__).parent
# Lowest first. A module may import from its own layer or a lower one.
LAYERS = [
    {"errors", "records", "options", "extras", "addresses", "places", "thoughts", "rrr_cli"},
    {"prompts", "progress", "text", "metrics", "plugs", "tool_names", "streams"},
    {"store"},
    {"show"},
    {"sandbox"},
    {"tasks", "engines", "benchmarks"},
    {"failures", "episodes"},
    {"rollout"},
    {"training"},
    {"stages"},
    {"report"},
    {"help"},
    {"cli"},
    {"__main__"},
]
HEAVY = {
    "torch", "transformers", "trl", "vllm", "datasets", "duckdb", "scipy", "pyarrow", "numpy", "pandas", "jinja2",
    "matplotlib",
}


def layer(name: str) -> int:
    found = [i for i, names in enumerate(LAYERS) if name in names]
    assert found, f"rrr_cli/{name} is in no layer: add it to LAYERS"
    return found[0]


def test_imports_point_down():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        own = "rrr_cli" if parts == ("__init__",) else parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name.split(".")[0] == "rrr_cli":
                    target = ([*name.split("."), "rrr_cli"])[1]
                    if layer(target) > layer(own):
                        wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def imported(path: Path, modules: Collection[str]) -> set[str]:
    """Which of `modules` a file imports, inside functions too; `if TYPE_CHECKING:` doesn't count.

    `from rrr_cli.tasks import audit` imports the file audit.py; that Python runs the `__init__` of its folder as well
    is no import of that file.
    """
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node.body = []
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            files = {a.name: f"{node.module}.{a.name}" for a in node.names}
            names |= {file if file in modules else node.module for file in files.values()}
    return names & set(modules)


def circles(imports: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """The groups of modules in which each reaches every other, and itself, by imports."""
    reach: dict[str, set[str]] = {}
    for start in imports:
        seen: set[str] = set()
        ahead = [start]
        while ahead:
            new = imports[ahead.pop()] - seen
            seen |= new
            ahead += new
        reach[start] = seen
    return {frozenset(b for b in reach[a] if a in reach[b]) for a in imports if a in reach[a]}


def test_no_two_files_import_each_other():
    paths = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    assert circles({name: imported(path, paths.keys()) for name, path in paths.items()}) == set()


def test_circles_are_found_whatever_their_length():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == {frozenset("abc")}
    assert circles({"a": {"b"}, "b": set()}) == set()


def test_help_is_light():
    probe = (
        "import sys, resource\n"
        "from rrr_cli.cli import main\n"
        "sys.argv = ['rrr', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "usage = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(usage.ru_utime + usage.ru_stime, *sys.modules, file=sys.stderr)\n"
    )
    # Compiled modules are kept, as on any user's machine.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    runs = [
        subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, env=environment)
        for _ in range(5)
    ]
    assert "mine-failures" in runs[0].stdout
    _seconds, *modules = runs[0].stderr.split()
    assert not HEAVY & {m.split(".")[0] for m in modules}
    # The best of five: a busy machine only ever adds.
    assert min(float(r.stderr.split()[0]) for r in runs) <= 0.25


def test_functions_are_short():
    lines = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert statistics.median(lines) <= 10
    assert max(lines) <= 60
