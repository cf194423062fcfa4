"""For torchrun: episodes of different lengths in two processes, whose generation is one collective call.

Prints as JSON, for each process, its episodes' turns and how many prompts each call had.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from guessing_task import Guessing

from rrr_cli.engines.base import Sampling
from rrr_cli.records import Message
from rrr_cli.rollout import Loop
from rrr_cli.training.policy_engine import PolicyEngine, open_anywhere, with_vllm

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
    outputs = gather_object([{"turns": turns, "counts": vllm.counts}])
    if state.is_main_process:
        print(json.dumps(outputs))
    state.destroy_process_group()


if __name__ == "__main__":
    main()
