"""Actions of a turn: the labels and marks that models write around them, and what they write in the room's place."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.records import Message
from rrr_cli.store.artifacts import read
from rrr_cli.tasks import load_task
from rrr_cli.tasks.base import own_turn, played
from rrr_cli.tasks.hotpotqa.parse import action_of
from rrr_cli.tasks.household import Household
from rrr_cli.tasks.household.parse import canonical, command_of

AROUND = [
    "Action: {}", "Action 3: {}", "**Action:** {}", "**Action 1**: `{}`", "### Action\n{}", "## Action 2\n\n`{}`",
    "Action 1. {}", "Action 2 - {}", "**Action 4** – {}", "- Action: {}", "1. Action: **{}**", "Act 1: {}", "ACTION:{}",
    "Action:\n{}", "**Action 1:**\r\n\r\n{}\r\n", "Action:\n```\n{}\n```", "Action:\n```text\n{}\n```", "_Action_: {}",
    "Action #1: {}", "Action：{}", 'Action: "{}"', "Action: *{}*", "> Action: {}", "Action:\n1. {}", "Action:\n- {}",
    "Thought: I see. Action: {}", "**Thought 1:** I see.\n**Action 1:** {}.", "<think>Action: wait</think>Action: {}",
    "I see.</think>\n\nAction: {}", "Thought 1: Action is needed.\nAction 1: {}",
]
AFTER = [
    "", "\nObservation: {0}", "\nObservation 1: it is here.\nThought 2: so.\nAction 2: {1}",
    "\n**Obs 1:** {0}\nAction: {1}",
    "\nYou arrive there.\n> {1}", "\n\nAction: {1}", "\n> {1}", "\nOK.\nAction 2: {1}", " Observation 1: I see {0}.",
]


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("around", AROUND)
def test_the_first_action_is_read_in_any_marks(around: str, after: str):
    for read_one, wanted, given_, other in (
        (action_of, ("search", "Anna Berg"), "Search[Anna Berg]", "Finish[yes]"),
        (command_of, "go to shelf 2", "go to shelf 2", "open box 1"),
    ):
        turn = around.format(given_) + after.format(given_, other)
        action = read_one(turn)
        assert (action.rstrip(".") if isinstance(action, str) else action) == wanted, turn


@pytest.mark.parametrize(("written", "argument"), [
    ("Finish[Alien [film]]", "Alien [film]"), ("Finish[Rome] (page [2], note [3])", "Rome"), ("Finish[Rome]]", "Rome"),
    ("Finish[Rome [Italy]", "Rome [Italy"), ("Finish[[Rome]]", "[Rome]"), ("finish [ Rome ]", "Rome"),
    ("**Finish**[Rome]", "Rome"), ("Finish\uff3bRome\uff3d", "Rome"), ("Finish\u3010Rome [1]\u3011 [2]", "Rome [1]"),
])
def test_an_argument_ends_where_its_bracket_closes(written: str, argument: str):
    assert action_of(f"Thought: [so]\nAction: {written}") == ("finish", argument)


@pytest.mark.parametrize("turn", [
    "Finish(Rome)", "Action: Finish(Rome)", "Reaction: Finish[Rome]", "transaction 1: Finish[Rome]",
    "Action Finish[Rome]", "Action: I'd say Finish[Rome]", "Action: Finsh[Rome]",
    "Observation: Rome.\nAction: Finish[Rome]",
    "<think>Action: Finish[Rome]", "Action: Finish[Rome</think>]",
])
def test_what_is_no_action_stays_none(turn: str):
    assert action_of(turn) is None


@pytest.mark.parametrize(("written", "command"), [
    ("put cup 1 in/on shelf 2", "move cup 1 to shelf 2"),
    ("Put the cup 1 in / on the shelf 2.", "move cup 1 to shelf 2"),
    ("move a cup 1 into shelf 2", "move cup 1 to shelf 2"), ("put cup 1 on shelf 2", "move cup 1 to shelf 2"),
    ("Take  THE cup 1 from shelf 2 !", "take cup 1 from shelf 2"), ("move cup 1 to shelf 2", "move cup 1 to shelf 2"),
    ("put (cup 1) on shelf 2", "put (cup 1) on shelf 2"), ("putt cup 1 on shelf 2", "putt cup 1 on shelf 2"),
    ("put cup on shelf 2", "put cup on shelf 2"),
])
def test_a_command_counts_however_it_is_worded(written: str, command: str):
    assert canonical(written) == command


@pytest.mark.parametrize(("turn", "command"), [
    ("open box 1\nYou open the box 1.\n> take cup 1 from box 1", "open box 1"),
    ("1. open box 1\n2. take cup 1 from box 1", "open box 1"),
    ("Plan: look, then open.\n1. look\n2. open box 1\n\n> open box 1", "open box 1"),
    ("I'll do it.\n\n**open box 1**\nNothing happens.", "open box 1"), ("I'd open it", "I'd open it"),
    ("Thought: my next action: maybe none", None), ("> think: hm\nOK.\n> open box 1", "open box 1"),
])
def test_a_command_without_a_label_is_the_first_that_reads_as_one(turn: str, command: str | None):
    assert command_of(turn) == command


WORDS = ["Action", " ", ":", "1", "**", "`", "```", "\n", "\r\n", "> ", "Search[", "Finish[", "]", "Observation", "Obs",
         "look", "go to shelf 2", "<think>", "</think>", "Thought:", "\ud800", "\x00", "x", "- ", "# "]
TURNS = st.text() | st.lists(st.sampled_from(WORDS), max_size=30).map("".join)


@settings(max_examples=300, deadline=None)
@given(TURNS, st.sampled_from(["hotpotqa", "household"]))
def test_the_own_part_holds_the_action_and_nothing_after_it(turn: str, name: str):
    task, read_one = load_task(name), {"hotpotqa": action_of, "household": command_of}[name]
    own, rest = own_turn(task, turn)
    assert own + rest == turn or turn.endswith(rest)
    assert read_one(own) == read_one(turn)
    if read_one(turn):
        assert read_one(f"{turn}\nObservation 1: so.\nAction 2: Finish[no]\n> open box 1") == read_one(turn)


@pytest.mark.parametrize("text", [
    "Action:\n" * 30_000, "> \n" * 50_000, "Action: Search[" * 10_000 + "]", "Observation" * 10_000, "**" * 80_000,
    "x\n" * 80_000, "> go to shelf 2\n" * 10_000, "Action 1 " * 20_000, "```" * 50_000, " " * 200_000, "1. " * 60_000,
])
def test_long_turns_are_read_quickly(text: str):
    for name in ("hotpotqa", "household"):
        task = load_task(name)
        start = time.process_time()
        own_turn(task, text)
        assert time.process_time() - start < 2


SCRIPT = {"default": "> look Observation 1: INVENTED: You see a box 1. > open box 1", "rules": []}


def test_what_a_model_invents_is_kept_apart_from_the_transcript(rrr, tmp_path: Path):
    script, run = tmp_path / "script.json", tmp_path / "run"
    script.write_text(json.dumps(SCRIPT))
    ran = rrr("mine-failures", "--engine", "scripted", "--model", script, "--task", "household", "--run", run,
              "--limit", 1, "--samples", 1)
    assert ran.code == 0, ran.err
    (attempt,) = read(run, "attempts")
    assert [m.content for m in attempt.transcript if m.role == "assistant"] == ["> look "] * 8
    assert "INVENTED" not in str(attempt.transcript) + (attempt.answer or "")
    assert attempt.invented is not None
    assert attempt.invented.count("INVENTED") == 8
    assert "INVENTED" in rrr("show", attempt.attempt_id, "--run", run).out
    again = Household().verify(next(Household().problems("train")), [Message("assistant", SCRIPT["default"])] * 8)
    assert (again.success, again.answer) == (attempt.success, attempt.answer), "a raw transcript is judged the same"


def test_what_a_task_does_not_call_its_own_part_is_an_error():
    class Wrong(Household):
        def own_part(self, answer: str) -> str:
            return "> look"

    with pytest.raises(RrrError, match=r"own_part\(\) returns .* isn't the start") as caught:
        played(Wrong(), next(Wrong().problems("train")), ["> open box 1"])
    assert caught.value.exit_code == USAGE
