"""Which texts are calls of a tool: the forms of model families, forms that aren't read, and mere mentions of a name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrr_cli.records import Message, Problem
from rrr_cli.tasks.function_calling import FunctionCalling, make_problem
from rrr_cli.tasks.function_calling.calls import Call, Tools
from rrr_cli.tasks.function_calling.parse import read_calls
from rrr_cli.tasks.function_calling.schemas import tool_schema
from rrr_cli.tasks.solves import solves

SCHEMA = {"type": "object", "properties": {
    "to": {"type": "string"}, "count": {"type": "integer"}, "urgent": {"type": "boolean"},
    "lines": {"type": "array", "items": {"type": "string"}}, "extra": {"type": "object"}}, "required": ["to"]}
NAMES = ("send_mail", "mail.search", "Delete Mail", "поиск")
TOOLS = [tool_schema({"name": name, "description": "", "parameters": SCHEMA}) for name in NAMES]
OFFERED = Tools.of({name: SCHEMA for name in NAMES})
FIRST = Call("send_mail", {
    "to": "Ann", "count": -2, "urgent": True, "lines": ["a, b", "c)"], "extra": {"k": [1.5, None]}})
SECOND = Call("mail.search", {"to": "Bob"})
FIRST_JSON, SECOND_JSON = json.dumps(FIRST.arguments), json.dumps(SECOND.arguments)
PYTHONIC = ("send_mail(to='Ann', count=-2, urgent=True, lines=[\"a, b\", 'c)'], extra={'k': (1.5, None)})",
            "mail.search(to='Bob')")


def problem_of(*calls: Call) -> Problem:
    return make_problem([Message("user", "write to Ann")], TOOLS, calls, "train", "test")


def verdict_of(text: str, *calls: Call):
    return FunctionCalling().verify(problem_of(*calls), [Message("assistant", text)])


def coder(call: Call) -> str:
    """As Qwen3-Coder's template writes it."""
    written = {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in call.arguments.items()}
    parameters = "".join(f"<parameter={k}>\n{v}\n</parameter>\n" for k, v in written.items())
    return f"<tool_call>\n<function={call.name}>\n{parameters}</function>\n</tool_call>"


