"""The openai engine against a real server process on loopback, through the command line.

The server answers by seed, and fails in the way that a test asks for.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("httpx")

from openai_server import Server, scripted_server

from rrr_cli.engines import load_engine
from rrr_cli.engines.base import Prompt, Sampling
from rrr_cli.engines.openai import OpenaiEngine
from rrr_cli.engines.server_faults import asked_wait
from rrr_cli.errors import RrrError
from rrr_cli.records import Message
from rrr_cli.stages.mined import as_mined
from rrr_cli.store.artifacts import read
from rrr_cli.thoughts import answer_of
from rrr_cli.training.settings import Options as GrpoOptions

PARITY = f"{Path(__file__).parent.parent / 'parity_task.py'}:Parity"
SCRIPT = {"default": ["yes", "yes no", "yes no yes", "a b c d"], "rules": [["short explanation", "count the words"]]}
KEY = "sk-a-Key_that-must-not-show"
ONE = [Prompt((Message("user", "Using the numbers"),), (5,))]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("server") / "script.json"
    path.write_text(json.dumps(SCRIPT))
    return path


@pytest.fixture
def server(script, monkeypatch):
    monkeypatch.setattr("rrr_cli.engines.servers.FIRST_WAIT", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with scripted_server(script) as server:
        yield server


@pytest.fixture
def flags(server, tmp_path) -> list[object]:
    return ["--run", tmp_path / "run", "--task", PARITY, "--max-tokens", 8, "--engine", "openai",
            "--base-url", server.url]


def mine(rrr, flags, *more):
    return rrr("mine-failures", *flags, "--model", "served", "--samples", 3, "--stop-at-failure", 0, "--json", *more)


def engine(server: Server) -> OpenaiEngine:
    return load_engine("openai", "served", base_url=server.url)


def answer(message: dict[str, object], finish: str = "stop") -> dict[str, object]:
    return {"answer": {"choices": [{"message": message, "finish_reason": finish}],
                       "usage": {"prompt_tokens": 3, "completion_tokens": 4}}}


def test_every_stage_runs_on_a_server(rrr, flags, script, tmp_path):
    (tmp_path / "reference").mkdir()
    assert mine(rrr, flags, "--limit", 20).code == 0
    reflected = rrr("reflect", *flags, "--reflection-tokens", 8, "--json")
    assert reflected.code == 0, reflected.err
    evaluated = rrr("eval", *flags, "--model", "base=served", "--reflection-tokens", 8, "--json")
    assert evaluated.code == 0, evaluated.err
    attempts = list(read(tmp_path / "run", "attempts"))
    assert {a.phase for a in attempts} == {"first", "retry"}
    assert {a.transcript[0].content for a in attempts} == set(SCRIPT["default"])
    assert {a.model for a in attempts} == {"served"}
    assert all(a.completion_tokens == len(a.transcript[0].content.split()) + 1 for a in attempts)
    assert {r.text for r in read(tmp_path / "run", "reflections")} == {"count the words"}
    first = json.loads(evaluated.out)["models"][0]["first_try"]["value"]
    assert 0 < first < 1


def test_a_request_has_chat_sampling_and_seed(rrr, flags, server):
    assert mine(rrr, flags, "--limit", 2, "--temperature", 0.5, "--top-p", 0.9).code == 0
    bodies = [request["body"] for request in server.seen()]
    assert len({body.pop("seed") for body in bodies}) == len(bodies) == 6
    expected = {"model": "served", "temperature": 0.5, "top_p": 0.9, "max_tokens": 8, "n": 1,
                "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}  # else a server fills in what it likes
    for body in bodies:
        assert [m["role"] for m in body.pop("messages")] == ["user"]
        assert body == expected


@pytest.mark.parametrize("keep", [True, False])
def test_a_server_gets_thoughts_as_words_and_the_templates_arguments(server, keep):
    served = load_engine(
        "openai", "served", base_url=server.url, keep_thoughts=keep, template_args='{"thinking": true}')
    turns = (Message("user", "1"), Message("assistant", "<think>\nsix\n</think>\n\n42"), Message("user", "2"))
    served.generate([Prompt(turns, (5,))], Sampling())
    sent = server.seen()[-1]["body"]
    assert sent["chat_template_kwargs"] == {"thinking": True}
    assert sent["messages"][1]["content"] == ("Thought: six\n\n42" if keep else "42")


def test_a_thought_that_a_server_takes_out_is_put_back(server):
    server.trouble(answer({"content": "42", "reasoning_content": "six"}), answer({"reasoning": "six"}, "length"))
    first, cut = (engine(server).generate(ONE, Sampling())[0][0] for _ in range(2))
    assert (first.text, first.thought, first.turn) == ("42", "six", "<think>\nsix\n</think>\n42")
    assert (cut.text, cut.thought, answer_of(cut.turn).strip()) == ("", "six", "")


def test_tools_are_sent_and_calls_become_text(server):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    calls = [{"function": {"name": "f", "arguments": '{"a": 1, "a": 2}'}}, {"function": {"name": "g", "arguments": {}}}]
    server.trouble(answer({"content": None, "tool_calls": calls}, "tool_calls"))
    prompt = Prompt(ONE[0].messages, (5,), json.dumps(tools))
    ((written,),) = engine(server).generate([prompt], Sampling())
    assert server.seen()[0]["body"]["tools"] == tools
    # the arguments stay as the model wrote them: a verifier must see that a key stands there twice
    assert written.text == ('<tool_call>{"name": "f", "arguments": {"a": 1, "a": 2}}</tool_call>\n'
                            '<tool_call>{"name": "g", "arguments": {}}</tool_call>')
    assert (written.finish_reason, written.tokens, written.prompt_tokens) == ("stop", 4, 3)


@pytest.mark.parametrize("trouble", [429, 500, 503, "drop", "hang"])
def test_a_failed_request_is_retried_with_equal_rows(rrr, flags, server, monkeypatch, trouble):
    assert mine(rrr, flags, "--limit", 2).code == 0
    expected = [vars(row) for row in read(flags[1], "attempts")]
    monkeypatch.setattr("rrr_cli.engines.servers.TIMEOUT", 0.5)
    server.trouble(*[trouble] * 4)
    assert mine(rrr, flags, "--limit", 2, "--overwrite").code == 0
    assert [vars(row) for row in read(flags[1], "attempts")] == expected
    assert len(server.seen()) == 6 + 6 + 4


def test_retry_after_is_obeyed(server, monkeypatch):
    for wait in ("1", None):
        wait = wait or time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
        server.trouble([429, {"Retry-After": wait}])
        started = time.monotonic()
        engine(server).generate(ONE, Sampling())
        assert 0.9 <= time.monotonic() - started < 5
    assert asked_wait({"retry-after": "soon"}) is None
    server.trouble([429, {"Retry-After": "86400"}])
    with pytest.raises(RrrError, match="asks to wait 86400 s"):
        engine(server).generate(ONE, Sampling())


def test_a_server_that_stays_down_ends_the_command(rrr, flags, server, tmp_path):
    assert mine(rrr, flags, "--limit", 2).code == 0
    server.trouble(*[503] * 200)
    failed = mine(rrr, flags, "--limit", 6, "--part", 2)
    assert failed.code == 4
    assert "gave no answer in 8 tries" in failed.err
    assert "503 [31mtrouble" in failed.err
    assert "same command" in failed.err
    assert "\x1b" not in failed.err
    assert len(list(read(tmp_path / "run", "attempts"))) == 6
    server.trouble()
    done = len(server.seen())
    assert mine(rrr, flags, "--limit", 6, "--part", 2).code == 0
    assert len(server.seen()) == done + 12  # what was written isn't asked for again


def test_a_refusal_ends_at_once_with_its_reason(rrr, flags, server):
    server.trouble(*[404] * 20)
    failed = mine(rrr, flags, "--limit", 1)
    assert failed.code == 3
    assert "refuses the request for --model served: 404 [31mtrouble" in failed.err
    assert len(server.seen()) <= 3
    server.trouble(*[401] * 20)
    assert "variable OPENAI_API_KEY is not set" in mine(rrr, flags, "--limit", 1).err


@pytest.mark.parametrize("broken", [
    {"answer": "<html>"}, {"answer": []}, {"answer": {"choices": []}}, {"answer": {"error": {"message": "no \x07"}}},
    answer({"content": "yes"}, "abort"), answer({"content": 5}), {"answer": "[" * 100_000},
    answer({"content": ""}, "unheard-of"),
])
def test_a_bad_response_is_asked_for_again_and_one_line_where_it_stays(server, broken):
    served = engine(server)
    server.trouble(broken, broken)
    ((written,),) = served.generate(ONE, Sampling(max_tokens=8))
    assert (written.text in SCRIPT["default"], len(server.seen())) == (True, 3)
    server.trouble(*[broken] * 9)
    with pytest.raises(RrrError, match="gave no answer in 8 tries; the last: ") as caught:
        engine(server).generate(ONE, Sampling())
    assert not {"\n", "\x07"} & set(str(caught.value))
    assert len(str(caught.value)) < 600


def test_hostile_text_becomes_a_row(rrr, flags, server, tmp_path):
    server.trouble(*[answer({"content": "a \ud800 \x00 \x1b[2J"})] * 40)
    assert mine(rrr, flags, "--limit", 1).code in (0, 5)
    assert {a.transcript[0].content for a in read(tmp_path / "run", "attempts")} == {"a ? \x00 \x1b[2J"}


@pytest.mark.parametrize(("model", "most", "prompt"), [("served", {16, 2}, 256), ("older", {16, 2}, 301)])
def test_max_tokens_shrink_to_the_window(server, model, most, prompt):
    def of(words: int) -> Prompt:
        return Prompt((Message("user", "yes " * words),), (5, 6))

    served = load_engine("openai", model, base_url=server.url)
    full, close, small, last = served.generate([of(300), of(253), of(3), of(254)], Sampling(max_tokens=16))
    assert [(c.text, c.tokens, c.finish_reason, c.prompt_tokens) for c in full] == [("", 0, "length", prompt)] * 2
    assert {body["body"]["max_tokens"] for body in server.seen()} == most | {1}
    assert len(server.seen()) <= 2 * 4 + 2 * 4  # not one request for each token less
    assert all((c.tokens, c.prompt_tokens) == (1, 255) for c in last)
    assert all(c.tokens <= 2 and c.prompt_tokens == 254 for c in close)
    assert all(c.finish_reason == "stop" for c in small)
    server.trouble([400, {}], answer({"content": "yes"}))
    with pytest.raises(RrrError, match=r"400 .31mtrouble"):  # a 400 that is about something else
        engine(server).generate(ONE, Sampling())


def test_max_completion_tokens_is_sent_where_needed(server):
    newer = {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                                  "'max_completion_tokens' instead."}}
    server.trouble([400, {}, newer], *[answer({"content": "yes"})] * 3)
    served = engine(server)
    for _ in range(2):
        served.generate(ONE, Sampling(max_tokens=7))
    fields = [sorted(k for k in r["body"] if k.startswith("max")) for r in server.seen()]
    assert fields == [["max_tokens"], ["max_completion_tokens"], ["max_completion_tokens"]]


def test_concurrency_limits_the_open_requests(rrr, flags, server):
    assert mine(rrr, flags, "--limit", 10, "--concurrency", 4).code == 0
    assert 2 <= server.look()["most_at_once"] <= 4


def test_the_key_is_sent_and_never_shown(rrr, flags, server, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEY", KEY)
    with_key = [*flags, "--api-key-env", "MY_KEY"]
    output = mine(rrr, with_key, "--limit", 4)
    assert {r["headers"]["Authorization"] for r in server.seen()} == {f"Bearer {KEY}"}
    output += rrr("reflect", *with_key)
    output += rrr("eval", *with_key, "--model", "base=served", "--limit", 4)
    for status in (401, 503):  # the server's message repeats the key
        server.trouble(*[status] * 2000)  # more than all requests and their repetitions
        failed = mine(rrr, [*with_key, "--seed", 1, "--overwrite"])
        assert failed.code in (3, 4)
        assert "Bearer ***" in failed.err
        output += failed
    assert KEY not in "".join(map(str, output))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".parquet" for path in written)
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
    texts = [str(vars(row)) for table in ("attempts", "reflections", "evaluations") for row in read(flags[1], table)]
    assert KEY not in "".join(texts)


@pytest.mark.parametrize(("flag", "value", "reason"), [
    ("--base-url", f"http://me:{KEY}@127.0.0.1:1/v1", "contains a user"),
    ("--base-url", f"http://127.0.0.1:1/v1?key={KEY}", "a query"),
    ("--base-url", f"127.0.0.1:{KEY}", "not an address"),
    ("--api-key-env", KEY, "not the key itself"),
    ("--api-key-env", "NOT_SET", "NOT_SET is not set"),
    ("--dtype", "float16", "--engine openai doesn't use it"),
    ("--max-model-len", 99, "--engine openai doesn't use it"),
])
def test_flags_that_expose_a_key_are_refused(rrr, flags, tmp_path, flag, value, reason):
    refused = mine(rrr, [*flags, flag, value])
    assert refused.code == 2
    assert reason in refused.err
    assert KEY not in refused.err
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


def test_a_key_of_two_lines_is_refused(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nX-Other: 1")
    with pytest.raises(RrrError, match="OPENAI_API_KEY contains") as caught:
        engine(server)
    assert KEY not in str(caught.value)


def test_a_missing_or_dead_server_is_named(rrr, flags, script):
    assert "needs --base-url" in rrr("mine-failures", *flags[:-2], "--model", "served").err
    other = rrr("mine-failures", *flags, "--engine", "scripted", "--model", script)
    assert (other.code, "--engine scripted doesn't use it" in other.err) == (2, True)
    dead = mine(rrr, [*flags[:-1], "http://127.0.0.1:9/v1"])
    assert (dead.code, "nothing answers at http://127.0.0.1:9/v1" in dead.err) == (4, True)


def test_another_server_is_another_configuration(rrr, flags, server):
    assert mine(rrr, flags, "--limit", 2).code == 0
    assert mine(rrr, [*flags[:-1], f"{server.url}/"], "--limit", 3).code == 0
    other = mine(rrr, [*flags[:-1], server.url.replace("127.0.0.1", "localhost")], "--limit", 3)
    assert other.code == 3
    assert "base_url was" in other.err


def test_stages_that_need_weights_refuse_a_server(rrr, flags, script):
    assert mine(rrr, flags, "--limit", 4).code == 0
    refused = rrr("reflect", *flags[:4])
    assert refused.code == 2
    assert "was mined from a server" in refused.err
    with pytest.raises(RrrError, match="was mined from a server"):
        as_mined(GrpoOptions(run=flags[1], task=flags[3]), flags[1])
    named = as_mined(GrpoOptions(run=flags[1], task=flags[3], model="tiny"), flags[1])
    assert named.model == "tiny"


@pytest.mark.parametrize("where", ["hanging", "waiting"])
def test_ctrl_c_ends_a_pause_at_once_and_twice_a_request(flags, server, tmp_path, where):
    if where == "hanging":
        server.trouble(*["hang"] * 99)
    else:
        server.trouble(*[[503, {"Retry-After": "200"}]] * 99)
    command = [sys.executable, "-m", "rrr_cli", "mine-failures", *map(str, flags), "--model", "served"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)) as process:
        while not server.seen():
            assert process.poll() is None
            time.sleep(0.05)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        if where == "hanging":  # no pause is waited out
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - started < 20  # a busy machine; the server itself hangs for longer
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert out == b""
