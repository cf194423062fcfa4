"""HotpotQA as ReAct plays it: answer a question of two hops with Search, Lookup and Finish over a local corpus.

It is the first task of Re-ReST (arXiv 2406.01495, section 4.1), after ReAct (arXiv 2210.03629). Questions and pages
come from a generator (`hotpotqa_synthetic.py`; levels easy, synthetic) or from `data` (`hotpotqa_data.py`); the
pages are searched by `hotpotqa_corpus.py`. An episode has at most 6 turns of the model.

A turn is free thought and `Action: Search[…]`, `Lookup[…]` or `Finish[…]`; ReAct's numbered form (`Action 1: …`) will
do, case doesn't matter. The last closed action of a turn counts; its argument ends at the last ] of its line. A search
that finds nothing leaves the page that is open; Lookup of the same words again gives the next sentence.

The verifier is HotpotQA's own: the first Finish succeeds where it equals the reference after lower case, without
punctuation, articles and extra white space. `score` is 1.0 then, else the F1 of the words, 0.99 at most (the same words
in another order aren't the answer); yes and no have no partial score. Feedback says the kind of failure alone.

`leaks` looks for what gives the answer away as the answer: "answer" or "finish", at most four words such as "should
be", and then the reference. Its mere words don't count: pages hold them, and a question names what it compares.

A problem's id and metadata hold the corpus's fingerprint. `observe` refuses a problem of another corpus (exit 3).
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rrr_cli import prompts
from rrr_cli.engines.models import require
from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.hotpotqa.corpus import Corpus, Page, fold, lookup, one_line
from rrr_cli.tasks.rows import check_source, check_split, chosen_level

MAX_TURN = 20_000  # characters of a turn that are looked at, from its end
MAX_ANSWER = 500  # characters of an answer
NO_MATCH_SCORE = 0.99  # the most that an answer which isn't the reference gets
MARKER = re.compile(r"\baction[ \t]{0,3}\d{0,3}[ \t]{0,3}:[ \t]{0,3}(search|lookup|finish)[ \t]{0,3}\[", re.IGNORECASE)
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
SPACES = str.maketrans(dict.fromkeys("[:=", " "))
BEFORE_ANSWER = {"should", "must", "would", "will", "could", "have", "has", "is", "was", "be", "been", "with"}


class HotpotQA:
    """The task; `levels` are of the generator, so `level` and `data` exclude each other.

    Raises RrrError: unknown level, or both given (exit 2); data that can't be read (3); bm25s isn't installed (4).
    """

    name = "hotpotqa"
    levels = ("easy", "synthetic")
    error_types = ("no_action", "no_answer", "partial_answer", "wrong_answer")
    words: Mapping[str, str] = {"reflect": prompts.HOTPOTQA_REFLECT, "retry": prompts.HOTPOTQA_RETRY}
    max_turns = 6  # Re-ReST's

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        from rrr_cli.tasks.hotpotqa.data import sources

        require("qa", "bm25s")
        self.level = chosen_level(
            self.name, self.levels, level, data, lambda found: check_source(sources(found)[0], ""))
        self._sources = sources(data) if data is not None else None

    def settings(self) -> dict[str, str]:
        """What decides a verdict beside the problem: the pages."""
        return {"corpus": self.corpus().fingerprint}

    def corpus(self) -> Corpus:
        """The pages of this level or data; read or made once a process."""
        if self._sources is not None:
            from rrr_cli.tasks.hotpotqa.data import data_corpus

            return data_corpus(self._sources)
        from rrr_cli.tasks.hotpotqa.world import world

        return world(self.level).corpus

    def problems(self, split: str) -> Iterator[Problem]:
        """Problems of `split`, "train" or "test"; the generator gives 1,200 and 500 (easy), 4,000 and 1,000."""
        check_split(self.name, split)
        if self._sources is not None:
            from rrr_cli.tasks.hotpotqa.data import data_problems

            return data_problems(self._sources, split, self.corpus())
        from rrr_cli.tasks.hotpotqa.generate import synthetic_problems

        return synthetic_problems(self.level, split)

    def observe(self, problem: Problem, transcript: Sequence[Message]) -> Message | None:
        """What the last action shows; None after Finish and after the last turn.

        Raises RrrError (exit 3): the problem was made with other pages than this task has.
        """
        corpus = self.corpus()
        if json.loads(problem.metadata)["corpus"] != corpus.fingerprint:
            raise RrrError(f"problem {problem.problem_id} was made with other pages than these: give the --level or "
                           "--data that it was mined with, unchanged, or mine again", BAD_INPUT)
        turns = _turns(transcript)
        if not 0 < len(turns) < self.max_turns:
            return None
        told = _last_observation(corpus, turns)
        return None if told is None else Message("user", prompts.HOTPOTQA_OBSERVATION.format(told=told))

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """Judge the first Finish within the turns. Total and pure."""
        actions = [action_of(turn) for turn in _turns(transcript)[: self.max_turns]]
        for action in actions:
            if action is not None and action[0] == "finish":
                return judge(action[1], json.loads(problem.reference))
        if not actions or actions[-1] is None:
            return Verdict(False, 0.0, "no_action", "The last turn held no action.", None)
        return Verdict(False, 0.0, "no_answer", "No answer was given.", None)

    def right_turns(self, problem: Problem) -> list[str]:
        """Search the pages that hold the facts, read on where they stand further down, and Finish."""
        answer = json.loads(problem.reference)
        turns = [f"Thought: I have to read about {title}.\nAction: {action}"
                 for title, action in json.loads(problem.metadata)["steps"]]
        return [*turns, f"Thought: The answer is {answer}.\nAction: Finish[{answer}]"]

    def leaks(self, problem: Problem, text: str) -> bool:
        """Whether `text` says that the reference is the answer, as above."""
        gold, words = _bare_words(json.loads(problem.reference)), _bare_words(text)
        for i, word in enumerate(words):
            if word in ("answer", "finish"):
                start = i + 1
                while start < min(i + 5, len(words)) and words[start] in BEFORE_ANSWER:
                    start += 1
                if gold and words[start : start + len(gold)] == gold:
                    return True
        return False


def make_problem(
    question: str, answer: str, steps: Sequence[tuple[str, str]], split: str, difficulty: str, corpus: Corpus
) -> Problem:
    """The row of one problem. `steps` are a right model's actions before Finish, each with its page's title."""
    return Problem(
        problem_id=content_id("hotpotqa", question, answer, corpus.fingerprint),
        task=HotpotQA.name,
        split=split,
        difficulty=difficulty,
        prompt=[Message("user", prompts.HOTPOTQA.format(turns=HotpotQA.max_turns, question=question))],
        tools=None,
        reference=json.dumps(answer),
        metadata=json.dumps({"corpus": corpus.fingerprint, "steps": [list(step) for step in steps]}),
    )


def action_of(turn: str) -> tuple[str, str] | None:
    """The last closed action of a turn: search, lookup or finish, and its argument on one line."""
    turn = turn[-MAX_TURN:]
    end = len(turn)
    for marker in reversed(list(MARKER.finditer(turn))):
        line = re.split(r"[\r\n]", turn[marker.end() : end], maxsplit=1)[0]
        argument, closed, _ = line.rpartition("]")
        if closed:
            return marker[1].lower(), one_line(argument)
        end = marker.start()
    return None


def judge(answer: str, gold: str) -> Verdict:
    """The verdict on the argument of Finish."""
    answer = answer[:MAX_ANSWER]
    if not answer:
        return Verdict(False, 0.0, "no_answer", "No answer was given.", None)
    if comparable(answer) == comparable(gold):
        return Verdict(True, 1.0, None, "The answer is right.", answer)
    score = min(f1(answer, gold), NO_MATCH_SCORE)
    return Verdict(False, score, "partial_answer" if score else "wrong_answer", "The answer is wrong.", answer)


def normalise(text: str) -> str:
    """HotpotQA's normalize_answer: lower case, no ASCII punctuation, no articles, single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def comparable(text: str) -> str:
    """What exact match compares: normalised, or where that leaves nothing ("The The"), in lower case alone."""
    return normalise(text) or " ".join(text.lower().split())


