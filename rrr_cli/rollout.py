"""The loop itself: attempt, reflect, retry, repair. Shared by mine-failures, reflect and eval.

Prompts come from `prompts.py`, text from an engine, verdicts from the task; rows come out, nothing is written. Where
the task is an environment, a try is an episode: all open episodes take their turns together, one batch a turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rrr_cli.engines.base import Engine, Prompt, Sampling
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.prompts import FAILED, GOLD, reflect_chat, repair_chat, retry_chat, split_repair
from rrr_cli.records import Attempt, Message, Problem, Reflection, content_id, derive_seed
from rrr_cli.tasks.base import Environment, Task, Verdict, verify_all


@dataclass(frozen=True)
class Failure:
    """A problem and a failed attempt at it: what is reflected on, retried and repaired, in every stage."""

    problem: Problem
    attempt_id: str
    transcript: list[Message]  # the turns after the problem's prompt
    feedback: str = ""  # what the verifier said of it

    @classmethod
    def of(cls, problem: Problem, attempt: Attempt) -> Failure:
        """The failure that a row of the table `attempts` is."""
        return cls(problem, attempt.attempt_id, attempt.transcript, attempt.feedback)


@dataclass
class Episode:
    """One try as it unfolds: a single turn, or the turns of model and environment."""

    problem: Problem
    chat: tuple[Message, ...]  # what was shown before it
    sample_index: int
    seed: int
    parent_id: str | None = None
    reflection_id: str | None = None
    reasoning: str | None = None
    transcript: list[Message] = field(default_factory=list)
    turns: int = 0  # the model's
    prompt_tokens: int = 0  # of the first turn
    tokens: int = 0  # all that the model wrote
    finish_reason: str = "stop"


@dataclass(frozen=True)
class Loop:
    """One engine on one task with one way to sample. `seed` and the row's own ids fix every sample's seed."""

    task: Task
    engine: Engine
    sampling: Sampling
    seed: int = 0
    retry_context: str = "full"
    reflection_max_tokens: int = 512

    def attempt(
        self, problems_B: Sequence[Problem], samples: range, phase: str = "first"
    ) -> list[list[Attempt]]:
        """Tries number `samples` at each problem: attempts_B_N."""
        return self._tries(phase, [
            [Episode(p, tuple(p.prompt), i, self._seed(phase, p.problem_id, i)) for i in samples] for p in problems_B
        ])

    def reflect(self, failures_B: Sequence[Failure], samples: range) -> list[list[Reflection]]:
        """Reflections number `samples` on each failed attempt: reflections_B_N."""
        prompts = [
            Prompt(
                reflect_chat(f.problem.prompt, f.transcript, self.task.words["reflect"]),
                tuple(self._seed("reflect", f.attempt_id, i) for i in samples),
                f.problem.tools,
            )
            for f in failures_B
        ]
        sampling = replace(self.sampling, max_tokens=self.reflection_max_tokens)
        completions_B_N = self.engine.generate(prompts, sampling)
        rows: list[list[Reflection]] = []
        for f, prompt, completions_N in zip(failures_B, prompts, completions_B_N, strict=True):
            rows.append([
                Reflection(
                    reflection_id=content_id("reflection", f.attempt_id, self.engine.fingerprint, sampling, s),
                    attempt_id=f.attempt_id, problem_id=f.problem.problem_id, reflector=self.engine.model,
                    sample_index=i, text=c.text, tokens=c.tokens, finish_reason=c.finish_reason, seed=s,
                    temperature=sampling.temperature, leaks_reference=self.task.leaks(f.problem, c.text),
                )
                for i, s, c in zip(samples, prompt.seeds, completions_N, strict=True)
            ])
        return rows

    def retry(
        self, pairs_B: Sequence[tuple[Failure, Reflection | None]], samples: range
    ) -> list[list[Attempt]]:
        """Retries number `samples` of each failed attempt after its reflection, or (None) without one: attempts_B_N."""
        episodes_B_N = []
        for f, r in pairs_B:
            chat = retry_chat(
                f.problem.prompt, f.transcript, r.text if r else None, self.task.words["reflect"],
                self.task.words["retry"], self.retry_context,
            )
            given = r.reflection_id if r else None
            episodes_B_N.append([
                Episode(f.problem, chat, i, self._seed("retry", f.attempt_id, given, i), f.attempt_id, given)
                for i in samples
            ])
        return self._tries("retry", episodes_B_N)

    def repair(self, failures_B: Sequence[Failure], feedback: str, samples: range) -> list[list[Attempt]]:
        """Repairs number `samples` of each failed attempt, reasoning and output in one completion (Re-ReST section 3):
        attempts_B_N. `feedback` is binary, verifier or gold."""
        return self._tries("repair", [
            [
                Episode(
                    f.problem, repair_chat(f.problem.prompt, f.transcript, feedback_text(self.task, f, feedback)), i,
                    self._seed("repair", f.attempt_id, feedback, i), f.attempt_id,
                )
                for i in samples
            ]
            for f in failures_B
        ])

    def _seed(self, *parts: object) -> int:
        return derive_seed(self.seed, *parts)

    def _tries(self, phase: str, episodes_B_N: list[list[Episode]]) -> list[list[Attempt]]:
        """Play the episodes to their ends, those of one prompt from one prefill, and judge them: attempts_B_N."""
        prompts = [
            Prompt(episodes_N[0].chat, tuple(e.seed for e in episodes_N), episodes_N[0].problem.tools)
            for episodes_N in episodes_B_N if episodes_N
        ]
        episodes = [e for episodes_N in episodes_B_N for e in episodes_N]
        going = self._turn(prompts, episodes, repairs=phase == "repair")
        while going:
            prompts = [
                Prompt((*e.chat, *e.transcript), (derive_seed(e.seed, "turn", e.turns),), e.problem.tools)
                for e in going
            ]
            going = self._turn(prompts, going)
        verdicts = verify_all(self.task, [(e.problem, e.transcript) for e in episodes])
        judged = iter([self._row(phase, e, v) for e, v in zip(episodes, verdicts, strict=True)])
        return [[next(judged) for _ in episodes_N] for episodes_N in episodes_B_N]

    def _turn(self, prompts: Sequence[Prompt], episodes: Sequence[Episode], repairs: bool = False) -> list[Episode]:
        """Let the model write each episode's next turn, and the environment answer; those that go on."""
        written = (c for completions_N in self.engine.generate(prompts, self.sampling) for c in completions_N)
        going = []
        for e, c in zip(episodes, written, strict=True):
            text = c.text
            if repairs:
                e.reasoning, text = split_repair(text)
            e.transcript.append(Message("assistant", text))
            e.prompt_tokens = e.prompt_tokens or c.prompt_tokens
            e.turns, e.tokens = e.turns + 1, e.tokens + c.tokens
            if c.finish_reason != "stop":
                e.finish_reason = c.finish_reason
            if isinstance(self.task, Environment) and e.turns < self.task.max_turns and c.tokens:
                observation = self.task.observe(e.problem, e.transcript)
                if observation is not None:
                    e.transcript.append(observation)
                    going.append(e)
        return going

    def _row(self, phase: str, episode: Episode, verdict: Verdict) -> Attempt:
        problem = episode.problem
        return Attempt(
            attempt_id=content_id(
                phase, problem.problem_id, episode.parent_id, episode.reflection_id, self.engine.fingerprint,
                self.sampling, self.retry_context, episode.sample_index, episode.seed,
            ),
            problem_id=problem.problem_id, task=problem.task, split=problem.split, difficulty=problem.difficulty,
            model=self.engine.model, phase=phase, sample_index=episode.sample_index, transcript=episode.transcript,
            success=verdict.success, score=verdict.score, error_type=verdict.error_type, feedback=verdict.feedback,
            answer=verdict.answer, prompt_tokens=episode.prompt_tokens, completion_tokens=episode.tokens,
            finish_reason=episode.finish_reason, seed=episode.seed, temperature=self.sampling.temperature,
            parent_id=episode.parent_id, reflection_id=episode.reflection_id, reasoning=episode.reasoning,
        )


def feedback_text(task: Task, failure: Failure, feedback: str) -> str:
    """What a reflector is told of a failed attempt: that it failed (binary), the verifier's sentence, or gold: the
    right answer too.

    Raises RrrError (exit 2): the right answer of a problem that isn't of the train split.
    """
    if feedback == "binary":
        return FAILED
    if feedback == "verifier":
        return failure.feedback
    problem = failure.problem
    if problem.split != "train":
        raise RrrError(f"--feedback gold: {problem.problem_id} is of the {problem.split} split, whose answers no "
                       "prompt may hold; use binary or verifier", USAGE)
    return GOLD.format(feedback=failure.feedback, gold="\n".join(task.right_turns(problem)))
