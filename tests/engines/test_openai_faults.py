"""What a server says where it doesn't answer as the API's page says: read right, and what it answers is never lost."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("httpx")

from httpx import Response
from openai_server import scripted_server

from rrr_cli.addresses import without_secrets
from rrr_cli.engines.base import Completion, Prompt, Sampling
from rrr_cli.engines.chat_completions import NEUTRAL, completion
from rrr_cli.engines.openai import OpenaiEngine
from rrr_cli.engines.server_faults import Kind, asked_wait, read
from rrr_cli.errors import RrrError
from rrr_cli.records import Message
from rrr_cli.store.artifacts import provenance
from rrr_cli.store.artifacts import read as rows_of

PARITY = f"{Path(__file__).parent.parent / 'parity_task.py'}:Parity"
SENT = ("model", "messages", "temperature", "top_p", "max_tokens", *NEUTRAL, "n", "seed")
FILTERED = [400, {}, {"error": {"message": "The response was filtered: see our content management policy.",
                                "innererror": {"code": "ResponsibleAIPolicyViolation"}}}]


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr("rrr_cli.engines.servers.FIRST_WAIT", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"default": ["yes", "yes no", "yes no yes"]}))
    with scripted_server(script) as server:
        yield server


@pytest.fixture
def flags(server, tmp_path) -> list[object]:
    return ["--run", tmp_path / "run", "--task", PARITY, "--max-tokens", 8, "--engine", "openai", "--concurrency", 1,
            "--base-url", server.url]


def mine(rrr, flags, *more):
    return rrr("mine-failures", *flags, "--model", "served", "--samples", 2, "--stop-at-failure", 0, "--json", *more)


def texts(run: Path, phase: str = "first") -> Counter[str]:
    """problem_id -> how many attempts of it stand in the table."""
    return Counter(a.problem_id for a in rows_of(run, "attempts") if a.phase == phase)


def said(status: int, body: object) -> Response:
    return Response(status, **({"text": body} if isinstance(body, str) else {"json": body}))


def chat(message: dict[str, object], finish: object = "stop", **more: object) -> dict[str, object]:
    return {"choices": [{"message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4}} | more


@pytest.mark.parametrize(("status", "body", "kind"), [
    (200, {"error": {"message": "upstream is gone"}}, Kind.PASSES),
    (200, {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}, Kind.PASSES),
    (200, {"error": {"message": "prompt is too long: 9 tokens > 8 maximum", "code": 400}}, Kind.TOO_LONG),
    (200, {"object": "error", "message": "not now", "code": 503}, Kind.PASSES),
    (200, "<html><body>Just a moment…</body></html>", Kind.PASSES),
    (200, {"choices": None}, Kind.PASSES),
    (200, chat({"content": "a"}, "cancelled"), Kind.PASSES),
    (200, chat({"content": ""}, None), Kind.PASSES),
    (200, chat({"content": ""}, "content_filter"), Kind.FILTERED),
    (409, {"error": "busy"}, Kind.PASSES),
    (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, Kind.PASSES),
    (503, {"error": "Model acme/m is currently loading", "estimated_time": 20.0}, Kind.PASSES),
    (429, {"error": {"message": "You exceeded your current quota", "details": [{"retryDelay": "7s"}]}}, Kind.PASSES),
    (429, {"error": {"message": "You exceeded your current quota, check your plan", "code": None}}, Kind.ENDS),
    (402, {"error": {"message": "Insufficient Balance"}}, Kind.ENDS),
    (403, {"error": {"message": "Your account has been deactivated"}}, Kind.ENDS),
    (404, {"detail": "Not Found"}, Kind.ENDS),
    (400, {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}, Kind.ENDS),
    (400, [{"error": {"message": "API key not valid. Please pass a valid API key."}}], Kind.ENDS),
    (308, "", Kind.ENDS),
    (403, {"error": {"message": "m requires moderation. Your input was flagged for \"violence\""}}, Kind.FILTERED),
    (400, {"error": {"message": "Content Exists Risk", "type": "invalid_request_error"}}, Kind.FILTERED),
    (400, {"error": {"message": "bad", "code": "data_inspection_failed"}}, Kind.FILTERED),
    (400, {"error": {"message": "Please reduce the length of the messages or completion."}}, Kind.TOO_LONG),
    (400, {"error": {"message": "messages.1.content: text content blocks must be non-empty"}}, Kind.REFUSED),
    (413, "<html>413 Request Entity Too Large</html>", Kind.REFUSED),
])
def test_what_a_server_means_is_read(status: int, body: object, kind: Kind) -> None:
    fault = read(said(status, body), SENT)
    assert isinstance(fault, Completion) is False
    assert fault.kind is kind


@pytest.mark.parametrize(("message", "context", "prompt"), [
    ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", 4096, 5000),
    ("The decoder prompt (length 600) is longer than the maximum model length of 512.", 512, 600),
    ("Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
     32768, 40000),
    ("input length and `max_tokens` exceed context limit: 197202 + 8192 > 200000", 200000, 197202),
    ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 1048576, 1200000),
    ("This model's maximum prompt length is 131072 but the request contains 137000 tokens.", 131072, 137000),
    ("too many tokens: the prompt cannot exceed 4081 - received 4099", 4081, 4099),
    ("`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2040 `inputs` tokens and 64 `max_new_tokens`",
     2048, 2040),
])
def test_the_lengths_are_read_in_any_servers_words(message: str, context: int, prompt: int) -> None:
    fault = read(said(422, {"error": {"message": message}}), SENT)
    assert (fault.kind, fault.overflow.context, fault.overflow.prompt_tokens) == (Kind.TOO_LONG, context, prompt)


@pytest.mark.parametrize(("status", "body", "fields"), [
    (400, {"error": {"message": "Unsupported value", "param": "seed"}}, ("seed",)),
    (422, {"detail": [{"loc": ["body", name], "msg": "Extra inputs are not permitted", "input": {"seed": 1}}
                      for name in ("top_k", "min_p")]}, ("top_k", "min_p")),
    (400, {"error": {"message": "Unrecognized request arguments supplied: min_p, repetition_penalty, top_k"}},
     ("top_k", "min_p", "repetition_penalty")),
    (400, {"error": "property 'n' is unsupported, number must be 1"}, ("n",)),
    (501, {"error": "seed is not implemented"}, ("seed",)),
    (500, {"detail": "generate() got an unexpected keyword argument 'min_p'"}, ("min_p",)),
    (400, {"error": {"message": "`temperature` and `top_p` cannot both be specified"}}, ("temperature", "top_p")),
])
def test_a_refused_field_is_read_in_any_words(status: int, body: object, fields: tuple[str, ...]) -> None:
    fault = read(said(status, body), SENT)
    assert (fault.kind, fault.fields) == (Kind.FIELD, fields)


def test_answers_of_other_shapes_are_read() -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    of_parts = completion(chat({"content": parts}))
    assert (of_parts.text, of_parts.thought) == ("ab", "hm")
    split = completion(chat({"content": "\nyes", "reasoning_content": "one, two"}))
    assert (split.text, split.thought) == ("\nyes", "one, two")
    assert split.turn == "<think>\none, two\n</think>\n\nyes"
    assert completion(chat({"content": None, "reasoning": "so"}, "length")).finish_reason == "length"
    assert completion(chat({"content": None, "refusal": "I can't."})).text == "I can't."
    called = completion(chat({"content": None, "function_call": {"name": "f", "arguments": {"a": 1}}}))
    assert called.text == '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    finishes = {finish: completion(chat({"content": "a"}, finish)).finish_reason for finish in (
        None, "eos_token", "end_turn", "repetition", "MAX_TOKENS", "model_length")}
    assert [finish for finish, meant in finishes.items() if meant == "length"] == ["MAX_TOKENS", "model_length"]
    for usage in (None, {}, {"prompt_tokens": 0, "completion_tokens": 0}, "none"):
        uncounted = completion(chat({"content": "a"}, usage=usage))
        assert (uncounted.tokens, uncounted.prompt_tokens) == (None, None)


def test_a_wait_is_read_in_milliseconds_and_out_of_the_body() -> None:
    assert asked_wait({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert asked_wait({"retry-after": "-5"}) is None
    assert asked_wait({}, "retryDelay: 37s") == 37


def test_a_field_that_changes_nothing_is_left_out_and_recorded(rrr, flags, server):
    refused = [422, {}, {"detail": [{"loc": ["body", name], "msg": "extra_forbidden"} for name in ("seed", "top_k")]}]
    server.trouble(refused)
    mined = mine(rrr, flags, "--task", PARITY.replace("Parity", "Impossible"), "--limit", 3)
    assert (mined.code, json.loads(mined.out)["left_out_of_requests"]) == (0, ["seed", "top_k"])
    assert mined.err.count("refuses seed: it is left out") == mined.err.count("refuses top_k: it is left out") == 1
    assert "--generation-config vllm" in mined.err
    bodies = [request["body"] for request in server.seen()]
    assert len(bodies) == 1 + 6
    assert not {"seed", "top_k"} & {name for body in bodies[1:] for name in body}
    assert provenance(flags[1], "attempts")[0]["left_out_of_requests"] == ["seed", "top_k"]


def test_a_refused_option_of_the_experiment_ends_in_one_line(rrr, flags, server):
    for option in ("temperature", "top_p"):
        server.trouble([400, {}, {"error": {"message": f"{option} does not support 0.7", "param": option}}])
        failed = mine(rrr, flags, "--limit", 3, f"--{option.replace('_', '-')}", 0.7, "--overwrite")
        assert failed.code == 3
        assert f"without --{option.replace('_', '-')} it would be another experiment" in failed.err


def test_a_placeholder_key_hides_nothing(rrr, flags, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "e")
    server.trouble([404, {}, {"error": {"message": "there is no model e here"}}])
    assert "there is no model *** here" in mine(rrr, flags, "--limit", 1).err


@pytest.mark.parametrize("trouble", [[FILTERED], [[400, {}, {"error": "I'd rather not"}]], [500] * 8])
def test_one_prompt_without_an_answer_is_no_failure_and_asked_for_alone(rrr, flags, server, trouble):
    server.trouble(None, None, None, *trouble)
    mined = mine(rrr, flags, "--limit", 6)
    assert mined.code == 0, mined.err
    assert json.loads(mined.out)["refused"] == 1
    assert mined.err.count("1 of 6 problems have no whole answer") == 1
    assert sorted(texts(flags[1]).values()) == [1, 2, 2, 2, 2, 2]  # the other try of its problem is kept
    (noted,) = provenance(flags[1], "attempts")[0]["unanswered"].items()
    assert texts(flags[1])[noted[0]] == 1
    asked = len(server.seen())
    assert "refused" not in json.loads(mine(rrr, flags, "--limit", 6).out)
    assert (len(server.seen()) - asked, set(texts(flags[1]).values())) == (1, {2})
    problem = [a for a in rows_of(flags[1], "attempts") if a.problem_id == noted[0]]
    assert sorted(a.sample_index for a in problem) == [0, 1]


def test_what_was_answered_is_written_when_the_server_dies(rrr, flags, server):
    server.trouble(*[None] * 7, *[503] * 500)
    failed = mine(rrr, flags, "--limit", 6)
    assert (failed.code, failed.err.count("\n")) == (4, 1)
    assert "gave no answer in 8 tries; the last: 503" in failed.err
    assert sum(texts(flags[1]).values()) == 7
    server.trouble()
    asked = len(server.seen())
    assert mine(rrr, flags, "--limit", 6).code == 0
    assert (len(server.seen()) - asked, set(texts(flags[1]).values())) == (5, {2})


def test_a_server_that_refuses_everything_is_one_line(rrr, flags, server):
    server.trouble(*[FILTERED] * 99)
    failed = mine(rrr, flags, "--limit", 3)
    assert (failed.code, "answered none of the 3 problems: 400 The response was filtered" in failed.err) == (5, True)
    assert not texts(flags[1])
    server.trouble(*[[400, {}, {"error": "something is wrong"}]] * 99)
    asked = len(server.seen())
    failed = mine(rrr, flags, "--limit", 9)
    assert (failed.code, "refuses the request for --model served: 400 something is wrong" in failed.err) == (3, True)
    assert len(server.seen()) - asked <= 3


def test_later_stages_keep_what_was_answered(rrr, flags, server):
    assert mine(rrr, flags, "--limit", 8).code == 0
    more = ("--model", "served", "--json", "--limit", 4, "--in-flight", 99)  # all that is asked first goes first
    reflect = ("reflect", *flags, "--reflections", 2, "--retries", 2, "--reflection-tokens", 8, *more)
    server.trouble(None, FILTERED, *[None] * 9, FILTERED)  # a reflection of 8, then a retry of 14
    asked = len(server.seen())
    assert json.loads(rrr(*reflect).out)["refused"] == 2
    assert (len(list(rows_of(flags[1], "reflections"))), sum(texts(flags[1], "retry").values())) == (7, 13)
    again = rrr(*reflect)
    assert (json.loads(again.out)["reflections"], json.loads(again.out)["retries"]) == (8, 16)
    assert len(server.seen()) - asked == 8 + 14 + 1 + 3
    repair = ("repair", *flags, "--repairs", 2, *more)
    server.trouble(None, FILTERED)
    assert json.loads(rrr(*repair).out)["repairs"] == 7
    assert json.loads(rrr(*repair).out)["repairs"] == 8
    evaluate = ("eval", *flags, "--model", "base=served", "--reflection-tokens", 8, "--self-consistency", 2, "--json",
                "--in-flight", 99)
    server.trouble(None, FILTERED, *[None] * 10, FILTERED)
    first = rrr(*evaluate)
    assert json.loads(first.out)["refused"] == 2
    assert len(list(rows_of(flags[1], "evaluations"))) == 8
    assert len({row.problem_id for row in rows_of(flags[1], "evaluations")}) == 8
    assert "refused" not in json.loads(rrr(*evaluate).out)
    assert len({row.problem_id for row in rows_of(flags[1], "evaluations")}) == 10


def test_a_server_that_counts_no_tokens_can_be_shown_and_reported(rrr, flags, server):
    uncounted = {"answer": {"choices": [{"message": {"content": "no"}, "finish_reason": "stop"}]}}
    server.trouble(*[uncounted] * 80)
    few = ("--limit", 3, "--reflection-tokens", 8, "--json")
    assert mine(rrr, flags, "--limit", 3).code == 0
    assert rrr("reflect", *flags, "--model", "served", *few).code == 0
    server.trouble(FILTERED, *[uncounted] * 10, FILTERED, *[uncounted] * 20)  # a first try of each model
    evaluated = json.loads(rrr("eval", *flags, "--model", "a=served", "--model", "b=served2", *few).out)
    assert evaluated["models"][0]["reflections"]["mean_tokens"] is None
    assert evaluated["refused"] == 2
    reflection = next(iter(rows_of(flags[1], "reflections")))
    shown = rrr("show", reflection.reflection_id, "--run", flags[1])
    assert shown.code == rrr("report", flags[1], "-o", flags[1] / "page.html").code == 0
    assert "None" not in shown.out


def good(message: dict[str, object] | str, finish: object = "stop", **more: object) -> dict[str, object]:
    return {"answer": chat({"content": message} if isinstance(message, str) else message, finish, **more)}


ODD_ANSWERS = [  # each is an answer of "odd words" …
    good("odd words", None), good("odd words", "eos_token"), good("odd words", usage=None), good("odd words", "end"),
    good({"content": [{"type": "text", "text": "odd words"}]}), good({"content": "odd words", "reasoning": "hm"}),
]
ODD_FAULTS = [  # … and each of these none
    {"answer": {"error": {"message": "provider failed"}}}, {"answer": {"choices": []}}, {"answer": {"choices": None}},
    {"answer": "{\"choices\": [{\"mess"}, {"answer": "<html></html>"}, {"answer": ""}, good("half", "abort"),
    good("half", "error"), good("", "load"), 408, 409, 424, 425, 500, 502, 503, 504, 529, "drop",
    [429, {"retry-after-ms": "3"}], [429, {"Retry-After": "-1"}], [429, {"Retry-After": "0"}], [503, {}, "loading"],
    FILTERED, [400, {}, {"error": {"message": "seed: Extra inputs are not permitted"}}],
]


def test_a_stage_of_300_rows_ends_on_a_server_that_answers_in_odd_ways(rrr, flags, server):
    draw = random.Random(5)
    queue = [draw.choice(ODD_ANSWERS + ODD_FAULTS) if draw.random() < 0.5 else None for _ in range(2000)]
    server.trouble(*queue)
    flags = [*flags, "--task", "countdown", "--level", "paper", "--concurrency", 6, "--limit", 300]
    answered: Counter[str] = Counter()
    for _ in range(3):  # the same command asks for what a content filter took away
        assert rrr("mine-failures", *flags, "--model", "served", "--samples", 1).code == 0
    for request, trouble in zip(server.seen(), queue, strict=False):
        if trouble is None or trouble in ODD_ANSWERS:
            answered[request["body"]["messages"][-1]["content"]] += 1
    assert (len(answered), set(answered.values())) == (300, {1})
    problems = {p.problem_id: p.prompt[-1].content for p in rows_of(flags[1], "problems")}
    rows = list(rows_of(flags[1], "attempts"))
    assert Counter(problems[a.problem_id] for a in rows) == answered
    assert {a.transcript[-1].content.split("\n")[-1] for a in rows} == {"yes", "yes no", "yes no yes", "odd words"}


@pytest.mark.parametrize(("address", "shown"), [
    ("http://localhost:8000/v1", True), ("https://host/openai/deployments/gpt-4o-mini-2024-07-18/v1beta", True),
    ("https://host/models/meta-llama/Llama-3.1-8B-Instruct", True), ("https://host/compatible-mode/v1", True),
    ("https://host/v1/KEY_abcdef", False), ("https://host/k/zq9x8c7v/v1", False),
    ("https://host/v1?key=abcdefgh", False),
    ("https://me:abcdefgh@host/v1", False), ("https://host/8f14e45fceea167a5a36dedd4bea2543/openai", False),
])
def test_an_address_is_shown_without_its_secrets(address: str, shown: bool) -> None:
    assert (without_secrets(f"--base-url={address} and more") == f"--base-url={address} and more") is shown
    assert without_secrets(without_secrets(address)) == without_secrets(address)


def test_a_key_in_the_path_is_sent_and_never_shown(rrr, flags, server, tmp_path):
    secret = "tok_9fK2mQ7xW4"
    with_secret = [*flags[:-1], server.url.replace("/v1", f"/{secret}/v1")]
    output = mine(rrr, with_secret, "--limit", 3)
    assert output.code == 0
    output += mine(rrr, [*flags[:-1], with_secret[-1].replace(secret, "tok_another1"), "--limit", 4])
    assert "base_url was" in output[-1]  # another key may be another account: the configuration differs
    server.trouble([404, {}, f"nothing at /{secret}/v1"])
    output += mine(rrr, [*with_secret, "--limit", 3, "--overwrite"])
    output += rrr("reflect", *with_secret[:2], "--base-url", with_secret[-1])
    assert secret not in "".join(map(str, output))
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]
    with pytest.raises(RrrError) as caught:
        OpenaiEngine("m", base_url=f"http://127.0.0.1:9/{secret}")
    assert secret not in str(caught.value)


def test_neighbours_of_a_prompt_that_fails_are_answered_by_the_engine_alone(server):
    served = OpenaiEngine("served", base_url=server.url, concurrency=1)
    prompts = [Prompt((Message("user", f"number {i}"),), (i,)) for i in range(5)]
    server.trouble(None, *[500] * 8)
    finishes = [c.finish_reason for (c,) in served.generate(prompts, Sampling(max_tokens=8))]
    assert finishes == ["stop", "refused", "stop", "stop", "stop"]


@pytest.mark.parametrize("slow", [[1.0], [1.0, 2.0, 3.0]])
def test_ctrl_c_keeps_what_a_server_has_answered(flags, server, tmp_path, slow):
    server.trouble(*[None] * 5, *slow)
    command = [sys.executable, "-m", "rrr_cli", "mine-failures", *map(str, flags), "--model", "served",
               "--samples", "1", "--concurrency", str(len(slow))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while len(server.seen()) < 5 + len(slow):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert "stopped; what the server answered is written" in process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert 5 + len(slow) <= len(server.seen()) == sum(texts(tmp_path / "run").values())