def f1(answer: str, gold: str) -> float:
    """HotpotQA's f1_score: of the words of both; 0 where one is yes, no or noanswer and the other isn't the same."""
    answer, gold = normalise(answer), normalise(gold)
    if answer != gold and {answer, gold} & {"yes", "no", "noanswer"}:
        return 0.0
    words, gold_words = answer.split(), gold.split()
    same = (Counter(words) & Counter(gold_words)).total()
    return 2 * same / (len(words) + len(gold_words)) if same else 0.0


def _turns(transcript: Sequence[Message]) -> list[str]:
    return [m.content for m in transcript if m.role == "assistant"]


def _last_observation(corpus: Corpus, turns: Sequence[str]) -> str | None:
    """What the environment says to the last of `turns`; None once one of them is Finish."""
    page: Page | None = None
    keyword, asked, told = "", 0, ""
    for turn in turns:
        name, argument = action_of(turn) or ("", "")
        if name == "finish":
            return None
        if name == "search":
            found = corpus.search(argument)
            told = found.told
            if found.page is not None:
                page, asked = found.page, 0
        elif name == "lookup" and page is not None:
            asked = asked if fold(argument) == keyword else 0
            keyword, told = fold(argument), lookup(page, argument, asked)
            asked += 1
        else:
            told = prompts.HOTPOTQA_NO_PAGE if name else prompts.HOTPOTQA_INVALID
    return told


def _bare_words(text: str) -> list[str]:
    return normalise(text.translate(SPACES)).split()