@pytest.mark.parametrize(
    "text",
    [
        f"[{', '.join(PYTHONIC)}]", "\n".join(PYTHONIC), f"[{PYTHONIC[0]}]\n[{PYTHONIC[1]}]", "; ".join(PYTHONIC),
        f"[\n  {PYTHONIC[0]},\n  {PYTHONIC[1]},\n]",
        f"<|python_tag|>{'; '.join(PYTHONIC)}<|eom_id|>",
        f"Like this:\n```python\n{PYTHONIC[0]}\n{PYTHONIC[1]}\n```\nDone.",
        f"```\n[{', '.join(PYTHONIC)}]\n```", f"<|python_start|>[{', '.join(PYTHONIC)}]<|python_end|>",
        f"I write.[TOOL_CALLS]send_mail[ARGS]{FIRST_JSON}[TOOL_CALLS]mail.search[ARGS]{SECOND_JSON}</s>",
        f"[TOOL_CALLS]send_mail[CALL_ID]a1b2c3d4e[ARGS]{FIRST_JSON}[TOOL_CALLS]mail.search[CALL_ID]z[ARGS]{SECOND_JSON}",
        f"send_mail{FIRST_JSON}mail.search{SECOND_JSON}", f"send_mail {FIRST_JSON}\nmail_search {SECOND_JSON}",
        f"<function=send_mail>{FIRST_JSON}</function><function=mail.search>{SECOND_JSON}</function>",
        f"First the mail.\n{coder(FIRST)}\n{coder(SECOND)}",
        "".join(f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>\n"
                for name, arguments in (("send_mail", FIRST_JSON), ("mail.search", SECOND_JSON))),
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>send_mail<｜tool▁sep｜>{FIRST_JSON}<｜tool▁call▁end｜>"
        f"<｜tool▁call▁begin｜>mail_search<｜tool▁sep｜>{SECOND_JSON}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        f"<|tool_call_begin|>functions.send_mail:0<|tool_call_argument_begin|>{FIRST_JSON}<|tool_call_end|>"
        f"<|tool_call_begin|>functions.mail.search:1<|tool_call_argument_begin|>{SECOND_JSON}<|tool_call_end|>",
        f"<|channel|>commentary to=functions.send_mail <|constrain|>json<|message|>{FIRST_JSON}<|call|>"
        f"assistantcommentary to=functions.mail.search json{SECOND_JSON}",
        json.dumps([{"type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
                    for c in (FIRST, SECOND)]),
        f'<|tool_call|>[{{"name": "send_mail", "arguments": {FIRST_JSON}}}, {{"name": "mail_search", "arguments": '
        f"{SECOND_JSON}}}]<|/tool_call|>",
    ],
)
def test_the_calls_of_other_families_are_read(text: str):
    assert read_calls(text, OFFERED) == [FIRST, SECOND]
    assert verdict_of(text, SECOND, FIRST).success
    assert verdict_of(f"Sure? {PYTHONIC[0]}\n</think>\n{text}", SECOND, FIRST).success
    assert verdict_of(text).error_type == "extra_call"
    assert solves(FunctionCalling(), problem_of(SECOND, FIRST), f"You should write: {text} That is all.")


UNREAD = (
    "send_mail", "send_mail(", "[send_mail(to='An", "send_mail('Ann')", "send_mail(Ann)", "send_mail(to=Ann)",
    "print(send_mail(to='Ann'))", "x = send_mail(to='Ann')",
    "send_mail(to='Ann', to='Bob')", "send_mail(to='An' 'n')", "send_mail(to=f'Ann')", "send_mail(to=open('x').read())",
    "send_mail(**{'to': 'Ann'})", "I call send_mail(to='Ann').", "The call: send_mail{\"to\": \"Ann\"}",
    "[send_mail(to='Ann']",
    "[TOOL_CALLS]send_mail", "[TOOL_CALLS]send_mail[ARGS]{\"to\": \"Ann\"", "<|python_tag|>send_mail to Ann",
    "<function=send_mail>to Ann</function>", "<function=send_mail><parameter=to>Ann</function>",
    "<function=send_mail>{}",
    "<function=send_mail><parameter=to>A</parameter><parameter=to>B</parameter></function>",
    '<invoke name="send_mail"><parameter name="to">Ann</parameter></invoke>', "<send_mail><to>Ann</to></send_mail>",
    '<send_mail to="Ann"/>', "<function_calls>send_mail</function_calls>", "<｜tool▁call▁begin｜>send_mail",
    "```tool_code\nprint(send_mail(to='Ann'))\n```", "So:\n```python\nr = mail.search(to='Ann')\nprint(r)\n```",
    "```json\n{\"tool\": \"send_mail\", \"to\": \"Ann\"}\n```\nDone.", "functions.send_mail[{\"to\": \"Ann\"}]",
    "Action: send_mail\nAction Input: {\"to\": \"Ann\"}", "name: send_mail\narguments:\n  to: Ann",
    "send_mail:\n  to: Ann",
    "send_mail --to Ann", "Call send_mail with {\"to\": \"Ann\"}.",
    "functionsend_mail\n```json\n{\"to\": \"Ann\"}\n```",
    "{'name': 'send_mail', 'arguments': {'to': 'Ann'}}", '{"send_mail": {"to": "Ann"}}', "Delete Mail(Ann)",
    "mail_search(to=Ann)", "to=functions.send_mail Ann", "<tool_call>send_mail(to=Ann)</tool_call>",
    '<｜DSML｜function_calls>\n<｜DSML｜invoke name="send_mail">\n<｜DSML｜parameter name="to">Ann</｜DSML｜parameter>',
    '<|recipient|>send_mail\n<|content|>{"to": "Ann"}<|stop|>', "[send_mail(to='</think> I am Ann', x)]",
    "send_mail(lines=" + "[" * 40 + "]" * 40 + ")", "send_mail(count=" + "9" * 5000 + ")", "send_mail(count=1e999)",
)


@pytest.mark.parametrize("text", UNREAD)
def test_a_call_in_another_form_is_a_format_error_and_never_an_abstention(text: str):
    verdict = verdict_of(text)
    assert (verdict.success, verdict.error_type) == (False, "format")
    assert verdict_of(text, Call("send_mail", {"to": "Ann"})).error_type == "format"


@pytest.mark.parametrize(
    "text",
    [
        "I could call send_mail, but you didn't say to whom.",
        "`send_mail` needs `to`; mail.search (which I have) too.",
        "send_mail(to, count) takes two arguments, and Delete Mail() none.", "You'd use send_mail() for that.",
        "Tools:\n- send_mail: writes\n- mail.search: looks {for mail}",
        "send_mails(to='Ann') isn't a tool that I have.",
        "Here you are:\n```python\nimport smtplib\nprint(smtplib.SMTP(host='x'))\n```",
        "As JSON:\n```json\n{\"to\": [1]}\n```\nThat is it.",
        "f(x) = x[1] {a}", "The <b>send_mail</b> tool is of no use.", "[1] says it rains.", "[]",
        "Maybe send_mail(to='Ann')?\n</think>\nNone of the tools can do that.",
    ],
)
def test_to_mention_a_tool_is_not_to_call_it(text: str):
    assert verdict_of(text).success
    assert verdict_of(text, FIRST).error_type == "no_call"


@pytest.mark.parametrize(
    "text", ["", " \n", "<think>hm, send_mail", "<think>no</think>", "...", "<|im_end|>", "</s>", "```\n```", "\u200b"])
def test_an_answer_without_a_word_never_passes(text: str):
    assert not verdict_of(text).success


MARKS = ("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<function=a>", "</function>", "</parameter>",
         "```", "\n```\n", "to=functions.a ", "<think>", "</think>", "[ARGS]", "'", '"', "\\", "), send_mail(to='x')",
         ";")


@pytest.mark.parametrize("mark", MARKS)
def test_marks_in_a_value_are_text(mark: str):
    call = Call("send_mail", {"to": f"from {mark} on"})
    arguments = json.dumps(call.arguments)
    body = f'{{"name": "send_mail", "arguments": {arguments}}}'
    forms = [body, f"<tool_call>{body}</tool_call>", f"[TOOL_CALLS][{body}]", f"send_mail{arguments}",
             f"Look:\n```json\n{body}\n```\nok", f"<function=send_mail>{arguments}</function>", f"<|python_tag|>{body}"]
    if "think" not in mark:  # outside JSON it ends a thought
        forms += [f"[send_mail(to={call.arguments['to']!r})]", coder(call)]
    for text in forms:
        assert read_calls(text, OFFERED) == [call], text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab'\"\\é", max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.builds(
    Call, st.sampled_from(NAMES),
    st.dictionaries(st.sampled_from(["a", "to", "город"]), VALUES, min_size=1, max_size=3)),
    min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_what_a_family_writes_is_read_back(calls: list[Call]):
    python = [f"{c.name}({', '.join(f'{k}={v!r}' for k, v in c.arguments.items())})" for c in calls]
    written = [json.dumps(c.arguments, ensure_ascii=False) for c in calls]
    for text in (
        f"[{', '.join(python)}]", "\n".join(python),
        "".join(f"[TOOL_CALLS]{c.name}[ARGS]{w}" for c, w in zip(calls, written, strict=True)),
        "".join(f"<function={c.name}>{w}</function>\n" for c, w in zip(calls, written, strict=True)),
    ):
        if "<think>" not in text and "</think>" not in text:
            assert read_calls(text, OFFERED) == calls


