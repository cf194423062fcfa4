"""Imports point down, and what a shell user waits for stays light."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import rrr_cli

PACKAGE = Path(rrr_cli.__file__).parent
# Lowest first. A module may import from its own layer or a lower one.
LAYERS = [
    {"errors", "records", "options", "rrr_cli"},
    {"prompts", "progress", "text", "metrics", "plugs"},
    {"store"},
    {"show"},
    {"sandbox"},
    {"tasks", "engines", "benchmarks"},
    {"rollout"},
    {"training"},
    {"stages"},
    {"report"},
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


def test_help_imports_nothing_heavy_and_takes_a_quarter_of_a_cpu_second():
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
