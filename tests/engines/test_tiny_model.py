"""The embedded model: its folder, its training data, and that it fails often enough."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rrr_cli import prompts
from rrr_cli.engines.base import Sampling
from rrr_cli.engines.models import EMBEDDED, NAMED
from rrr_cli.engines.render import render as render_with_tools
from rrr_cli.prompts import retry_chat
from rrr_cli.records import Message, Problem
from rrr_cli.rollout import Loop
from rrr_cli.tasks.base import Task
from rrr_cli.tasks.countdown import Countdown
from rrr_cli.tasks.countdown.arithmetic import evaluate, parse
from rrr_cli.tasks.countdown.judge import judge
from rrr_cli.tasks.countdown.problem import problem_key
from rrr_cli.tasks.function_calling import FunctionCalling
from rrr_cli.tasks.household import Household

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "rrr_cli" / "models" / "tiny"


@pytest.fixture(scope="module")
def course(train_tiny: ModuleType) -> ModuleType:
    module: ModuleType = train_tiny.tiny_countdown
    return module


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def transcripts(course: ModuleType) -> list[list[Message]]:
    return list(islice(course.Transcripts(course.Recipe(), seed=123), 3000))


def posed(transcript: list[Message]) -> tuple[list[int], int]:
    """The numbers and the target, read out of the problem's text."""
    text = transcript[0].content
    numbers = re.search(r"\[(.*?)\]", text)
    target = re.search(r"equals (\d+)", text)
    assert numbers
    assert target
    return json.loads(numbers[0]), int(target[1])


def tried(transcript: list[Message]) -> list[tuple[int, str]]:
    """(value, mark) of every candidate in the transcript."""
    text = " ".join(m.content for m in transcript if m.role == "assistant")
    return [(int(value), mark) for value, mark in re.findall(r"= (\d+) (yes|no)", text)]


def chat(problem: Problem) -> list[Message]:
    failed = [Message("assistant", "<think> 3 * 7 = 21 + 8 = 29 no </think> <answer> ( 3 * 7 ) + 8 </answer>")]
    task = Countdown()
    reflection = "That makes 29 , not 30 . Try: 8 - ( 7 - 3 = 4 ) = 4 no"
    return list(retry_chat(problem.prompt, failed, reflection, task.words["reflect"], task.words["retry"]))


