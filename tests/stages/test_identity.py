"""What rows depend on: after an edit of it, the same command is refused and names it; other runs aren't affected."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from rrr_cli.engines.base import Prompt, Sampling
from rrr_cli.engines.chat_completions import body
from rrr_cli.options import SamplingOptions
from rrr_cli.records import Message
from rrr_cli.stages import STAGES, load
from rrr_cli.tasks.layout.task import Layout

SORTING = Path(__file__).parent.parent.parent / "examples" / "sorting.py"
ENGINE = '''"""An engine in one file, outside the package."""

from rrr_cli.engines.base import Completion


class Parrot:
    name = "parrot"

    def __init__(self, model, *, batch_size=256):
        self.model, self.fingerprint = model, "parrot"

    @classmethod
    def fingerprint_of(cls, model, options):
        return "parrot"

    def generate(self, prompts_B, sampling):
        return [[Completion("<answer>1</answer>", 3, "stop", 9) for _ in p.seeds] for p in prompts_B]

    def close(self):
        pass
'''


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"default": "<answer>1</answer>"}))
    return path


@pytest.fixture
def sorting(tmp_path: Path, script: Path) -> list[object]:
    """The options of a run of a task in the user's own file."""
    shutil.copy(SORTING, tmp_path / "sorting.py")
    return ["--task", f"{tmp_path}/sorting.py:Sorting", "--run", tmp_path / "run", "--engine", "scripted",
            "--model", script]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(("old", "new", "named"), [
    ("Please try again.", "Try once more.", "words of the task: retry was"),
    ("Reflect on what went wrong", "Think about it", "words of the task: reflect was"),
    ("return Verdict(False", "return Verdict(True", "source of the task was"),
], ids=["retry", "reflect", "verifier"])
def test_an_edited_task_file_is_refused(rrr, sorting, tmp_path, old, new, named):
    assert rrr("mine-failures", *sorting, "--samples", 1, "--limit", 4).code == 0
    assert rrr("reflect", *sorting, "--limit", 2).code == 0
    edit(tmp_path / "sorting.py", old, new)
    for command in (["mine-failures", *sorting, "--samples", 1, "--limit", 8], ["reflect", *sorting, "--limit", 4]):
        ran = rrr(*command)
        assert ran.code == 3
        assert named in ran.err
        assert "--overwrite" in ran.err
        assert ran.err.count("\n") == 1


def test_one_tasks_wording_affects_no_other_run(rrr, tmp_path, script, monkeypatch):
    command = ["mine-failures", "--run", tmp_path / "run", "--engine", "scripted", "--model", script, "--samples", 1]
    assert rrr(*command, "--limit", 2).code == 0
    monkeypatch.setattr(Layout, "words", {**Layout.words, "reflect": "Think."})
    assert rrr(*command, "--limit", 4).code == 0
    layout = ["mine-failures", "--task", "layout", "--run", tmp_path / "layout", *command[3:]]
    assert rrr(*layout, "--limit", 2).code == 0
    monkeypatch.setattr(Layout, "words", {**Layout.words, "reflect": "Think harder."})
    ran = rrr(*layout, "--limit", 4)
    assert ran.code == 3
    assert 'words of the task: reflect was "Think.", now "Think harder."' in ran.err


def test_an_edited_engine_file_is_refused(rrr, tmp_path):
    (tmp_path / "parrot.py").write_text(ENGINE)
    command = ["mine-failures", "--engine", f"{tmp_path}/parrot.py:Parrot", "--run", tmp_path / "run", "--samples", 1]
    assert rrr(*command, "--limit", 2).code == 0
    assert rrr(*command, "--limit", 4).code == 0
    edit(tmp_path / "parrot.py", "<answer>1</answer>", "<answer>2</answer>")
    ran = rrr(*command, "--limit", 6)
    assert ran.code == 3
    assert "source of the engine was" in ran.err


