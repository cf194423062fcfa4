"""What rows depend on: after an edit of it, the same command is refused and names it; other runs aren't affected."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pytest

from rrr_cli.engines.base import Prompt, Sampling
from rrr_cli.engines.chat_completions import body
from rrr_cli.engines.transformers import TransformersEngine
from rrr_cli.errors import RrrError
from rrr_cli.options import SamplingOptions
from rrr_cli.plugs import names
from rrr_cli.records import Message
from rrr_cli.stages import STAGES, load
from rrr_cli.stages.mined import mining
from rrr_cli.store.artifacts import count, read
from rrr_cli.tasks.layout.task import Layout
from rrr_cli.training.objectives import OBJECTIVES

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
    ("Please try again.", "Try once more.", "words of the task: retry"),
    ("Reflect on what went wrong", "Think about it", "words of the task: reflect"),
    ("return Verdict(False", "return Verdict(True", "source of the task"),
], ids=["retry", "reflect", "verifier"])
def test_an_edited_task_file_is_refused(rrr, sorting, tmp_path, old, new, named):
    assert rrr("mine-failures", *sorting, "--samples", 1, "--limit", 4).code == 0
    assert rrr("reflect", *sorting, "--limit", 2).code == 0
    edit(tmp_path / "sorting.py", old, new)
    ran = rrr("mine-failures", *sorting, "--samples", 1, "--limit", 8)
    assert ran.code == 3
    assert f"{named} was" in ran.err
    assert "--overwrite" in ran.err
    assert ran.err.count("\n") == 1
    for command in ("reflect", "repair"):  # the second has no rows yet: the mined verdicts are the old verifier's
        ran = rrr(command, *sorting, "--limit", 4)
        assert ran.code == 3
        assert named in ran.err
        assert "undo the edit" in ran.err
        assert ran.err.count("\n") == 1


def test_a_comment_in_a_task_file_changes_nothing(rrr, sorting, tmp_path):
    assert rrr("mine-failures", *sorting, "--samples", 1, "--limit", 2).code == 0
    edit(tmp_path / "sorting.py", "import json\n", "import json  # for the references\n\n")
    assert rrr("mine-failures", *sorting, "--samples", 1, "--limit", 4).code == 0
    assert rrr("reflect", *sorting).code == 0


def test_a_reworded_request_leaves_the_mining_usable(rrr, tmp_path, script, monkeypatch):
    common = ["--run", tmp_path / "run", "--task", "layout", "--engine", "scripted", "--model", script]
    assert rrr("mine-failures", *common, "--samples", 1, "--limit", 2).code == 0
    monkeypatch.setattr(Layout, "words", {**Layout.words, "reflect": "Think."})
    assert rrr("reflect", *common).code == 0
    monkeypatch.setattr(Layout, "words", {**Layout.words, "prompt": "Draw {caption}"})
    ran = rrr("repair", *common)
    assert ran.code == 3
    assert "words of the task: prompt" in ran.err


@pytest.mark.parametrize(("old", "new", "says"), [
    ('return Verdict(False, 0.0, "no_answer"', "return None  # ", "returns None, not a Verdict"),
    ('Verdict(False, 0.0, "no_answer"', 'Verdict(False, 7, "no_answer"', "the score 7"),
    ('Verdict(False, 0.0, "no_answer"', 'Verdict(False, 0.0, "other"', "isn't among its error_types"),
    ('content_id("sorting", numbers)', '"same"', "two problems with the id same"),
    ("            yield Problem(", "            yield dict(", "not a Problem"),
    ("split=split", 'split="dev"', "split 'dev'"),
], ids=["verdict", "score", "error_type", "ids", "problems", "split"])
def test_what_a_task_returns_is_checked(rrr, sorting, script, tmp_path, old, new, says):
    script.write_text(json.dumps({"default": "no answer"}))
    edit(tmp_path / "sorting.py", old, new)
    ran = rrr("mine-failures", *sorting, "--samples", 1, "--limit", 3)
    assert ran.code == 2
    assert says in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("completions", [
    '[[Completion("a", 1, "stop", 1)] * 2, *([[]] * (len(prompts_B) - 1))]', "[]", "1 / 0",
    "[[None for _ in p.seeds] for p in prompts_B]",
])
def test_what_an_engine_returns_is_checked(rrr, tmp_path, completions):
    (tmp_path / "parrot.py").write_text(ENGINE.replace(
        '[[Completion("<answer>1</answer>", 3, "stop", 9) for _ in p.seeds] for p in prompts_B]', completions))
    ran = rrr("mine-failures", "--engine", f"{tmp_path}/parrot.py:Parrot", "--run", tmp_path / "run", "--limit", 2)
    assert ran.code == 2
    assert "the engine Parrot: generate()" in ran.err
    assert ran.err.count("\n") == 1


def test_the_task_is_the_one_that_was_mined(rrr, tmp_path, script, sorting):
    common = ["--run", tmp_path / "layout", "--engine", "scripted", "--model", script]
    assert rrr("mine-failures", *common, "--task", "layout", "--samples", 1, "--limit", 2).code == 0
    ran = rrr("reflect", *common, "--json")
    assert ran.code == 0, ran.err
    ran = rrr("eval", *common[:-1], f"base={script}", "--limit", 2, "--json")
    assert ran.code == 0, ran.err
    assert next(read(tmp_path / "layout", "evaluations")).task == "layout"
    assert rrr("mine-failures", *sorting, "--samples", 1, "--limit", 2).code == 0
    ran = rrr("reflect", *sorting[2:])
    assert ran.code == 2
    assert "type --task path/to/file.py:Class" in ran.err


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


def test_two_classes_of_one_file_are_two_tasks(rrr, sorting, tmp_path):
    with (tmp_path / "sorting.py").open("a") as file:
        file.write("\n\nclass Lenient(Sorting):\n    def verify(self, problem, transcript):\n"
                   "        return Verdict(True, 1.0, None, 'Fine.', None)\n")
    assert rrr("mine-failures", *sorting, "--samples", 1, "--limit", 2).code == 0
    lenient = ["--task", f"{tmp_path}/sorting.py:Lenient", *sorting[2:]]
    ran = rrr("mine-failures", *lenient, "--samples", 1, "--limit", 4)
    assert ran.code == 3
    assert "source of the task was" in ran.err


def test_an_edited_module_that_a_task_imports_is_refused(rrr, sorting, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "judging.py").write_text("LENIENT = False\n")
    edit(tmp_path / "sorting.py", "import json\n", "import json\nimport judging\n")
    assert rrr("mine-failures", *sorting, "--samples", 1, "--limit", 2).code == 0
    edit(tmp_path / "judging.py", "False", "True")
    ran = rrr("mine-failures", *sorting, "--samples", 1, "--limit", 4)
    assert ran.code == 3
    assert "source of the task was" in ran.err
    sys.modules.pop("judging")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package of somebody else's, with a task, an engine and an objective behind entry points."""
    site, package = tmp_path / "site", tmp_path / "site" / "plugged"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "parrot.py").write_text(ENGINE)
    shutil.copy(SORTING, package / "sorting.py")
    (package / "helper.py").write_text("NUMBER = 1\n")
    (package / "objective.py").write_text(
        "from rrr_cli.training.objectives.reflection import Reflection\n\n\nclass Mine(Reflection):\n    pass\n")
    info = site / "plugged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[rrr.engines]\nparrot = plugged.parrot:Parrot\n[rrr.tasks]\nmy-sorting = plugged.sorting:Sorting\n"
        "[rrr.objectives]\nmine = plugged.objective:Mine\n")
    monkeypatch.syspath_prepend(site)
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "plugged"]:
        del sys.modules[name]


