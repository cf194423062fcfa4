"""What a run's folder survives: disks without locks and links, links that lead away, other readers, lost parts."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rrr_cli.errors import RrrError
from rrr_cli.records import Reflection, Rollout
from rrr_cli.store import disk
from rrr_cli.store.artifacts import Writer, count, read

OLDER = Path(__file__).parent.parent / "data" / "schema_1"


def row(index: int) -> Reflection:
    return Reflection(f"r{index}", f"a{index}", "p", "m", 0, f"text {index}", 4, "stop", index, 1.0)


def write(run: Path, *indices: int, stage: str = "reflect", **more: Any) -> None:
    """One part a row, of those that the stage hasn't written yet."""
    with Writer(run, "reflections", stage, {"k": 1}, **more) as writer:
        done = writer.done("reflection_id")
        for index in indices:
            writer.append([row(index)] if f"r{index}" not in done else [])


def part(run: Path, number: int) -> Path:
    return run / "reflections" / f"part-{number:05d}.parquet"


def texts_by_id(run: Path) -> dict[str, str]:
    return {r.reflection_id: r.text for r in read(run, "reflections")}


def texts(run: Path) -> list[str]:
    return [r.text for r in read(run, "reflections")]


def failing(number: int) -> Callable[..., Any]:
    def fail(*arguments: Any, **named: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def refused(message: str, function: Callable[[], Any], code: int = 3) -> None:
    with pytest.raises(RrrError, match=message) as caught:
        function()
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)


def test_a_tables_folder_holds_parts_alone(tmp_path):
    write(tmp_path, 0, 1)
    assert sorted(p.name for p in (tmp_path / "reflections").iterdir()) == ["part-00000.parquet", "part-00001.parquet"]
    assert pq.read_table(tmp_path / "reflections").num_rows == 2
    assert (tmp_path / ".rrr" / "reflections" / "provenance-reflect.json").is_file()


def test_an_older_runs_folder_is_tidied_by_the_next_writer(tmp_path):
    shutil.copytree(OLDER, tmp_path / "run")
    (tmp_path / "run" / "reflections" / ".lock").write_text("pid 1")
    with Writer(tmp_path / "run", "reflections", "reflect", {}, overwrite=True) as writer:
        writer.append([row(0)])
    assert [p.suffix for p in (tmp_path / "run" / "reflections").iterdir()] == [".parquet"]
    assert texts(tmp_path / "run") == ["text 0"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_disk_without_locks_is_worked_with_and_named_once(tmp_path, monkeypatch, capsys, number):
    monkeypatch.setattr(disk, "_warned", False)
    monkeypatch.setattr(disk.fcntl, "flock", failing(number))
    write(tmp_path, 0)
    write(tmp_path, 1)
    assert texts(tmp_path) == ["text 0", "text 1"]
    assert capsys.readouterr().err.count("has no locks") == 1


@pytest.mark.parametrize("links", [None, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_writers_that_see_no_lock_of_each_other_lose_nothing(tmp_path, monkeypatch, links, capsys):
    monkeypatch.setattr(disk.fcntl, "flock", lambda *arguments: None)
    if links is not None:
        monkeypatch.setattr(disk.os, "link", failing(links))
    writers = [Writer(tmp_path, "reflections", "reflect", {"k": 1}) for _ in range(3)]
    with writers[0] as a, writers[1] as b:
        for index in range(0, 6, 2):
            a.append([row(index)])
            b.append([row(index + 1)])
        with writers[2] as c:
            c.append([row(6)])
        a.append([row(7)])
    assert sorted(texts(tmp_path)) == [f"text {i}" for i in range(8)]
    assert not list(tmp_path.rglob("*.tmp-*"))
    assert "another process writes" in capsys.readouterr().err


def test_a_lost_part_of_copied_rows_is_copied_again(rrr, tmp_path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"default": "no"}))
    common = ["--engine", "scripted", "--model", script, "--limit"]
    assert rrr("mine-failures", *common, 4, "--samples", 1, "--run", tmp_path / "a").code == 0
    reflect = ["reflect", *common[:-1], "--input", tmp_path / "a", "--run", tmp_path / "b", "--limit"]
    for limit in (1, 2, 3):
        assert rrr(*reflect, limit).code == 0
    (tmp_path / "b" / "problems" / "part-00001.parquet").unlink()
    ran = rrr("sql", "--run", tmp_path / "b", "from problems")
    assert "part-00001.parquet is missing" in ran.err
    assert rrr(*reflect, 4).code == 0
    assert count(tmp_path / "b", "problems") == 4


def test_lost_reflections_are_written_again_and_a_lost_problem_is_one_line(rrr, tmp_path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"default": "no"}))
    common = ["--engine", "scripted", "--model", script, "--limit", 3, "--part", 1, "--run", tmp_path / "a"]
    mine = ["mine-failures", *common, "--samples", 1]
    assert rrr(*mine).code == rrr("reflect", *common).code == 0
    before = texts_by_id(tmp_path / "a")
    for number in (0, 1):  # with and without a part before it
        part(tmp_path / "a", number).unlink()
        assert rrr("reflect", *common).code == 0
        assert texts_by_id(tmp_path / "a") == before
    max((tmp_path / "a" / "problems").glob("part-*")).unlink()
    for command in (["reflect", *common, "--reflections", 2, "--overwrite"], ["train-reflector", *common[-2:]]):
        ran = rrr(*command)
        assert (ran.code, ran.err.count("\n")) == (3, 1)
        assert "but not its problem" in ran.err
    assert rrr(*mine).code == 0
    assert count(tmp_path / "a", "problems") == 3


