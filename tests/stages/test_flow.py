"""Problems that are tried side by side: the same rows whatever their number, and an engine that is kept busy."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event
from threading import enumerate as threads
from time import monotonic
from typing import Any

import pytest

pytest.importorskip("torch")

from grpo_runs import GUESSING, PARITY

from rrr_cli.engines import decoder
from rrr_cli.engines.base import Completion, Feed, Prompt, Request, Sampling, UnfinishedError, no_answer, streams
from rrr_cli.engines.transformers import TransformersEngine
from rrr_cli.errors import RrrError
from rrr_cli.flow import Flow
from rrr_cli.progress import Work
from rrr_cli.records import Message
from rrr_cli.rollout import Loop
from rrr_cli.stages import mine_failures
from rrr_cli.stages.learnt import tried
from rrr_cli.stages.mine_failures import Options, stories
from rrr_cli.stages.setup import window
from rrr_cli.store import artifacts
from rrr_cli.streams import ENGINE
from rrr_cli.tasks import load_task


def mine(loop: Loop, problems: Sequence[Any], samples: int, stop_at_failure: int, in_flight: int = 256) -> Any:
    """What the stories of mining end with, as they end."""
    flow: Flow[Any] = Flow(in_flight)
    options = Options(run=Path("unused"), samples=samples, stop_at_failure=stop_at_failure)
    return flow.ends(stories(loop, problems, options, {}, flow.spare))


def mined(run: Path, model: Path, **changes: Any) -> list[Any]:
    mine_failures.run(Options(run=run, model=str(model), **{
        "task": PARITY, "samples": 8, "stop_at_failure": 2, "max_tokens": 12, "part": 3, **changes}))
    return sorted(artifacts.read(run, "attempts"), key=lambda row: row.attempt_id)


@pytest.mark.parametrize("task", [PARITY, f"{GUESSING}Easily"])
def test_the_rows_are_the_same_however_many_problems_are_tried_at_once(
    tmp_path: Path, random_model: Path, task: str
) -> None:
    alone = mined(tmp_path / "alone", random_model, task=task, in_flight=1)
    assert mined(tmp_path / "few", random_model, task=task, in_flight=3, batch_size=4) == alone
    assert mined(tmp_path / "all", random_model, task=task) == alone


def test_a_prompt_that_fills_the_context_is_answered_among_others(random_model: Path) -> None:
    engine = TransformersEngine(str(random_model), max_model_len=60)
    parity = load_task(PARITY)
    texts = [" ".join(["5"] * n) for n in (2, 300, 3, 300, 300, 4)]
    messages = [parity.problems("train").__next__().prompt[0].__class__("user", text) for text in texts]
    requests = [Request(i, Prompt((message,), (i, 9)), 5) for i, message in enumerate(messages)]
    expected = engine.generate([r.prompt for r in requests], Sampling(max_tokens=5))
    waiting = requests[::-1]

    def one_by_one(free: int, idle: bool) -> list[Request]:
        return [waiting.pop()] if free and waiting else []

    assert dict(engine.stream(one_by_one, Sampling(max_tokens=5))) == dict(enumerate(expected))


def test_slots_stay_in_use_while_problems_end_at_different_times(
    random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    pick = decoder.pick
    monkeypatch.setattr(decoder, "pick", lambda logits, *more: (used.append(len(logits)), pick(logits, *more))[1])
    task = load_task(PARITY)
    problems = list(task.problems("train"))
    loop = Loop(task, TransformersEngine(str(random_model), batch_size=4), Sampling(max_tokens=20))
    list(mine(loop, problems, 6, 1, in_flight=8))
    full = used[: -len(used) // 5]  # until the last ones run out
    assert sum(full) / (4 * len(full)) > 0.85


class Breaking:
    """An engine that answers a few requests and then breaks."""

    name = model = fingerprint = "breaking"

    def stream(self, feed: Feed, sampling: Sampling) -> Iterator[tuple[int, list[Completion]]]:
        answered = 0
        while requests := feed(2, True):
            for request in requests:
                answered += 1
                if answered == 5:
                    raise RrrError("the engine broke")
                yield request.number, [Completion("x", 1, "stop", 1) for _ in request.prompt.seeds]

    def generate(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        raise AssertionError

    def close(self) -> None:
        """Nothing to free."""


def test_what_breaks_in_the_engine_ends_the_work_and_its_thread() -> None:
    task = load_task(PARITY)
    loop = Loop(task, Breaking(), Sampling(max_tokens=5))
    with pytest.raises(RrrError, match="the engine broke"):
        list(mine(loop, list(task.problems("train")), 3, 0, in_flight=4))
    stopped = mine(loop, list(task.problems("train")), 3, 0, in_flight=2)
    next(stopped)
    stopped.close()
    assert not [thread for thread in threads() if thread.name == ENGINE]


class Stopping(Breaking):
    """An engine without streams that answers so many prompts, and then says that it has to stop."""

    stream = None

    def __init__(self, answers: int) -> None:
        self.left, self.sizes = answers, list[int]()

    def generate(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        self.sizes.append(len(prompts_B))
        answered = [[Completion("x y", 1, "stop", 1)] * len(p.seeds) for p in prompts_B[: self.left]]
        self.left -= len(answered)
        if len(answered) == len(prompts_B):
            return answered
        raise UnfinishedError(RrrError("no more"), answered + [
            [no_answer("")] * len(p.seeds) for p in prompts_B[len(answered) :]])


@pytest.mark.parametrize("answers", [1, 3, 7, 9])
def test_all_that_an_engine_answered_before_it_stopped_is_written(
    tmp_path: Path, answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = Stopping(answers)
    monkeypatch.setattr(mine_failures, "open_loop", lambda options, task, model: Loop(task, stopping, Sampling()))
    monkeypatch.setattr(mine_failures, "weights_of", lambda options, model: "weights")
    monkeypatch.setattr(mine_failures, "dated", lambda options, *more: options)
    with pytest.raises(RrrError, match="no more"):
        mined(tmp_path, tmp_path, samples=9, stop_at_failure=0, part=4, in_flight=10)
    assert artifacts.count(tmp_path, "attempts") == 9 * answers


def test_an_engine_without_streams_is_asked_for_whole_windows() -> None:
    task, engine = load_task(PARITY), Stopping(10**6)
    problems = list(task.problems("train"))
    list(mine(Loop(task, engine, Sampling()), problems, 3, 0, in_flight=len(problems)))
    assert engine.sizes == [len(problems)]


def test_a_generate_of_its_own_is_what_an_engine_is_asked(random_model: Path) -> None:
    class Own(TransformersEngine):
        def generate(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
            return super().generate(prompts_B, sampling)

    assert streams(TransformersEngine(str(random_model)))
    assert not streams(Own(str(random_model)))
    assert not streams(Stopping(1))


def test_a_second_signal_between_two_parts_waits_for_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Stopping):
        def generate(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
            if self.sizes:
                Event().wait(30)
            return super().generate(prompts_B, sampling)

    monkeypatch.setattr("rrr_cli.flow.PATIENCE", 0.2)
    task = load_task(PARITY)
    ends = mine(Loop(task, Slow(10**6), Sampling()), list(task.problems("train")), 3, 1, in_flight=4)
    next(ends)
    started = monotonic()
    with pytest.raises(SystemExit), closing(ends):
        raise SystemExit(130)
    assert monotonic() - started < 10


class Leaving(Breaking):
    """An engine that ends before it has answered."""

    def stream(self, feed: Feed, sampling: Sampling) -> Iterator[tuple[int, list[Completion]]]:
        feed(1, True)
        return iter(())


def test_an_engine_that_leaves_requests_unanswered_is_named() -> None:
    task = load_task(PARITY)
    with pytest.raises(RrrError, match="Leaving: stream"):
        list(mine(Loop(task, Leaving(), Sampling()), list(task.problems("train")), 3, 0))


def test_a_second_ctrl_c_stops_in_the_middle_of_a_text(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, steps = load_task(PARITY), []
    pick = decoder.pick

    def slow(*given: Any) -> Any:
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        Event().wait(0.2)
        return pick(*given)

    loop = Loop(task, TransformersEngine(str(random_model)), Sampling(temperature=0.0, max_tokens=200))
    monkeypatch.setattr(decoder, "pick", slow)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a worker of pytest ignores
    try:
        with pytest.raises(KeyboardInterrupt):
            list(mine(loop, list(task.problems("train"))[:1], 1, 1))
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(steps) < 40  # of 64 that are decoded together
    assert not [thread for thread in threads() if thread.name == ENGINE]


def test_a_story_that_asks_for_nothing_ends() -> None:
    def story(number: int) -> Any:
        return number
        yield

    assert sorted(Flow(2).ends(map(story, range(5)))) == [(i, i) for i in range(5)]


def test_rows_that_share_a_beginning_may_all_end_before_one_that_shares_none(random_model: Path) -> None:
    engine = TransformersEngine(str(random_model), batch_size=16)
    message = Message("user", " ".join(["5 6 7"] * 50))
    long = [Request(0, Prompt((Message("user", "1 2"),), (3,)), 60)]
    several = [Request(number, Prompt((message,), tuple(range(8))), 2) for number in range(1, 9)]
    waiting = [*several[::-1], *long]
    expected = {r.number: engine.generate([r.prompt], Sampling(max_tokens=r.max_tokens))[0] for r in waiting}

    def feed(free: int, idle: bool) -> list[Request]:
        return [waiting.pop()] if free > 7 and waiting else []

    assert dict(engine.stream(feed, Sampling())) == expected


@pytest.mark.parametrize("remote", [False, True])
def test_ctrl_c_once_writes_all_that_has_ended(
    tmp_path: Path, remote: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Stopping):
        def generate(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
            monkeypatch.setattr(Work, "signalled", signal.SIGINT)
            return super().generate(prompts_B, sampling)

    engine = Interrupted(10**6)
    engine.remote = remote
    monkeypatch.setattr(mine_failures, "open_loop", lambda options, task, model: Loop(task, engine, Sampling()))
    monkeypatch.setattr(mine_failures, "weights_of", lambda options, model: "weights")
    monkeypatch.setattr(mine_failures, "dated", lambda options, *more: options)
    monkeypatch.setattr(Work, "stop_if_interrupted", stop)
    with pytest.raises(RrrError, match="asked to stop"):
        mined(tmp_path, tmp_path, samples=1, stop_at_failure=0, part=100, in_flight=10)
    assert artifacts.count(tmp_path, "attempts") == 10
    assert len(artifacts.part_paths(tmp_path, "attempts")) == 1
    tried_before = tried(tmp_path, "parity", 10, None)
    assert all(one.first for one in tried_before)


def stop(work: Work) -> None:
    if Work.signalled is not None:
        raise RrrError("asked to stop")


def test_nothing_counts_after_a_try_ahead_of_need_that_has_no_answer() -> None:
    task = load_task(PARITY)
    loop = Loop(task, Breaking(), Sampling(max_tokens=5))
    problem = next(iter(task.problems("train")))
    refused = loop.first_tries(problem, [2])[0].seed
    told = mine_failures.story(loop, problem, 8, 8, {0: True, 1: True}, lambda loop, passes: 5)
    asked = next(told)
    written = [no_answer("refused") if seed == refused else Completion("x", 1, "stop", 1)
               for prompt in asked.prompts for seed in prompt.seeds]
    judging = told.send([written])
    with pytest.raises(StopIteration) as end:
        told.send(judging.judge(list(judging.items)))
    assert end.value.value[1] == []


def test_a_streaming_engine_says_how_many_samples_it_writes(tmp_path: Path) -> None:
    with pytest.raises(RrrError, match="batch_size"):
        window(Options(run=tmp_path), Loop(load_task(PARITY), Breaking(), Sampling()))
