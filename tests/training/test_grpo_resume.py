"""`rrr grpo` killed at any moment goes on as if nothing had happened: the same weights, no row lost or doubled."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

from grpo_runs import mine, options

from rrr_cli.errors import RrrError
from rrr_cli.records import TrainStep
from rrr_cli.stages import grpo
from rrr_cli.store import artifacts
from rrr_cli.training import checkpoints, recorder

SCRIPT = Path(__file__).parent.parent / "grpo_runs.py"
ROOT = SCRIPT.parent.parent


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Path:
    """Six steps without a break."""
    run = tmp_path_factory.mktemp("straight")
    mine(run)
    grpo.run(options(run, random_model, steps=6))
    return run


def assert_same(run: Path, straight: Path) -> None:
    """Equal weights, bit for bit; equal rows, but for the seconds that they took."""
    def weights(folder: Path) -> bytes:
        return (folder / "models" / "policy" / "model.safetensors").read_bytes()

    assert weights(run) == weights(straight)
    assert list(artifacts.read(run, "rollouts")) == list(artifacts.read(straight, "rollouts"))
    timeless = [f.name for f in fields(TrainStep) if not f.name.startswith("seconds")]
    assert list(artifacts.read(run, "steps", columns=timeless)) == list(
        artifacts.read(straight, "steps", columns=timeless)
    )


def assert_goes_on(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Path:
    """A training that is interrupted in its first step and started again comes to the same as one that isn't,
    bit for bit. Returns the run of the latter."""
    straight, broken = folder / "straight", folder / "broken"
    for run in (straight, broken):
        mine(run)
    grpo.run(options(straight, model, **settings))
    with monkeypatch.context() as patch:
        patch.setattr(recorder.Ledger, "commit", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            grpo.run(options(broken, model, **settings))
    grpo.run(options(broken, model, **settings))
    assert_same(broken, straight)
    return straight


def started(run: Path, model: Path) -> subprocess.Popen[str]:
    """A training process of its own, once its first checkpoint is whole."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(run), str(model), "steps=6"], env=environment, text=True,
        stderr=subprocess.PIPE, stdout=subprocess.PIPE,
    )
    wait_for(lambda: any((run / "models" / "policy-checkpoints").glob("step-*")), process)
    return process


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 400
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_sigkill_and_the_same_command_again_end_in_the_same_weights_and_rows(
    tmp_path: Path, random_model: Path, straight: Path
) -> None:
    mine(tmp_path)
    process = started(tmp_path, random_model)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "models" / "policy").exists()
    grpo.run(options(tmp_path, random_model, steps=6))
    assert_same(tmp_path, straight)


def test_a_first_sigterm_finishes_the_step_and_checkpoints(tmp_path: Path, random_model: Path, straight: Path) -> None:
    mine(tmp_path)
    process = started(tmp_path, random_model)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate()
    assert process.returncode != 0
    assert "Type the same command to resume" in stderr
    newest = max((tmp_path / "models" / "policy-checkpoints").glob("step-*"))
    assert checkpoints.step_of(newest) == max(row.step for row in artifacts.read(tmp_path, "steps"))
    grpo.run(options(tmp_path, random_model, steps=6))
    assert_same(tmp_path, straight)


