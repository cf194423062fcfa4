"""What `rrr sql` and `rrr show` promise: right answers over runs, and no query that writes or reaches outside."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest
from rich.console import Console

from rrr_cli.errors import BAD_INPUT, USAGE, RrrError
from rrr_cli.records import Attempt, Message, Problem, Reflection, Rollout, TrainStep
from rrr_cli.show import show, story
from rrr_cli.store.artifacts import Writer
from rrr_cli.store.database import answer, connect
from rrr_cli.store.sql import query
from rrr_cli.text import safe_text

HOSTILE_TEXT = "\x1b[2J\x9b31m[/INST] |x|\n\u202eé"


def attempt(id: str, problem: str, success: bool, **more: Any) -> Attempt:
    fields: dict[str, Any] = {
        "phase": "first", "sample_index": 0, "parent_id": None, "reflection_id": None, "reasoning": None,
        "transcript": [Message("assistant", HOSTILE_TEXT)], **more,
    }
    return Attempt(
        attempt_id=id, problem_id=problem, task="countdown", split="train", difficulty="easy-3", model="tiny",
        success=success, score=float(success), error_type=None if success else "wrong_value",
        feedback="" if success else "It equals 12, not 24.", answer="3 * 4", prompt_tokens=9, completion_tokens=5,
        finish_reason="stop", seed=2**62, temperature=1.0, **fields,
    )


def reflection(id: str, attempt_id: str, tokens: int, solves: bool = False) -> Reflection:
    return Reflection(id, attempt_id, "prob-1", "tiny", 0, f"thought {id}", tokens, "stop", 1, 1.0, solves=solves)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """prob-1: 6 tries, 2 passed; reflections on one failure, the retry after the second one passed."""
    run = tmp_path_factory.mktemp("runs") / "first"
    with Writer(run, "problems", "mine-failures", {}) as writer:
        writer.append([
            Problem(f"prob-{i}", "countdown", "train", "easy-3", [Message("user", f"use {i}")], None, '"1"', "{}")
            for i in (1, 2)
        ])
    with Writer(run, "attempts", "mine-failures", {}) as writer:
        writer.append([attempt(f"try-1-{i}", "prob-1", i in (2, 4), sample_index=i) for i in range(6)])
        writer.append([attempt("try-2-0", "prob-2", True)])
    with Writer(run, "reflections", "reflect", {}) as writer:
        writer.append([reflection("refl-a", "try-1-1", 10), reflection("refl-b", "try-1-1", 30, solves=True)])
    with Writer(run, "attempts", "reflect", {}) as writer:
        writer.append([
            attempt("again-a", "prob-1", False, phase="retry", parent_id="try-1-1", reflection_id="refl-a"),
            attempt("again-b", "prob-1", True, phase="retry", parent_id="try-1-1", reflection_id="refl-b"),
            attempt("again-c", "prob-1", False, phase="retry", parent_id="try-1-0"),
        ])
    return run


@pytest.fixture(scope="module")
def trained(run: Path) -> Path:
    """Another run, with GRPO steps and no attempts."""
    other = run.parent / "second"
    with Writer(other, "steps", "grpo", {}) as writer:
        writer.append([TrainStep(1, 0.1, None, 0.25, 0.4, 0.5, 20.0, 9.0, 0.0, None, 1e-4, 1.0, 2.0, 1.0, 0.5, 0.5,
                                 "reflection", None, 0.0, 116, 0, 0)])
    with Writer(other, "rollouts", "grpo", {}) as writer:
        writer.append([
            Rollout(1, 0, i, "prob-1", "try-1-1", "r", "t", i == 0, None, float(i == 0), 0.0, 20, 9, 20, "stop", False,
                    None, "stop", 29, None)
            for i in range(4)
        ])
    return other


def ask(runs: Path | list[Path], sql: str) -> list[dict[str, Any]]:
    """What the query process answers, without the process."""
    rows: list[dict[str, Any]] = answer(connect([runs] if isinstance(runs, Path) else runs), sql).read_all().to_pylist()
    return rows


def command(run: Path, sql: str, format: str = "jsonl") -> str:
    """What `rrr sql` prints."""
    out = io.StringIO()
    query([run], sql, format, out)
    return out.getvalue()


def test_failures_are_failed_first_tries(run: Path) -> None:
    rows = ask(run, "SELECT run, attempt_id, problem, failed_text FROM failures ORDER BY attempt_id")
    assert [row["attempt_id"] for row in rows] == ["try-1-0", "try-1-1", "try-1-3", "try-1-5"]
    assert rows[0] == {"run": "first", "attempt_id": "try-1-0", "problem": "use 1", "failed_text": HOSTILE_TEXT}


def test_agent_texts_are_what_passed_by_source_and_reflector(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Writer(run, "attempts", "mine-failures", {}) as writer:
        writer.append([attempt(f"try-{i}", "prob-1", i == 1, sample_index=i) for i in range(2)])
    with Writer(run, "reflections", "reflect", {}) as writer:
        writer.append([reflection("refl-a", "try-0", 10)])
    with Writer(run, "attempts", "reflect", {}) as writer:
        again = {"phase": "retry", "parent_id": "try-0"}
        writer.append([
            attempt("after-a", "prob-1", True, **again, reflection_id="refl-a"),
            attempt("failing", "prob-1", False, **again, reflection_id="refl-a", sample_index=1),
            attempt("without", "prob-1", True, **again),
            attempt("repair", "prob-1", True, phase="repair", parent_id="try-0"),
            attempt("orphan", "prob-1", True, phase="repair", parent_id="elsewhere"),
        ])
    rows = ask(run, "SELECT source, attempt_id, reflector FROM agent_texts ORDER BY source")
    assert [tuple(row.values()) for row in rows] == [
        ("own", "try-1", None), ("repair", "repair", "tiny"), ("retry", "after-a", "tiny")]


def test_repairs_join_failure_reflection_and_retry(run: Path) -> None:
    rows = ask(run, "SELECT attempt_id, reflection, retry_id, success, solves FROM repairs ORDER BY retry_id")
    assert [tuple(row.values()) for row in rows] == [
        ("try-1-1", "thought refl-a", "again-a", False, False),
        ("try-1-1", "thought refl-b", "again-b", True, True),
        ("try-1-0", None, "again-c", False, None),
    ]


def test_pass_at_k_is_the_unbiased_estimate(run: Path) -> None:
    rows = ask(run, "FROM pass_at ORDER BY problem_id, k")
    assert [(r["problem_id"], r["n"], r["passes"], r["k"]) for r in rows] == [
        ("prob-1", 6, 2, 1), ("prob-1", 6, 2, 2), ("prob-1", 6, 2, 4), ("prob-2", 1, 1, 1)
    ]
    for row in rows:
        n, passes, k = int(row["n"]), int(row["passes"]), int(row["k"])
        assert row["pass_at_k"] == pytest.approx(1 - math.comb(n - passes, k) / math.comb(n, k))
        assert row["pass_rate"] == pytest.approx(passes / n)


def test_views_of_reflections_and_training(run: Path, trained: Path) -> None:
    assert ask(run, "SELECT * EXCLUDE run FROM reflection_lengths") == [{
        "reflector": "tiny", "n": 2, "mean_tokens": 20.0, "median_tokens": 20.0, "p90_tokens": 28.0, "truncated": 0.0,
        "solving": 0.5,
    }]
    health = ask(trained, "SELECT step, retries, passed, reward_mean, dead_groups, kl, solving FROM grpo_health")
    assert health == [{"step": 1, "retries": 4, "passed": 1, "reward_mean": 0.25, "dead_groups": 0.5, "kl": None,
                       "solving": 0.0}]


def test_one_query_covers_several_runs(run: Path, trained: Path) -> None:
    rows = ask([run, trained], "SELECT run, count(*) AS n FROM attempts GROUP BY run UNION ALL "
               "SELECT run, count(*) FROM steps GROUP BY run ORDER BY run")
    assert rows == [{"run": "first", "n": 10}, {"run": "second", "n": 1}]
    assert ask(trained, "SELECT * FROM attempts") == []
    assert len(ask(trained, "DESCRIBE attempts")) == 25


def test_joins_stay_inside_a_run(run: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").symlink_to(run)  # the same content under another path
    rows = ask([run, tmp_path / "copy"], "SELECT run, count(*) AS n FROM repairs GROUP BY run")
    assert sorted(row["n"] for row in rows) == [3, 3]


def test_the_examples_query_runs(run: Path) -> None:
    sql = (Path(__file__).parent.parent.parent / "examples" / "failures.sql").read_text()
    assert [(r["failures"], r["retries"], r["repaired"]) for r in ask(run, sql)] == [(4, 3, pytest.approx(1 / 3))]
    recipes = [line.split('"')[1] for line in sql.splitlines() if line.startswith('--   rrr sql ') and '"' in line]
    assert len(recipes) == 4
    for recipe in recipes:
        ask(run, recipe)


def test_formats_keep_data_and_print_safely(run: Path) -> None:
    columns = "transcript[1].content AS text, seed, error_type, transcript"
    sql = f"SELECT {columns} FROM attempts WHERE attempt_id = 'try-1-2'"
    shown = {format: command(run, sql, format) for format in ("csv", "jsonl", "table", "markdown")}
    assert json.loads(shown["jsonl"]) == {
        "text": HOSTILE_TEXT, "seed": 2**62, "error_type": None,
        "transcript": [{"role": "assistant", "content": HOSTILE_TEXT}],
    }
    header, row = list(csv.reader(io.StringIO(shown["csv"])))
    assert header == ["text", "seed", "error_type", "transcript"]
    assert row[:3] == [HOSTILE_TEXT, str(2**62), ""]
    assert json.loads(row[3])[0]["content"] == HOSTILE_TEXT
    for format in ("jsonl", "table", "markdown"):
        assert not {"\x1b", "\x9b", "\u202e"} & set(shown[format])
    assert "[/INST] |x|" in shown["table"]
    assert "[/INST] \\|x\\|<br>é |" in shown["markdown"]
    assert safe_text("a\x00\x07\r\x7f\u2066b\tc\n") == "ab\tc\n"


def test_numbers_survive_json(run: Path) -> None:
    row = "sum(seed) AS big, 'nan'::DOUBLE AS nan, 0.5::DECIMAL(3,1) AS half, true AS yes"
    printed = command(run, f"SELECT {row} FROM attempts")
    assert json.loads(printed) == {"big": 10 * 2**62, "nan": None, "half": 0.5, "yes": True}


READING = [
    "VALUES (1), (2)", "FROM attempts LIMIT 1", "WITH x AS (SELECT 1) SELECT * FROM x", "SHOW TABLES",
    "DESCRIBE repairs", "SUMMARIZE steps", "PIVOT attempts ON phase USING count(*) GROUP BY problem_id",
    "EXPLAIN SELECT 1", "EXPLAIN ANALYZE SELECT 1", "(SELECT 1)", "-- a comment\nSELECT 1;", "/* two */ TABLE problems",
    "EXPLAIN (FORMAT json) SELECT 1",
]


@pytest.mark.parametrize("sql", READING)
def test_reading_statements_are_answered(run: Path, sql: str) -> None:
    answer(connect([run]), sql).read_all()


# {out} is a path that must not be created; {part} is an existing part.
HOSTILE = r"""
COPY attempts TO '{out}'
COPY (SELECT 1) TO '{part}'
COPY (SELECT 1) TO '{out}' (FORMAT parquet)
COPY attempts FROM '{part}'
COPY (PIVOT attempts ON phase USING count(*)) TO '{out}'
EXPORT DATABASE '{out}'
IMPORT DATABASE '{out}'
ATTACH '{out}' AS other
ATTACH ':memory:' AS other
ATTACH '{part}' AS other (READ_ONLY)
DETACH memory
USE memory
INSERT INTO attempts SELECT * FROM attempts
WITH x AS (SELECT 1) INSERT INTO attempts SELECT * FROM x
UPDATE attempts SET success = true
DELETE FROM attempts
TRUNCATE attempts
DROP VIEW failures
DROP TABLE attempts
ALTER VIEW failures RENAME TO gone
CREATE TABLE x AS SELECT 1
CREATE TABLE x AS PIVOT attempts ON phase USING count(*)
CREATE OR REPLACE VIEW failures AS SELECT 1
CREATE MACRO f() AS TABLE FROM read_text('{part}')
CREATE SECRET s (TYPE s3)
CREATE PERSISTENT SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')
INSTALL httpfs
LOAD httpfs
FORCE INSTALL json FROM '{out}'
SET enable_external_access = true
SET GLOBAL lock_configuration = false
RESET lock_configuration
SET temp_directory = '{out}'
SET log_query_path = '{out}'
PRAGMA enable_external_access
PRAGMA database_list
PRAGMA enable_profiling
CALL pragma_version()
CALL enable_logging(storage='file', storage_path='{out}')
CHECKPOINT
VACUUM
ANALYZE
BEGIN
PREPARE p AS SELECT 1
EXECUTE p
SELECT 1; COPY attempts TO '{out}'
SELECT 1; -- nothing more\nDROP VIEW failures
/* SELECT 1 */ DROP VIEW failures
-- SELECT 1\nCOPY (SELECT 1) TO '{out}'
/* EXPLAIN */ EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'
EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1
EXPLAIN ANALYZE EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'
SELECT * FROM read_csv('/etc/passwd')
SELECT * FROM '/etc/passwd'
FROM read_text('/etc/passwd')
FROM read_blob('{part}')
FROM read_parquet('{part}')
FROM parquet_metadata('{part}')
FROM '{part}'
FROM glob('/*')
FROM read_csv('https://example.com/x.csv')
FROM read_csv('/dev/stdin')
FROM enable_profiling(save_location='{out}')
SELECT getenv('HOME')
FROM query('COPY attempts TO ''{out}''')
FROM query_table('/etc/passwd')
FROM sys
FROM sniff_csv('/etc/passwd')
WITH a AS (WITH b AS (FROM read_text('/etc/passwd')) FROM b) FROM a
SELECT (SELECT content FROM read_text('/etc/passwd'))
""".strip().splitlines()


def test_there_are_at_least_sixty_hostile_statements() -> None:
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("sql", HOSTILE)
def test_a_hostile_statement_changes_nothing(run: Path, tmp_path: Path, sql: str) -> None:
    before = hashes(run)
    with pytest.raises((RrrError, duckdb.Error)):
        answer(connect([run]), fill(sql, run, tmp_path)).read_all()
    assert not list(tmp_path.iterdir())
    assert hashes(run) == before


@pytest.mark.parametrize("sql", [
    "COPY attempts TO '{out}'", "FROM read_text('/etc/passwd')", "SELECT 1; DROP VIEW failures",
    "FROM enable_logging(storage='file', storage_path='{out}')",  # a SELECT to DuckDB, so its own lock must hold
])
def test_the_command_refuses_in_one_line(run: Path, tmp_path: Path, sql: str) -> None:
    before, out = hashes(run), io.StringIO()
    with pytest.raises(RrrError) as caught:
        query([run], fill(sql, run, tmp_path), "jsonl", out)
    assert caught.value.exit_code == USAGE
    assert "\n" not in str(caught.value)
    assert out.getvalue() == ""
    assert not list(tmp_path.iterdir())
    assert hashes(run) == before


def fill(sql: str, run: Path, folder: Path) -> str:
    return sql.format(out=folder / "out", part=run / "attempts" / "part-00000.parquet").replace("\\n", "\n")


def hashes(run: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in run.parent.rglob("*") if p.is_file()}


def test_a_slow_query_stops_at_the_timeout(run: Path) -> None:
    start = time.monotonic()
    with pytest.raises(RrrError, match="stopped after 2 s"):
        query([run], "SELECT max(length(repeat('x', 4000000000) || range)) FROM range(1000)", "csv", io.StringIO(), 2)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(("sql", "message"), [
    ("SELEC 1", "syntax error"), ("FROM missing", "SHOW TABLES"), ("", "this is 0"),
    ("SELECT error('late') FROM attempts", "late"), ("SELECT 1 AS a, 2 AS a", "two columns"),
])
def test_a_mistake_in_the_sql_is_one_line(run: Path, sql: str, message: str) -> None:
    with pytest.raises(RrrError, match=message) as caught:
        query([run], sql, "jsonl", io.StringIO())
    assert caught.value.exit_code == USAGE
    assert "\n" not in str(caught.value)


def test_missing_runs_and_damaged_parts_are_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RrrError, match=r"nope doesn't exist .*first.*rrr mine-failures --run") as caught:
        query([run.parent / "nope"], "SELECT 1", "csv", io.StringIO())
    assert caught.value.exit_code == BAD_INPUT
    (tmp_path / "problems").mkdir()
    part = tmp_path / "problems" / "part-00000.parquet"
    data = bytearray((run / "problems" / part.name).read_bytes())
    data[50] ^= 4
    part.write_bytes(data)
    with pytest.raises(RrrError, match=r"part-00000.parquet is damaged") as caught:
        query([tmp_path], "SELECT count(*) FROM failures, problems", "csv", io.StringIO())
    assert caught.value.exit_code == BAD_INPUT


@pytest.mark.parametrize("id", ["prob-1", "try-1-1", "refl-b", "again-b"])
def test_show_works_from_any_id_of_a_story(run: Path, id: str) -> None:
    shown = story(run, id)
    assert shown["problem"]["problem_id"] == "prob-1"
    assert shown["attempt"]["attempt_id"] == "try-1-1"
    pairs = [(t["reflection"]["reflection_id"], t["retry"]["attempt_id"]) for t in shown["tries"]]
    assert pairs[-1] == ("refl-b", "again-b")
    assert len(pairs) == (2 if id in ("prob-1", "try-1-1") else 1)
    out = io.StringIO()
    show(run, id, Console(file=out, width=100))
    text = out.getvalue()
    assert not {"\x1b", "\x9b", "\u202e"} & set(text)
    order = [text.index(s) for s in ("use 1", "[/INST]", "It equals 12, not 24.", "thought refl-b", "passed")]
    assert order == sorted(order)


@pytest.mark.parametrize(("id", "message"), [
    ("again-c", None), ("try-1", "begins 6 ids: attempt try-1-0, attempt try-1-1"), ("try", "too short"),
    ("zzzz", "begins no problem, attempt or reflection"), ("try-2", None),
])
def test_show_accepts_a_unique_prefix(run: Path, id: str, message: str | None) -> None:
    if message is None:
        assert story(run, id)["attempt"]
    else:
        with pytest.raises(RrrError, match=message):
            story(run, id)
