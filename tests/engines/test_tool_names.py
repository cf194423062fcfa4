"""Tools whose names no server takes: renamed in the request, and under their own names in what comes back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrr_cli.tool_names import for_server, from_server, server_names

FITS = re.compile("[A-Za-z0-9_-]{1,64}")


def tools_of(*names: str) -> str:
    return json.dumps([{"type": "function", "function": {"name": name, "parameters": {}}} for name in names])


@given(st.lists(st.text("ab._-: ", max_size=5) | st.text(max_size=90), max_size=12))
@settings(max_examples=60, deadline=None)
def test_every_name_fits_and_is_of_one_tool(names: list[str]):
    renamed = server_names(names)
    assert renamed.keys() == set(names)
    assert len(set(renamed.values())) == len(renamed)
    assert all(FITS.fullmatch(short) for short in renamed.values())
    assert all(renamed[name] == name for name in names if FITS.fullmatch(name))
    assert server_names(names[::-1]) == renamed


def test_a_name_stays_readable():
    assert server_names(["math.factorial"]) == {"math.factorial": "math_factorial"}
    long = server_names(["x" * 70, "a.b", "a_b"])
    assert long["a_b"] == "a_b"
    assert re.fullmatch("x{55}_[0-9a-f]{8}", long["x" * 70])
    assert re.fullmatch("a_b_[0-9a-f]{8}", long["a.b"])


def test_a_hash_that_is_taken_is_not_given_again():
    taken = server_names(["a.b", "a_b"])["a.b"]
    assert len(set(server_names(["a.b", "a_b", taken]).values())) == 3


def test_what_comes_back_has_the_tools_own_names():
    tools = tools_of("math.factorial", "поиск", "plain")
    sent = [tool["function"]["name"] for tool in for_server(tools)]
    text = " ".join(f'<tool_call>{{"name": "{name}", "arguments": {{"name": "x"}}}}</tool_call>' for name in sent)
    own = " ".join(f'<tool_call>{{"name": "{name}", "arguments": {{"name": "x"}}}}</tool_call>'
                   for name in ("math.factorial", "поиск", "plain"))
    assert from_server(text, tools) == own
    assert from_server("math_factorial is prose", tools) == "math_factorial is prose"
    assert for_server('[{"name": "a.b"}]') == [{"name": "a.b"}]  # of another form: not ours to change


def test_a_server_that_refuses_names_can_be_used(rrr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("httpx")
    from openai_server import scripted_server

    parameters = {"type": "dict", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    names = ("pets.find", "pets_find", "猫.find")
    tools = [{"name": name, "description": "", "parameters": parameters} for name in names]
    row: dict[str, Any] = {
        "question": [[{"role": "user", "content": "Where is Tom?"}]], "function": tools, "split": "train",
        "ground_truth": [{"pets.find": {"name": ["Tom"]}}]}
    data, script = tmp_path / "rows.jsonl", tmp_path / "script.json"
    data.write_text(json.dumps(row) + "\n")
    script.write_text(json.dumps({"default": "no"}))
    short = server_names(names)["pets.find"]
    call = {"id": "1", "type": "function", "function": {"name": short, "arguments": '{"name": "Tom"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    answer = {"choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}],
              "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with scripted_server(script) as server:
        server.trouble({"answer": answer})
        done = rrr("mine-failures", "--task", "function_calling", "--data", data, "--engine", "openai", "--base-url",
                   server.url, "--model", "m", "--concurrency", 1, "--samples", 2, "--stop-at-failure", 0, "--run",
                   tmp_path / "run", "--json")
        sent = [tool["function"]["name"] for tool in server.seen()[0]["body"]["tools"]]
    assert done.code == 0, done.err
    assert json.loads(done.out)["passed"] == 1
    assert len(set(sent)) == 3
    assert all(FITS.fullmatch(name) for name in sent)
    passed = "SELECT transcript[1].content AS said FROM attempts WHERE success"
    shown = rrr("sql", passed, "--run", tmp_path / "run", "--format", "jsonl")
    assert '{"name": "pets.find", "arguments": {"name": "Tom"}}' in json.loads(shown.out)["said"]