@pytest.mark.parametrize("moment", ["before the rows", "between the tables", "before the policy"])
def test_a_crash_around_the_commit_loses_and_doubles_nothing(
    tmp_path: Path, random_model: Path, straight: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    mine(tmp_path)
    commit, append = recorder.Ledger.commit, artifacts.Writer.append

    def crash(*args: object) -> None:
        raise KeyboardInterrupt

    def crash_on_the_second_step_part(writer: artifacts.Writer, rows: list[object]) -> Path | None:
        if rows and isinstance(rows[0], TrainStep) and rows[0].step > 2:
            crash()
        return append(writer, rows)

    with monkeypatch.context() as patch:
        if moment == "before the rows":
            patch.setattr(recorder.Ledger, "commit", lambda s, c: crash() if "000004" in c.name else commit(s, c))
        elif moment == "between the tables":
            patch.setattr(artifacts.Writer, "append", crash_on_the_second_step_part)
        else:
            patch.setattr(checkpoints, "export", crash)
        with pytest.raises(KeyboardInterrupt):
            grpo.run(options(tmp_path, random_model, steps=6))
    grpo.run(options(tmp_path, random_model, steps=6))
    assert_same(tmp_path, straight)


def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, random_model: Path, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "export", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            grpo.run(options(tmp_path, random_model, steps=6))
    folder = tmp_path / "models" / "policy-checkpoints"
    assert sorted(path.name for path in folder.glob("step-*")) == ["step-000004", "step-000006"]
    weights = folder / "step-000006" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    grpo.run(options(tmp_path, random_model, steps=6))
    assert_same(tmp_path, straight)


def test_the_same_command_after_the_end_changes_nothing_and_says_the_same(random_model: Path, straight: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (straight / "models" / "policy").iterdir()}
    again = grpo.run(options(straight, random_model, steps=6))
    assert again["steps"] == 6
    assert {path: path.stat().st_mtime_ns for path in (straight / "models" / "policy").iterdir()} == before
    assert artifacts.count(straight, "steps") == 6


def test_another_configuration_is_refused_by_name_and_overwrite_starts_anew(
    tmp_path: Path, random_model: Path
) -> None:
    mine(tmp_path)
    grpo.run(options(tmp_path, random_model, steps=1))
    with pytest.raises(RrrError, match=r"lr.*--overwrite"):
        grpo.run(options(tmp_path, random_model, steps=1, lr=0.5))
    grpo.run(options(tmp_path, random_model, steps=1, micro_batch=8))  # how fast, not what
    grpo.run(options(tmp_path, random_model, steps=2, lr=0.5, overwrite=True))
    assert [row["learning_rate"] for row in artifacts.read(tmp_path, "steps", columns=["learning_rate"])] == [0.5, 0.5]


def test_checkpoints_that_do_not_go_on_from_the_tables_are_refused(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "export", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            grpo.run(options(tmp_path, random_model, steps=6))
    for part in (tmp_path / "steps").glob("*.parquet"):
        part.unlink()
    with pytest.raises(RrrError, match="tables end at step 0, but there is the checkpoint step-000006: start anew"):
        grpo.run(options(tmp_path, random_model, steps=6))


def test_resume_refuses_to_start_anew_and_goes_on_where_there_is_something(
    tmp_path: Path, random_model: Path, straight: Path
) -> None:
    mine(tmp_path)
    with pytest.raises(RrrError, match="no whole checkpoint"):
        grpo.run(options(tmp_path, random_model, steps=6, resume=True))
    assert grpo.run(options(straight, random_model, steps=6, resume=True))["steps"] == 6


@pytest.mark.parametrize("make", ["seal", "export"])
def test_a_power_cut_leaves_no_damaged_checkpoint_under_a_final_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "inner").mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "inner/rng_state.pth"):
        (source / name).write_bytes(b"bytes")
    flushed: list[int] = []  # inodes
    unflushed: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def follow_fsync(descriptor: int) -> None:
        fsync(descriptor)
        flushed.append(os.fstat(descriptor).st_ino)

    def follow_rename(self: Path, to: Path) -> Path:
        unflushed.extend(str(path) for path in (self, *self.rglob("*")) if path.stat().st_ino not in flushed)
        flushed.clear()
        return rename(self, to)

    monkeypatch.setattr(os, "fsync", follow_fsync)
    monkeypatch.setattr(Path, "rename", follow_rename)
    if make == "seal":
        checkpoints.seal(source, target, "c")
    else:
        checkpoints.export(source, target, "tiny", {"command": "grpo"})
    assert target.is_dir()
    assert unflushed == []
    assert flushed == [tmp_path.stat().st_ino]  # the new name


def test_a_checkpoint_without_weights_is_no_model_and_stays(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    shards = source / "pytorch_model_fsdp_0" / "__0_0.distcp"
    shards.parent.mkdir(parents=True)
    shards.write_bytes(b"a shard")
    (source / "config.json").write_text("{}")
    for make in (lambda: checkpoints.seal(source, target, "c"), lambda: checkpoints.export(source, target, "tiny", {})):
        with pytest.raises(RrrError, match="FULL_STATE_DICT"):
            make()
    assert shards.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EMFILE, errno.EBUSY, errno.EIO])
def test_whatever_a_disk_refuses_a_checkpoint_with_is_one_line(tmp_path: Path, number: int) -> None:
    with pytest.raises(RrrError, match=rf"checkpoints can't be written: {os.strerror(number)}$"), \
            checkpoints.saving(tmp_path / "checkpoints"):
        raise OSError(number, os.strerror(number))
