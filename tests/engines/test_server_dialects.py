"""What single servers and gateways answer in words of their own: half answers, refused fields, filters, calls."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("httpx")

from httpx import Response
from openai_server import scripted_server

from rrr_cli.engines.base import Completion, Prompt, Sampling
from rrr_cli.engines.chat_completions import NEUTRAL, completion
from rrr_cli.engines.openai import OpenaiEngine
from rrr_cli.engines.server_faults import Fault, Kind, read
from rrr_cli.errors import RrrError
from rrr_cli.records import Message

SENT = ("model", "messages", "temperature", "top_p", "max_tokens", *NEUTRAL, "n", "seed")


def chat(message: object, finish: object = "stop", **more: object) -> dict[str, object]:
    choice = {"message": message, "finish_reason": finish} | more
    return {"choices": [{key: value for key, value in choice.items() if value is not None}]}


def heard(status: int, body: object) -> Completion | Fault:
    return read(Response(status, **({"text": body} if isinstance(body, str) else {"json": body})), SENT)


@pytest.mark.parametrize(("status", "body", "kind"), [
    (200, chat({"content": "half of"}, error={"code": 504, "message": "upstream timed out"}), Kind.PASSES),
    (200, chat({"content": "half of"}) | {"error": {"message": "connection lost"}}, Kind.PASSES),
    (200, chat({"content": "half of"}, "engine_error"), Kind.PASSES),
    (200, chat({"content": "half of"}, {"type": "abort", "message": "queue is full"}), Kind.PASSES),
    (200, chat(None, "stop"), Kind.PASSES),
    (200, chat(None, "content_filter"), Kind.FILTERED),
    (200, chat({"content": "half of"}, "content_filter: RECITATION"), Kind.FILTERED),
    (400, {"error": "The model has been unloaded."}, Kind.PASSES),
    (400, {"error": {"message": "the engine is restarting"}}, Kind.PASSES),
    (400, {"error": {"message": "This model's context is too busy a word"}}, Kind.REFUSED),
    (498, {"error": {"message": "no capacity on this tier"}}, Kind.PASSES),
    (499, "", Kind.PASSES),
    (429, {"error": {"message": "account in arrears"}}, Kind.ENDS),
])
def test_half_an_answer_and_a_server_out_of_order_are_tried_again(status: int, body: object, kind: Kind) -> None:
    fault = heard(status, body)
    assert isinstance(fault, Fault)
    assert fault.kind is kind


@pytest.mark.parametrize(("message", "fields"), [
    ("a topK value of -1 isn't supported", ("top_k",)), ("Argument not supported: minP", ("min_p",)),
    ("Repetition penalty can't be set", ("repetition_penalty",)), ("top-k must be positive", ("top_k",)),
    ("property 'top_k' is unsupported, did you mean 'top_p'?", ("top_k",)),
    ("unknown field `min_p`, expected one of `model`, `top_p`, `seed`", ("min_p",)),
])
def test_a_field_is_known_in_other_spellings_and_advice_names_none(message: str, fields: tuple[str, ...]) -> None:
    fault = heard(400, {"error": {"message": message}})
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.fields) == (Kind.FIELD, fields)


def test_what_the_model_wrote_is_its_answer_wherever_it_stands() -> None:
    written = heard(400, {"error": {"code": "tool_use_failed", "failed_generation": "<function=f>{1}"}})
    assert written == Completion("<function=f>{1}", None, "stop", None)
    block = [{"type": "text", "text": "so:"}, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}}]
    called = completion(chat({"content": block}, "tool_use"))
    assert called.text == 'so:\n<tool_call>{"name": "f", "arguments": {"a": [1]}}</tool_call>'
    assert completion(chat({"content": None}, "function_call_filter: MALFORMED_FUNCTION_CALL")).finish_reason == "stop"
    assert completion(chat(None, "length")).finish_reason == "length"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr("rrr_cli.engines.servers.FIRST_WAIT", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "script.json").write_text(json.dumps({"default": ["yes"]}))
    with scripted_server(tmp_path / "script.json") as server:
        yield server


def ask(server, **options):
    engine = OpenaiEngine("served", base_url=server.url, concurrency=1, **options)
    prompts = [Prompt((Message("user", word),), (1,)) for word in ("one", "two")]
    return [c for (c,) in engine.generate(prompts, Sampling(max_tokens=8))]


def test_a_window_of_unknown_length_gives_no_empty_answer(server):
    too_long = [400, {}, {"error": {"message": "Please reduce the length of the messages or completion."}}]
    server.trouble(too_long)
    cut, whole = ask(server)
    assert (cut.finish_reason, whole.text) == ("refused", "yes")
    assert "less than --max-tokens" in cut.reason
    server.trouble(too_long, too_long)  # for one token as well
    assert [c.finish_reason for c in ask(server)] == ["length", "stop"]


def test_temperature_1_is_left_out_after_top_p(server, capsys):
    both = [400, {}, {"error": {"message": "`temperature` and `top_p` can't be given together"}}]
    alone = [400, {}, {"error": {"message": "Unsupported parameter", "param": "temperature"}}]
    server.trouble(both, alone)
    assert [c.text for c in ask(server)] == ["yes", "yes"]
    assert capsys.readouterr().err.index("refuses top_p") < 200
    assert [("top_p" in r["body"], "temperature" in r["body"]) for r in server.seen()] == [
        (True, True), (False, True), (False, False), (False, False)]


def test_refused_template_arguments_name_their_option(server):
    server.trouble([400, {}, {"error": {"message": "Unrecognized request argument: chat_template_kwargs"}}])
    with pytest.raises(RrrError, match="--template-args, which this server can't use: leave it out"):
        ask(server, template_args='{"enable_thinking": false}')