@pytest.mark.parametrize("command", [["reflect"], ["eval", "--model", "base={}"]])
def test_a_stage_resumes_with_its_own_token_limit_after_a_training_with_another(rrr, tmp_path, command):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"default": "no"}))
    common = ["--engine", "scripted", "--run", tmp_path, "--limit"]
    assert rrr("mine-failures", *common, 3, "--model", script, "--samples", 1).code == 0
    command = [word.format(script) for word in command]
    assert rrr(*command, *common, 2, "--reflection-tokens", 40).code == 0
    with Writer(tmp_path, "rollouts", "grpo", {"objective": "reflection", "reflection_tokens": 96}) as writer:
        writer.append([Rollout(
            1, 0, 0, "p", "a", "r", "t", True, None, 1.0, 0.0, 20, 9, 20, "stop", False, None, "stop", 29, None)])
    again = rrr(*command, *common, 3)
    assert again.code == 0, again.err


def test_a_file_that_another_writer_cleaned_away_is_written_again(tmp_path, monkeypatch):
    real, cleaned = os.link, []

    def link(source: Path, target: Path) -> None:
        if not cleaned:
            cleaned.append(source)
            os.unlink(source)
        real(source, target)

    monkeypatch.setattr(disk.os, "link", link)
    write(tmp_path, 0)
    assert cleaned
    assert texts(tmp_path) == ["text 0"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_a_folder_that_cannot_be_flushed_needs_none(tmp_path, monkeypatch, number):
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(disk.os, "fsync", fsync)
    write(tmp_path, 0)
    assert texts(tmp_path) == ["text 0"]


@pytest.mark.parametrize("function", ["mkdir", "link", "fsync"])
def test_a_read_only_disk_is_one_line(tmp_path, monkeypatch, function):
    monkeypatch.setattr(os, function, failing(errno.EROFS))
    refused("can't be written: Read-only file system", lambda: write(tmp_path / "run", 0))
    assert not list(tmp_path.rglob("part-*"))


@pytest.mark.parametrize("name", ["reflections", ".rrr", ".rrr/reflections", ".rrr/reflections/lock"])
def test_no_link_leads_a_writer_out_of_the_run(tmp_path, name):
    outside, run = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (run / name).parent.mkdir(parents=True)
    (run / name).symlink_to(outside / "kept" if name.endswith("lock") else outside)
    refused(f"{name} is a symbolic link to ", lambda: write(run, 0))
    assert [p.name for p in outside.iterdir()] == ["kept"]
    assert (outside / "kept").read_text() == "kept"


def test_a_lock_that_is_another_file_as_well_keeps_its_content(tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("kept")
    lock = tmp_path / "run" / ".rrr" / "reflections" / "lock"
    lock.parent.mkdir(parents=True)
    os.link(kept, lock)
    refused("is not a file of its own", lambda: write(tmp_path / "run", 0))
    assert kept.read_text() == "kept"


def test_a_part_that_is_a_link_is_not_followed(tmp_path):
    write(tmp_path, 0)
    target = tmp_path / "elsewhere"
    part(tmp_path, 0).rename(target)
    part(tmp_path, 0).symlink_to(target)
    refused("part-00000.parquet is a symbolic link", lambda: texts(tmp_path))
    before = target.read_bytes()
    part(tmp_path, 1).symlink_to(target)  # nor written through
    refused("is a symbolic link", lambda: write(tmp_path, 1))
    assert target.read_bytes() == before


def test_the_runs_own_folder_may_be_a_link(tmp_path):
    (tmp_path / "disk2").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk2")
    write(tmp_path / "run", 0)
    assert texts(tmp_path / "disk2") == ["text 0"]


def test_copied_renamed_and_missing_parts_are_refused(tmp_path, rrr):
    write(tmp_path, 0, 1, 2, 3)
    copy = part(tmp_path, 7)
    copy.write_bytes(part(tmp_path, 1).read_bytes())
    refused("part-00007.parquet is a copy of part-00001.parquet", lambda: texts(tmp_path))
    copy.unlink()
    part(tmp_path, 3).rename(copy)
    refused("part-00007.parquet was written as part-00003.parquet", lambda: texts(tmp_path))
    copy.rename(part(tmp_path, 3))
    (tmp_path / "reflections" / "part-00003 (1).parquet").write_bytes(b"")
    refused(r"part-00003 \(1\).parquet is not named as rrr names a part", lambda: write(tmp_path, 4))
    (tmp_path / "reflections" / "part-00003 (1).parquet").unlink()
    assert len(texts(tmp_path)) == 4
    part(tmp_path, 1).unlink()
    refused("part-00001.parquet is missing, and part-00002.parquet was written after it", lambda: texts(tmp_path))
    ran = rrr("sql", "--run", tmp_path, "select count(*) from reflections")
    assert ran.code == 3
    assert "part-00001.parquet is missing" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("table", ["problems", "attempts"])
def test_a_copied_part_of_an_older_run_is_refused(tmp_path, table):
    run = Path(shutil.copytree(OLDER, tmp_path / "run"))
    assert count(run, table)
    shutil.copy(run / table / "part-00000.parquet", run / table / "part-00009.parquet")
    refused("is a copy of part-00000", lambda: count(run, table))


def test_a_part_of_another_run_or_table_is_refused(tmp_path):
    write(tmp_path / "a", 0, 1, 2)
    write(tmp_path / "b", 3, 4, 5)
    shutil.copy(part(tmp_path / "a", 1), part(tmp_path / "b", 1))
    refused("one of the two is of another run", lambda: texts(tmp_path / "b"))
    (tmp_path / "a" / "attempts").mkdir()
    shutil.copy(part(tmp_path / "a", 0), tmp_path / "a" / "attempts" / "part-00000.parquet")
    refused("doesn't have the columns of attempts", lambda: count(tmp_path / "a", "attempts"))


def test_a_rerun_writes_lost_rows_in_the_place_of_their_parts(tmp_path):
    write(tmp_path, *range(5))
    write(tmp_path, 9, stage="other")
    for number in (1, 3):
        part(tmp_path, number).unlink()
    refused("is missing", lambda: write(tmp_path, 8, stage="reflect-again") or texts(tmp_path))
    with Writer(tmp_path, "reflections", "reflect", {"k": 1}) as writer:
        assert writer.done("reflection_id") == {"r0", "r2", "r4"}
        writer.append([row(1), row(3), row(5)])
    assert sorted(texts(tmp_path)) == [f"text {i}" for i in (0, 1, 2, 3, 4, 5, 8, 9)]
    write(tmp_path, 6)
    assert len(texts(tmp_path)) == 9


def test_mining_again_after_a_part_was_removed_gives_the_same_run(rrr, tmp_path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"default": "no"}))
    command = ["mine-failures", "--engine", "scripted", "--model", script, "--limit", 6, "--samples", 1, "--part", 2,
               "--run", tmp_path / "run"]
    assert rrr(*command).code == 0
    before = {table: sorted(map(repr, read(tmp_path / "run", table))) for table in ("problems", "attempts")}
    for table in before:
        (tmp_path / "run" / table / "part-00001.parquet").unlink()
    assert rrr(*command).code == 0
    for table, rows in before.items():
        assert sorted(map(repr, read(tmp_path / "run", table))) == rows


def test_an_attempt_whose_problem_is_lost_is_one_line(rrr, tmp_path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"default": "no"}))
    common = ["--engine", "scripted", "--model", script, "--run", tmp_path / "run"]
    assert rrr("mine-failures", *common, "--limit", 2, "--samples", 1).code == 0
    shutil.rmtree(tmp_path / "run" / "problems")
    for command in (["reflect", *common], ["self-train", "--run", tmp_path / "run"]):
        ran = rrr(*command)
        assert (ran.code, "but not its problem" in ran.err, ran.err.count("\n")) == (3, True, 1)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_lock_that_is_no_file_is_named(tmp_path, make):
    lock = tmp_path / ".rrr" / "reflections" / "lock"
    lock.parent.mkdir(parents=True)
    make(lock)
    refused("lock is not a file of its own", lambda: write(tmp_path, 0))
