"""`--model tiny-household`: what it is trained on, and that it reflects and follows its reflections."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

from rrr_cli import prompts
from rrr_cli.engines.base import Sampling
from rrr_cli.failures import Failure
from rrr_cli.records import Message
from rrr_cli.rollout import Loop
from rrr_cli.tasks.household import Household
from rrr_cli.tasks.solves import solves

pytest.importorskip("torch")
pytest.importorskip("transformers")

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def household(train_tiny: ModuleType) -> ModuleType:
    module: ModuleType = train_tiny.tiny_household
    return module


def episodes(course: ModuleType, transcript: list[Message]) -> list[list[Message]]:
    """The tries of a chat: the turns between the words that ask for the next one, without the reflections."""
    tries: list[list[Message]] = [[]]
    for message in transcript[1:]:
        if message.content.endswith((course.WORDS["reflect"], course.WORDS["retry"], prompts.REPAIR[-20:])):
            tries += [[]] if tries[-1] else []
        elif message.role == "user" or message.content.startswith(">"):
            tries[-1].append(message)
    return tries


def test_household_transcripts_agree_with_the_simulator(
    train_tiny: ModuleType, household: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = train_tiny.build_tokenizer(household)
    games: list[dict[str, Any]] = []
    pose = household.prompt
    monkeypatch.setattr(household, "prompt", lambda game: games.append(game) or pose(game))
    chats = household.phases(household.Recipe())[-1]
    transcripts = list(islice(household.Transcripts(chats, seed=3), 400))
    task = Household()
    held_out = {problem.problem_id for problem in task.problems("test")}
    outcomes, tries, longest = [], [], 0
    for game, transcript in zip(games, transcripts, strict=True):
        problem = household.problem(game)
        assert problem.problem_id not in held_out
        played = episodes(household, transcript)
        for episode in played:
            for i in range(1, len(episode), 2):
                assert task.observe(problem, episode[:i]) == episode[i]
            outcomes.append(task.verify(problem, episode).success)
            assert task.observe(problem, episode) is None
        assert not any(outcomes[-len(played):-1])
        tries.append(len(played))
        text = "".join(f"<|{m.role}|> {m.content} <|end|>" for m in transcript)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        longest = max(longest, len(ids))
    assert {1, 2, 3} == set(tries)
    assert longest < 1024
    assert 0.2 < sum(outcomes) / len(outcomes) < 0.6


def test_every_household_chat_is_made_of_known_words(train_tiny: ModuleType, household: ModuleType) -> None:
    tokenizer, words, random = train_tiny.build_tokenizer(household), household.WORDS, Random(5)
    recipe = replace(household.Recipe(), right=0.5)
    for problem in islice(Household().problems("train"), 200):
        failed = household.Player(json.loads(problem.metadata), recipe, random)
        tried, success = failed.play()
        if success:
            continue
        said = household.feedback(json.loads(problem.metadata), tried)
        text = household.Reflector(failed).reflection()
        asked = prompts.reflect_chat(problem.prompt, tried, f"{said}\n\n{words['reflect']}")
        chats = [
            [*asked, Message("assistant", text), Message("user", words["retry"]), *tried],
            prompts.retry_chat(problem.prompt, tried, text, words["reflect"], words["retry"]),
            prompts.retry_chat(problem.prompt, tried, text, words["reflect"], words["retry"], "reflection"),
            prompts.repair_chat(problem.prompt, tried, prompts.FAILED),
            prompts.hint_chat(problem.prompt, text),
        ]
        for chat in chats:
            assert tokenizer.unk_token_id not in tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in chat], add_generation_prompt=True, return_dict=False)
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert len(ids) < household.REFLECTION_TOKENS
        assert not solves(Household(), problem, text)


def test_household_players_follow_the_reflections_words_alone(household: ModuleType) -> None:
    recipe, random = household.Recipe(), Random(4)
    passed: dict[str, list[bool]] = {}
    for problem in islice(Household().problems("train"), 400):
        game = json.loads(problem.metadata)
        transcript, success = household.Player(game, recipe, random).play()
        if success:
            continue
        best = household.best_reflection(problem, transcript)
        for name, text in [("useless", household.USELESS[0]), ("best", best)]:
            notes = household.Notes()
            notes.read(text, game["goal"]["kind"])
            passed.setdefault(name, []).append(household.Player(game, recipe, random, notes).play()[1])
    assert len(passed["best"]) > 200
    assert sum(passed["useless"]) / len(passed["useless"]) < 0.2
    assert sum(passed["best"]) / len(passed["best"]) > 0.75


def test_household_repairs_use_the_failed_episode(household: ModuleType) -> None:
    recipe, random = household.Recipe(), Random(4)
    careful = household.Notes(opens=True, searches=True, treats=True)
    failures = repaired = 0
    for problem in islice(Household().problems("train"), 300):
        game = json.loads(problem.metadata)
        failed = household.Player(game, recipe, random)
        if not failed.play()[1]:
            failures += 1
            repaired += household.Player(game, recipe, random, careful, failed.seen, failed.searched).play()[1]
    assert failures > 100
    assert repaired / failures > 0.8


def test_the_household_model_follows_its_reflections(household: ModuleType) -> None:
    from rrr_cli.engines.transformers import TransformersEngine

    sampling = Sampling(temperature=1.0, max_tokens=household.MAX_TOKENS)
    loop = Loop(Household(), TransformersEngine("tiny-household"), sampling, retry_context="reflection")
    problems = list(islice(Household().problems("train"), 60))
    first = [rows[0] for rows in loop.attempt(problems, range(1))]
    failed = [Failure.of(p, a) for p, a in zip(problems, first, strict=True) if not a.success]
    reflections = [rows[0] for rows in loop.reflect(failed, range(1))]

    def passing(text: Callable[[Failure], str]) -> float:
        pairs = [(f, replace(r, text=text(f))) for f, r in zip(failed, reflections, strict=True)]
        return sum(rows[0].success for rows in loop.retry(pairs, range(1))) / len(pairs)

    assert passing(lambda _: household.USELESS[0]) < 0.3
    assert passing(lambda f: household.best_reflection(f.problem, f.transcript)) > 0.5
