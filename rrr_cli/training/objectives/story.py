"""One sample of `--objective attempts` as it unfolds, token by token: a try, a reflection on it, a try, …

Its chats are the loop's own (`rollout.py`), as `rrr eval --tries` shows them. A story ends with its first pass, with a
try that couldn't be judged, and where the window is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rrr_cli.failures import Failure
from rrr_cli.prompts import reflect_chat
from rrr_cli.records import Attempt, Reflection
from rrr_cli.rollout import Loop
from rrr_cli.training.judge import verdict_of
from rrr_cli.training.objectives.base import write_reflections
from rrr_cli.training.samples import Sample
from rrr_cli.training.tokens import Thread, TokenCompletion, TokenEpisode, TokenPrompt, Tokens, token_completion


@dataclass
class Story:
    """One sample as it unfolds: tries and the reflections between them."""

    failure: Failure  # the mined one
    thread: Thread
    episode: TokenEpisode  # the newest try
    attempts: list[Attempt] = field(default_factory=list)
    reflections: list[Reflection] = field(default_factory=list)
    turns: list[range] = field(default_factory=list)
    failed: Failure | None = None  # the newest try, where there is something to reflect on

    def tried(self, attempt: Attempt, loop: Loop) -> None:
        """Take in the newest try, once it is played and judged."""
        if not self.turns:
            self.thread.prompt_ids = token_completion(self.episode.completions[0]).prompt_ids
        self.turns.append(self.thread.add(self.episode.tokens()))
        self.attempts.append(attempt)
        if verdict_of(attempt) is not False or self.episode.completions[-1].tokens == 0:  # or the window is full
            self.failed = None
        elif self.failed is None:
            self.failed = Failure.of(self.failure.problem, attempt)
        else:
            self.failed = loop.next_failure(self.failed, self.reflections[-1], attempt)

    def request(self, loop: Loop) -> Tokens:
        """From the end of the failed try to the start of the reflection on it."""
        assert self.failed is not None
        before = (*self.episode.chat, *self.episode.transcript[:-1])
        return self.thread.request(before, loop.request(self.failed), self.failure.problem.tools)

    def reflected(self, completion: TokenCompletion, row: Reflection, request: Tokens, loop: Loop) -> None:
        """Take in a reflection, and open the retry after it; with nothing written, the window is full: end."""
        if completion.tokens == 0 or self.failed is None:
            self.failed = None
            return
        self.thread.add(request)
        self.turns.append(self.thread.add(Tokens.written(completion)))
        self.reflections.append(row)
        chat = reflect_chat(self.failed.chat, self.failed.transcript, loop.request(self.failed))
        self.thread.add(self.thread.request(chat, loop.task.words["retry"], self.failure.problem.tools))
        (retry,) = loop.retries(self.failed, self.reflections[-1], range(1))
        self.episode = TokenEpisode(
            **vars(retry), render=self.thread.render, stops=self.thread.stops, start=self.thread.ids)

    def sample(self, internalise: bool) -> Sample:
        """What became of it."""
        *others, last = self.attempts
        reflections = tuple(self.reflections)
        reflection = reflections[-1] if reflections else None
        problem = self.failure.problem
        talk = (*self.episode.chat[len(problem.prompt) :], *self.episode.transcript)
        right = bool(verdict_of(last)) and reflection is not None
        return Sample(
            self.failure, self.thread.prompt_ids, self.thread.tokens, reflection, last, tuple(others),
            reflections[:-1], tuple(self.turns), talk,
            self.episode.tokens() if internalise and right else None,
        )


def play(loop: Loop, phase: str, stories_B_N: Sequence[Sequence[Story]]) -> None:
    """Each story's newest try."""
    attempts_B_N = loop.play(phase, [[story.episode for story in stories_N] for stories_N in stories_B_N])
    for stories_N, attempts_N in zip(stories_B_N, attempts_B_N, strict=True):
        for story, attempt in zip(stories_N, attempts_N, strict=True):
            story.tried(attempt, loop)


def reflect(loop: Loop, stories: Sequence[Story]) -> None:
    """A reflection on each story's newest try, which failed."""
    requests = [story.request(loop) for story in stories]
    failures = [story.failed for story in stories if story.failed is not None]
    prompts = []
    for story, failure, request in zip(stories, failures, requests, strict=True):
        chat = loop.reflect_prompt(failure, range(1))
        prompts.append(TokenPrompt(chat.messages, chat.seeds, chat.tools, tuple(story.thread.ids + request.ids)))
    completions_B_1 = write_reflections(loop, prompts)
    rows_B_1 = loop.reflections_on(
        [(failure, range(1), written) for failure, written in zip(failures, completions_B_1, strict=True)])
    for story, request, (completion,), (row,) in zip(stories, requests, completions_B_1, rows_B_1, strict=True):
        story.reflected(token_completion(completion), row, request, loop)
