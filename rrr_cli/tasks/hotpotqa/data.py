"""HotpotQA's questions and pages from local files of Parquet or JSON (`tasks/reading.py`).

`--data FILE`: rows of HotpotQA's distractor or fullwiki setting, whose paragraphs together make the corpus: `question`,
`answer`, `context` and, where there are, `supporting_facts` and `type`, in the form of the original ([[TITLE,
[SENTENCE, …]], …]), of the hub ({"title": […], "sentences": […]}), or as a list of objects. A row may have no
paragraphs of its own; a paragraph without a word makes no page.
`--data FOLDER`: such files; or files of questions beside `corpus.jsonl` (or another of the endings) with `title` and
`text` (or a list, `sentences`), a row a page. Where a file is called `questions`, the others aren't read.

`split` ("train" or "test"), where there is one, says where a row belongs. Else the words of the question decide, one
question in five is for test, whatever file it stands in. A question that occurs twice with one answer is given once.
The supporting facts' titles are what `right_turns` searches for; nothing else depends on them. Text is put on one line,
without control characters.

Bad is a row with a column missing or of the wrong type, an empty answer, a page without text; `tasks/rows.py` says what
becomes of it. The whole corpus is read before the first question, once a process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.records import Problem, content_id
from rrr_cli.tasks.hotpotqa.corpus import Corpus, Page, one_line, sentences_of
from rrr_cli.tasks.hotpotqa.parse import action_of
from rrr_cli.tasks.hotpotqa.problem import MAX_ANSWER, MAX_TURNS, WORDS, make_problem
from rrr_cli.tasks.json_text import shown
from rrr_cli.tasks.reading import ENDINGS, SUFFIXES, Row
from rrr_cli.tasks.rows import accepted, check_source, read_rows
from rrr_cli.tasks.splits import Candidate, problems_in, split_in

TEST_SHARE = 0.2
QUESTION_COLUMNS = ("question", "answer", "type", "context", "supporting_facts", "split")
PAGE_COLUMNS = ("title", "text", "sentences")

Sources = tuple[tuple[str, ...], str | None]  # files of questions; that of pages, or None where the rows hold them


def check(data: str) -> None:
    """Raises RrrError: no such file or folder (exit 3), or a file of an unknown kind (exit 2)."""
    for name in sources(data)[0]:
        check_source(name)


def sources(data: str) -> Sources:
    """The files that `--data` names. Raises RrrError (exit 3): there are none."""
    path = Path(data)
    if not path.is_dir():
        if not path.is_file():
            raise RrrError(f"--data {data}: there is no such file; give a file of HotpotQA's rows, or a folder with "
                           "questions.jsonl and corpus.jsonl", BAD_INPUT)
        return (data,), None
    files = sorted(p for p in path.iterdir() if p.is_file() and p.name.endswith(SUFFIXES) and p.name[0] not in "._")
    corpus, questions = ([p for p in files if p.name.partition(".")[0] == name] for name in ("corpus", "questions"))
    several = next((" and ".join(p.name for p in named) for named in (corpus, questions) if len(named) > 1), None)
    questions = questions or [p for p in files if p not in corpus]
    if several or not questions:
        found = f"{several}; keep one" if several else "no questions.jsonl"
        raise RrrError(f"--data {data}: it holds {found} (the endings are {ENDINGS})", BAD_INPUT)
    return tuple(map(str, questions)), str(corpus[0]) if corpus else None


def corpus_of(data: str) -> Corpus:
    """The corpus, read anew only where a file has changed. Raises RrrError (exit 3): bad rows, or no page."""
    files = sources(data)
    try:
        stamps = tuple((s.st_mtime_ns, s.st_size) for name in (*files[0], files[1]) if name
                       for s in (Path(name).stat(),))
    except OSError as error:
        raise RrrError(f"--data {error.filename}: {error.strerror}", BAD_INPUT) from None
    return _read_corpus(data, files, stamps)


@lru_cache(maxsize=2)
def _read_corpus(data: str, files: Sources, stamps: tuple[tuple[int, int], ...]) -> Corpus:
    questions, pages = files
    rows = _questions(questions) if pages is None else read_rows(pages, "", PAGE_COLUMNS)
    read = _context_pages if pages is None else _corpus_page
    corpus = Corpus(page for made in accepted(pages or data, rows, read) for page in made)
    if not corpus.pages:
        raise RrrError(f"{pages or data}: it holds no page to search; give rows with a column context, or a folder "
                       "with questions.jsonl and corpus.jsonl", BAD_INPUT)
    return corpus


def problems(data: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """The problems of `split` in the order of the rows. Raises RrrError (exit 3): bad rows, or no row of `split`."""
    corpus, (files, pages) = corpus_of(data).fingerprint, sources(data)

    def read(row: dict[str, Any], place: str) -> Candidate:
        if pages is None:
            _context_pages(row, place)  # whose paragraphs make no page, is a bad row here too
        question, answer = _text(row, "question", place), _answer(row, place)
        kind = row.get("type") if row.get("type") in ("bridge", "comparison") else "question"
        steps = [(title, f"Search[{title}]") for title in _supporting_titles(row, place)[: MAX_TURNS - 1]]
        key = content_id("hotpotqa question", question.casefold())
        return Candidate(key, split_in(row, place), lambda: make_problem(
            question, answer, steps, split, f"data-{kind}", corpus, words))

    return problems_in(data, split, _questions(files), read, TEST_SHARE)


def _questions(files: tuple[str, ...]) -> Iterator[Row]:
    return (row for name in files for row in read_rows(name, "", QUESTION_COLUMNS))


def _context_pages(row: dict[str, Any], place: str) -> list[Page]:
    """The pages of a question's row; none where it has no paragraphs."""
    pairs = _pairs(row["context"], ("title", "sentences"), "context", place) if row.get("context") else []
    pages = [_page(title, sentences, f"{place}, column context") for title, sentences in pairs]
    return [page for page in pages if page.sentences]


