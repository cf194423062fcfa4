"""HotpotQA as ReAct plays it: answer a question of two hops with Search, Lookup and Finish over a local corpus.

It is the first task of Re-ReST (arXiv 2406.01495, section 4.1), after ReAct (arXiv 2210.03629). Questions and pages
come from a generator (`generate.py`; levels easy, synthetic) or from `data` (`data.py`); the pages are searched by
`corpus.py`. An episode has at most 6 turns of the model.

A turn is free thought and one action, the first (`parse.py`); what stands after it is dropped. A search that finds
nothing leaves the page that is open; Lookup of the same words again gives the next sentence. The verifier judges the
first Finish (`judge.py`).

In a free text such as a reflection an answer is what the text says to be it: after "answer" or "finish" and at most
four words such as "should be", or before "is the answer". The mere words of the reference don't count: pages hold them,
and a question names what it compares.

A problem's id and metadata hold the corpus's fingerprint. `observe` refuses a problem of another corpus (exit 3).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.extras import require
from rrr_cli.records import Message, Problem
from rrr_cli.tasks import actions
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.hotpotqa.corpus import MAX_QUERY, SHOWN, Corpus, Page, SearchResult, fold, matches, one_line
from rrr_cli.tasks.hotpotqa.data import check, corpus_of
from rrr_cli.tasks.hotpotqa.data import problems as data_problems
from rrr_cli.tasks.hotpotqa.generate import problems as generated_problems
from rrr_cli.tasks.hotpotqa.judge import judge, normalise
from rrr_cli.tasks.hotpotqa.parse import action_of, first_action
from rrr_cli.tasks.hotpotqa.problem import MAX_TURNS, NAME, WORDS
from rrr_cli.tasks.hotpotqa.world import world
from rrr_cli.tasks.rows import chosen_level
from rrr_cli.tasks.splits import check_split

SPACES = str.maketrans(dict.fromkeys("[:=", " "))
MAX_READ = 60_000  # characters of a text in which an answer is looked for, from its start
AFTER_ANSWER = {"right", "correct", "final"}
BEFORE_ANSWER = {"should", "must", "would", "will", "could", "have", "has", "is", "was", "be", "been", "with"}


class HotpotQA:
    """The task; `levels` are of the generator, so `level` and `data` exclude each other.

    Raises RrrError: unknown level, or both given (exit 2); data that can't be read (3); bm25s isn't installed (4).
    """

    name = NAME
    levels = ("easy", "synthetic")
    error_types = ("no_action", "no_answer", "partial_answer", "wrong_answer")
    words: Mapping[str, str] = WORDS
    max_turns = MAX_TURNS

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        require("qa", "bm25s")
        self.level = chosen_level(self.name, self.levels, level, data, check)
        self.data = data

    def settings(self) -> dict[str, str]:
        """What decides a verdict beside the problem: the pages."""
        return {"corpus": self.corpus().fingerprint}

    def corpus(self) -> Corpus:
        """The pages of this level or data; read or generated once a process."""
        return world(self.level).corpus if self.data is None else corpus_of(self.data)

    def problems(self, split: str) -> Iterator[Problem]:
        """Problems of `split`, "train" or "test"; the generator gives 1,200 and 500 (easy), 4,000 and 1,000."""
        check_split(self.name, split)
        if self.data is None:
            return generated_problems(self.level, split, self.words)
        return data_problems(self.data, split, self.words)

    def observe(self, problem: Problem, transcript: Sequence[Message]) -> Message | None:
        """What the last action shows; None after Finish and after the last turn.

        Raises RrrError (exit 3): the problem belongs to other pages than this task's.
        """
        corpus = self.corpus()
        if json.loads(problem.metadata)["corpus"] != corpus.fingerprint:
            raise RrrError(f"problem {problem.problem_id} was made with other pages than these: give the --level or "
                           "--data that it was mined with, unchanged, or mine again", BAD_INPUT)
        turns = _turns(transcript)
        if not 0 < len(turns) < self.max_turns:
            return None
        answer = _last_observation(corpus, turns, self.words)
        return None if answer is None else Message("user", self.words["observation"].format(told=answer))

    def own_part(self, answer: str) -> str:
        """An answer up to its action: what the model writes after it, observations of its own too, is dropped."""
        action = first_action(answer)
        return actions.own_part(answer, action.end if action else None)

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """Judge the first Finish within the turns. Total and pure."""
        taken = [action_of(turn) for turn in _turns(transcript)[: self.max_turns]]
        for action in taken:
            if action is not None and action[0] == "finish":
                return judge(action[1], json.loads(problem.reference))
        if not taken or taken[-1] is None:
            return Verdict(False, 0.0, "no_action", "The last turn held no action.", None)
        return Verdict(False, 0.0, "no_answer", "No answer was given.", None)

    def right_turns(self, problem: Problem) -> list[str]:
        """Search the pages that hold the facts, read on where they stand further down, and Finish."""
        answer = json.loads(problem.reference)
        turns = [f"Thought: I have to read about {title}.\nAction: {action}"
                 for title, action in json.loads(problem.metadata)["steps"]]
        return [*turns, f"Thought: The answer is {answer}.\nAction: Finish[{answer}]"]

    def answers_in(self, problem: Problem, text: str) -> Iterator[list[str]]:
        """The reference, where `text` says that it is the answer, as above."""
        gold, words = _bare_words(json.loads(problem.reference)), _bare_words(text[:MAX_READ])
        if gold and any(words[i : i + len(gold)] == gold for i in _answer_places(words, len(gold))):
            yield [f"Action: Finish[{' '.join(gold)}]"]


def _turns(transcript: Sequence[Message]) -> list[str]:
    return [m.content for m in transcript if m.role == "assistant"]


def _last_observation(corpus: Corpus, turns: Sequence[str], words: Mapping[str, str]) -> str | None:
    """What the environment says to the last of `turns`; None once one of them is Finish."""
    page: Page | None = None
    keyword, asked, answer = "", 0, ""
    for turn in turns:
        name, argument = action_of(turn) or ("", "")
        if name == "finish":
            return None
        if name == "search":
            result = corpus.search(argument)
            answer = _seen(result, argument, words)
            if result.page is not None:
                page, asked = result.page, 0
        elif name == "lookup" and page is not None:
            asked = asked if fold(argument) == keyword else 0
            keyword, answer = fold(argument), _looked_up(page, argument, asked, words)
            asked += 1
        else:
            answer = words["no_page" if name else "invalid"]
    return answer


def _seen(result: SearchResult, query: str, words: Mapping[str, str]) -> str:
    """What a search shows: the first sentences of the page, after its title where the query isn't the title."""
    if result.page is None:
        return words["not_found"].format(query=one_line(query[:MAX_QUERY]), similar=", ".join(result.similar))
    sentences = " ".join(result.page.sentences[:SHOWN])
    return sentences if result.named else f"[{result.page.title}] {sentences}"


def _looked_up(page: Page, keyword: str, before: int, words: Mapping[str, str]) -> str:
    """What Lookup of `keyword` shows, asked `before` times in a row already on this page."""
    sentences = matches(page, keyword)
    if before >= len(sentences):
        return words["no_more"]
    return words["result"].format(number=before + 1, count=len(sentences), sentence=sentences[before])


def _bare_words(text: str) -> list[str]:
    return normalise(text.translate(SPACES)).split()


def _answer_places(words: Sequence[str], length: int) -> Iterator[int]:
    """Where an answer of `length` words may begin."""
    for i, word in enumerate(words):
        if word in ("answer", "finish"):
            start = i + 1
            while start < min(i + 5, len(words)) and words[start] in BEFORE_ANSWER:
                start += 1
            yield start
            end = i - 1
            while end > 0 and words[end] in AFTER_ANSWER:
                end -= 1
            if words[end] in ("is", "was") and end >= length:
                yield end - length
