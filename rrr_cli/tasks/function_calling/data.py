"""Function-calling problems from data: files of Parquet or JSON (`tasks/reading.py`), or the hub's xLAM data set.

Two kinds of rows, each column JSON or the text of JSON:

- xLAM's (APIGen): `query` (text), `tools` (a list), `answers` (a list of {"name", "arguments"}, where `arguments` may
  be JSON as text, or of calls in OpenAI's form; []: no call is right).
- BFCL's: `question` (one turn, a list of messages; or text), `function` (a list) and `ground_truth`, a list of
  {tool: {argument: [accepted values]}}; []: no call is right. Where a row has no ground_truth, or null, it is that of
  the same `id` in the file of the same name in the folder `possible_answer` beside it, as BFCL is downloaded. Without
  one, "irrelevance" in the `id` or `category` says that no call is right. Values of BFCL's Java and JavaScript rows
  are compared as JSON, as they stand. Left out: rows of several turns, and "relevance" rows, for which BFCL doesn't say
  what is right.

Tools come in xLAM's, BFCL's or OpenAI's form (`schemas.py`).

`split` ("train" or "test"), where there is one, says where a row belongs. Else the words of the request decide, one
request in five is for test: it falls into the same split whatever file it stands in and whatever tools come with it. A
problem that occurs twice is given once. Other columns are ignored.

Bad is a row with a column missing or of the wrong type, with text that isn't Unicode, with gold that isn't strict JSON,
calls a tool that isn't offered, or doesn't pass itself; `tasks/rows.py` says what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.function_calling import strict_json
from rrr_cli.tasks.function_calling.calls import Call, as_call, with_parsed_arguments
from rrr_cli.tasks.function_calling.match import Expected, differences, first_accepted
from rrr_cli.tasks.function_calling.problem import TEST_SHARE, make_problem, parameters_of
from rrr_cli.tasks.function_calling.schemas import tool_schema
from rrr_cli.tasks.json_text import shown
from rrr_cli.tasks.reading import SUFFIXES
from rrr_cli.tasks.rows import LeftOut, check_source, files_in, read_rows
from rrr_cli.tasks.splits import Candidate, problems_in, split_in

HUB_NAME = "Salesforce/xlam-function-calling-60k"
COLUMNS = ("query", "tools", "answers", "question", "function", "ground_truth", "id", "category", "split")
ALONE = ("function", "ground_truth")  # columns where BFCL's first version has an object for a list of one
ANSWERS = "possible_answer"  # BFCL's folder of right answers


def check(data: str) -> None:
    """Raises RrrError unless `data` is the hub's data set (exit 3) or a file of a known kind (exit 2)."""
    check_source(data, HUB_NAME)


def problems(data: str, split: str) -> Iterator[Problem]:
    """The problems of `split` in the order of the rows. Raises RrrError (exit 3): bad rows, or no row of `split`."""
    def read(row: dict[str, Any], place: str) -> Candidate:
        if ".parquet, row " in place:
            _check_text(row, place)
        prompt, tools, expected = _bfcl(row, place) if "question" in row else _xlam(row, place)
        return Candidate(request_key(prompt), split_in(row, place),
                         lambda: make_problem(prompt, tools, expected, split, "data"))

    return problems_in(data, split, read_rows(data, HUB_NAME, COLUMNS), read, TEST_SHARE)


def request_key(prompt: Sequence[Message]) -> str:
    """What makes two requests the same: the hash of their words, in lower case."""
    return content_id("request", " ".join(" ".join(m.content for m in prompt).lower().split()))


Row = tuple[list[Message], list[dict[str, Any]], list[Call] | list[Expected]]


def _xlam(row: dict[str, Any], place: str) -> Row:
    query = _column(row, "query", place)
    if not isinstance(query, str) or not query.strip():
        raise RrrError(f"{place}, column query: found {shown(query)}, wanted text", BAD_INPUT)
    _check_strict(query, "query", place)
    tools = _tools(row, "tools", place)
    calls = []
    for answer in _list(row, "answers", place):
        try:
            calls.append(as_call(with_parsed_arguments(answer) if isinstance(answer, dict) else answer))
        except strict_json.Refused as refused:
            expected_form = f'wanted {{"name": TEXT, "arguments": OBJECT}} ({refused})'
            raise RrrError(f"{place}, column answers: found {shown(answer)}, {expected_form}", BAD_INPUT) from None
    _check_gold(calls, tools, "answers", place)
    return [Message("user", query)], tools, calls


def _bfcl(row: dict[str, Any], place: str) -> Row:
    prompt, tools = _messages(row, place), _tools(row, "function", place)
    expected = []
    for answer in _ground_truth(row, place):
        entries = list(answer.items()) if isinstance(answer, dict) else []
        accepted = entries[0][1] if len(entries) == 1 else None
        if not isinstance(accepted, dict) or not all(isinstance(values, list) for values in accepted.values()):
            expected_form = "wanted {TOOL: {ARGUMENT: [accepted values]}}"
            raise RrrError(f"{place}, column ground_truth: found {shown(answer)}, {expected_form}", BAD_INPUT)
        expected.append(Expected(entries[0][0], accepted))
    _check_gold(expected, tools, "ground_truth", place)
    return prompt, tools, expected


