"""For torchrun: episodes of different lengths in two processes, whose generation is one collective call; likewise the
tries of `--objective attempts`, where the first process has none left long before the second.

Prints as JSON, for each process, its episodes' turns, how many prompts each call had, and each sample's tries.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from guessing_task import Guessing
from parity_task import Parity

from rrr_cli.engines.base import Sampling
from rrr_cli.failures import Failure
from rrr_cli.records import Message
from rrr_cli.rollout import Loop
from rrr_cli.tasks.base import Verdict
from rrr_cli.training.objectives.attempts import Attempts
from rrr_cli.training.objectives.base import Setting
from rrr_cli.training.policy_engine import PolicyEngine, open_anywhere, with_vllm
from rrr_cli.training.samples import Group
from rrr_cli.training.settings import Options

STOP = 99


class Patient(Guessing):
    """Ends as soon as a turn says "end"."""

    max_turns = 9

    def observe(self, problem: Any, transcript: Any) -> Message | None:
        return None if transcript[-1].content == "end" else Message("user", str(len(transcript)))


class Collective:
    """TRL's vLLM in its server mode: every process calls it, with equally many prompts, and gets its own slice."""

    def __init__(self, rank: int) -> None:
        self.rank, self.counts, self.max_completion_length = rank, [], 0

    def generate(self, prompts: list[list[int]], images: None, num_generations: int) -> tuple[Any, ...]:
        counts = gather_object([len(prompts)])
        assert len(set(counts)) == 1, f"unequal calls: {counts}"
        everyone = gather_object(prompts)
        self.counts.append(len(prompts))
        mine = everyone[self.rank * len(prompts) : (self.rank + 1) * len(prompts)]
        assert mine == prompts
        # A prompt holds its own number of turns to go.
        ids = [[max(0, prompt[-1] - 1), STOP] for prompt in mine]
        return None, ids, [[[-1.0, -9.0]] * 2 for _ in ids], None


class Words:
    """A policy of numbers: each turn says how many are still to come, and the last one "end"."""

    name = "words"

    def __init__(self, turns: dict[str, int]) -> None:
        self.turns = turns

    def render(self, messages: tuple[Message, ...], tools: str | None) -> list[int]:
        written = [m.content for m in messages if m.role == "assistant"]
        return [7, int(written[-1]) if written else self.turns[messages[0].content]]

    def decode(self, ids: list[int]) -> str:
        return "end" if ids[:1] == [0] else str(ids[0]) if ids else ""


class Chat:
    """A policy that writes one token a turn: its prompt's last token, less one."""

    name = "chat"

    def render(self, messages: tuple[Message, ...], tools: str | None) -> list[int]:
        return [9, *(token for m in messages for token in ([5, STOP] if m.role == "assistant" else [len(m.content)]))]

    def decode(self, ids: list[int]) -> str:
        return "yes " * len(ids)


class Stubborn(Parity):
    """Passes at the try of this number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.seen = number, 0

    def answers_in(self, problem: Any, text: str) -> list[list[str]]:
        """None: only tries are judged, and counted."""
        return []

    def verify_many(self, pairs: Any) -> list[Verdict]:
        self.seen += 1
        passed = self.seen == self.number
        return [Verdict(passed, 0.0, None if passed else "odd", "Judged.", "yes") for _ in pairs]


def tries(rank: int, vllm: Collective) -> list[int]:
    """How many each sample has."""
    task = Stubborn(number=1 if rank == 0 else 3)
    policy, options = Chat(), Options(attempts=4)
    trainer = SimpleNamespace(vllm_generation=vllm, eos_token_ids=[STOP])
    engine = PolicyEngine(policy, with_vllm(trainer), step=0, window=200, stops=[STOP])
    loop = Loop(task, engine, Sampling(max_tokens=4), any_open=open_anywhere)
    problem = next(iter(task.problems("train")))
    group = Group(Failure(problem, "a", [Message("assistant", "no")]), range(2 * rank, 2 * rank + 2))
    samples = Attempts(Setting(task, policy.render, options, 4, 4)).complete([group], loop, [STOP])
    return [len(sample.tries) for sample in samples]


def main() -> None:
    state = PartialState(cpu=True)
    vllm = Collective(state.process_index)
    problems = list(Patient().problems("train"))
    own = problems[:3] if state.process_index == 0 else problems[:2]
    lengths = [1, 1, 2] if state.process_index == 0 else [5, 3]
    policy = Words({p.prompt[0].content: n for p, n in zip(own, lengths, strict=True)})
    trainer = SimpleNamespace(vllm_generation=vllm, eos_token_ids=[STOP])
    engine = PolicyEngine(policy, with_vllm(trainer), step=0, window=50, stops=[STOP])
    loop = Loop(Patient(), engine, Sampling(max_tokens=4), any_open=open_anywhere)
    rows = [attempt for (attempt,) in loop.attempt(own, range(1))]
    turns = [sum(m.role == "assistant" for m in row.transcript) for row in rows]
    assert turns == lengths
    counts = list(vllm.counts)
    outputs = gather_object([{"turns": turns, "counts": counts, "tries": tries(state.process_index, vllm)}])
    if state.is_main_process:
        print(json.dumps(outputs))
    state.destroy_process_group()


if __name__ == "__main__":
    main()
