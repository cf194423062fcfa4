"""A task that a user writes is checked when it is loaded: what is missing is named, what is optional is filled in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rrr_cli import prompts
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.store.artifacts import exists, read
from rrr_cli.tasks import load_task
from rrr_cli.tasks.base import Environment

HEAD = """
from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.base import Verdict

class Yes:
    name = "yes"
    levels = ("only",)
    error_types = ("not_yes",)
    words = {"reflect": "Why did you not say yes?"}
"""
PARTS = {
    "__init__": """
    def __init__(self, level=None, data=None):
        pass
""",
    "problems": """
    def problems(self, split):
        for i in range(3):
            yield Problem(content_id(split, i), self.name, split, "only", [Message("user", f"{split} {i}: say yes")],
                          None, '"yes"', "{}")
""",
    "verify": """
    def verify(self, problem, transcript):
        text = transcript[-1].content if transcript else ""
        right = text == "yes"
        return Verdict(right, float(right), None if right else "not_yes", "Say yes.", text)
""",
    "right_turns": """
    def right_turns(self, problem):
        return ["yes"]
""",
}


def source(**changed: str) -> str:
    """A task's file, with parts of it replaced, or left out where the new part is empty; `head` as well."""
    parts = {"head": HEAD, **PARTS} | changed
    return "".join(parts.values())


@pytest.fixture
def write(tmp_path: Path):
    """Write a task's file and return what --task takes."""
    def written(text: str, name: str = "mine.py") -> str:
        (tmp_path / name).write_text(text)
        return f"{tmp_path / name}:Yes"

    return written


def test_missing_words_have_defaults(rrr, write, tmp_path: Path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"default": "no", "rules": [
        ["Why did you not say yes?", "I forgot."], [prompts.RETRY, "yes"],
    ]}))
    task = write(source())
    options = ["--task", task, "--run", tmp_path / "run", "--engine", "scripted", "--model", script]
    assert rrr("mine-failures", *options, "--samples", 1).code == 0
    ran = rrr("reflect", *options)
    assert ran.code == 0, ran.err
    assert {r.text for r in read(tmp_path / "run", "reflections")} == {"I forgot."}
    retries = [a for a in read(tmp_path / "run", "attempts") if a.parent_id]
    assert retries
    assert all(a.success for a in retries)
    assert load_task(write(source(head=HEAD.replace("words =", "other =")))).words == {
        "reflect": prompts.REFLECT, "retry": prompts.RETRY}


def test_leaks_has_a_default(write):
    task = load_task(write(source()))
    problem = next(task.problems("train"))
    assert task.leaks(problem, "I should say y e\ns .")
    assert not task.leaks(problem, "I should have agreed.")


@pytest.mark.parametrize("part", ["problems", "verify", "right_turns"])
def test_a_missing_method_is_refused_by_every_command(rrr, write, tmp_path: Path, random_model: Path, part: str):
    task = write(source(**{part: ""}))
    for arguments in (("mine-failures", "--run", tmp_path / "run", "--model", random_model, "--task", task),
                      ("tasks", "check", task)):
        ran = rrr(*arguments)
        assert ran.code == USAGE
        assert ran.err == f"rrr: --task {task}: a task has {part}, and this one doesn't; the protocol is in " \
                          "rrr_cli/tasks/base.py\n"
    assert not exists(tmp_path / "run", "attempts")


@pytest.mark.parametrize(("text", "said"), [
    (source(head=HEAD.replace('name = "yes"', "pass")), "a task has name, and this one doesn't"),
    (source(head=HEAD.replace('("only",)', '("only")')), "its levels are 'only', not a tuple of texts"),
    (source(head=HEAD.replace('{"reflect": "Why did you not say yes?"}', '["why"]')), "not a dict of texts"),
    (source(head=HEAD.replace('"Why did you not say yes?"', "None")), "not a dict of texts"),
    (source(more="    retry_request = 'Again.'\n"), 'retry_request is now words["retry"]'),
    (source(more="    max_turns = 3\n"), "a task of several turns has observe, and this one doesn't"),
    (source(verify="    verify = True\n"), "verify isn't a method"),
    (source(more="    @property\n    def max_turns(self):\n        return {}['x']\n"), "KeyError: 'x'"),
    (source(__init__="    def __init__(self):\n        pass\n"), "__init__(self, level=None, data=None)"),
    (source(__init__="    def __init__(self, level=None, data=None):\n        1 / 0\n"),
     "its constructor raises ZeroDivisionError: division by zero (mine.py, line 11)"),
    ("Yes = 5\n", "Yes is not a class"),
    ("def\n", "doesn't load: SyntaxError: invalid syntax (mine.py, line 1)"),
    ("import json\njson.loads('{')\n", "(mine.py, line 2)"),
    ("raise SystemExit(3)\n", "doesn't load: SystemExit: 3 (mine.py, line 1)"),
])
def test_other_classes_are_refused_in_one_line(rrr, write, text: str, said: str):
    ran = rrr("tasks", "check", write(text))
    assert ran.code == USAGE
    assert said in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("part", ["problems", "verify", "right_turns"])
def test_a_method_that_raises_is_named(rrr, write, part: str):
    first, _, rest = PARTS[part].lstrip("\n").partition("\n")
    ran = rrr("tasks", "check", write(source(**{part: f"\n{first}\n        {{}}['key']\n{rest}"})))
    assert ran.code == USAGE
    assert f"task yes: {part} raises KeyError: 'key' (mine.py, line " in ran.err
    assert ran.err.count("\n") == 1


def test_a_frozen_dataclass_may_be_a_task(write):
    head = HEAD.replace("class Yes:", "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Yes:\n"
                        "    level: str | None = None\n    data: str | None = None").replace("words =", "other =")
    task = load_task(write(source(head=head, __init__="")))
    assert task.words["retry"] == prompts.RETRY
    assert not isinstance(task, Environment)


def test_a_task_that_needs_data_says_so(rrr):
    ran = rrr("tasks", "check", "alfworld")
    assert ran.code == USAGE
    assert "give --data" in ran.err
    assert ran.err.count("\n") == 1


def test_a_file_called_json_is_nobody_elses_json(write, tmp_path: Path):
    """In a process of its own: `rrr` has imported json by now, so that nothing could shadow it here."""
    task = write("import json\nassert json.dumps([1]) == '[1]'\n" + source(), "json.py")
    probe = (
        "import sys\n"
        "from rrr_cli.tasks import load_task\n"
        f"assert load_task({task!r}).name == 'yes'\n"
        "import json, json.decoder\n"
        "assert json.dumps([1]) == '[1]'\n"
        f"assert {str(tmp_path)!r} not in sys.path\n"
        "sys.modules.pop('json')\n"
        "import json\n"
        "assert json.dumps([1]) == '[1]'\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=environment, cwd="/")
    assert ran.returncode == 0, ran.stderr


def test_two_files_of_one_name_are_two_tasks(write, tmp_path: Path):
    first = load_task(write(source()))
    (tmp_path / "other").mkdir()
    second = load_task(write(source(head=HEAD.replace('"yes"', '"other"')), "other/mine.py"))
    assert (first.name, second.name) == ("yes", "other")


def test_an_edited_file_is_read_again(write):
    assert load_task(write(source())).name == "yes"
    assert load_task(write(source(head=HEAD.replace('"yes"', '"edited"')))).name == "edited"


def test_an_unknown_class_is_refused_with_the_known(write):
    task = write(source()).replace(":Yes", ":No")
    with pytest.raises(RrrError, match=r"has no No \(it has Yes\)"):
        load_task(task)
