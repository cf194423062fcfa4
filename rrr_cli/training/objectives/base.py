"""The objective plug: what a GRPO sample consists of, which of its tokens are trained, and what it earns.

Each run has an objective of its own, built with a `Setting`; `complete` is called once a step in each process. It reads
and writes nothing. Below the protocol are the parts that the built-in objectives share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rrr_cli.engines.base import Completion, Prompt
from rrr_cli.errors import RrrError
from rrr_cli.failures import Failure
from rrr_cli.options import DEFAULT_FEEDBACK, refuse_given
from rrr_cli.prompts import reflect_chat, retry_chat, with_feedback
from rrr_cli.records import Reflection
from rrr_cli.rollout import Loop
from rrr_cli.tasks.base import Task
from rrr_cli.training.judge import verdict_of
from rrr_cli.training.samples import Group, Sample
from rrr_cli.training.tokens import Render, TokenCompletion, not_one_conversation, reply_ids, token_completion

if TYPE_CHECKING:
    from rrr_cli.training.settings import Options


@dataclass(frozen=True)
class Setting:
    """What an objective is built with: the task, the policy's renderer, the options, and token limits of the recipe."""

    task: Task
    render: Render
    options: Options
    reflection_tokens: int
    max_tokens: int
    drops_thoughts: bool = False  # the chat template leaves out thoughts of earlier turns: see `Renderer`

    @property
    def feedback(self) -> str:
        """What a request to reflect says of the failed attempt."""
        return self.options.feedback or DEFAULT_FEEDBACK


class Objective(Protocol):
    """One file and one line in `OBJECTIVES`, or `--objective path/to/file.py:Class`.

    These parts may be left out:
    - `advantages(samples) -> list[list[float]] | None`: the advantage of each token of each sample's completion, (T,)
      each. It is called once a step with the samples of every process, rewarded and in the order of the rows, so that
      a group is whole. Without it, or where it returns None, a sample has one advantage, TRL's: its reward against its
      group's, divided as --scale-rewards says.
    - `drop_below: float`: tokens whose log-probability is lower in the policy, before its update, aren't trained. The
      completion may then have been written after another prompt than `Sample.prompt_ids`.
    - `loss_per: str`: the default of --loss-per, in place of sequence.
    - `measure: str`: "first_try" where first tries are trained, by which --eval-every chooses the best step, in place
      of "second_try", the share solved by the first try or the one after a reflection.
    """

    tries: str  # what the tries that it judges are called, in messages: retries, answers

    def __init__(self, setting: Setting) -> None: ...

    @staticmethod
    def check(options: Options) -> None:
        """Raise RrrError (exit 2) for an option that means nothing here."""
        ...

    def fit(self, failures: Sequence[Failure], window: int) -> int:
        """The longest text in tokens that a step can need, but for an episode's later turns.

        Raises RrrError: it doesn't fit into the policy's `window`, or the policy can't be trained so.
        """
        ...

    def complete(self, groups: Sequence[Group], loop: Loop, stops: Sequence[int]) -> list[Sample]:
        """All samples of the groups, in order, judged but not yet rewarded.

        The loop's engine is the policy as it is now: its completions are TokenCompletions, and `stops` are the tokens
        that end a turn. Reflections are written by `reflect` below, or timed as retries.
        In several processes `complete` must call the engine equally often in each: `loop.any_open` says whether another
        process has something left to ask.
        """
        ...

    def reward(self, sample: Sample) -> float | None:
        """What a sample earns; None leaves it out of its group."""
        ...


def reflect(loop: Loop, groups: Sequence[Group]) -> list[tuple[Failure, TokenCompletion, Reflection]]:
    """A reflection for each sample, in one call of the engine: as tokens, and as a row."""
    prompts = [loop.reflect_prompt(group.failure, group.samples) for group in groups]
    completions_B_N = write_reflections(loop, prompts)
    rows_B_N = loop.reflections_on(
        [(group.failure, group.samples, c) for group, c in zip(groups, completions_B_N, strict=True)])
    return [
        (group.failure, token_completion(completion), row)
        for group, completions_N, rows_N in zip(groups, completions_B_N, rows_B_N, strict=True)
        for completion, row in zip(completions_N, rows_N, strict=True)
    ]


def write_reflections(loop: Loop, prompts_B: Sequence[Prompt]) -> list[list[Completion]]:
    """completions_B_N, whose seconds are counted as those of reflections."""
    from rrr_cli.training.policy_engine import PolicyEngine  # torch, which a plan doesn't need

    assert isinstance(loop.engine, PolicyEngine)
    return loop.engine.reflect(prompts_B, loop.reflection_sampling)


def refuse_attempts(options: Options) -> None:
    """Raise RrrError (exit 2) for an option of --objective attempts."""
    refuse_given(options, ("attempts", "gamma", "internalise"), "it is for --objective attempts")


def check_episodes(setting: Setting, failures: Sequence[Failure]) -> None:
    """Raise RrrError where the turns of an episode can't be one sequence."""
    for failure in failures:
        for reply in failure.transcript[1:2]:  # in an environment: what it said to the first turn
            if setting.drops_thoughts:
                raise not_one_conversation("drops thoughts of earlier turns", "reflection")
            reply_ids(setting.render, failure.problem.prompt, reply, failure.problem.tools)


def passes(sample: Sample, no_answers: bool = False) -> float | None:
    """The share of the sample's tries that pass, None where a judge crashed on all; with `no_answers` a reflection in
    which a right answer stands earns 0.0."""
    passed = [verdict for one in sample.tries if (verdict := verdict_of(one)) is not None]
    if not passed:
        return None
    answers = no_answers and sample.reflection is not None and bool(sample.reflection.solves)
    return 0.0 if answers else sum(passed) / len(passed)


def earned(sample: Sample, options: Options) -> float | None:
    """What a sample with a reflection earns: how often its tries pass, less what the reflection's tokens cost."""
    passed = passes(sample, options.no_answers)
    tokens = sample.reflection.tokens or 0 if sample.reflection else 0
    return None if passed is None else passed - options.length_cost * tokens


def fit_reflections(
    setting: Setting, failures: Sequence[Failure], window: int, try_prompt: int | None = None
) -> int:
    """`Objective.fit` where a sample is a reflection and then a try: both prompts have room for both texts.

    `try_prompt`: tokens of the longest prompt of a try, but for the reflection in it; None: the try is a retry.
    """
    words = setting.task.words

    def request(failure: Failure) -> str:
        return with_feedback(words["reflect"], failure.feedback, setting.feedback)

    def reflection_prompt(failure: Failure) -> int:
        chat = reflect_chat(failure.chat, failure.transcript, request(failure))
        return len(setting.render(chat, failure.problem.tools))

    # The longest reflection prompt has the longest retry prompt as well: both hold the problem and the failed attempt.
    prompt, worst = max(((reflection_prompt(failure), failure) for failure in failures), key=lambda pair: pair[0])
    if try_prompt is None:
        chat = retry_chat(
            worst.chat, worst.transcript, "", request(worst), words["retry"], setting.options.retry_context)
        try_prompt = len(setting.render(chat, worst.problem.tools))
    prompt = max(prompt, try_prompt)
    needed = prompt + setting.reflection_tokens + setting.max_tokens
    if needed > window:
        raise RrrError(
            f"the longest prompt ({prompt} tokens) with a reflection ({setting.reflection_tokens}) and a retry "
            f"({setting.max_tokens}) needs {needed} tokens, and the model's window holds {window}: "
            f"lower --reflection-tokens or --max-tokens"
        )
    return needed
