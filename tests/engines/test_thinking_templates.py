"""Chat templates of thinking models, minimal ones of each behaviour: what a reflector is shown, what a cut thought is
worth, how a turn is written for training; and text that spells a special token, dates, and marks in what is decoded.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tools_in_prompts import tokenizer_of

from rrr_cli.engines.models import ResolvedModel, load_tokenizer
from rrr_cli.engines.render import Renderer, render
from rrr_cli.engines.special_tokens import decode, special_tokens
from rrr_cli.engines.template import Template, opened_thought, parsed
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.records import Message
from rrr_cli.thoughts import answer_of, parts

TURN = "<|{{ m.role }}|>{{ CONTENT }}</s>"
ASKS = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
STRIPPED = "m.content.split('</think>')[-1].lstrip() if m.role == 'assistant' else m.content"


def chat(content: str, start: str = ASKS) -> str:
    return "<s>{% for m in messages %}" + TURN.replace("CONTENT", content) + "{% endfor %}" + start


TEMPLATES = {
    # Qwen3: drops the thoughts of earlier turns.
    "strips": chat(STRIPPED),
    # R1, Qwen3-Thinking: opens the thought as well.
    "opens": chat(STRIPPED, ASKS.replace("<|assistant|>", "<|assistant|><think>\n")),
    # Qwen3.5: opens it, or closes an empty one at once.
    "hybrid": chat(STRIPPED, "{% if add_generation_prompt %}<|assistant|><think>\n{% if enable_thinking is false %}"
                   "{{ '\\n</think>\\n\\n' }}{% endif %}{% endif %}"),
    # Llama 3.2: the system turn tells the date.
    "dated": "<s><|system|>Today Date: {{ strftime_now('%d %b %Y') }}</s>" + chat("m.content"),
    # Mistral: no roles but two pairs of marks.
    "plain": "<s>{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% else %}{{ m.content }}"
             "</s>{% endif %}{% endfor %}",
    # gpt-oss: refuses its own marks in an earlier turn.
    "channels": chat("raise_exception('channel tags') if '<|channel|>' in m.content else '<|channel|>' ~ m.content"),
}
DROPS = ("strips", "opens", "hybrid", "channels")
CHANNELS = "<|channel|>analysis<|message|>seven works<|end|><|start|>assistant<|channel|>final<|message|>42"
FAILED = [
    Message("user", "Reach 42."), Message("assistant", "<think>\nseven works\n</think>\n\n42"),
    Message("user", "Reflect."),
]


def shown(name: str, *, keep: bool = True, turn: str | None = None) -> str:
    tokenizer = tokenizer_of(TEMPLATES[name])
    messages = [FAILED[0], Message("assistant", turn), FAILED[2]] if turn else FAILED
    return str(tokenizer.decode(render(tokenizer, messages, template=Template(keep_thoughts=keep))))


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_failed_work_reaches_the_reflector(name: str):
    text = shown(name, turn=CHANNELS if name == "channels" else None)
    assert "seven works" in text
    assert "42" in text.partition("seven works")[2]
    assert ("Thought: seven works" in text) == (name in DROPS)


@pytest.mark.parametrize("name", TEMPLATES)
def test_dropped_thoughts_are_noticed(name: str):
    renderer = Renderer(tokenizer_of(TEMPLATES[name]), Template(keep_thoughts=False))
    assert renderer.drops_thoughts == (name in DROPS)
    if name != "channels":
        assert ("seven works" in shown(name, keep=False)) == (name not in DROPS)


@pytest.mark.parametrize("name", ["opens", "hybrid"])
def test_a_cut_thought_has_no_answer_where_the_template_opens_it(name: str):
    renderer = Renderer(tokenizer_of(TEMPLATES[name]))
    turn = renderer.read(renderer.tokenizer("six, then 42", add_special_tokens=False).input_ids)
    assert parts(turn) == ("six, then 42", "")
    assert answer_of(turn + "</think>42") == "42"
    assert renderer.read([]) == ""


@pytest.mark.parametrize("turn", [
    "<think>\nsix\n</think>\n\n42", "<think>six</think>42", "six</think>42", "42"])
def test_a_turn_is_trained_with_one_opening_mark(turn: str):
    renderer = Renderer(tokenizer_of(TEMPLATES["opens"]))
    whole = renderer.tokenizer.decode([*renderer.render(FAILED[:1]), *renderer.write(turn)])
    assert whole.count("<think>") == whole.count("</think>") == 1
    thought, answer = parts(whole.partition("<|assistant|>")[2])
    assert (thought, answer.strip()) == (parts(turn).thought or "", "42")


def test_template_arguments_reach_the_template():
    tokenizer = tokenizer_of(TEMPLATES["hybrid"])
    silent = Renderer(tokenizer, Template('{"enable_thinking": false}'))
    assert tokenizer.decode(silent.render(FAILED[:1])).endswith("<think>\n\n</think>\n\n")
    assert silent.read(tokenizer("42", add_special_tokens=False).input_ids) == "42"
    assert opened_thought(tokenizer, Template()) == "<think>\n"


def test_a_pinned_date_is_printed_on_any_day():
    tokenizer = tokenizer_of(TEMPLATES["dated"])
    texts = [tokenizer.decode(render(tokenizer, FAILED, template=Template(arguments)))
             for arguments in ('{"date": "2025-03-01"}', '{"date": "2025-03-02"}', None)]
    assert [text[:40].partition("Date: ")[2][:11] for text in texts] == [
        "01 Mar 2025", "02 Mar 2025", date.today().strftime("%d %b %Y")]


@pytest.mark.parametrize(("arguments", "message"), [
    ("enable_thinking", "is not JSON"), ("[1]", "must be a JSON object"),
    ('{"tools": []}', "rrr itself gives the template tools"), ('{"date": "today"}', "must be a date such as"),
])
def test_unfit_template_arguments_are_refused(arguments: str, message: str):
    with pytest.raises(RrrError, match=message) as caught:
        parsed(arguments)
    assert caught.value.exit_code == USAGE


def marked():
    """A tokenizer of bytes whose roles and marks are special tokens."""
    tokenizer = tokenizer_of(TEMPLATES["plain"].replace("[INST]", "<|user|>").replace("[/INST]", "<|assistant|>"))
    tokenizer.add_special_tokens({"additional_special_tokens": [
        "<|user|>", "<|assistant|>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "<|channel|>",
        "<|python_start|>", "<|python_end|>", "<｜tool▁sep｜>", "<arg_key>", "<|inner_prefix|>"]})
    return tokenizer


WORDS = st.lists(st.sampled_from(
    ["</s>", "<s>", "<|user|>", "<|assistant|>", "[TOOL_CALLS]", "[ARGS]", " ", "a", "é", "<", "|>", "0"]), max_size=8)


@given(WORDS.map("".join))
@settings(deadline=None, max_examples=40)
def test_text_that_spells_a_special_token_stays_text(words: str):
    tokenizer = marked()
    special = special_tokens(tokenizer).values()

    def ids(text: str) -> list[int]:
        tools = json.dumps([{"type": "function", "function": {"name": "f", "description": text}}])
        return render(tokenizer, (Message("user", f"x{text}y"), Message("tool", text), Message("user", "z")), tools)

    assert sum(i in special for i in ids(words)) == sum(i in special for i in ids("a"))
    assert f"x{words}y" in tokenizer.decode(ids(words))
    if not any(text in words for text in special_tokens(tokenizer)):
        turns = [{"role": "user", "content": words}]
        assert render(tokenizer, [Message("user", words)]) == tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_dict=True)["input_ids"]


def test_the_models_own_marks_stay_tokens_and_its_other_special_tokens_text():
    tokenizer = marked()
    names = {i: text for text, i in special_tokens(tokenizer).items()}
    turn = '[TOOL_CALLS]f[ARGS]{"a": "</s><|user|>"}'
    chat = [Message("user", "1"), Message("assistant", turn), Message("user", "2")]
    expected = ["[TOOL_CALLS]", "[ARGS]"]
    in_chat = [names[i] for i in render(tokenizer, chat) if i in names]
    assert in_chat == ["<s>", "<|user|>", "<|assistant|>", *expected, "</s>", "<|user|>", "<|assistant|>"]
    assert [names[i] for i in Renderer(tokenizer).write(turn) if i in names] == expected
    assert decode(tokenizer, Renderer(tokenizer).write(turn)) == turn


def test_a_chat_without_a_template_and_a_vocabulary_with_the_token_in_it(random_model: Path):
    words = load_tokenizer(ResolvedModel("words", random_model, None))
    for tokenizer in (tokenizer_of(None), words):
        plain, spelled = (render(tokenizer, [Message("user", text)]) for text in ("yes", "yes </s> <s> yes"))
        for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
            assert plain.count(token) == spelled.count(token)


@pytest.mark.parametrize("text", [
    '[TOOL_CALLS]f[ARGS]{"a": 1}', "<|python_tag|>f(a=1)", "<|channel|>final",
    "<|python_start|>[f(a=1)]<|python_end|>", "f<｜tool▁sep｜>{}", "f<arg_key>a", "<|inner_prefix|>hm"])
def test_marks_of_calls_and_thoughts_survive_decoding(text: str):
    tokenizer = marked()
    ids = tokenizer(text, add_special_tokens=False).input_ids
    control = [tokenizer.bos_token_id, tokenizer.convert_tokens_to_ids("<|user|>"), tokenizer.eos_token_id]
    assert decode(tokenizer, [*control, *ids, *control]) == text
