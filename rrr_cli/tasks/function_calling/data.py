"""Function-calling problems from data: a local .parquet, .jsonl, .jsonl.gz or .json file, or the hub's xLAM data set.

Two kinds of rows, each column JSON or the text of JSON:

- xLAM's (APIGen): `query` (text), `tools` (a list), `answers` (a list of {"name", "arguments"}; []: no call is right).
- BFCL's: `question` (a list of one turn, a list of messages), `function` (a list) and `ground_truth`, a list of
  {tool: {argument: [accepted values]}}; [], or null with "irrelevance" in the column `category`: no call is right.

`split` ("train" or "test"), where there is one, says where a row belongs. Else the words of the request decide, one
request in five is for test: it falls into the same split whatever file it stands in and whatever tools come with it. A
problem that occurs twice is given once. Other columns are ignored.

Bad is a row with a column missing or of the wrong type, with gold that isn't strict JSON or calls a tool that isn't
offered; `tasks/rows.py` says what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.function_calling import strict_json
from rrr_cli.tasks.function_calling.match import Expected
from rrr_cli.tasks.function_calling.parse import Call
from rrr_cli.tasks.function_calling.problem import TEST_SHARE, make_problem, parameters_of
from rrr_cli.tasks.function_calling.schemas import tool_schema
from rrr_cli.tasks.json_text import shown
from rrr_cli.tasks.rows import check_source, read_rows
from rrr_cli.tasks.splits import Candidate, problems_in, split_in

HUB_NAME = "Salesforce/xlam-function-calling-60k"
COLUMNS = ("query", "tools", "answers", "question", "function", "ground_truth", "category", "split")


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
    tools = _tools(row, "tools", place)
    calls = []
    for answer in _list(row, "answers", place):
        name, arguments = (answer.get("name"), answer.get("arguments")) if isinstance(answer, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(arguments, dict):
            expected_form = 'wanted {"name": TEXT, "arguments": OBJECT}'
            raise RrrError(f"{place}, column answers: found {shown(answer)}, {expected_form}", BAD_INPUT)
        calls.append(Call(name, arguments))
    _check_offered([call.name for call in calls], tools, "answers", place)
    return [Message("user", query)], tools, calls


def _bfcl(row: dict[str, Any], place: str) -> Row:
    prompt, tools = _messages(row, place), _tools(row, "function", place)
    nothing = row.get("ground_truth", "") is None and "irrelevance" in str(row.get("category"))
    expected = []
    for answer in [] if nothing else _list(row, "ground_truth", place):
        entries = list(answer.items()) if isinstance(answer, dict) else []
        accepted = entries[0][1] if len(entries) == 1 else None
        if not isinstance(accepted, dict) or not all(isinstance(v, list) and v for v in accepted.values()):
            expected_form = "wanted {TOOL: {ARGUMENT: [accepted values]}}"
            raise RrrError(f"{place}, column ground_truth: found {shown(answer)}, {expected_form}", BAD_INPUT)
        expected.append(Expected(entries[0][0], accepted))
    _check_offered([one.name for one in expected], tools, "ground_truth", place)
    return prompt, tools, expected


def _messages(row: dict[str, Any], place: str) -> list[Message]:
    """The one turn of a BFCL question: [[{"role": …, "content": …}, …]], or the messages alone."""
    question = _list(row, "question", place)
    turns = question if question and isinstance(question[0], list) else [question]
    messages = turns[0]
    fits = len(turns) == 1 and messages and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in messages
    )
    if not fits or messages[-1]["role"] != "user":
        raise RrrError(f"{place}, column question: found {shown(question)}, wanted one turn that ends with the user's "
                       "message", BAD_INPUT)
    return [Message(m["role"], m["content"]) for m in messages]


def _tools(row: dict[str, Any], column: str, place: str) -> list[dict[str, Any]]:
    try:
        return [tool_schema(tool) for tool in _list(row, column, place)]
    except (ValueError, RecursionError) as error:
        raise RrrError(f"{place}, column {column}: {shown(str(error))}", BAD_INPUT) from None


def _list(row: dict[str, Any], column: str, place: str) -> list[Any]:
    """A column that holds a list or its JSON text, strict either way."""
    value = _column(row, column, place)
    try:
        if isinstance(value, str):
            value = strict_json.parse(value)
        strict_json.check(value)
    except strict_json.Refused as refused:
        raise RrrError(f"{place}, column {column}: not strict JSON: {refused}", BAD_INPUT) from None
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


def _check_offered(names: list[str], tools: list[dict[str, Any]], column: str, place: str) -> None:
    unknown = [name for name in names if name not in parameters_of(tools)]
    if unknown:
        raise RrrError(f"{place}, column {column}: {shown(unknown[0])} isn't among the row's tools", BAD_INPUT)
