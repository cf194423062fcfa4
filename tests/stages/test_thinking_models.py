"""Thinking models from the command line: what is judged, kept, shown and trained; a run's template, date and limits."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import pytest

from rrr_cli.engines.base import Completion, Sampling
from rrr_cli.failures import Failure
from rrr_cli.records import Message, Problem
from rrr_cli.rollout import Loop
from rrr_cli.store.artifacts import provenance, read
from rrr_cli.tasks import load_task

TURN = "<|{{ m.role }}|> {{ CONTENT }} <|end|>"
ASKS = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
STRIPPED = "m.content.split('</think>')[-1] if m.role == 'assistant' else m.content"
TEMPLATES = {
    "strips": "{% for m in messages %}" + TURN.replace("CONTENT", STRIPPED) + "{% endfor %}" + ASKS,
    "dated": "{% if strftime_now is defined %}<|system|> {{ strftime_now('%d') }} <|end|>{% endif %}"
             "{% for m in messages %}" + TURN.replace("CONTENT", "m.content") + "{% endfor %}" + ASKS,
}
SMALL = ["--limit", 24, "--samples", 1, "--max-tokens", 48]


def model(folder: Path, template: str) -> Path:
    """The tiny model with another chat template."""
    target = folder / template
    shutil.copytree(str(files("rrr_cli") / "models" / "tiny"), target)
    (target / "chat_template.jinja").write_text(TEMPLATES[template])
    return target


@pytest.fixture(scope="module")
def stripping(tmp_path_factory) -> Path:
    return model(tmp_path_factory.mktemp("models"), "strips")


class Says:
    """An engine that writes the same text each time, which is cut where it ends with …"""

    name = model = fingerprint = "says"

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    def generate(self, prompts_B, sampling):
        self.prompts = prompts_B
        return [[self._one() for _ in prompt.seeds] for prompt in prompts_B]

    def _one(self) -> Completion:
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        return Completion(text.removesuffix("…"), 5, "length" if text.endswith("…") else "stop", 3)


def no_call_wanted(folder: Path) -> tuple[object, Problem]:
    tool = {"name": "rain", "description": "r", "parameters": {"place": {"type": "str", "description": "p"}}}
    data = folder / "rows.jsonl"
    data.write_text(json.dumps({"query": "Sing.", "tools": json.dumps([tool]), "answers": "[]", "split": "train"}))
    task = load_task("function_calling", None, str(data))
    return task, next(iter(task.problems("train")))


@pytest.mark.parametrize(("text", "passes"), [
    ("I can't sing.", True), ("<think>\nno tool fits\n</think>\n\nI can't sing.", True),
    ("I can't…", False), ("", False), ("<think>\nno tool fits\n</think>\n\n", False), ("<think>\nno tool…", False),
    ("<think>\nno tool fits\n</think>\n\nI can't…", False),
])
def test_a_cut_or_empty_answer_never_passes(tmp_path: Path, text: str, passes: bool):
    task, problem = no_call_wanted(tmp_path)
    ((attempt,),) = Loop(task, Says(text), Sampling()).attempt([problem], range(1))
    assert attempt.success is passes
    assert (attempt.error_type is None) is passes
    assert attempt.thoughts == (text.strip("…").split("\n")[1].strip() if "<think>" in text else None)


def test_a_cut_try_passes_where_the_task_read_its_answer():
    task = load_task("countdown", "easy", None)
    problem = next(iter(task.problems("train")))
    right = task.right_turns(problem)[0]
    for text, passes in ((f"{right} and so…", True), (f"<think> {right} and so…", False)):
        ((attempt,),) = Loop(task, Says(text), Sampling()).attempt([problem], range(1))
        assert attempt.success is passes


def test_the_retry_sees_the_reflection_without_its_thought():
    task = load_task("countdown", "easy", None)
    problem = next(iter(task.problems("train")))
    engine = Says("<think>\nwhy?\n</think>\n\nUse every number.")
    loop = Loop(task, engine, Sampling())
    failure = Failure(problem, "a", [Message("assistant", "<think>\nhm\n</think>\n\n1")])
    (((reflection,),),) = [loop.reflect([failure], range(1))]
    assert (reflection.thought, reflection.text) == ("why?", "Use every number.")
    loop.retry([(failure, reflection)], range(1))
    assert engine.prompts[0].messages[-2] == Message("assistant", "Use every number.")


@pytest.mark.parametrize(("text", "thoughts", "reasoning", "output"), [
    ("<think>put </reflection> after it</think><reflection> r </reflection> out", "put </reflection> after it", "r",
     "out"),
    ("<reflection> r </reflection> <think> w </think> out", "w", "r", "<think> w </think> out"),
])
def test_a_repair_keeps_thought_reasoning_and_output_apart(text: str, thoughts: str, reasoning: str, output: str):
    task = load_task("countdown", "easy", None)
    problem = next(iter(task.problems("train")))
    failure = Failure(problem, "a", [Message("assistant", "1")])
    ((repair,),) = Loop(task, Says(text), Sampling()).repair([failure], "binary", range(1))
    assert (repair.thoughts, repair.reasoning, repair.transcript[0].content) == (thoughts, reasoning, output)


def test_the_failed_work_reaches_a_reflector_or_the_user_is_told(rrr, tmp_path: Path, stripping: Path):
    run = ["--run", tmp_path / "run", "--device", "cpu"]
    assert rrr("mine-failures", "--model", stripping, *run, *SMALL).code == 0
    kept = rrr("reflect", "--limit", 4, *run)
    assert (kept.code, "drops thoughts" in kept.err) == (0, False), kept.err
    told = rrr("reflect", "--limit", 4, *run, "--no-keep-thoughts", "--overwrite")
    assert told.code == 0
    assert told.err.count("the model's chat template drops thoughts of earlier turns") == 1
    config = {p["stage"]: p["config"] for p in provenance(tmp_path / "run", "attempts")}
    assert (config["mine-failures"]["keep_thoughts"], config["reflect"]["keep_thoughts"]) == (True, False)
    attempts = list(read(tmp_path / "run", "attempts"))
    assert any(a.thoughts for a in attempts)
    assert all((a.thoughts or "") in a.transcript[0].content for a in attempts)


def test_an_objective_of_one_conversation_refuses_a_template_that_drops_thoughts(rrr, tmp_path: Path, stripping: Path):
    run = ["--run", tmp_path / "run"]
    assert rrr("mine-failures", "--model", stripping, *run, *SMALL, "--device", "cpu").code == 0
    refused = rrr("grpo", *run, "--objective", "reflection+answer", "--batch", 8, "--group", 4, "--device", "cpu")
    assert refused.code == 3
    assert "drops thoughts of earlier turns, so turns that belong together aren't one conversation" in refused.err


def test_a_run_keeps_its_date_and_token_limit(rrr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Clock(datetime):
        day = 1

        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2030, 5, cls.day, tzinfo=UTC)

    monkeypatch.setattr("rrr_cli.stages.rendering.datetime", Clock)
    run = ["--run", tmp_path / "run", "--device", "cpu"]
    mine = ["mine-failures", "--model", model(tmp_path, "dated"), *run, *SMALL]
    assert rrr(*mine).code == 0
    Clock.day = 2
    assert rrr(*mine).code == 0
    assert rrr("reflect", "--limit", 2, *run, "--reflection-tokens", 40).code == 0
    dry = rrr("grpo", *run, "--batch", 8, "--group", 4, "--dry-run")
    planned = json.loads(dry.out)
    assert (planned["max_tokens"], planned["reflection_tokens"]) == (48, 40)
    assert rrr("eval", "--model", f"base={tmp_path / 'dated'}", *run, "--limit", 2).code == 0
    configs = [p["config"] for table in ("attempts", "reflections", "evaluations")
               for p in provenance(tmp_path / "run", table)] + [planned]
    assert {config["template_args"] for config in configs} == {'{"date": "2030-05-01"}'}
    assert {config["max_tokens"] for config in configs} == {48}
    assert {config["reflection_tokens"] for config in configs[2:]} == {40}


def test_show_prints_what_was_thought(rrr, tmp_path: Path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({
        "default": "<think> add them </think> <answer> 1 </answer>",
        "rules": [["Reflect", "<think> what was wrong </think> Use every number."]]}))
    run = ["--run", tmp_path / "run", "--engine", "scripted"]
    assert rrr("mine-failures", "--model", script, *run, "--limit", 2, "--samples", 1).code == 0
    assert rrr("reflect", *run).code == 0
    (reflection, _) = read(tmp_path / "run", "reflections")
    shown = rrr("show", reflection.reflection_id, "--run", tmp_path / "run").out
    assert "<think> add them </think>" in shown
    assert "thought: what was wrong" in shown
    assert reflection.text == "Use every number."
