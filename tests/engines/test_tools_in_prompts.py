"""How a problem's tools reach a model: through its chat template if that shows them, else as plain text; once."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rrr_cli import prompts
from rrr_cli.engines.render import decode, render
from rrr_cli.records import Message

TOOL = {"type": "function", "function": {"name": "weather", "description": "w", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
TOOLS = json.dumps([TOOL])
TURNS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SHOWING = (
    "{{ bos_token }}{% if tools %}<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}</tools>{% endif %}" + TURNS
)
IGNORING = "{{ bos_token }}" + TURNS
REFUSING = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + TURNS
)
DROPPING = "{{ bos_token }}" + TURNS.replace(" %}<{{", " if m.role != 'system' %}<{{", 1)
# Shows that there are tools, without saying which.
HINTING = "{{ bos_token }}{% if tools %}Environment: ipython{% endif %}" + TURNS

ASK = Message("user", "Rain in Rome?")
FAILED = Message("assistant", '<tool_call>{"name": "weather"}</tool_call>')


def tokenizer_of(template: str | None) -> Any:
    """A tokenizer of bytes that puts a BOS before every text of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", *alphabet])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", chat_template=template)


def rendered(template: str | None, *messages: Message, tools: str | None = TOOLS) -> str:
    tokenizer = tokenizer_of(template)
    ids = render(tokenizer, messages, tools)
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    return decode(tokenizer, ids)


def test_a_template_that_shows_tools_gets_them():
    text = rendered(SHOWING, ASK, FAILED, Message("user", "Reflect."))
    assert text.startswith(f"<tools>{TOOLS[1:-1]}</tools><user>Rain in Rome?")
    assert "These tools can be called" not in text


@pytest.mark.parametrize("template", [IGNORING, HINTING], ids=["ignoring", "hinting"])
def test_ignored_tools_go_into_a_system_turn(template: str):
    text = rendered(template, ASK, FAILED)
    rest = f"<user>Rain in Rome?<assistant>{FAILED.content}<assistant>"
    assert text == f"<system>{prompts.TOOLS.format(tools=TOOLS)}{rest}"
    assert '<tool_call>{"name": "the tool", "arguments": {"argument": value}}</tool_call>' in text


def test_tools_join_an_existing_system_turn():
    text = rendered(IGNORING, Message("system", "Be brief."), ASK)
    assert text.startswith("<system>Be brief.\n\nThese tools can be called:")
    assert text.count("<system>") == 1


@pytest.mark.parametrize("template", [REFUSING, DROPPING], ids=["refusing", "dropping"])
def test_without_system_turns_tools_precede_the_request(template: str):
    text = rendered(template, ASK, FAILED)
    assert text == f"<user>{prompts.TOOLS.format(tools=TOOLS)}\n\nRain in Rome?<assistant>{FAILED.content}<assistant>"


def test_tools_without_a_template():
    text = rendered(None, ASK)
    assert text == f"system: {prompts.TOOLS.format(tools=TOOLS)}\n\nuser: Rain in Rome?\n\nassistant:"


@pytest.mark.parametrize("template", [SHOWING, IGNORING, REFUSING, None])
def test_without_tools_nothing_is_added(template: str | None):
    assert "tools" not in rendered(template, ASK, tools=None)


@pytest.mark.parametrize(
    ("family", "native"),
    [("qwen2_5", True), ("qwen3", True), ("llama3_1", True), ("llama3", False), ("phi3", False), ("gemma", False)],
)
def test_model_families_show_the_tools_once(family: str, native: bool):
    trl = find_spec("trl")
    folder = Path(str((trl.submodule_search_locations or ["none"])[0] if trl else "none")) / "chat_templates"
    path = folder / f"{family}.jinja"
    if not path.is_file():
        pytest.skip(f"TRL's copy of the {family} template isn't here: pip install 'rrr_cli[train]'")
    tokenizer = tokenizer_of(path.read_text())
    ids = render(tokenizer, (ASK, FAILED, Message("user", "Reflect.")), TOOLS)
    text = decode(tokenizer, ids)
    assert ids.count(tokenizer.bos_token_id) <= 1
    assert text.count('"city"') == 2  # the property and its name among the required ones
    assert ("These tools can be called" in text) is not native


def test_every_template_is_in_an_identity():
    own = {value for name, value in vars(prompts).items() if name.isupper() and isinstance(value, str)}
    defaults = {prompts.REFLECT, prompts.RETRY}  # they are among a task's words
    assert own - defaults == set(prompts.TEMPLATES.values())
    assert {*prompts.RETRY_AFTER_REFLECTION, *prompts.TRY_WITH_HINT, *prompts.REPAIRING} == prompts.TEMPLATES.keys()