def test_installed_plugs_are_known_by_name(rrr, installed, tmp_path):
    command = ["mine-failures", "--run", tmp_path / "run", "--samples", 1, "--task", "my-sorting"]
    assert rrr(*command, "--limit", 2, "--engine", "parrot").code == 0
    ran = rrr(*command, "--limit", 2, "--engine", "parot")
    assert ran.code == 2
    assert "Known: transformers, vllm, openai, scripted, parrot" in ran.err
    assert "my-sorting" in rrr("mine-failures", "--task", "sortings").err
    assert {"my-sorting,", "parrot,"} <= set(rrr("mine-failures", "--help").out.split())
    assert "mine" in names("objective", OBJECTIVES)
    edit(installed / "helper.py", "1", "2")
    ran = rrr(*command, "--limit", 4, "--engine", "parrot")
    assert ran.code == 3
    assert "source of the engine was" in ran.err
    assert "source of the task was" in ran.err


def test_a_plug_that_is_not_a_class_is_refused(rrr, tmp_path):
    (tmp_path / "made.py").write_text("def task(level=None, data=None):\n    return None\n")
    ran = rrr("mine-failures", "--task", f"{tmp_path}/made.py:task", "--run", tmp_path / "run")
    assert (ran.code, "task is not a class" in ran.err) == (2, True)


