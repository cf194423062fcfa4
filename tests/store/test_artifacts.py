"""What `artifacts.py` promises: complete parts or none, one writer, one configuration, no damaged row read."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rrr_cli.errors import BUG, USAGE, RrrError
from rrr_cli.records import TABLES, Message, Problem, Reflection
from rrr_cli.store import parts
from rrr_cli.store import provenance as provenance_module
from rrr_cli.store.artifacts import Writer, count, exists, fingerprint, provenance, read
from rrr_cli.store.schema import arrow_schema, describe

ROOT = Path(__file__).parent.parent.parent


def problem(index: int, text: str = "use 1, 2") -> Problem:
    return Problem(f"p{index}", "countdown", "train", "easy-3", [Message("user", text)], None, '"1+2"', "{}")


def write(run: Path, rows: list[Problem], stage: str = "mine-failures", **options: Any) -> Path:
    settings = {"config": {"temperature": 1.0}, "inputs": {"data": "aa"}, **options}
    with Writer(run, "problems", stage, **settings) as writer:
        path = writer.append(rows)
    assert path is not None
    return path


def test_rows_are_read_back_in_order(tmp_path: Path) -> None:
    write(tmp_path, [problem(0), problem(1)])
    write(tmp_path, [problem(2)], stage="other", config={"k": 1})
    assert list(read(tmp_path, "problems")) == [problem(0), problem(1), problem(2)]
    assert count(tmp_path, "problems") == 3
    assert list(read(tmp_path, "problems", {"problem_id": "p2"}, columns=["task", "prompt"])) == [
        {"task": "countdown", "prompt": [Message("user", "use 1, 2")]}
    ]
    assert [(p["stage"], p["rows"], p["parts"]) for p in provenance(tmp_path, "problems")] == [
        ("mine-failures", 2, 1), ("other", 1, 1)
    ]


def test_a_missing_table_has_no_rows(tmp_path: Path) -> None:
    assert list(read(tmp_path, "attempts")) == []
    assert not exists(tmp_path, "attempts")
    with Writer(tmp_path, "attempts", "mine-failures", {}) as writer:
        assert writer.append([]) is None
    assert not exists(tmp_path, "attempts")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec=None), max_size=40))  # lone surrogates included
def test_any_text_survives_but_lone_surrogates(tmp_path: Path, text: str) -> None:
    write(tmp_path, [problem(0, text)], overwrite=True)
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert next(read(tmp_path, "problems")).prompt[0].content == expected


def test_schemas_follow_the_annotations() -> None:
    for table in TABLES:
        assert all(column.comment for column in describe(table))
        assert [c.nullable for c in describe(table)] == [f.nullable for f in arrow_schema(table)]
    assert arrow_schema("problems").field("tools").nullable
    assert not arrow_schema("problems").field("reference").nullable
    with pytest.raises(RrrError, match="no table 'nope'; the tables are problems") as caught:
        describe("nope")
    assert caught.value.exit_code == USAGE


def test_a_schema_is_built_once() -> None:
    assert all(arrow_schema(table) is arrow_schema(table) for table in TABLES)


@pytest.mark.parametrize(("row", "message"), [
    (Reflection("r", "a", "p", "m", 0, "t", 1, "stop", 0, 1.0), "holds Problem records, not Reflection"),
    ({"problem_id": "p"}, "not dict"),
    (replace(problem(0), reference=None), "problems.reference is never null"),  # type: ignore[arg-type]
    (replace(problem(0), reference=3), "problems.reference is string"),  # type: ignore[arg-type]
    (replace(problem(0), prompt=[Message("user", None)]), "problems.prompt"),  # type: ignore[arg-type]
])
def test_a_row_of_another_type_is_refused(tmp_path: Path, row: Any, message: str) -> None:
    with Writer(tmp_path, "problems", "mine-failures", {}) as writer:
        with pytest.raises(RrrError, match=message) as caught:
            writer.append([problem(1), row])
        assert caught.value.exit_code == BUG
    assert not exists(tmp_path, "problems")


def test_done_lists_this_stages_rows_only(tmp_path: Path) -> None:
    write(tmp_path, [problem(0)])
    write(tmp_path, [problem(1)], stage="other")
    with Writer(tmp_path, "problems", "other", {"temperature": 1.0}, {"data": "aa"}) as writer:
        assert writer.done("problem_id") == {"p1"}


@pytest.mark.parametrize(("changed", "message"), [
    ({"config": {"temperature": 0.5}}, "temperature was 1.0, now 0.5"),
    ({"config": {"temperature": 1.0, "top_p": 0.9}}, "top_p was not set, now 0.9"),
    ({"seed": 7}, "seed was null, now 7"),
    ({"inputs": {"data": "bb"}}, 'input data has changed since .was "aa", now "bb"'),
])
def test_other_options_or_inputs_are_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    write(tmp_path, [problem(0)])
    before = fingerprint(tmp_path, "problems")
    with pytest.raises(RrrError, match=f"{message}.*--overwrite.*--run"):
        write(tmp_path, [problem(1)], **changed)
    assert fingerprint(tmp_path, "problems") == before
    write(tmp_path, [problem(2)], stage="other", **changed)  # another stage has options of its own


def test_overwrite_leaves_other_stages_rows(tmp_path: Path) -> None:
    write(tmp_path, [problem(0)])
    write(tmp_path, [problem(1)], stage="other")
    write(tmp_path, [problem(2)], config={"temperature": 0.5}, overwrite=True)
    assert [row.problem_id for row in read(tmp_path, "problems")] == ["p1", "p2"]
    sidecar = json.loads((tmp_path / ".rrr" / "problems" / "provenance-mine-failures.json").read_text())
    assert sidecar["config"] == {"temperature": 0.5}


def test_a_fingerprint_follows_the_content(tmp_path: Path) -> None:
    write(tmp_path, [problem(0)])
    table, stage = fingerprint(tmp_path, "problems"), fingerprint(tmp_path, "problems", "mine-failures")
    write(tmp_path, [problem(1)], stage="other")
    assert fingerprint(tmp_path, "problems") != table
    assert fingerprint(tmp_path, "problems", "mine-failures") == stage


def test_a_part_has_provenance_and_page_checksums(tmp_path: Path) -> None:
    path = write(tmp_path, [problem(0)], seed=3)
    stored = json.loads(pq.read_metadata(path).metadata[b"rrr"])
    assert (stored["stage"], stored["seed"], stored["inputs"]) == ("mine-failures", 3, {"data": "aa"})
    assert stored["packages"]["pyarrow"] == pa.__version__
    assert stored["argv"] == sys.argv
    assert {"rrr", "git", "time", "schema_version"} <= stored.keys()
    data = bytearray(path.read_bytes())
    chunk = pq.read_metadata(path).row_group(0).column(0)
    data[chunk.dictionary_page_offset + chunk.total_compressed_size - 1] ^= 1  # the end of the first column's page
    path.write_bytes(data)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True)


def test_a_second_writer_is_refused_by_pid(tmp_path: Path) -> None:
    with (
        Writer(tmp_path, "problems", "mine-failures", {}),
        pytest.raises(RrrError, match=f"being written by pid {os.getpid()} on "),
        Writer(tmp_path, "problems", "other", {}),
    ):
        pass
    write(tmp_path, [problem(0)])  # allowed once the first one has ended


@pytest.mark.parametrize("place", ["problems", ".rrr/problems"])  # the first: as an older rrr did
def test_a_writer_removes_a_killed_ones_files(tmp_path: Path, place: str) -> None:
    write(tmp_path, [problem(0)])
    left = tmp_path / place / "part-00001.parquet.tmp-1"
    left.write_bytes(b"half")
    assert count(tmp_path, "problems") == 1
    write(tmp_path, [problem(1)])
    assert not left.exists()
    assert count(tmp_path, "problems") == 2


def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Writer(tmp_path, "problems", "mine-failures", {}) as writer:
        monkeypatch.setattr(parts.os, "fsync", full)
        with pytest.raises(RrrError, match=r"full: .*part-00000.parquet needs [\d,]+ bytes and [\d,]+ are free"):
            writer.append([problem(0)])
    assert not list((tmp_path / "problems").glob("part-*"))


def test_a_bad_part_is_refused_by_file_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, [problem(0)])
    good = path.read_bytes()

    def refused(message: str) -> None:
        with pytest.raises(RrrError, match=rf"part-00000.parquet {message}") as caught:
            list(read(tmp_path, "problems"))
        assert "\n" not in str(caught.value)

    for cut in (0, 3, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:cut])
        refused("is truncated, damaged or not Parquet; delete it")
    path.write_bytes(b"GIF89a")
    refused("is truncated, damaged or not Parquet")
    pq.write_table(pa.table({"x": [1]}), path)
    refused("is Parquet, but not a part that rrr wrote")
    with Writer(tmp_path, "reflections", "reflect", {}) as writer:
        other = writer.append([Reflection("r", "a", "p", "m", 0, "t", 1, "stop", 0, 1.0)])
    assert other is not None
    path.write_bytes(other.read_bytes())
    refused("doesn't have the columns of problems")
    path.write_bytes(good)
    monkeypatch.setattr(parts, "READABLE_VERSIONS", (0,))
    refused("has schema version 3 and this rrr reads 0")


def test_an_older_run_is_read_but_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(provenance_module, "SCHEMA_VERSION", 1)
        write(tmp_path, [problem(0)])
    assert [p.problem_id for p in read(tmp_path, "problems")] == [problem(0).problem_id]
    with pytest.raises(RrrError, match=r"written by an older rrr .*schema version 1.* Name another --run") as caught:
        write(tmp_path, [problem(1)])
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    with Writer(tmp_path, "problems", "mine-failures", {}, overwrite=True) as writer:  # all of it is replaced
        writer.append([problem(1)])
    assert count(tmp_path, "problems") == 1


def test_flipped_bits_are_detected() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "torture" / "bitflips.py"), "--flips", "200"],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():  # of a part, of a model
        counts = json.loads(line)
        assert counts["silently_wrong"] == 0
        assert counts["detected"] + counts["identical"] == 200
    assert done.stdout.count("\n") == 2


KILLED = """
import itertools, sys
from pathlib import Path
from rrr_cli.store.artifacts import Writer
from rrr_cli.records import Message, Problem
with Writer(Path(sys.argv[1]), "problems", "mine-failures", {}) as writer:
    done = writer.done("problem_id")
    for i in itertools.count():
        if f"p{i}" not in done:
            path = writer.append([Problem(f"p{i}", "t", "train", "", [Message("user", "x" * 9999)], None, "", "")])
            print(f"p{i}", flush=True)
"""


def test_sigkill_loses_and_doubles_no_row(tmp_path: Path) -> None:
    reported: set[str] = set()
    for wait in (0.0, 0.01, 0.03, 0.1):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert child.stdout is not None
        reported.add(child.stdout.readline().strip())
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        reported |= {line.strip() for line in child.communicate()[0].splitlines() if line.endswith("\n") or line}
        ids = [row["problem_id"] for row in read(tmp_path, "problems", columns=["problem_id"])]
        assert len(ids) == len(set(ids))
        assert reported <= set(ids)
