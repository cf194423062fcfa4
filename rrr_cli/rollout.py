"""The loop itself: attempt, reflect, retry, repair. Shared by mine-failures, reflect, eval and the training of grpo.

Prompts come from `prompts.py`, text from an engine, verdicts from the task; rows come out, nothing is written. Where
the task is an environment, a try is an episode: those of a call take their turns together, one batch a turn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from rrr_cli.engines.base import (
    REFUSED,
    Completion,
    Engine,
    Feed,
    Prompt,
    Sampling,
    UnfinishedError,
    completions_of,
    no_answer,
    streamed,
    streams,
)
from rrr_cli.episodes import Episode, Unanswered
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.failures import Failure
from rrr_cli.plugs import blame
from rrr_cli.prompts import (
    FAILED,
    GOLD,
    hint_chat,
    reflect_chat,
    repair_chat,
    retry_chat,
    split_repair,
    with_feedback,
)
from rrr_cli.records import Attempt, Message, Problem, Reflection, content_id, derive_seed
from rrr_cli.stories import Judge, Story, Write, finished
from rrr_cli.tasks.base import CUT_OFF, NOTHING_READ, Environment, Task, Verdict, own_turn, verify_all
from rrr_cli.tasks.protocol import check_observation, check_verdicts
from rrr_cli.tasks.solves import solve_all
from rrr_cli.thoughts import answer_of, parts

Verifier = Callable[[Task, Sequence[tuple[Problem, Sequence[Message]]]], list[Verdict]]


@dataclass(frozen=True)
class Loop:
    """One engine on one task with one way to sample. `seed` and the row's own ids fix every sample's seed."""

    task: Task
    engine: Engine
    sampling: Sampling
    seed: int = 0
    retry_context: str = "full"
    reflection_max_tokens: int = 512
    feedback: str = "binary"  # what a request to reflect says of the failed attempt: see `prompts.with_feedback`
    actor: Engine | None = None  # what retries, where it isn't `engine`, which reflects
    judge: Verifier = verify_all
    # Whether another turn is generated, given that an episode is open here. In a training whose processes generate
    # together it says whether one is open in any of them: each has to ask the engine equally often.
    any_open: Callable[[bool], bool] = bool
    unanswered: Unanswered = field(default_factory=Unanswered)

    def attempt(
        self, problems_B: Sequence[Problem], samples: Sequence[int], phase: str = "first"
    ) -> list[list[Attempt]]:
        """Tries number `samples` at each problem: attempts_B_N."""
        return finished(self.attempting(problems_B, samples, phase))

    def attempting(
        self, problems_B: Sequence[Problem], samples: Sequence[int], phase: str = "first"
    ) -> Story[list[list[Attempt]]]:
        """`attempt` as a story, to be told beside others (`flow.py`); so are the other stories here."""
        return self.playing(phase, [self.first_tries(p, samples, phase) for p in problems_B])

    def first_tries(self, problem: Problem, samples: Sequence[int], phase: str = "first") -> list[Episode]:
        """Tries at a problem, for `play`: episodes_N."""
        chat = tuple(problem.prompt)
        return [Episode(problem, chat, i, self._seed(phase, problem.problem_id, i)) for i in samples]

    def reflect(self, failures_B: Sequence[Failure], samples: Sequence[int]) -> list[list[Reflection]]:
        """Reflections number `samples` on each failed attempt: reflections_B_N."""
        return finished(self.reflecting(failures_B, samples))

    def reflecting(self, failures_B: Sequence[Failure], samples: Sequence[int]) -> Story[list[list[Reflection]]]:
        """`reflect` as a story."""
        prompts = [self.reflect_prompt(f, samples) for f in failures_B]
        completions_B_N = yield Write(self, prompts, self.reflection_max_tokens)
        written_B = [(f, samples, c) for f, c in zip(failures_B, completions_B_N, strict=True)]
        return (yield from self._judging_reflections(written_B))

    @property
    def reflection_sampling(self) -> Sampling:
        """How reflections are sampled."""
        return replace(self.sampling, max_tokens=self.reflection_max_tokens)

    def reflect_prompt(self, failure: Failure, samples: Sequence[int]) -> Prompt:
        """The prompt of reflections number `samples` on a failed attempt."""
        chat = reflect_chat(failure.chat, failure.transcript, self.request(failure))
        seeds = tuple(self._seed("reflect", failure.attempt_id, i) for i in samples)
        return Prompt(chat, seeds, failure.problem.tools)

    def request(self, failure: Failure) -> str:
        """The turn that asks for a reflection on a failed attempt."""
        return with_feedback(self.task.words["reflect"], failure.feedback, self.feedback)

    def reflections_on(
        self, written_B: Sequence[tuple[Failure, Sequence[int], Sequence[Completion]]]
    ) -> list[list[Reflection]]:
        """The rows of what was written to each `reflect_prompt`: reflections_B_N. Their answers are judged together."""
        return finished(self._judging_reflections(written_B))

    def _judging_reflections(
        self, written_B: Sequence[tuple[Failure, Sequence[int], Sequence[Completion]]]
    ) -> Story[list[list[Reflection]]]:
        rows_B_N = [self._unjudged(*written) for written in written_B]
        pairs = [(failure.problem, row.text) for (failure, *_), rows_N in zip(written_B, rows_B_N, strict=True)
                 for row in rows_N]
        solving = iter((yield Judge(self.solving, pairs)))
        return [[replace(row, solves=next(solving)) for row in rows_N] for rows_N in rows_B_N]

    def solving(self, pairs: Sequence[tuple[Problem, str]]) -> list[bool | None]:
        """See `solve_all`."""
        return solve_all(self.task, pairs)

    def reflections(
        self, failure: Failure, samples: Sequence[int], completions_N: Sequence[Completion]
    ) -> list[Reflection]:
        """The rows of what was written to one `reflect_prompt`: reflections_N."""
        return self.reflections_on([(failure, samples, completions_N)])[0]

    def _unjudged(
        self, failure: Failure, samples: Sequence[int], completions_N: Sequence[Completion]
    ) -> list[Reflection]:
        sampling, rows = self.reflection_sampling, []
        shown = () if self.feedback == "binary" else (self.feedback,)
        for i, completion in zip(samples, completions_N, strict=True):
            self.unanswered.note(failure.problem, completion)
            seed = self._seed("reflect", failure.attempt_id, i)
            thought, text = parts(completion.turn)
            rows.append(Reflection(
                reflection_id=content_id(
                    "reflection", failure.attempt_id, self.engine.fingerprint, sampling, seed, *shown),
                attempt_id=failure.attempt_id, problem_id=failure.problem.problem_id, reflector=self.engine.model,
                sample_index=i, text=text.strip() if thought is not None else text, tokens=completion.tokens,
                finish_reason=completion.finish_reason, seed=seed, temperature=sampling.temperature,
                thought=thought,
            ))
        return rows

    def retry(
        self, pairs_B: Sequence[tuple[Failure, Reflection | None]], samples: Sequence[int]
    ) -> list[list[Attempt]]:
        """Retries number `samples` of each failed attempt after its reflection, or (None) without one: attempts_B_N."""
        return self.acting.play("retry", [self.retries(f, r, samples) for f, r in pairs_B])

    def retrying(
        self, pairs_B: Sequence[tuple[Failure, Reflection | None]], samples: Sequence[int]
    ) -> Story[list[list[Attempt]]]:
        """`retry` as a story."""
        return self.acting.playing("retry", [self.retries(f, r, samples) for f, r in pairs_B])

    @property
    def acting(self) -> Loop:
        """The loop whose engine writes retries."""
        return self if self.actor is None else replace(self, engine=self.actor, actor=None)

    def retries(self, failure: Failure, reflection: Reflection | None, samples: Sequence[int]) -> list[Episode]:
        """Retries of a failed attempt, for `play`: episodes_N."""
        chat = self._retry_chat(failure, reflection.text if reflection else None)
        shown, parent = reflection.reflection_id if reflection else None, failure.attempt_id
        return [
            Episode(failure.problem, chat, i, self._seed("retry", parent, shown, i), parent, shown) for i in samples
        ]

    def hinted(self, problem: Problem, reflection: Reflection, samples: Sequence[int]) -> list[Episode]:
        """First tries at a problem that show a reflection on an attempt at another one, for `play`: episodes_N."""
        chat, shown = hint_chat(problem.prompt, reflection.text), reflection.reflection_id
        return [
            Episode(problem, chat, i, self._seed("hint", problem.problem_id, shown, i), None, shown) for i in samples
        ]

    def next_failure(self, failure: Failure, reflection: Reflection | None, retry: Attempt) -> Failure:
        """The failure that a failed retry is: see `following`."""
        return self.following(failure, reflection.text if reflection else None, Failure.of(failure.problem, retry))

    def following(self, failure: Failure, reflection: str | None, retried: Failure) -> Failure:
        """`retried`, a failed retry of `failure` after a reflection on it or (None) without one. Its own reflection and
        retry see all earlier tries and reflections; where a retry sees the reflection alone, none of them."""
        before = self._retry_chat(failure, reflection)[len(failure.problem.prompt) :]
        return replace(retried, before=before if self.retry_context == "full" else ())

    def _retry_chat(self, failure: Failure, reflection: str | None) -> tuple[Message, ...]:
        again = self.task.words["retry"]
        if reflection is None:  # the control knows as much as a request to reflect says
            again = with_feedback(again, failure.feedback, self.feedback)
        return retry_chat(
            failure.chat, failure.transcript, reflection, self.request(failure), again, self.retry_context)

    def repair(self, failures_B: Sequence[Failure], feedback: str, samples: Sequence[int]) -> list[list[Attempt]]:
        """Repairs number `samples` of each failed attempt, reasoning and output in one completion (Re-ReST section 3):
        attempts_B_N. `feedback` is binary, verifier or gold."""
        return finished(self.repairing(failures_B, feedback, samples))

    def repairing(
        self, failures_B: Sequence[Failure], feedback: str, samples: Sequence[int]
    ) -> Story[list[list[Attempt]]]:
        """`repair` as a story."""
        return self.playing("repair", [
            [
                Episode(
                    f.problem, repair_chat(f.problem.prompt, f.transcript, feedback_text(self.task, f, feedback)), i,
                    self._seed("repair", f.attempt_id, feedback, i), f.attempt_id,
                )
                for i in samples
            ]
            for f in failures_B
        ])

    def play(self, phase: str, episodes_B_N: Sequence[Sequence[Episode]]) -> list[list[Attempt]]:
        """Play the episodes to their ends, those of one prompt from one prefill, and judge them: attempts_B_N.

        Afterwards each episode has its turns, and the completions that they come from.
        """
        return finished(self.playing(phase, episodes_B_N))

    def playing(self, phase: str, episodes_B_N: Sequence[Sequence[Episode]]) -> Story[list[list[Attempt]]]:
        """`play` as a story."""
        prompts = [
            episodes_N[0].prompt(tuple(e.next_seed for e in episodes_N)) for episodes_N in episodes_B_N if episodes_N
        ]
        episodes = [e for episodes_N in episodes_B_N for e in episodes_N]
        completions_B_N = yield Write(self, prompts, self.sampling.max_tokens)
        open_episodes = self._turn(completions_B_N, episodes, repairs=phase == "repair")
        while self.any_open(bool(open_episodes)):
            completions_B_1 = yield Write(
                self, [e.prompt((e.next_seed,)) for e in open_episodes], self.sampling.max_tokens)
            open_episodes = self._turn(completions_B_1, open_episodes)
        verdicts = yield Judge(self.verdicts, episodes)
        rows = iter([self._row(phase, e, v) for e, v in zip(episodes, verdicts, strict=True)])
        return [[next(rows) for _ in episodes_N] for episodes_N in episodes_B_N]

    def verdicts(self, episodes: Sequence[Episode]) -> list[Verdict]:
        """The verifier's, but for episodes without an answer: their rows have finish_reason refused."""
        tried = [e for e in episodes if e.finish_reason != REFUSED]
        with blame("task", self.task, "verify()"):
            verdicts = self.judge(self.task, [(e.problem, without_thoughts(e.transcript)) for e in tried])
            check_verdicts(self.task, verdicts)
        given = iter([self._whole(e, verdict) for e, verdict in zip(tried, verdicts, strict=True)])
        return [
            next(given) if e.finish_reason != REFUSED else Verdict(False, 0.0, None, "There is no answer.", None)
            for e in episodes
        ]

    def write(self, prompts_B: Sequence[Prompt], max_tokens: int) -> list[list[Completion]]:
        """What the engine generates: completions_B_N. Once it has stopped, nothing is asked any more."""
        if self.unanswered.failure is not None:
            return [[no_answer("") for _ in prompt.seeds] for prompt in prompts_B]
        try:
            return completions_of(self.engine, prompts_B, replace(self.sampling, max_tokens=max_tokens))
        except UnfinishedError as error:
            self.unanswered.failure = error
            return error.completions_B_N

    def answers(self, feed: Feed) -> Iterator[list[tuple[int, list[Completion]]]]:
        """The engine's answers to what it is fed, in lists: of an engine that streams one by one, else batch by batch.

        Once it has stopped, nothing is asked any more.
        """
        if streams(self.engine):
            try:
                for answer in streamed(self.engine, feed, self.sampling):  # type: ignore[arg-type]
                    yield [answer]
                return
            except UnfinishedError as error:
                self.unanswered.failure, answers = error, error.answers
            yield answers
        while requests := feed(sys.maxsize, True):
            written: list[tuple[int, list[Completion]]] = []
            for most in dict.fromkeys(request.max_tokens for request in requests):
                group = [request for request in requests if request.max_tokens == most]
                completions_B_N = self.write([request.prompt for request in group], most)
                written += zip((request.number for request in group), completions_B_N, strict=True)
            yield written

    def _seed(self, *parts: object) -> int:
        return derive_seed(self.seed, *parts)

    def _turn(
        self, completions_B_N: Sequence[Sequence[Completion]], episodes: Sequence[Episode], repairs: bool = False
    ) -> list[Episode]:
        """Take what the model wrote as each episode's next turn, and let the environment answer; those still open."""
        completions = [c for row in completions_B_N for c in row]
        still_open = []
        for e, completion in zip(episodes, completions, strict=True):
            self.unanswered.note(e.problem, completion)
            text = completion.turn
            if repairs:
                e.reasoning, text = split_repair(text)
            e.thoughts += [t for part in (completion.turn.removesuffix(text), text) if (t := parts(part).thought)]
            text, completion = self._own(e, text, completion)
            e.transcript.append(Message("assistant", text))
            e.completions.append(completion)
            ended = completion.tokens == 0  # no room, or no answer
            if isinstance(self.task, Environment) and len(e.completions) < self.task.max_turns and not ended:
                with blame("task", self.task, "observe()"):
                    observation = self.task.observe(e.problem, without_thoughts(e.transcript))
                    check_observation(self.task, observation)
                if observation is not None:
                    e.transcript.append(observation)
                    still_open.append(e)
        return still_open

    def _own(self, episode: Episode, text: str, completion: Completion) -> tuple[str, Completion]:
        """A turn without what the model wrote in the environment's place, as text and as the completion."""
        if not isinstance(self.task, Environment):
            return text, completion
        with blame("task", self.task, "own_part()"):
            own, invented = own_turn(self.task, text)
        if not invented:
            return text, completion
        episode.invented.append(invented)
        return own, completion.cut(len(invented))

    def _whole(self, episode: Episode, verdict: Verdict) -> Verdict:
        """The verdict; a failure where a try passed in which the task read no answer, because it was cut or is empty:
        cut words are no refusal to call a tool. In an environment what was done before the cut counts."""
        if not verdict.success or verdict.answer not in NOTHING_READ or isinstance(self.task, Environment):
            return verdict
        if episode.finish_reason == "stop" and answer_of(episode.transcript[-1].content).strip():
            return verdict
        return Verdict(False, 0.0, CUT_OFF, "The answer was cut off, or there is none.", None)

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
            answer=verdict.answer, prompt_tokens=episode.completions[0].prompt_tokens,
            completion_tokens=episode.tokens_written, finish_reason=episode.finish_reason,
            seed=episode.seed, temperature=self.sampling.temperature, parent_id=episode.parent_id,
            reflection_id=episode.reflection_id, reasoning=episode.reasoning,
            invented="\n\n".join(episode.invented) or None,
            thoughts="\n\n".join(episode.thoughts) or None,
        )


def without_thoughts(transcript: Sequence[Message]) -> list[Message]:
    """What a task judges and answers, a user's own task too: the model's turns without their thoughts."""
    return [Message(m.role, answer_of(m.content)) if m.role == "assistant" else m for m in transcript]


def transcript_text(transcript: Sequence[Message]) -> str:
    """A try as text: its one turn, or the turns of model and environment (`< `) one below the other."""
    return "\n".join(m.content if m.role == "assistant" else f"< {m.content}" for m in transcript)


def feedback_text(task: Task, failure: Failure, feedback: str) -> str:
    """What a reflector is shown about a failed attempt: that it failed (binary), the verifier's sentence, or gold: the
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
