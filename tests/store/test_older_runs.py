"""A run of schema version 1, as an older rrr left it, is read by every reader and continued by no stage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rrr_cli.store.artifacts import count, read

RUN = Path(__file__).parent.parent / "data" / "schema_1"


@pytest.fixture
def older(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUN, tmp_path / "older"))


def test_sql_show_and_report_read_an_older_run(rrr, older, tmp_path):
    pytest.importorskip("scipy")
    ran = rrr("sql", "--run", older, "--format", "jsonl", "select count(*) as n from repairs")
    assert json.loads(ran.out) == {"n": 3}
    failed = next(iter(read(older, "attempts", {"success": False})))
    assert "Using the numbers" in rrr("show", failed.attempt_id, "--run", older).out
    page = tmp_path / "report.html"
    assert rrr("report", older, "-o", page).code == 0
    assert "base" in page.read_text()


def test_no_stage_continues_an_older_run(rrr, older):
    pytest.importorskip("torch")
    before = {path: path.read_bytes() for path in older.rglob("*") if path.is_file()}
    for command in (["mine-failures", "--limit", 20, "--samples", 1, "--max-tokens", 64], ["reflect"], ["repair"],
                    ["eval", "--limit", 2]):
        ran = rrr(*command, "--run", older)
        assert ran.code == 3, command
        assert "written by an older rrr (0.1.0, schema version 1)" in ran.err
        assert ran.err.count("\n") == 1
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_new_run_starts_from_an_older_one(rrr, older, tmp_path):
    pytest.importorskip("torch")
    short = ["--max-tokens", 16, "--reflection-tokens", 16]
    ran = rrr("reflect", "--input", older, "--run", tmp_path / "new", "--limit", 2, *short)
    assert ran.code == 0, ran.err
    assert count(tmp_path / "new", "reflections") == 2
