"""The pages that HotpotQA's actions read, in memory: Search finds one by its title or by BM25, Lookup reads on in it.

Nothing is read from disk or written here. The index (bm25s, pure numpy; extra `qa`) is built at a corpus's first search
by words, once, and a search is remembered with its result: replaying a transcript costs next to nothing. A corpus of
millions of pages would need an index on disk; that isn't done here.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from rrr_cli.text import safe_text

SHOWN = 5  # sentences that a search shows, as ReAct's environment
SIMILAR = 5  # titles named where nothing was found, as ReAct's
MAX_QUERY = 300  # characters of a query or keyword that are looked at
REMEMBERED = 20_000  # searches
SENTENCE_END = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["')\]])) (?=["'(\[]?[A-Z0-9])""")
SEARCH_RULE = 1  # part of a corpus's fingerprint: another search gives other observations


@dataclass(frozen=True)
class Page:
    """A title and its sentences, on one line each."""

    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class SearchResult:
    """The page that a search leads to, or None, then with the titles that are spelt alike."""

    page: Page | None
    named: bool = False  # by its title, in the query
    similar: tuple[str, ...] = ()


class Corpus:
    """Pages in their order; of two with one title, the first answers to it and both to their words."""

    def __init__(self, pages: Iterable[Page]) -> None:
        """A page that occurs twice counts once."""
        self.pages = list(dict.fromkeys(pages))
        self._by_title: dict[str, Page] = {}
        for page in self.pages:
            self._by_title.setdefault(fold(page.title), page)
        self.search = lru_cache(maxsize=REMEMBERED)(self._search)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with any title, sentence or their order."""
        digest = hashlib.sha256(str(SEARCH_RULE).encode())
        for page in self.pages:
            digest.update(json.dumps([page.title, *page.sentences]).encode())
        return digest.hexdigest()[:16]

    def _search(self, query: str) -> SearchResult:
        """The page of that title (case, accents and white space aside), else the best of BM25 over titles and texts,
        named; ties go to the earlier page. A page that shares no word with the query (stop words aside) is never found.
        """
        query = query[:MAX_QUERY]
        page = self._by_title.get(fold(query))
        if page is not None:
            return SearchResult(page, named=True)
        page = self._best(query)
        return SearchResult(page) if page is not None else SearchResult(None, similar=tuple(self._similar(query)))

    def _best(self, query: str) -> Page | None:
        words = _words([query])[0]
        if not words or self._index is None:
            return None
        scores = self._index.get_scores(words)
        best = int(scores.argmax())  # the first of the highest: bm25s's own top-k breaks ties at random
        return self.pages[best] if scores[best] > 0 else None

    @cached_property
    def _index(self) -> Any:
        """bm25s's index; None where no page has a word."""
        import bm25s

        words = _words([f"{page.title} {' '.join(page.sentences)}" for page in self.pages])
        if not any(words):
            return None
        index = bm25s.BM25()
        index.index(words, show_progress=False)
        return index

    def _similar(self, query: str) -> list[str]:
        """Titles that share the most runs of three letters with the query, for a name that is misspelt."""
        shared = Counter(i for run in _runs(query) for i in self._titles_by_run.get(run, ()))
        return [self.pages[i].title for i, _ in sorted(shared.items(), key=lambda item: (-item[1], item[0]))[:SIMILAR]]

    @cached_property
    def _titles_by_run(self) -> dict[str, list[int]]:
        titles: dict[str, list[int]] = {}
        for i, page in enumerate(self.pages):
            for run in _runs(page.title):
                titles.setdefault(run, []).append(i)
        return titles


def matches(page: Page, keyword: str) -> list[str]:
    """The page's sentences that Lookup of `keyword` shows, one after the other."""
    folded = fold(keyword[:MAX_QUERY])
    return [sentence for sentence in page.sentences if folded in fold(sentence)] if folded else []


def sentences_of(text: str) -> tuple[str, ...]:
    """A text's sentences: it is cut after . ! ? before white space and a capital or digit. "St. Louis" is cut too."""
    return tuple(part for part in SENTENCE_END.split(one_line(text)) if part)


def one_line(text: str) -> str:
    """White space folded to single spaces; control characters and lone surrogates dropped."""
    return " ".join(safe_text(" ".join(text.split())).split())


def fold(text: str) -> str:
    """What two spellings of a name share: no case, no accents, single spaces."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(text.casefold().split())


def _words(texts: list[str]) -> list[list[str]]:
    """Words of two letters or more, stop words left out: bm25s's own rule, on folded text."""
    import bm25s

    folded = [fold(text) for text in texts]
    words: list[list[str]] = bm25s.tokenize(folded, stopwords="en", return_ids=False, show_progress=False)
    return words  # [] for a text without a word; with allow_empty=False it would be [""], which the index chokes on


def _runs(text: str) -> set[str]:
    folded = fold(text)
    return {folded[i : i + 3] for i in range(len(folded) - 2)}
