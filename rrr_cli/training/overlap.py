"""Which test problems are among those to be trained on, though written a little otherwise.

Two problems are the same to a reader where they have the same words, or the same answer and words that differ by one
word more or less. Spelling is normalised first: Unicode's compatibility forms, case, accents, letters of another script
that look alike, white space, punctuation, HTML, and characters that can't be seen. They are near where they share 13
words in a row (Brown et al. 2020, appendix C). Words that most test prompts have are the task's own template and don't
count. Pure; reads and writes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from html import unescape

from rrr_cli.records import Problem
from rrr_cli.text import safe_text

NEAR = 13  # words in a row
LONG = 200  # own words
TEMPLATE_SHARE = 0.5  # a word in more of the test prompts than this is the template's

# The letters, signs and spellings that a reader takes for one another. Both problems are written alike, so that what is
# lost here (an accent, say) can only make two problems the same that have the same words and numbers otherwise.
UNSEEN = re.compile("[\u0300-\u036f\ufe00-\ufe0f\U000e0100-\U000e01ef\u115f\u1160\u3164\uffa0]")  # accents too
CYRILLIC = "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0455\u0456\u0458\u04bb\u0501"
GREEK = "\u03b1\u03b2\u03b5\u03b9\u03ba\u03bc\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7"
LOOK_ALIKE = str.maketrans(CYRILLIC + GREEK, "abekmhopctyxsijhd" + "abeikmvoptux")
SPELLINGS = [(re.compile(pattern), written) for pattern, written in (
    ("[\u2010-\u2015\u2212]", "-"),
    ("[\u00d7\u00b7\u2217\u2219\u22c5]|(?<=\\d) ?x ?(?=\\d)", "*"),
    ("[\u00f7\u2044\u2215]", "/"),
    (r"(?<=[^\W\d])['`\u02bc\u2018\u2019](?=[^\W\d])", ""),  # don't
    (r"(?<!\d)(?<!\d )[-*]+(?! ?\d)", " "),  # a hyphen or a mark of Markdown where it isn't between numbers
)]
POWER = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+")
FRACTION = re.compile("(?<=\\d)(?=[\u00bc-\u00be\u2150-\u215e])")
THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}([, ]\d{3})+(?![\d,])")
CJK = "\u3040-\u30ff\u3400-\u9fff"  # written without spaces: each character is a word
APART = re.compile(r"(?<!\d) | (?!\d)")  # the spaces that aren't between two numbers
WORD = re.compile(
    rf"[{CJK}]|[^\W_{CJK}]+|[-+*/%=<>$^&@\\|~]|[^\w\s!-~\u00a1\u00ab\u00bb\u00bf\u2000-\u206f\u3000-\u303f]")


def words(problem: Problem) -> tuple[str, ...]:
    """The prompt's words and numbers, normalised; signs between numbers count as words, punctuation doesn't."""
    text = unescape(" ".join(word for message in problem.prompt for word in message.content.split()))
    text = POWER.sub(lambda match: f"^{unicodedata.normalize('NFKC', match[0])}", FRACTION.sub(" ", text))
    text = UNSEEN.sub("", unicodedata.normalize("NFKD", safe_text(text)).casefold())
    text = unicodedata.normalize("NFC", text).translate(LOOK_ALIKE)
    for pattern, written in SPELLINGS:
        text = pattern.sub(written, text)
    text = THOUSANDS.sub(lambda match: re.sub("[, ]", "", match[0]), text)
    return tuple(WORD.findall(text))


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
    """Keys of the same words, however they are put apart, and of the same own words with the same answer."""
    yield hash(APART.sub("", " ".join(row)))
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
