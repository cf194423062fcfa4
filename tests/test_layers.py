"""Imports point down and never in a circle, and what a shell user waits for stays light."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

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
    {"rollout", "stories"},
    {"flow"},
    {"training"},
    {"stages"},
    {"report"},
    {"help"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
HEAVY = {
    "torch", "transformers", "trl", "vllm", "datasets", "duckdb", "scipy", "pyarrow", "numpy", "pandas", "jinja2",
    "matplotlib",
}
PRETTY = {"rich", "pydantic", "markdown_it"}


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


def loaded(*arguments: object) -> tuple[str, set[str], float]:
    """Run a command line in a process of its own: what it prints, the packages that it imports, its CPU seconds."""
    probe = (
        "import sys, resource\n"
        "from rrr_cli.__main__ import start\n"
        f"sys.argv = {['rrr', *map(str, arguments)]}\n"
        "try: start()\n"
        "except SystemExit: pass\n"
        "usage = resource.getrusage(resource.RUSAGE_SELF)\n"
        "names = [name for name, module in sys.modules.items() if module is not None]\n"
        "print(usage.ru_utime + usage.ru_stime, *names, file=sys.stderr)\n"
    )
    # Compiled modules are kept, as on any user's machine.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, env=environment)
    seconds, *modules = ran.stderr.splitlines()[-1].split()
    return ran.stdout, {m.split(".")[0] for m in modules}, float(seconds)


def test_help_is_light():
    runs = [loaded("--help") for _ in range(5)]
    printed, packages, _ = runs[0]
    assert "mine-failures" in printed
    assert not (HEAVY | PRETTY) & packages
    # The best of five: a busy machine only ever adds.
    assert min(seconds for _, _, seconds in runs) <= 0.25


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the failures of a script."""
    run = tmp_path_factory.mktemp("runs") / "mined"
    script = run.parent / "script.json"
    script.write_text('{"default": "<answer> 1 </answer>", "rules": []}')
    printed, packages, _ = loaded("mine-failures", "--run", run, "--limit", 40, "--samples", 1, "--engine", "scripted",
                                  "--model", script, "--json")
    assert '"problems_with_a_failure": 40' in printed
    assert not {"torch", "transformers", "duckdb"} & packages
    return run


def test_a_query_is_light_in_both_of_its_processes(mined: Path):
    printed, packages, _ = loaded("sql", "--run", mined, "--format", "csv", "select count(*) as n from failures")
    assert printed == "n\n40\n"
    assert not (HEAVY | PRETTY) & packages
    probe = (
        "import json, sys\n"
        "from rrr_cli.store import query_child\n"
        "assert query_child.main() == 0\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    shown = {"format": "jsonl", "raw": False, "terminal": False, "width": 80}
    request = json.dumps({"runs": [str(mined)], "sql": "select count(*) as n from failures", "shown": shown})
    child = subprocess.Popen([sys.executable, "-c", probe + "sys.stderr.flush()\nimport os\nos._exit(0)"], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdin.write(request + "\n")
    child.stdin.flush()  # and left open, as by `rrr sql`
    assert json.loads(child.stdout.read()) == {"n": 40}
    packages = {m.split(".")[0] for m in child.stderr.read().split()}
    child.communicate()
    assert "duckdb" in packages
    assert not {"numpy", "pandas", "torch", "typer", "rich"} & packages


def test_show_is_light(mined: Path):
    ids, _, _ = loaded("sql", "--run", mined, "--format", "csv", "select attempt_id from failures limit 1")
    printed, packages, _ = loaded("show", "--run", mined, ids.split()[1])
    assert "Using the numbers" in printed
    assert not (HEAVY - {"pyarrow", "numpy"} | {"pydantic"}) & packages  # pyarrow imports numpy


needs_training = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="needs the extra train")


@needs_training
def test_a_model_loads_without_packages_that_nothing_uses(tmp_path: Path):
    printed, packages, _ = loaded("mine-failures", "--run", tmp_path / "run", "--limit", 1, "--samples", 1, "--json")
    assert '"attempts": 1' in printed
    assert "transformers" in packages
    assert not {"sklearn", "scipy", "trl", "duckdb"} & packages


@needs_training
@pytest.mark.parametrize("command", [
    ("grpo", "--eval-every", 5, "--eval-limit", 10), ("grpo", "--objective", "reflection+answer"), ("self-train",),
    ("reflect",), ("mine-failures",), ("eval", "--model", "base=tiny"),
])
def test_a_dry_run_needs_no_weights(mined: Path, command: tuple[object, ...]):
    model = () if command[0] == "eval" else ("--model", "tiny")
    printed, packages, _ = loaded(*command, *model, "--run", mined, "--dry-run")
    assert printed.startswith("{") or command[0] == "self-train"  # which finds no good try
    heavy = {"torch", "trl", "peft", "accelerate", "datasets", "sklearn", "scipy", "pandas", "duckdb"}
    assert not heavy & packages


def test_functions_are_short():
    lines = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert statistics.median(lines) <= 10
    assert max(lines) <= 60
