"""One rule says where a thought ends and an answer begins."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrr_cli.prompts import split_repair
from rrr_cli.thoughts import answer_of, parts

SPLIT = {
    "no thought": ("6 * 7", None, "6 * 7"),
    "opened and closed": ("<think>\nsix\n</think>\n\n42", "six", "\n\n42"),
    "opened by the template": ("six\n</think>42", "six", "42"),
    "the last mark counts": ("a</think>b</think>c", "ab", "c"),
    "cut": ("<think>six times", "six times", ""),
    "a second thought that was cut": ("<think>a</think>b<think>c", "ac", "b"),
    "Mistral's marks": ("[THINK]a[/THINK]b", "a", "b"),
    "a mark in JSON is text": ('{"text": "</think>", "n": [1, "<think>"]}', None,
                               '{"text": "</think>", "n": [1, "<think>"]}'),
    "a mark in a call's string is text": ("[say(text='</think> hm', to=\"<think>\")]", None,
                                          "[say(text='</think> hm', to=\"<think>\")]"),
    "a channel in JSON is text": ('{"text": "<|channel|>final<|message|>x"}', None,
                                  '{"text": "<|channel|>final<|message|>x"}'),
    "other families' marks": ("<thinking>a</thinking>b<reasoning>c", "ac", "b"),
    "a channel that was cut": ("<|channel|>analysis", None, ""),
    "a thought before JSON with a mark": ('a</think>{"text": "</think>"}', "a", '{"text": "</think>"}'),
    "JSON that breaks off within the thought": ('<think>{"a": "b</think>c', '{"a": "b', "c"),
}


@pytest.mark.parametrize("name", SPLIT)
def test_thought_and_answer(name: str):
    turn, thought, answer = SPLIT[name]
    assert parts(turn) == (thought, answer)


@given(st.lists(st.sampled_from(["<think>", "</think>", "{", "}", '"', "[", "]", "a", ",", ":", "1"]), max_size=30))
@settings(deadline=None)
def test_an_answer_has_no_thought_left(pieces: list[str]):
    answer = answer_of("".join(pieces))
    assert answer in "".join(pieces)
    assert answer_of(answer) == answer


@pytest.mark.parametrize("turn", ['{"a":' * 20_000, "[" * 100_000, "{" * 100_000, '["' * 50_000])
def test_no_text_takes_long(turn: str):
    start = time.process_time()
    parts(turn + "</think>")
    split_repair("<think>" + "</reflection>" * len(turn))
    assert time.process_time() - start < 10