def test_an_installed_engine_is_known_by_name(rrr, tmp_path, monkeypatch):
    package = tmp_path / "site"
    (package / "parrot-1.0.dist-info").mkdir(parents=True)
    (package / "parrot.py").write_text(ENGINE)
    (package / "parrot-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot\nVersion: 1.0\n")
    (package / "parrot-1.0.dist-info" / "entry_points.txt").write_text("[rrr.engines]\nparrot = parrot:Parrot\n")
    monkeypatch.syspath_prepend(package)
    command = ["mine-failures", "--run", tmp_path / "run", "--samples", 1, "--limit", 2]
    assert rrr(*command, "--engine", "parrot").code == 0
    ran = rrr(*command, "--engine", "parot")
    assert ran.code == 2
    assert "Known: transformers, vllm, openai, scripted, parrot" in ran.err
    sys.modules.pop("parrot", None)


def test_an_option_of_another_engine_is_refused(rrr, tmp_path):
    (tmp_path / "parrot.py").write_text(ENGINE)
    ran = rrr("mine-failures", "--engine", f"{tmp_path}/parrot.py:Parrot", "--base-url", "http://localhost/v1",
              "--run", tmp_path / "run")
    assert ran.code == 2
    assert "doesn't use it" in ran.err


@pytest.mark.parametrize("arguments", [
    ["reflect", "--feedback", "gold"], ["repair", "--reflections", "7"], ["repair", "--retry-context", "reflection"],
    ["grpo", "--vllm-memory", "0.5"], ["grpo", "--vllm-url", "http://localhost"],
    ["self-train", "--beta", "0.2"], ["self-train", "--texts", "own", "--repairs-by", "tiny"],
], ids=" ".join)
def test_a_flag_without_effect_is_refused(rrr, tmp_path, arguments):
    pytest.importorskip("trl")
    ran = rrr(*arguments, "--run", tmp_path / "run")
    assert ran.code == 2
    assert arguments[-2] in ran.err


def test_reflect_mode_repair_says_its_new_name(rrr, sorting, tmp_path):
    assert rrr("mine-failures", *sorting, "--samples", 1, "--limit", 4).code == 0
    ran = rrr("reflect", *sorting, "--mode", "repair", "--retries", 2, "--json")
    assert ran.code == 0, ran.err
    assert "this is now: rrr repair" in ran.err
    assert json.loads(ran.out)["repairs"] == 8


def test_every_sampling_field_is_an_option(monkeypatch):
    assert {f.name for f in fields(Sampling)} <= {f.name for f in fields(SamplingOptions)}
    options = SamplingOptions(temperature=0.5, top_p=0.25, max_tokens=7)
    assert Sampling.of(options) == Sampling(0.5, 0.25, 7)
    request = body("m", Prompt((Message("user", "x"),), (1,)), 1, Sampling.of(options))
    assert asdict(Sampling.of(options)).items() <= request.items()


def test_each_option_declares_its_identity():
    pytest.importorskip("trl")
    no_identity = {
        "run", "limit", "overwrite", "dry_run", "input", "part", "batch_size", "device", "concurrency", "api_key_env",
        "preset", "save_every", "resume", "micro_batch", "shared_prefix", "gradient_checkpointing", "vllm_memory",
        "vllm_url", "rounds", "fail_under", "max_drop", "benchmark", "data_dir",
    }
    limited = {"grpo", "train-reflector", "self-train", "forgetting"}  # a limit changes their training or items
    for name in STAGES:
        free = {f.name for f in fields(load(name).options) if not f.metadata["identity"]}
        several = {"model"} if name in ("eval", "forgetting") else set()  # models are added to a table one by one
        assert free <= no_identity | several
        assert ("limit" in free) == (name not in limited)


def test_the_command_line_knows_no_stage_by_name():
    import rrr_cli.cli

    source = Path(rrr_cli.cli.__file__).read_text()
    for name, (module, _) in STAGES.items():
        assert f'"{name}"' not in source
        assert f"stages.{module}" not in source


def test_choices_are_in_the_help_and_checked(rrr):
    shown = rrr("repair", "--help").out
    assert "binary|verifier|gold" in shown.replace("\n", "").replace(" ", "").replace("│", "")
    ran = rrr("repair", "--feedback", "loud")
    assert ran.code == 2
    assert "loud" in ran.err
