"""The verdict on one answer, by HotpotQA's own rules. Reads and writes nothing; never raises.

An answer succeeds where it equals the reference after lower case, without punctuation, articles and extra white space.
`score` is 1.0 then, else the F1 of the words, 0.99 at most (the same words in another order aren't the answer); yes and
no have no partial score. Feedback says the kind of failure alone.
"""

from __future__ import annotations

import re
import string
from collections import Counter

from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.hotpotqa.problem import MAX_ANSWER

NO_MATCH_SCORE = 0.99  # the most that an answer which isn't the reference gets
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


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