@given(st.lists(st.sampled_from([
    *MARKS, *NAMES, "(", ")", "{", "}", "[", "]", ",", "to", "=", ":", '"to": "Ann"', "1", "-", "None", "\n", " ",
    "\x00",
    "<parameter=to>", "<arg_key>", "<｜tool▁call▁begin｜>", "é", "\ud800", '{"name": "send_mail", "arguments": {}}',
]), max_size=30).map("".join))
@settings(max_examples=150, deadline=None)
def test_any_mixture_of_marks_gets_a_verdict(text: str):
    for calls in ((), (FIRST,)):
        verdict = verdict_of(text, *calls)
        assert verdict.success is (verdict.error_type is None)
        assert verdict.feedback.isprintable()
    assert solves(FunctionCalling(), problem_of(FIRST), text) is False


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        ("string", "5", "5"), ("string", "true", "true"), ("integer", "5", 5), ("number", "2", 2), ("boolean",
        "True", True),
        ("boolean", "false", False), ("array", "['a', 1]", ["a", 1]), ("object", '{"a": null}', {"a": None}),
        ("integer", "five", "five"), (["string", "integer"], "5", 5), (["string", "integer"], "[5]", "[5]"),
        (None, "5", 5), (None, "five", "five"),
    ],
)
def test_values_in_tags_are_typed_by_the_schema(kind: Any, written: str, value: Any):
    tools = Tools.of({"f": {"properties": {"a": {"type": kind} if kind else {}}}})
    assert read_calls(f"<function=f><parameter=a>{written}</parameter></function>", tools) == [Call("f", {"a": value})]
    glm = f"<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>{written}</arg_value>\n</tool_call>"
    assert read_calls(glm, tools) == [Call("f", {"a": value})]


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("Write send_mail ( to = 'Ann' , count=1 ) .", True),
        ('so {"arguments":{"count":1,  "to":"Ann"},"name":"send_mail"}', True),
        ("send_mail(count=1, to=\"Ann\")", True), ("send_mail(to='Ann')", False),
        ("send_mail(to='Bob', count=1)", False),
        ("<tool_call>{\"name\": \"send_mail\"", False), ("Call send_mail for Ann, once.", False),
    ],
)
def test_a_call_in_another_order_or_spacing_is_a_leak(text: str, leaks: bool):
    assert solves(FunctionCalling(), problem_of(Call("send_mail", {"to": "Ann", "count": 1})), text) is leaks