def _ground_truth(row: dict[str, Any], place: str) -> list[Any]:
    """The row's own, or that of its id in the file of answers; [] where the row says that no call is right."""
    if row.get("ground_truth") is not None:
        return _list(row, "ground_truth", place)
    answers, key = _answers_beside(place.rpartition(", row ")[0]), str(row.get("id"))
    if key in answers:
        return _list({"ground_truth": answers[key]}, "ground_truth", place)
    if "irrelevance" in f"{row.get('id')} {row.get('category')}":
        return []
    if "relevance" in key:
        raise LeftOut(f"{place}: BFCL doesn't say which calls are right in its relevance rows", BAD_INPUT)
    found = shown(row.get("ground_truth")) if "ground_truth" in row else "none"
    beside = f"none of id {shown(key)} in a file of the same name in {ANSWERS}/ beside it"
    wanted = "wanted a list of {TOOL: {ARGUMENT: [accepted values]}}"
    raise RrrError(f"{place}, column ground_truth: found {found}, and {beside}; {wanted}", BAD_INPUT)


def answers_files(data: str) -> list[str]:
    """BFCL's files of right answers to the questions of `data`, a file or a folder, whatever their endings."""
    path = Path(data)
    folder = (path if path.is_dir() else path.parent) / ANSWERS
    stems = {_stem(name) for name in (files_in(path) if path.is_dir() else [data])}
    return [name for name in files_in(folder) if _stem(name) in stems] if folder.is_dir() else []


@lru_cache(maxsize=8)
def _answers_beside(path: str) -> dict[str, Any]:
    """The right answers to the questions of a file, by id; none where no file has them."""
    rows = (row for name in answers_files(path) for row in read_rows(name, HUB_NAME, ("id", "ground_truth")))
    return {str(row.get("id")): row.get("ground_truth") for _, row in rows if isinstance(row, dict)}


def _stem(path: str) -> str:
    """A file's name without the ending that says of what kind it is."""
    name = Path(path).name
    return next((name.removesuffix(ending) for ending in SUFFIXES if name.endswith(ending)), name)


def _messages(row: dict[str, Any], place: str) -> list[Message]:
    """The one turn of a BFCL question: [[{"role": …, "content": …}, …]], or the messages alone."""
    text = row["question"]
    if isinstance(text, str) and text.strip() and not text.lstrip().startswith("["):  # BFCL's first version
        return [Message("user", text)]
    question = _list(row, "question", place)
    turns = question if question and isinstance(question[0], list) else [question]
    if len(turns) > 1:
        raise LeftOut(f"{place}, column question: found {len(turns)} turns of a user, wanted one", BAD_INPUT)
    messages = turns[0]
    fits = messages and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in messages
    )
    if not fits or messages[-1]["role"] != "user":
        raise RrrError(f"{place}, column question: found {shown(question)}, wanted one turn that ends with the user's "
                       "message", BAD_INPUT)
    return [Message(m["role"], m["content"]) for m in messages]


def _tools(row: dict[str, Any], column: str, place: str) -> list[dict[str, Any]]:
    try:
        tools = _list(row, column, place)
        return [tool_schema(strict_json.parse(tool) if isinstance(tool, str) else tool) for tool in tools]
    except (ValueError, RecursionError, strict_json.Refused) as error:
        raise RrrError(f"{place}, column {column}: {shown(str(error))}", BAD_INPUT) from None


def _list(row: dict[str, Any], column: str, place: str) -> list[Any]:
    """A column that holds a list or its JSON text, strict either way."""
    value = _column(row, column, place)
    try:
        if isinstance(value, str):
            value = strict_json.parse(value)
    except strict_json.Refused as refused:
        raise RrrError(f"{place}, column {column}: not strict JSON: {refused}", BAD_INPUT) from None
    _check_strict(value, column, place)
    value = [value] if isinstance(value, dict) and column in ALONE else value
    if not isinstance(value, list):
        raise RrrError(f"{place}, column {column}: found {shown(value)}, wanted a list", BAD_INPUT)
    return value


def _check_text(row: dict[str, Any], place: str) -> None:
    """A nested Parquet column gives every row the keys of all rows: no argument there is left out, it is null."""
    for column in COLUMNS:
        if isinstance(row.get(column), (list, dict)):
            raise RrrError(f"{place}, column {column}: found a nested column, wanted JSON as text", BAD_INPUT)


def _column(row: dict[str, Any], column: str, place: str) -> Any:
    if column not in row:
        raise RrrError(
            f"{place}, column {column}: missing; wanted query, tools and answers (xLAM) or question, function and "
            "ground_truth (BFCL)", BAD_INPUT)
    return row[column]


def _check_strict(value: Any, column: str, place: str) -> None:
    try:
        strict_json.check(value)
    except strict_json.Refused as refused:
        raise RrrError(f"{place}, column {column}: not strict JSON: {refused}", BAD_INPUT) from None


def _check_gold(
    expected: Sequence[Call] | Sequence[Expected], tools: list[dict[str, Any]], column: str, place: str
) -> None:
    """Raises RrrError (exit 3): an unknown tool, or accepted values of which no call can consist."""
    parameters = parameters_of(tools)
    for one in expected:
        if one.name not in parameters:
            raise RrrError(f"{place}, column {column}: {shown(one.name)} isn't among the row's tools", BAD_INPUT)
        if isinstance(one, Expected):
            call = first_accepted(one, parameters[one.name])
            if wrong := differences(call, one, parameters[one.name], "bfcl"):
                raise RrrError(f"{place}, column {column}: no value is accepted for the argument {shown(wrong[0][1])}, "
                               "which is required; wanted a list of accepted values", BAD_INPUT)
