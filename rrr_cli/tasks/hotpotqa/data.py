"""HotpotQA's questions and pages from local files: .parquet, .jsonl, .jsonl.gz or .json (a list).

`--data FILE`: rows of HotpotQA's distractor setting, whose paragraphs together make the corpus: `question`, `answer`,
`context` and, where there are, `supporting_facts` and `type`, in the form of the original ([[TITLE, [SENTENCE, …]],
…]), of the hub ({"title": […], "sentences": […]}), or as a list of objects. A paragraph without a word makes no page.
`--data FOLDER`: `questions.jsonl` (or another of the endings) with `question` and `answer`, and `corpus.jsonl` with
`title` and `text`, or `sentences` (a list), a row a page.

`split` ("train" or "test"), where there is one, says where a row belongs. Else the words of the question decide, one
question in five is for test, whatever file it stands in. A question that occurs twice with one answer is given once.
The supporting facts' titles are what `right_turns` searches for; nothing else depends on them. Text is put on one line,
without control characters.

A bad row (a column missing or of the wrong type, an empty answer, a page without text) stops the reading with the file,
row and column; nothing is skipped in silence. The whole corpus is read before the first question, once a process.
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
from rrr_cli.tasks.rows import SUFFIXES, check_source, read_rows, shown
from rrr_cli.tasks.splits import split_in, split_of

TEST_SHARE = 0.2
QUESTION_COLUMNS = ("question", "answer", "type", "context", "supporting_facts", "split")
PAGE_COLUMNS = ("title", "text", "sentences")

Sources = tuple[str, str | None]  # the file of questions; that of pages, or None where the questions' rows hold them


def check(data: str) -> None:
    """Raises RrrError: no such file or folder (exit 3), or a file of an unknown kind (exit 2)."""
    check_source(sources(data)[0], "")


def sources(data: str) -> Sources:
    """The files that `--data` names. Raises RrrError (exit 3): there are none."""
    path = Path(data)
    if not path.is_dir():
        if not path.is_file():
            raise RrrError(f"--data {data}: there is no such file; give a file of HotpotQA's rows, or a folder with "
                           "questions.jsonl and corpus.jsonl", BAD_INPUT)
        return data, None
    questions, pages = (_file_in(path, name) for name in ("questions", "corpus"))
    return questions, pages


def corpus_of(data: str) -> Corpus:
    """The corpus, read anew only where a file has changed. Raises RrrError (exit 3): a bad row, or no page."""
    files = sources(data)
    try:
        stamps = tuple((s.st_mtime_ns, s.st_size) for name in files if name for s in (Path(name).stat(),))
    except OSError as error:
        raise RrrError(f"--data {error.filename}: {error.strerror}", BAD_INPUT) from None
    return _read_corpus(files, stamps)


@lru_cache(maxsize=2)
def _read_corpus(files: Sources, stamps: tuple[tuple[int, int], ...]) -> Corpus:
    questions, pages = files
    corpus = Corpus(_context_pages(questions) if pages is None else _corpus_pages(pages))
    if not corpus.pages:
        raise RrrError(f"{pages or questions}: it holds no page to search", BAD_INPUT)
    return corpus


def problems(data: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """The problems of `split` in the order of the rows. Raises RrrError (exit 3): a bad row, or no row of `split`."""
    questions, corpus = sources(data)[0], corpus_of(data).fingerprint
    split_by_question: dict[str, str] = {}
    seen: set[str] = set()
    for number, row in enumerate(read_rows(questions, "", QUESTION_COLUMNS), start=1):
        place = f"{questions}, row {number}"
        question, answer = _text(row, "question", place), _answer(row, place)
        key = content_id("hotpotqa question", question.casefold())
        row_split = split_in(row, place) or split_of(key, TEST_SHARE)
        if split_by_question.setdefault(key, row_split) != row_split:
            raise RrrError(f"{place}, column split: the question stands in both splits; keep it in one", BAD_INPUT)
        if row_split != split:
            continue
        kind = row.get("type") if row.get("type") in ("bridge", "comparison") else "question"
        titles = _supporting_titles(row, place)[: MAX_TURNS - 1]
        steps = [(title, f"Search[{title}]") for title in titles]
        problem = make_problem(question, answer, steps, split, f"data-{kind}", corpus, words)
        if problem.problem_id not in seen:
            seen.add(problem.problem_id)
            yield problem
    if split not in split_by_question.values():
        meant = "say which are in a column split (train or test)"
        raise RrrError(f"{questions}: no row is for {split}; {meant}", BAD_INPUT)


def _file_in(folder: Path, name: str) -> str:
    files = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]
    if len(files) != 1:
        what = f"{' and '.join(path.name for path in files)}; keep one" if files else f"no {name}.jsonl"
        raise RrrError(f"--data {folder}: it holds {what} (the endings are {', '.join(SUFFIXES)})", BAD_INPUT)
    return str(files[0])


def _context_pages(questions: str) -> Iterator[Page]:
    for number, row in enumerate(read_rows(questions, "", QUESTION_COLUMNS), start=1):
        place = f"{questions}, row {number}"
        if row.get("context") is None:
            raise RrrError(f"{place}, column context: missing; give HotpotQA's distractor rows, or a folder with "
                           "questions.jsonl and corpus.jsonl", BAD_INPUT)
        for title, sentences in _pairs(row["context"], ("title", "sentences"), "context", place):
            page = _page(title, sentences, f"{place}, column context")
            if page.sentences:
                yield page


def _corpus_pages(pages: str) -> Iterator[Page]:
    for number, row in enumerate(read_rows(pages, "", PAGE_COLUMNS), start=1):
        place = f"{pages}, row {number}"
        if row.get("sentences") is None:
            yield Page(_text(row, "title", place), sentences_of(_text(row, "text", place)))
        else:
            page = _page(row.get("title"), row["sentences"], place)
            if not page.sentences:
                raise RrrError(f"{place}, column sentences: none holds a word", BAD_INPUT)
            yield page


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
