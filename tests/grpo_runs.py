"""What the GRPO tests share: a run that holds mined failures, and options small enough for a random model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from parity_task import Parity

from rrr_cli.records import Attempt, Message, Problem, content_id
from rrr_cli.stages.grpo import Options
from rrr_cli.store import artifacts
from rrr_cli.tasks import load_task

PARITY = f"{Path(__file__).parent / 'parity_task.py'}:Parity"
TOOLS = f"{Path(__file__)}:Tools"
GUESSING = f"{Path(__file__).parent / 'guessing_task.py'}:Guessing"
GAME = [Message("assistant", "8"), Message("user", "It is lower than 8."), Message("assistant", "9")]


class Tools(Parity):
    """Each problem offers a tool: create to one half of them, equation to the other."""

    def problems(self, split: str) -> Iterator[Problem]:
        for index, problem in enumerate(super().problems(split)):
            name = ("create", "equation")[index % 2]
            yield replace(problem, tools=json.dumps([{"type": "function", "function": {"name": name}}]))


def mine(run: Path, task: str = PARITY, split: str = "train", samples: int = 2) -> None:
    """Fill `problems` and `attempts` of a run: each problem with `samples` failed tries; of GUESSING, episodes."""
    problems = list(load_task(task).problems(split))
    attempts = [
        Attempt(
            attempt_id=content_id(problem.problem_id, index), problem_id=problem.problem_id, task=problem.task,
            split=split, difficulty="only", model="test", phase="first", sample_index=index,
            transcript=GAME if task == GUESSING else [Message("assistant", f"answer {index}  no")], success=False,
            score=0.0, error_type="odd",
            feedback="the number of words is odd", answer=None, prompt_tokens=9, completion_tokens=3,
            finish_reason="stop", seed=index, temperature=1.0, parent_id=None, reflection_id=None, reasoning=None,
        )
        for problem in problems
        for index in reversed(range(samples))
    ]
    with artifacts.Writer(run, "problems", "mine-failures", {}) as writer:
        writer.append(problems)
    with artifacts.Writer(run, "attempts", "mine-failures", {}) as writer:
        writer.append(attempts)


def options(run: Path, model: Path, **changes: Any) -> Options:
    """Four steps of 4 groups x 4 reflections, all weights."""
    values: dict[str, Any] = {
        "run": run, "model": str(model), "task": PARITY, "steps": 4, "batch": 16, "group": 4, "lora": 0, "lr": 1e-2,
        "reflection_tokens": 10, "max_tokens": 8, "save_every": 2,
    }
    if changes.get("objective") == "answer":  # it has no reflections
        del values["reflection_tokens"]
    return Options(**(values | changes))


if __name__ == "__main__":  # a process of its own, to be killed or multiplied: RUN MODEL [option=value …]
    import sys

    from rrr_cli.stages import grpo

    changes = {key: json.loads(value) for key, _, value in (word.partition("=") for word in sys.argv[3:])}
    summary = grpo.run(options(Path(sys.argv[1]), Path(sys.argv[2]), **changes))
    os.write(1, f"{json.dumps(summary)}\n".encode())  # in one call: lines of several processes don't mix
