"""Which test problems are among those to be trained on, though written a little otherwise.

Two problems are the same to a reader where they have the same words, or the same answer and words that differ by one
word more or less. Spelling is normalised first: Unicode's compatibility forms, case, white space, punctuation,
and characters that can't be seen. They are near where they share 13 words in a row (Brown et al. 2020, appendix C).
Words that most test prompts have are the task's own template and don't count. Pure; reads and writes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

from rrr_cli.records import Problem
from rrr_cli.text import safe_text

NEAR = 13  # words in a row
LONG = 200  # own words
TEMPLATE_SHARE = 0.5  # a word in more of the test prompts than this is the template's


def words(problem: Problem) -> tuple[str, ...]:
    """The prompt's words and numbers, normalised; signs between them count as words, punctuation doesn't."""
    text = " ".join(message.content for message in problem.prompt)
    text = safe_text(unicodedata.normalize("NFKC", text)).casefold()
    return tuple(re.findall(r"\w+|[^\w\s.,;:!?'\"()\[\]{}]", text))


def overlap(trained: Sequence[Problem], test: Sequence[Problem]) -> tuple[list[Problem], list[Problem]]:
    """The test problems that are the same as one of `trained`, and those that are only near one."""
    words_T = [words(problem) for problem in test]
    shares = Counter(word for row in words_T for word in set(row))
    template = {word for word, count in shares.items() if count > max(1, TEMPLATE_SHARE * len(test))}
    whole: set[int] = set()
    shorter: set[int] = set()
    runs: set[int] = set()
    for problem in trained:
        row = words(problem)
        whole.update(_whole(problem, row, template))
        shorter.update(_shorter(problem, row, template))
        runs.update(_runs(row, template))
    same, near = [], []
    for problem, row in zip(test, words_T, strict=True):
        own = set(_whole(problem, row, template))
        if own & whole or own & shorter or not whole.isdisjoint(_shorter(problem, row, template)):
            same.append(problem)
        elif not runs.isdisjoint(_runs(row, template)):
            near.append(problem)
    return same, near


def _whole(problem: Problem, row: tuple[str, ...], template: set[str]) -> Iterator[int]:
    """Keys of the same words, and of the same own words with the same answer."""
    yield hash(row)
    yield hash((_answer(problem), tuple(word for word in row if word not in template)))


def _shorter(problem: Problem, row: tuple[str, ...], template: set[str]) -> Iterator[int]:
    """The second key of `_whole` for each way to leave out one word. Of long problems `_runs` are compared alone."""
    own, answer = tuple(word for word in row if word not in template), _answer(problem)
    return (hash((answer, own[:i] + own[i + 1 :])) for i in range(len(own) if len(own) <= LONG else 0))


def _answer(problem: Problem) -> int:
    return hash((problem.reference, problem.metadata, problem.tools))


def _runs(row: tuple[str, ...], template: set[str]) -> Iterator[int]:
    own = [word for word in row if word not in template]
    return (hash(tuple(own[i : i + NEAR])) for i in range(len(own) - NEAR + 1))