@pytest.mark.parametrize(("old", "new", "says"), [
    ("        said = ", "        said = {}['x']  # ", "verify() raises KeyError: 'x' (sorting.py, line"),
    ('    name = "sorting"', '    name = "sorting"\n    def settings(self): return 1 / 0', "settings() raises Zero"),
])
def test_a_plugs_own_error_is_one_line(rrr, sorting, tmp_path, old, new, says):
    edit(tmp_path / "sorting.py", old, new)
    ran = rrr("mine-failures", *sorting, "--samples", 1, "--limit", 2)
    assert ran.code == 2
    assert says in ran.err
    assert ran.err.count("\n") == 1


def test_settings_of_a_task_hide_no_option(rrr, sorting, tmp_path):
    edit(tmp_path / "sorting.py", '    name = "sorting"',
         '    name = "sorting"\n    def settings(self): return {"model": "x", "seed": 5}')
    assert rrr("mine-failures", *sorting, "--samples", 1, "--limit", 2).code == 0
    mined = mining(tmp_path / "run")
    assert (mined["model"], mined["seed"]) == (str(tmp_path / "script.json"), 0)
    assert mined["setting of the task: model"] == "x"


def test_a_copied_run_knows_how_it_was_mined(rrr, tmp_path, script):
    common = ["--engine", "scripted", "--max-tokens", 8]
    mined, other = tmp_path / "mined", tmp_path / "other"
    assert rrr("mine-failures", *common, "--model", script, "--run", mined, "--level", "paper", "--limit", 3,
               "--samples", 1).code == 0
    for more in ([], ["--overwrite"]):
        ran = rrr("reflect", *common, "--input", mined, "--run", other, *more)
        assert ran.code == 0, ran.err
        phases = [a.phase for a in read(other, "attempts")]
        assert (phases.count("first"), phases.count("retry"), count(other, "problems")) == (3, 3, 3)
    assert mining(other) == mining(mined)
    ran = rrr("repair", *common, "--run", other, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["repairs"] == 3


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


@pytest.mark.parametrize(("more", "code", "says"), [
    (["--mode", "repair", "--config", "rrr.toml"], 2, "rename [reflect] to [repair]"),
    (["--mode=retry", "--dry-run"], 3, "has no attempts"), (["--mode", "shout"], 2, "--mode"),
])
def test_old_modes_of_reflect_are_never_misread(rrr, tmp_path, more, code, says):
    ran = rrr("reflect", "--run", tmp_path / "run", *more)
    assert ran.code == code
    assert says in ran.err


def test_a_gate_on_what_is_not_measured_is_refused(rrr, tmp_path):
    ran = rrr("eval", "--run", tmp_path / "run", "--fail-under", "oracle=0.5")
    assert ran.code == 2
    assert "type --oracle too" in ran.err


def test_a_new_sampling_field_is_never_dropped(random_model):
    @dataclass(frozen=True)
    class MinP(Sampling):
        min_p: float = 0.1

    prompt = Prompt((Message("user", "x"),), (1,))
    assert body("m", prompt, 1, MinP())["min_p"] == 0.1
    with pytest.raises(RrrError, match="doesn't sample by min_p"):
        TransformersEngine(str(random_model)).generate([prompt], MinP())


def test_every_sampling_field_is_an_option():
    assert {f.name for f in fields(Sampling)} <= {f.name for f in fields(SamplingOptions)}
    options = SamplingOptions(temperature=0.5, top_p=0.25, max_tokens=7)
    assert Sampling.of(options) == Sampling(0.5, 0.25, 7)
    request = body("m", Prompt((Message("user", "x"),), (1,)), 1, Sampling.of(options))
    assert asdict(Sampling.of(options)).items() <= request.items()


def test_each_option_declares_its_identity():
    pytest.importorskip("trl")
    no_identity = {
        "run", "limit", "overwrite", "dry_run", "input", "part", "in_flight", "batch_size", "device", "concurrency",
        "api_key_env", "preset", "save_every", "resume", "micro_batch", "memory", "shared_prefix",
        "gradient_checkpointing", "vllm_memory", "vllm_url", "rounds", "retrain_reflector", "fail_under", "tries",
        "cross", "max_drop", "benchmark", "data_dir", "strict",
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
