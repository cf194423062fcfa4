"""What README shows is what the repository holds, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

from rrr_cli.cli import STAGES
from rrr_cli.records import TABLES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_files_that_readme_shows_whole_are_those_files():
    for path in ("examples/sorting.py", "rrr_cli/engines/scripted.py"):
        assert f"```python\n{(ROOT / path).read_text().rstrip()}\n```" in README


def test_every_stage_table_and_view_is_described():
    views = re.findall(r"(?m)^CREATE VIEW (\w+) AS", (ROOT / "rrr_cli" / "store" / "views.sql").read_text())
    for name in [*STAGES, *TABLES, *views]:
        assert f"`{name}`" in README or f"`rrr {name}`" in README


def test_paths_that_readme_names_exist():
    named = re.findall(r"`((?:examples|tools|tests|rrr_cli)/[\w./-]+)`", README)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_options_that_readme_shows_are_options(rrr):
    options = {name: set(re.findall(r"--[a-z-]+", rrr(name, "--help").out)) for name in (*STAGES, "sql", "show")}
    for line in re.findall(r"^rrr .+(?:\\\n.+)*", README, re.MULTILINE):
        command = line.split()[1]
        if command in options:
            used = set(re.findall(r" (--[a-z-]+)", line))
            assert used <= options[command] | {"--json"}, line
