"""Several servers of one model, against real server processes on loopback: who gets what, and what becomes of the work
of one that dies. And how any server is kept busy."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx")

from openai_server import Server, scripted_server

from rrr_cli.engines import asking
from rrr_cli.engines.base import Prompt, Sampling
from rrr_cli.engines.openai import OpenaiEngine, fingerprint
from rrr_cli.errors import RrrError
from rrr_cli.flow import Flow
from rrr_cli.records import Message
from rrr_cli.rollout import Loop
from rrr_cli.stages.unanswered import counts
from rrr_cli.store.artifacts import provenance, read
from rrr_cli.tasks import load_task

PARITY = f"{Path(__file__).parent.parent / 'parity_task.py'}:Parity"
PROMPTS = [Prompt((Message("user", f"number {i}"),), (i, i + 50)) for i in range(10)]
SAMPLING = Sampling(max_tokens=8)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fleet") / "script.json"
    path.write_text(json.dumps({"default": ["yes", "yes no", "yes no yes"]}))
    return path


@pytest.fixture(scope="module")
def pair(script: Path) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(scripted_server(script)) for _ in range(2)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rrr_cli.engines.servers.FIRST_WAIT", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def servers(pair: list[Server]) -> list[Server]:
    for server in pair:
        server.trouble()
        server.lists()
    return pair


@pytest.fixture
def mine(rrr: Any, tmp_path: Path) -> Any:
    def run(*more: object, to: object = "run") -> Any:
        return rrr("mine-failures", "--run", tmp_path / str(to), "--task", PARITY, "--max-tokens", 8, "--engine",
                   "openai", "--model", "served", "--samples", 2, "--stop-at-failure", 0, "--concurrency", 1,
                   "--json", *more)

    return run


def flags(servers: list[Server]) -> list[str]:
    return [word for server in servers for word in ("--base-url", server.url)]


def rows(run: Path) -> list[tuple[Any, ...]]:
    return [(a.problem_id, a.sample_index, a.seed, a.transcript[0].content) for a in read(run, "attempts")]


def fleet(*servers: Server, **more: Any) -> OpenaiEngine:
    return OpenaiEngine("served", base_url=tuple(server.url for server in servers), **more)


def texts(engine: OpenaiEngine) -> list[list[str]]:
    return [[c.text for c in completions] for completions in engine.generate(PROMPTS, SAMPLING)]


def test_the_least_loaded_server_gets_the_next_request(mine, servers, tmp_path):
    slow, other = servers
    assert mine("--limit", 10, *flags([other]), to="one").code == 0
    slow.trouble(*["slow"] * 99)
    mined = mine("--limit", 10, *flags(servers))
    assert mined.code == 0, mined.err
    answered = json.loads(mined.out)["answered_by_server"]
    assert sum(answered.values()) == 20
    assert 0 < answered[slow.url] < answered[other.url]
    assert rows(tmp_path / "run") == rows(tmp_path / "one")
    assert set(provenance(tmp_path / "run", "attempts")[0]["servers"]) == {slow.url, other.url}


def test_a_place_at_each_server_is_used(servers):
    engine = fleet(*servers, concurrency=3)
    assert engine.batch_size == 6
    seen = [len(server.seen()) for server in servers]
    texts(engine)
    assert [len(server.seen()) - n for server, n in zip(servers, seen, strict=True)] == [10, 10] == list(
        counts(Loop(load_task(PARITY), engine, SAMPLING), tried=1)["answered_by_server"].values())
    assert max(server.look()["most_at_once"] for server in servers) <= 3


def test_the_work_of_a_dead_server_goes_to_the_others_until_it_is_back(script, servers, capfd):
    stays = servers[0]
    expected = texts(fleet(stays))
    with scripted_server(script) as dies:
        engine, port = fleet(stays, dies, concurrency=2), dies.port
        dies.trouble(*["hang"] * 9)

        def kill() -> None:
            while not dies.seen():
                pass
            dies.process.kill()

        killing = threading.Thread(target=kill)
        killing.start()
        assert texts(engine) == expected
        killing.join()
        assert engine.answered_by_server == {stays.url: 20, dies.url: 0}
        assert capfd.readouterr().err.count(f"{dies.url} is out of order (") <= 1
        assert texts(engine) == expected  # it is known by now, or when a request is sent there
        assert engine.answered_by_server[dies.url] == 0
        assert capfd.readouterr().err.count("\n") <= 1
    with scripted_server(script, port):
        for _ in range(200):
            assert texts(engine) == expected
            if engine.answered_by_server[dies.url]:
                break
        else:
            raise AssertionError("it isn't asked again")


def test_a_server_that_is_down_at_the_start_is_said_and_all_of_them_are_an_error(mine, servers):
    gone = "http://127.0.0.1:9/v1"
    mined = mine("--limit", 2, "--base-url", gone, *flags(servers[:1]))
    assert (mined.code, mined.err.count(f"{gone} is out of order (ConnectError)")) == (0, 1)
    assert json.loads(mined.out)["answered_by_server"] == {gone: 0, servers[0].url: 4}
    failed = mine("--limit", 4, "--base-url", gone, "--base-url", gone.replace("9", "7"))
    assert (failed.code, failed.err.count("\n")) == (4, 1)
    assert f"nothing answers at {gone}, {gone.replace('9', '7')} (ConnectError): start the servers" in failed.err


def test_what_all_servers_answered_before_they_went_is_kept(mine, servers, tmp_path):
    for server in servers:
        server.trouble(*[None] * 3, *[503] * 900)
    failed = mine("--limit", 6, *flags(servers))
    assert (failed.code, failed.err.count("The rows written so far are complete")) == (4, 1)
    assert all(server.url in failed.err for server in servers)
    assert len(rows(tmp_path / "run")) == 6
    for server in servers:
        server.trouble()
    asked = sum(len(server.seen()) for server in servers)
    assert mine("--limit", 6, *flags(servers)).code == 0
    assert sum(len(server.seen()) for server in servers) - asked == 6
    assert len(set(rows(tmp_path / "run"))) == 12


def test_a_server_with_other_models_is_named(mine, servers):
    good, bad = servers
    good.lists("served", "more")
    bad.lists("elsewhere")
    refused = mine("--limit", 2, *flags(servers))
    assert refused.code == 3
    assert f"{bad.url} has no model served, but {good.url} has: it has elsewhere" in refused.err
    bad.lists()
    bad.trouble(*[[404, {}, {"error": {"message": "The model `served` does not exist"}}]] * 9)
    refused = mine("--limit", 2, *flags(servers))
    assert (refused.code, f"{bad.url} refuses the request for --model served: 404" in refused.err) == (3, True)


def test_a_server_that_comes_back_with_other_models_is_named(script, servers):
    servers[0].lists("served")
    with scripted_server(script) as gone:
        pass
    engine = fleet(servers[0], gone)
    with scripted_server(script, gone.port) as back:
        back.lists("elsewhere")
        with pytest.raises(RrrError, match=f"{back.url} has no model served"):
            [texts(engine) for _ in range(200)]


@pytest.mark.parametrize("wait", ["200", "9000"])
def test_nobody_waits_for_a_busy_server_while_another_is_free(servers, wait):
    busy, free = servers
    busy.trouble(*[[429, {"Retry-After": wait}]] * 30)
    engine = fleet(*servers)
    assert texts(engine) == texts(fleet(free))
    assert engine.answered_by_server == {busy.url: 0, free.url: 20}


def test_a_run_of_a_fleet_goes_on_with_other_servers(mine, servers, tmp_path):
    file = tmp_path / "addresses.txt"
    file.write_text(f"# the rack by the door\n\n{servers[0].url}/  # node 1\n{servers[1].url}\n")
    mined = mine("--limit", 2, "--base-url", f"@{file}")
    assert json.loads(mined.out)["answered_by_server"].keys() == {server.url for server in servers}
    file.write_text(servers[1].url)
    assert mine("--limit", 3, "--base-url", f"@{file}").code == 0
    assert mine("--limit", 4, *flags(servers)).code == 0
    one = mine("--limit", 5, *flags(servers[:1]))
    assert (one.code, 'base_url was "a fleet of servers", now "http://' in one.err) == (3, True)
    assert mine("--limit", 2, *flags(servers[:1]), to="one").code == 0
    both = mine("--limit", 3, *flags(servers), to="one")
    assert (both.code, 'now "a fleet of servers"' in both.err) == (3, True)
    config = tmp_path / "options.toml"
    config.write_text(f"[mine-failures]\nbase_url = {json.dumps([server.url for server in servers])}")
    assert mine("--limit", 6, "--config", config).code == 0
    config.write_text(f"[mine-failures]\nbase_url = {json.dumps(servers[0].url)}")
    assert mine("--limit", 3, "--config", config, to="one").code == 0


def test_the_fingerprint_of_one_server_is_that_of_earlier_versions():
    assert fingerprint("http://localhost:8000/v1/", "m") == "3284561e81b7691e"
    assert fingerprint(("http://a/v1", "http://b/v1"), "m") == fingerprint(("http://c/v1", "http://d/v1"), "m")


@pytest.mark.parametrize(("content", "code", "says"), [
    (None, 3, "addresses.txt: No such file"), ("# none\n", 3, "has no address"),
    ("http://h/v1\nh:8000", 2, "addresses.txt, line 2: --base-url is not an address"),
    ("http://me:SECRET@h/v1", 2, "line 1: --base-url contains a user"),
])
def test_a_bad_file_of_addresses_is_one_line(mine, tmp_path, content, code, says):
    file = tmp_path / "addresses.txt"
    if content is not None:
        file.write_text(content)
    refused = mine("--base-url", f"@{file}")
    assert (refused.code, refused.err.count("\n"), says in refused.err) == (code, 1, True)
    assert "SECRET" not in refused.err


def test_eval_asks_a_fleet_for_the_models_that_name_no_server(rrr, servers, tmp_path):
    pytest.importorskip("scipy")
    evaluated = rrr("eval", "--run", tmp_path / "run", "--task", PARITY, "--max-tokens", 8, "--reflection-tokens", 8,
                    "--limit", 2, "--model", "a=openai:served", "--model", f"b=openai:served2@{servers[0].url}",
                    *flags(servers), "--json")
    assert evaluated.code == 0, evaluated.err
    assert json.loads(evaluated.out)["answered_by_server"].keys() == {server.url for server in servers}


# One server, kept busy ------------------------------------------------------------------------------------------------


def test_problems_go_on_while_one_waits_for_its_answer(servers):
    server, task = servers[0], load_task(PARITY)
    server.trouble("slow")
    loop = Loop(task, fleet(server, concurrency=2), SAMPLING)
    problems = list(task.problems("train"))[:5]
    ended = [number for number, _ in Flow(9).ends(loop.attempting([p], (0,)) for p in problems)]
    assert ended[-1] in (0, 1)  # whichever of the two came first


def test_no_sample_is_asked_for_that_is_not_needed(rrr, servers, tmp_path):
    asked = len(servers[0].seen())
    mined = rrr("mine-failures", "--run", tmp_path / "run", "--task", PARITY, "--max-tokens", 8, "--engine", "openai",
                "--model", "served", "--samples", 30, "--limit", 4, "--json", *flags(servers[:1]))
    assert json.loads(mined.out)["attempts"] == len(servers[0].seen()) - asked


def test_nobody_waits_for_requests_that_hang(servers):
    server, task = servers[0], load_task(PARITY)
    server.trouble(None, *["hang"] * 9)
    loop = Loop(task, fleet(server, concurrency=3), SAMPLING)
    ends = Flow(9).ends(loop.attempting([p], (0,)) for p in list(task.problems("train"))[:5])
    next(ends)
    ends.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "engine"]
    server.trouble()


def test_a_fault_that_ends_the_work_loses_no_answer(servers, monkeypatch):
    monkeypatch.setattr(asking, "TRIES", 2)
    monkeypatch.setattr(asking, "TRIES_IN_DOUBT", 1)
    server, task = servers[0], load_task(PARITY)
    server.trouble(*[None] * 5, *[401] * 9)
    loop = Loop(task, OpenaiEngine("served", base_url=server.url, concurrency=1), SAMPLING)
    problems = list(task.problems("train"))[:8]
    ended = list(Flow(4).ends(loop.attempting([p], (0, 1)) for p in problems))
    tries = [a.finish_reason for _, attempts_1_N in ended for a in attempts_1_N[0]]
    assert (len(tries) - tries.count("refused"), "401" in str(loop.unanswered.failure)) == (5, True)
    assert len(ended) < 8  # none is begun after it
    with pytest.raises(RrrError, match="401"):
        loop.engine.generate(PROMPTS, SAMPLING)