def _corpus_page(row: dict[str, Any], place: str) -> list[Page]:
    sentences = row.get("sentences")
    if sentences is None and isinstance(row.get("text"), list):
        sentences = row["text"]
    if sentences is None:
        return [Page(_text(row, "title", place), sentences_of(_text(row, "text", place)))]
    page = _page(row.get("title"), sentences, place)
    if not page.sentences:
        raise RrrError(f"{place}, column sentences: none holds a word", BAD_INPUT)
    return [page]


def _page(title: Any, sentences: Any, place: str) -> Page:
    if not isinstance(title, str) or not one_line(title):
        raise RrrError(f"{place}: found the title {shown(title)}, wanted text", BAD_INPUT)
    if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
        raise RrrError(f"{place}: found the sentences {shown(sentences)}, wanted a list of texts", BAD_INPUT)
    return Page(one_line(title), tuple(line for sentence in sentences if (line := one_line(sentence))))


def _supporting_titles(row: dict[str, Any], place: str) -> list[str]:
    """The titles that the row's supporting facts name, each once; none where the column isn't there."""
    facts = row.get("supporting_facts")
    titles = [t for t, _ in _pairs(facts, ("title", "sent_id"), "supporting_facts", place)] if facts else []
    if not all(isinstance(title, str) and one_line(title) for title in titles):
        raise RrrError(f"{place}, column supporting_facts: found {shown(titles)}, wanted titles", BAD_INPUT)
    return list(dict.fromkeys(map(one_line, titles)))


def _pairs(value: Any, names: tuple[str, str], column: str, place: str) -> list[tuple[Any, Any]]:
    """[[A, B], …], [{name: A, name: B}, …] or {name: [A, …], name: [B, …]} as pairs."""
    one, two = names
    if isinstance(value, dict):
        firsts, seconds = value.get(one), value.get(two)
        if isinstance(firsts, list) and isinstance(seconds, list) and len(firsts) == len(seconds):
            return list(zip(firsts, seconds, strict=True))
    elif isinstance(value, list):
        pairs = [(item.get(one), item.get(two)) if isinstance(item, dict) else item for item in value]
        if all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
            return [(first, second) for first, second in pairs]
    raise RrrError(f"{place}, column {column}: found {shown(value)}, wanted [[{one}, {two}], …]", BAD_INPUT)


def _text(row: dict[str, Any], column: str, place: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not one_line(value):
        raise RrrError(f"{place}, column {column}: found {shown(value)}, wanted text", BAD_INPUT)
    return one_line(value)


def _answer(row: dict[str, Any], place: str) -> str:
    """The gold answer. It has to be one that Finish[…] can give."""
    answer = _text(row, "answer", place)
    if len(answer) > MAX_ANSWER or action_of(f"Action: Finish[{answer}]") != ("finish", answer):
        raise RrrError(f"{place}, column answer: found {shown(answer)}, wanted at most {MAX_ANSWER} characters and no "
                       "action in them", BAD_INPUT)
    return answer