def render(tokenizer: Any, messages: list[Message], generate: bool) -> list[int]:
    turns = [{"role": m.role, "content": m.content} for m in messages]
    ids: list[int] = tokenizer.apply_chat_template(turns, add_generation_prompt=generate, return_dict=False)
    return ids


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_folder_is_a_small_safetensors_llama(name: str) -> None:
    folder = FOLDER.with_name(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 6 * 10**6
    assert not list(folder.glob("*.bin"))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.generation_config.eos_token_id == model.config.eos_token_id


@pytest.mark.parametrize("name", EMBEDDED)
def test_tokenizer_and_shape_come_from_the_script(train_tiny: ModuleType, name: str) -> None:
    folder = FOLDER.with_name(name)
    built = train_tiny.build_tokenizer(train_tiny.COURSES[name])
    shipped = transformers.AutoTokenizer.from_pretrained(folder)
    assert shipped.get_vocab() == built.get_vocab()
    assert shipped.chat_template == built.chat_template
    weights = transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert {k: v.shape for k, v in train_tiny.build_model(built).state_dict().items()} == {
        k: v.shape for k, v in weights.items()
    }


def test_every_embedded_model_has_a_course(train_tiny: ModuleType) -> None:
    assert set(EMBEDDED) == {p.name for p in FOLDER.parent.iterdir() if p.is_dir()}
    assert set(EMBEDDED) <= set(train_tiny.COURSES)
    assert set(EMBEDDED) < NAMED.keys()


def test_every_word_of_the_prompts_is_known(tokenizer: Any) -> None:
    for problem in islice(Countdown().problems("test"), 50):
        ids = render(tokenizer, chat(problem), generate=True)
        assert tokenizer.unk_token_id not in ids
        assert len(render(tokenizer, problem.prompt, generate=True)) == 14


def test_a_chat_is_a_prefix_of_its_continuation(tokenizer: Any) -> None:
    messages = chat(next(Countdown().problems("train")))
    for message in messages:
        if message.role == "assistant":
            ids = tokenizer.encode(message.content, add_special_tokens=False)
            assert tokenizer.decode(ids, skip_special_tokens=True) == message.content
    whole = render(tokenizer, messages, generate=False)
    for i, message in enumerate(messages):
        if message.role == "assistant":
            start = render(tokenizer, messages[:i], generate=True)
            assert whole[: len(start)] == start


BAD_ANSWERS = [
    "8 * 7 - 3", "(7 - 3) / 8", "7 - 3 * 8", "3 * 8 * 7", "8 * 8 * 99 - 1", "8 / (3 - 3)", "8 / (8 - 8)", "", "* 8",
    "(8", "8 )", "8 7", "8 +", "08 + 3", "8 yes 3", "8 = 3", "8 <answer> 3", "(8 , 3)", "8 ' 3", "1" * 30, "(" * 70,
    "1" * 600,
]


def test_every_word_of_the_feedback_is_known(tokenizer: Any) -> None:
    said = {judge(f"<answer> {answer} </answer>", [3, 8, 7], 29).feedback for answer in BAD_ANSWERS}
    assert len(said) >= 20
    for feedback in said:
        request = [Message("user", f"{feedback}\n\n{Countdown.words['reflect']}")]
        assert tokenizer.unk_token_id not in render(tokenizer, request, generate=True), feedback
    words = tokenizer.tokenize("The answer comes to 120, not to 29.")
    assert words == ["The answer comes to", "120", ", not to", "29", "."]
    assert tokenizer.tokenize("7/2 1250") == ["7", "/", "2", "1", "2", "5", "0"]


def test_hints_read_as_in_the_transcripts(course: ModuleType, tokenizer: Any) -> None:
    for template in (prompts.HINT, prompts.REFLECTION_ONLY):
        ids = tokenizer.encode(template.format(reflection="That makes 29 , not 30 ."), add_special_tokens=False)
        assert len(ids) == 6
        assert tokenizer.unk_token_id not in ids


def test_no_transcript_has_a_test_problem(transcripts: list[list[Message]]) -> None:
    test_ids = {problem.problem_id for problem in Countdown(level="easy").problems("test")}
    keys = set()
    for transcript in transcripts:
        numbers, target = posed(transcript)
        keys |= {problem_key(numbers, value) for value in [target, *(value for value, _ in tried(transcript))]}
    assert len(keys) > 1500
    assert not keys & test_ids


PAIR = r"(\d+) ([-+*/]) (\d+) = \d+"


def expressions(text: str) -> list[str]:
    """What the workings in a text calculate, right or wrong."""
    left = [f"({a} {o} {b}) {p} {c}" for a, o, b, p, c in re.findall(PAIR + r" ([-+*/]) (\d+) = \d+", text)]
    right = re.findall(r"(\d+) ([-+*/]) \( " + PAIR + r" \) = \d+", text)
    return [*left, *(f"{c} {p} ({a} {o} {b})" for c, p, a, o, b in right)]


def test_no_turn_solves_a_test_problem(transcripts: list[list[Message]]) -> None:
    test_ids = {problem.problem_id for problem in Countdown(level="easy").problems("test")}
    keys = set()
    for expression in {e for transcript in transcripts for m in transcript for e in expressions(m.content)}:
        with contextlib.suppress(ZeroDivisionError):
            postfix = parse(expression)
            value = evaluate(postfix)
            if value.denominator == 1:
                keys.add(problem_key([item for item in postfix if isinstance(item, int)], int(value)))
    assert len(keys) > 3000
    assert not keys & test_ids


def test_chats_hold_what_the_stages_send(transcripts: list[list[Message]]) -> None:
    words, task = Countdown.words, Countdown()
    asked, fed, three = {"reflect": 0, "retry": 0}, {"reflect": 0, "retry": 0}, 0
    for transcript in transcripts:
        numbers, target = posed(transcript)
        requests = [m.content for m in transcript[2::2]]
        three += sum(request.endswith(words["retry"]) for request in requests) == 2
        reflects = bool(requests) and requests[0].endswith(words["reflect"])
        for i, request in enumerate(requests):
            if reflects and i % 2:  # after a reflection
                assert request == words["retry"]
                continue
            kind = "reflect" if reflects else "retry"
            feedback = judge(transcript[2 * i + 1].content, numbers, target).feedback
            assert request in (words[kind], f"{feedback}\n\n{words[kind]}")
            asked[kind] += 1
            fed[kind] += request != words[kind]
            shown = (transcript[3].content, requests[0], task.words["retry"]) if reflects else (None, "", requests[0])
            chat = retry_chat(transcript[:1], transcript[1:2], *shown)
            assert list(chat) == transcript[: len(chat)]
    assert 0.4 < fed["reflect"] / asked["reflect"] < 0.6
    assert 0.4 < fed["retry"] / asked["retry"] < 0.6
    assert 0.15 < three / len(transcripts) < 0.2


def test_a_candidate_is_tried_once_in_a_chat(transcripts: list[list[Message]]) -> None:
    for transcript in transcripts:
        known: set[str] = set()
        for message in transcript[1:]:
            wrong = re.findall(r"[\d(][-+*/()=\d ]+(?= no)", message.content if message.role == "assistant" else "")
            assert not known & set(wrong)
            known |= set(wrong)


def test_transcript_marks_agree_with_the_verifier(transcripts: list[list[Message]]) -> None:
    successes = failures = 0
    for transcript in transcripts:
        numbers, target = posed(transcript)
        assert all((mark == "yes") == (value == target) for value, mark in tried(transcript))
        for message in transcript:
            if "<answer>" in message.content and message.role == "assistant":
                verdict = judge(message.content, numbers, target)
                last_value, last_mark = tried([message])[-1]
                assert verdict.success == (last_mark == "yes")
                if verdict.success:
                    successes += 1
                else:
                    failures += 1
                    assert verdict.error_type == "wrong_value"
                    assert f"comes to {last_value}," in verdict.feedback
    assert successes > 500
    assert failures > 500


def test_loss_skips_wrong_candidates(
    train_tiny: ModuleType, course: ModuleType, tokenizer: Any
) -> None:
    problem, request = Message("user", "Using the numbers [3, 8, 7]"), Message("user", Countdown.words["retry"])
    wrong = Message("assistant", "<think> 8 * 7 = 56 - 3 = 53 no . </think> <answer> ( 8 * 7 ) - 3 </answer>")
    mixed = Message("assistant", "<think> 8 - ( 7 - 3 = 4 ) = 4 no , 7 * 3 = 21 + 8 = 29 yes . </think>")
    [(ids, trained)] = train_tiny.encode(course, course.Recipe(), tokenizer, [[problem, wrong, request, mixed]])
    assert ids == render(tokenizer, [problem, wrong, request, mixed], generate=False)
    assert tokenizer.decode([i for i, on in zip(ids, trained, strict=True) if on]) == (
        "<think> 56 53 no . </think> <answer> ( 8 * 7 ) - 3 </answer> <|end|> "
        "<think> 4 4 no , 7 * 3 = 21 + 8 = 29 yes . </think> <|end|>"
    )


def test_the_same_seed_trains_the_same_model(train_tiny: ModuleType, course: ModuleType) -> None:
    recipe = course.Recipe(steps=2, batch_size=2, habit_steps=1)
    once, again, other = (train_tiny.train(course, recipe, seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert any(not torch.equal(once[name], other[name]) for name in once)


@pytest.mark.parametrize("course", ["tiny_countdown", "tiny_tools", "tiny_household"])
def test_transcripts_ignore_pythons_hash_seed(course: str) -> None:
    drawn = (
        f"import {course} as course; from itertools import islice\n"
        "for phase in course.phases(course.Recipe()): print(*islice(course.Transcripts(phase, 5), 150), sep='\\n')"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", drawn], capture_output=True, text=True, check=True, cwd=ROOT / "tools" / "tiny",
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0].count("\n") >= 300
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize(("name", "task", "max_tokens"), [
    ("tiny", Countdown(), 64), ("tiny-tools", FunctionCalling(), 128), ("tiny-household", Household(), 16),
])
def test_the_model_fails_often_but_not_always(
    name: str, task: Task, max_tokens: int
) -> None:
    from rrr_cli.engines.transformers import TransformersEngine

    loop = Loop(task, TransformersEngine(name), Sampling(temperature=1.0, max_tokens=max_tokens))
    problems = list(islice(task.problems("test"), 150))
    attempts = [rows[0] for rows in loop.attempt(problems, range(1))]
    assert 0.15 <= sum(a.success for a in attempts) / len(attempts) <= 0.65
    assert sum(a.answer is not None for a in attempts) / len(attempts) >= 0.9


# tiny-tools ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tools_course(train_tiny: ModuleType) -> ModuleType:
    module: ModuleType = train_tiny.tiny_tools
    return module


@pytest.fixture(scope="module")
def tools_tokenizer(train_tiny: ModuleType, tools_course: ModuleType) -> Any:
    return train_tiny.build_tokenizer(tools_course)


def test_tools_prompts_match_the_transcripts(
    tools_course: ModuleType, tools_tokenizer: Any
) -> None:
    for problem in islice(FunctionCalling().problems("train"), 100):
        ids = render_with_tools(tools_tokenizer, problem.prompt, problem.tools)
        assert tools_tokenizer.unk_token_id not in ids
        turns = [tools_course.tools_turn(problem.tools), *problem.prompt]
        text = "".join(f"<|{m.role}|> {m.content} <|end|>" for m in turns) + "<|assistant|>"
        assert ids == tools_tokenizer(text, add_special_tokens=False)["input_ids"]


def test_no_tools_transcript_has_a_test_request(tools_course: ModuleType) -> None:
    held_out = {problem.prompt[-1].content for problem in FunctionCalling().problems("test")}
    asked = [t[1].content for t in islice(tools_course.Transcripts(tools_course.Recipe(), seed=1), 3000)]
    assert len(set(asked)) > 1000
    assert not held_out & set(asked)


def test_tools_marks_agree_with_the_verifier(
    tools_course: ModuleType, tools_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    posed: list[Problem] = []
    pose = tools_course.tools.pose
    monkeypatch.setattr(tools_course.tools, "pose", lambda *a: posed.append(pose(*a)) or posed[-1])
    outcomes, mistakes = [], 0
    for transcript in islice(tools_course.Transcripts(tools_course.Recipe(), seed=2), 1000):
        for before, message in zip([None, None, *transcript], transcript, strict=False):
            if message.role in ("assistant", "given") and "<tool_call>" in message.content:
                ids = tools_tokenizer.encode(message.content, add_special_tokens=False)
                decoded = Message("assistant", tools_tokenizer.decode(ids, skip_special_tokens=True))
                verdict = FunctionCalling().verify(posed[-1], [decoded])
                claimed = " yes . </think>" in message.content
                believes = before and before.role == "given" and before.content.startswith(tools_course.CALLED)
                if message.role == "given" or believes:
                    assert claimed
                    assert not verdict.success, message.content
                    mistakes += 1
                else:
                    assert verdict.success == claimed, message.content
                assert verdict.error_type not in ("format", "no_call")
                outcomes.append(verdict.success)
    assert 300 < sum(outcomes) < len(outcomes) - 300
    assert mistakes > 100


def test_loss_skips_wrong_calls_at_first(
    train_tiny: ModuleType, tools_course: ModuleType, tools_tokenizer: Any
) -> None:
    asked = Message("user", "we need two cups with no fan .")
    words = (
        "<think> add ok ( item = eggs bad , count = 5 - 3 = 2 ok ) no ; "
        "add ok ( item = cups ok , count = 2 ok ) yes . </think>"
    )
    right_from_wrong, habit = tools_course.phases(tools_course.Recipe())

    def trained_words(recipe: Any) -> str:
        [(ids, trained)] = train_tiny.encode(
            tools_course, recipe, tools_tokenizer, [[asked, Message("assistant", words)]])
        return str(tools_tokenizer.decode([i for i, on in zip(ids, trained, strict=True) if on]))

    assert trained_words(habit) == f"{words} <|end|>"
    assert trained_words(right_from_wrong) == (
        "<think> ok bad 2 ok no ; add ok ( item = cups ok , count = 2 ok ) yes . </think> <|end|>"
    )
