"""Names, addresses and paths that are typed: refused before anything is done, or the same however they are spelled; and
what becomes of a command whose output nobody takes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from rrr_cli.cli import build_app
from rrr_cli.errors import RrrError
from rrr_cli.places import tidy
from rrr_cli.stages import identity
from rrr_cli.store.artifacts import Writer, count, read

PATHS = ("--run", "--input", "--output", "--config", "--file", "--data-dir")
ROWS = [{"nums": [1, 2, 3 + i], "target": 6 + i, "split": "train"} for i in range(4)]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with an answer file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.json").write_text(json.dumps({"default": "no"}))
    return tmp_path


def scripted(model: object = "s.json") -> list[object]:
    return ["--engine", "scripted", "--model", model]


@pytest.mark.parametrize("name", [
    "", " ", ".", "..", ".hidden", "-x", "a/b", "a\\b", "/abs", "a\nb", "a\x1b[2J", "\u202eb", "b ", "x" * 101,
    "agent-checkpoints"])
@pytest.mark.parametrize("command", ["self-train", "train-reflector"])
def test_a_name_that_is_no_plain_name_is_refused_first(rrr, work, command, name):
    ran = rrr(command, f"--name={name}", "--overwrite", "--run", "run")
    assert ran.code == 2
    assert ran.err.startswith("rrr: --name ")
    assert ran.err.count("\n") == 1
    assert ran.err.isascii()
    assert not Path("run").exists()


def test_a_model_of_another_command_or_of_nobody_is_not_replaced(work):
    pytest.importorskip("torch")
    from rrr_cli.training.checkpoints import check_own

    for made_by, says in ((None, "isn't a model that rrr trained"), ({"steps": 2}, "was trained by rrr grpo"),
                          ({"command": "train-reflector"}, "was trained by rrr train-reflector")):
        folder = work / "models" / "agent"
        folder.mkdir(parents=True, exist_ok=True)
        if made_by:
            (folder / "rrr.json").write_text(json.dumps(made_by))
        with pytest.raises(RrrError, match=says):
            check_own(folder, "self-train")
    check_own(folder, "train-reflector")
    check_own(work / "models" / "new", "self-train")


@pytest.mark.parametrize("command", [
    ["mine-failures", "--run"], ["reflect", "--input"], ["sql", "select 1", "--run"], ["show", "3f2a", "--run"],
    ["report"], ["eval", "--run"], ["self-train", "--run"]])
def test_an_address_is_no_folder(rrr, work, command):
    for address in ("s3://bucket/run", "gs://b", "hdfs://host:9000/x", "https://host/x", "file:///x"):
        ran = rrr(*command, address)
        assert ran.code == 2
        assert f"{address.replace('///', '://')[:5]}" in ran.err
        assert "is an address" in ran.err
        assert ran.err.count("\n") == 1
    assert [p.name for p in work.iterdir()] == ["s.json"]


def test_no_command_takes_an_address_where_a_path_belongs(rrr, work):
    tried = set()
    for name in get_command(build_app(None)).commands:
        whole = get_command(build_app(name)).commands[name]
        for words, command in [((name, sub), c) for sub, c in getattr(whole, "commands", {}).items()] or [
            ((name,), whole)
        ]:
            for option in command.params:
                if option.opts[0] in PATHS:
                    address = f"{('s3', 'gs', 'hf', 'http', 'abfss')[len(tried) % 5]}://host/folder"
                    needed = ["x" for p in command.params if p.required and p.param_type_name == "argument"]
                    ran = rrr(*words, *needed, option.opts[0], address)
                    assert (ran.code, ran.err.count("\n")) == (2, 1), (words, option.opts, ran.err)
                    assert ran.err.startswith(f"rrr: {option.opts[0]} {address} is an address"), ran.err
                    tried.add((words, option.opts[0]))
    assert {flag for _, flag in tried} == set(PATHS)
    assert len(tried) > 20
    assert [p.name for p in work.iterdir()] == ["s.json"]


@pytest.mark.parametrize("run", ["", ".", "..", "/", "x/.."])
def test_a_run_has_a_folder_of_its_own(rrr, work, run):
    ran = rrr("mine-failures", *scripted(), "--limit", 1, "--run", run)
    assert ran.code == 2
    assert "a run has a folder of its own" in ran.err
    assert [p.name for p in work.iterdir()] == ["s.json"]


def test_a_run_may_be_continued_from_inside(rrr, work, monkeypatch):
    assert rrr("mine-failures", *scripted(), "--limit", 1, "--run", "run").code == 0
    monkeypatch.chdir(work / "run")
    assert rrr("mine-failures", *scripted("../s.json"), "--limit", 2, "--run", ".").code == 0
    assert count(work / "run", "problems") == 2


def test_another_spelling_of_a_path_resumes(rrr, work, monkeypatch):
    mine = ["mine-failures", "--samples", 1, "--run"]
    (work / "folder").mkdir()
    spellings = ["s.json", "./s.json", work / "s.json", "folder/../s.json", f"{work}//./s.json"]
    for limit, model in enumerate(spellings, 1):
        ran = rrr(*mine, "run", *scripted(model), "--limit", limit)
        assert ran.code == 0, (model, ran.err)
    assert {row.model for row in read(Path("run"), "attempts")} == {"s.json"}
    monkeypatch.chdir(work / "folder")
    assert rrr(*mine, "../run", *scripted("../s.json"), "--limit", 6).code == 0
    (work / "s.json").write_text(json.dumps({"default": "other"}))
    ran = rrr(*mine, "../run", *scripted("../s.json"), "--limit", 7)
    assert ran.code == 3
    assert "weights of the model was" in ran.err


def test_an_engines_file_is_its_code_wherever_it_is(rrr, work):
    code = (Path(__file__).parent / "test_identity.py").read_text().split("'''")[1]
    for folder in ("a", "b"):
        (work / folder).mkdir()
        (work / folder / "parrot.py").write_text(code)
    mine = ["mine-failures", "--samples", 1, "--run", "run", "--model", "x"]
    for limit, engine in enumerate(("a/parrot.py", "./a/parrot.py", work / "a" / "parrot.py", "b/parrot.py"), 1):
        ran = rrr(*mine, "--engine", f"{engine}:Parrot", "--limit", limit)
        assert ran.code == 0, ran.err


def test_data_is_its_content(rrr, work):
    (work / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    mine = ["mine-failures", *scripted(), "--samples", 1, "--run", "run"]
    assert rrr(*mine, "--data", "a.jsonl", "--limit", 1).code == 0
    (work / "elsewhere").mkdir()
    shutil.copy("a.jsonl", "elsewhere/b.jsonl")
    assert rrr(*mine, "--data", "elsewhere/b.jsonl", "--limit", 2).code == 0
    for data in ("./a.jsonl", work / "elsewhere" / "b.jsonl"):
        assert rrr("reflect", *scripted(), "--run", "run", "--data", data, "--limit", 2).code == 0
    (work / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS[::-1])))
    ran = rrr(*mine, "--data", "a.jsonl", "--limit", 2)
    assert ran.code == 3
    assert "content of the data was" in ran.err
    ran = rrr("repair", *scripted(), "--run", "run")
    assert ran.code == 3
    assert "the task has changed since run was mined (content of the data)" in ran.err


def test_a_run_within_the_folder_of_its_data_is_resumed(rrr, work):
    (work / "data").mkdir()
    (work / "data" / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    mine = ["mine-failures", *scripted(), "--samples", 1, "--data", "data", "--run", "data/runs/a", "--limit"]
    assert rrr(*mine, 1).code == 0
    (work / "data" / ".DS_Store").write_text("x")
    ran = rrr(*mine, 2)
    assert ran.code == 0, ran.err
    (work / "data" / "b.jsonl").write_text("")
    assert "content of the data was" in rrr(*mine, 2).err


def test_bfcls_answers_are_part_of_what_rows_depend_on(rrr, work):
    tool = {"name": "go", "description": "Go.", "parameters": {
        "type": "dict", "properties": {"to": {"type": "string"}}, "required": ["to"]}}
    (work / "possible_answer").mkdir()
    questions = [{"id": f"simple_{i}", "question": [[{"role": "user", "content": f"Go to {i}"}]], "function": [tool]}
                 for i in range(20)]
    answers = [{"id": f"simple_{i}", "ground_truth": [{"go": {"to": ["A"]}}]} for i in range(20)]
    (work / "q.json").write_text("\n".join(map(json.dumps, questions)))
    (work / "possible_answer" / "q.json").write_text("\n".join(map(json.dumps, answers)))
    mine = ["mine-failures", *scripted(), "--task", "function_calling", "--data", "q.json", "--samples", 1]
    assert rrr(*mine, "--run", "run", "--limit", 1).code == 0
    answers[9]["ground_truth"] = [{"go": {"to": ["B"]}}]
    (work / "possible_answer" / "q.json").write_text("\n".join(map(json.dumps, answers)))
    assert "setting of the task: answers was" in rrr(*mine, "--run", "run", "--limit", 2).err


def test_a_run_begun_on_a_cpu_is_not_continued_on_a_gpu(rrr, work, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(identity, "has_gpu", lambda: False)
    command = ["mine-failures", "--samples", 1, "--max-tokens", 4, "--run", "run", "--limit"]
    assert rrr(*command, 1).code == 0
    monkeypatch.setattr(identity, "has_gpu", lambda: True)
    ran = rrr(*command, 3)
    assert ran.code == 3
    assert 'device type was "cpu", now "cuda"' in ran.err
    assert 'dtype was "float32", now "bfloat16"' in ran.err


def test_a_run_that_recorded_no_device_is_continued(tmp_path):
    older, now = {"dtype": "auto", "data": "x"}, {"dtype": "float32", "data": "x", "device type": "cpu",
                                                   "content of the data": "0a"}
    with Writer(tmp_path, "problems", "mine-failures", older):
        pass
    from rrr_cli.store import provenance

    provenance.require_same(tmp_path, {"seed": 0, "config": older, "inputs": {}, "stage": "mine-failures"},
                            {"seed": 0, "config": now, "inputs": {}, "stage": "mine-failures"})
    with pytest.raises(RrrError, match='data was "x", now "y"'):
        provenance.require_same(tmp_path, {"seed": 0, "config": older, "inputs": {}, "stage": "mine-failures"},
                                {"seed": 0, "config": now | {"data": "y"}, "inputs": {}, "stage": "mine-failures"})


def test_what_is_no_path_is_left_as_typed(work):
    (work / "tiny").mkdir()
    (work / "org").mkdir()
    for text in ("tiny", "org/model", "./nowhere", "countdown", "x.py:C", "http://localhost:8000/v1"):
        assert tidy(text) == text
    assert tidy("./tiny/") == tidy(str(work / "tiny")) == "./tiny"  # the folder, not the embedded model
    assert tidy("./org/../s.json") == "s.json"


COMMANDS = [
    ["sql", "--format", "csv", "from attempts, range(300)"], ["sql", "from attempts"], ["show", "{id}", "--json"],
    ["schema"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(c[:3]) for c in COMMANDS])
def test_a_reader_that_stops_early_ends_a_command_quietly(rrr, work, command):
    assert rrr("mine-failures", *scripted(), "--limit", 40, "--samples", 1, "--run", "run").code == 0
    attempt = next(iter(read(Path("run"), "attempts"))).attempt_id
    where = [] if command == ["schema"] else ["--run", "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rrr_cli", *(part.format(id=attempt) for part in command), *where],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read().decode()
    assert process.wait() in (0, 141), said
    assert "Traceback" not in said
    assert "ignored" not in said


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", [["schema", "--json"], ["schema"]])
def test_a_full_disk_behind_stdout_is_one_line(work, command):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "rrr_cli", *command], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 3
    assert done.stderr == "rrr: what is printed can't be written: No space left on device\n"


@pytest.mark.parametrize("name", ["policy", "policy-checkpoints", "policy-checkpoints/.partial"])
def test_no_link_leads_a_training_out_of_the_run(work, name):
    pytest.importorskip("torch")
    from rrr_cli.training.checkpoints import places

    (work / "outside").mkdir()
    link = work / "run" / "models" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(work / "outside")
    with pytest.raises(RrrError, match="is a symbolic link"):
        places(work / "run", "policy")


def test_a_disk_that_fails_under_a_training_is_one_line(tmp_path):
    pytest.importorskip("torch")
    from safetensors import SafetensorError

    from rrr_cli.training.checkpoints import PARTIAL, saving

    for error, says in (
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "disk is full"),
        (OSError(28, "No space left on device"), "disk is full"), (OSError(30, "Read-only file system"), "Read-only"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), "could not write all"),
    ):
        (tmp_path / PARTIAL / "checkpoint-1").mkdir(parents=True)
        with pytest.raises(RrrError, match=says) as caught, saving(tmp_path):
            raise error
        assert caught.value.exit_code == 3
        assert not (tmp_path / PARTIAL).exists()
    for mistake in (RuntimeError("size mismatch"), ValueError("x"), FileNotFoundError(2, "No such file")):
        with pytest.raises(type(mistake)), saving(tmp_path):
            raise mistake


@pytest.mark.parametrize("run", ["~", "~/runs/a", "~someone/a"])
@pytest.mark.parametrize("command", [["mine-failures", "--run"], ["reflect", "--input"], ["sql", "select 1", "--run"]])
def test_a_home_that_the_shell_left_is_named(rrr, work, command, run):
    ran = rrr(*command, run)
    assert (ran.code, "your shell left the ~ as it is" in ran.err, ran.err.count("\n")) == (2, True, 1)
    assert [p.name for p in work.iterdir()] == ["s.json"]


@pytest.mark.parametrize("run", [" ", "\t", "a\x1b[31m", "a\nb", "\u202eb"])
def test_a_runs_name_can_be_printed(rrr, work, run):
    ran = rrr("mine-failures", *scripted(), "--limit", 1, f"--run={run}")
    assert (ran.code, ran.err.isascii(), ran.err.count("\n")) == (2, True, 1)
    assert [p.name for p in work.iterdir()] == ["s.json"]


@pytest.mark.parametrize("command", [
    ["mine-failures", "--run", "x" * 300], ["sql", "select 1", "--run", "x" * 300], ["report", "x" * 300],
    ["reflect", "--input", "x" * 300], ["mine-failures", "--task", f"{'x' * 300}.py:Task"]])
def test_a_name_too_long_for_a_disk_is_one_line(rrr, work, command):
    ran = rrr(*command)
    assert ran.code in (2, 3)
    assert "File name too long" in ran.err
    assert ran.err.count("\n") == 1


def test_a_report_is_written_into_a_pipe_and_through_a_link(rrr, work):
    pytest.importorskip("matplotlib")
    assert rrr("mine-failures", *scripted(), "--limit", 1, "--run", "run").code == 0
    Path("link.html").symlink_to("target.html")
    assert rrr("report", "run", "-o", "link.html").code == 0
    assert Path("link.html").is_symlink()
    page = Path("target.html").read_bytes()
    os.mkfifo("pipe")
    with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE) as cat:
        assert rrr("report", "run", "-o", "pipe").code == 0
        assert cat.communicate()[0] == page
    assert Path("pipe").is_fifo()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault(work, closed):
    command = f"{sys.executable} -m rrr_cli mine-failures --engine scripted --model s.json --limit 1 --run run {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert count(work / "run", "problems") == 1


@pytest.mark.parametrize("command", [
    ["mine-failures", "--run", "s3://user:SECRET@bucket/a"], ["sql", "select 1", "--run", "https://host/x?sig=SECRET"],
    ["mine-failures", "--model", "https://user:SECRET@host/x"], ["report", "https://user:SECRET@host/x"],
    ["mine-failures", "--engine", "scripted", "--model", "s.json", "--base-url", "SECRET"],
    ["mine-failures", "--engine", "openai", "--base-url", "http://127.0.0.1:9/v1", "--model", "x", "--api-key-env",
     "hf_SECRET"]])
def test_no_error_line_repeats_a_secret(rrr, work, command):
    ran = rrr(*command)
    assert ran.code in (2, 3)
    assert ran.err.startswith("rrr: ")
    assert "SECRET" not in ran.err + ran.out


def test_a_text_file_without_an_end_is_refused(rrr, work, monkeypatch):
    monkeypatch.setattr("rrr_cli.text.LARGEST", 1000)
    for flags in (["--config", "/dev/zero"], ["--engine", "scripted", "--model", "/dev/zero"]):
        ran = rrr("mine-failures", *flags, "--run", "run")
        assert (ran.code, "longer than" in ran.err, ran.err.count("\n")) == (3, True, 1)
