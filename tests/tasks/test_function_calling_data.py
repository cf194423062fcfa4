"""Files of BFCL and xLAM as they are published: answers beside the questions, defaults, empty lists, JSON as text."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from rrr_cli.engines.render import plain_chat
from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.function_calling import FunctionCalling
from rrr_cli.tasks.function_calling.calls import Call, write_calls

PROPERTIES = {"size": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}},
              "where": {"type": "dict", "properties": {"room": {"type": "string"}, "shelf": {"type": "integer"}}}}


def bfcl(ground_truth: Any = ..., words: str = "put it away", required: tuple[str, ...] = ("size",), **columns: Any):
    row = {"question": [[{"role": "user", "content": words}]], "split": "train", "function": [{
        "name": "box.put", "description": "", "parameters": {
            "type": "dict", "properties": PROPERTIES, "required": list(required)}}], **columns}
    return row if ground_truth is ... else row | {"ground_truth": ground_truth}


def xlam(arguments: Any, **columns: Any) -> dict[str, Any]:
    tool = {"name": "list_boxes", "description": "", "parameters": {
        "room": {"type": "str", "description": ""}, "page": {"type": "int", "description": "", "default": "1"},
        "order": {"type": "str", "description": "", "default": "size"},
        "all": {"type": "bool, optional", "description": ""}}}
    return {"query": "list the boxes", "tools": [tool], "split": "train",
            "answers": [{"name": "list_boxes", "arguments": arguments}], **columns}


def written(folder: Path, *rows: dict[str, Any]) -> FunctionCalling:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return FunctionCalling(data=str(path))


def error_of(task: FunctionCalling, problem: Problem, **arguments: Any) -> str | None:
    (tool,) = json.loads(problem.tools or "")
    text = write_calls([Call(tool["function"]["name"], arguments)])
    return task.verify(problem, [Message("assistant", text)]).error_type


def test_bfcls_answers_lie_beside_its_questions(tmp_path: Path):
    rows = [bfcl(words=f"box {i}", id=f"simple_{i}") for i in range(3)]
    rows.append(bfcl(words="sing", id="irrelevance_7"))
    (tmp_path / "possible_answer").mkdir()
    answers = [{"id": f"simple_{i}", "ground_truth": [{"box.put": {"size": [i]}}]} for i in (2, 0, 1)]
    (tmp_path / "possible_answer" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    task = written(tmp_path, *rows)
    problems = list(task.problems("train"))
    assert [p.difficulty for p in problems] == ["data-bfcl-1"] * 3 + ["data-none-0"]
    assert [error_of(task, p, size=i) for i, p in enumerate(problems)] == [None, None, None, "extra_call"]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl.gz"])
def test_the_answers_beside_may_have_another_ending(tmp_path: Path, name: str):
    (tmp_path / "possible_answer").mkdir()
    text = json.dumps({"id": 7, "ground_truth": [{"box.put": {"size": [1]}}]}).encode()
    (tmp_path / "possible_answer" / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    assert len(list(written(tmp_path, bfcl(id=7)).problems("train"))) == 1


def test_bfcls_first_version_is_read(tmp_path: Path):
    row = bfcl([{"box.put": {"size": [1]}}])
    old = {**row, "question": "put it away", "function": row["function"][0], "ground_truth": row["ground_truth"][0]}
    task = written(tmp_path, row, old)
    assert len(list(task.problems("train"))) == 1  # they are the same problem


@pytest.mark.parametrize("row", [bfcl(id="simple_1"), bfcl(None, category="simple")])
def test_a_question_without_an_answer_is_a_bad_row(tmp_path: Path, row: dict[str, Any]):
    with pytest.raises(RrrError, match=r"row 1, column ground_truth: found .* in possible_answer/ beside it") as caught:
        list(written(tmp_path, row).problems("train"))
    assert caught.value.exit_code == BAD_INPUT


def test_rows_that_have_no_right_call_or_several_turns_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    several = {**bfcl([]), "question": [[{"role": "user", "content": words}] for words in ("one", "two")]}
    task = written(tmp_path, bfcl(id="live_relevance_0-0-0"), several, bfcl([{"box.put": {"size": [1]}}]))
    assert len(list(task.problems("train"))) == 1
    assert "2 rows are left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("accepted", "required", "right", "wrong"),
    [
        ({"size": [1], "tags": []}, ("size", "tags"), [{"size": 1, "tags": []}],
         [{"size": 1}, {"size": 1, "tags": ["a"]}]),
        ({"size": [1], "tags": []}, ("size",), [{"size": 1, "tags": []}, {"size": 1}], [{"size": 1, "tags": ["a"]}]),
        ({"size": [1], "tags": [""]}, ("size",), [{"size": 1}], [{"size": 1, "tags": []}]),
        ({"size": [1], "where": [{"room": ["hall", "Hall"], "shelf": [2, ""]}]}, ("size",),
         [{"size": 1, "where": {"room": "hall"}}, {"size": 1, "where": {"room": "hall", "shelf": 2}}],
         [{"size": 1, "where": {"shelf": 2}}, {"size": 1, "where": {"room": "hall", "shelf": 3}}]),
    ],
)
def test_empty_and_nested_lists_of_accepted_values(
    tmp_path: Path, accepted: Any, required: tuple[str, ...], right: list[Any], wrong: list[Any]
):
    task = written(tmp_path, bfcl([{"box.put": accepted}], required=required))
    (problem,) = task.problems("train")
    assert task.verify(problem, [Message("assistant", task.right_turns(problem)[0])]).success
    assert [error_of(task, problem, **arguments) for arguments in right] == [None] * len(right)
    assert None not in [error_of(task, problem, **arguments) for arguments in wrong]


@pytest.mark.parametrize(
    ("gold", "given", "error_type"),
    [
        ({"room": "hall"}, {"room": "hall", "page": 1}, None),
        ({"room": "hall"}, {"room": "hall", "order": "size"}, None),
        ({"room": "hall", "page": 1}, {"room": "hall"}, None),
        ({"room": "hall", "page": 2}, {"room": "hall"}, "missing_argument"),
        ({"room": "hall"}, {"room": "hall", "page": 2}, "unknown_argument"),
        ({"room": "hall"}, {"room": "hall", "page": "1"}, "unknown_argument"),
        ({"room": "hall"}, {"room": "hall", "all": False}, "unknown_argument"),
        ({"room": "hall"}, {"page": 1}, "missing_argument"),
    ],
)
def test_to_give_xlams_default_is_to_leave_it_out(tmp_path: Path, gold: Any, given: Any, error_type: str | None):
    task = written(tmp_path, xlam(gold))
    (problem,) = task.problems("train")
    assert json.loads(problem.tools or "")[0]["function"]["parameters"]["required"] == ["room"]
    assert error_of(task, problem, **given) == error_type


def test_calls_and_tools_may_be_json_as_text(tmp_path: Path):
    plain = xlam({"room": "hall"})
    openai = {"type": "function", "function": {"name": "list_boxes", "arguments": '{"room": "hall"}'}}
    rows = [plain, xlam('{"room": "hall"}'), xlam({}, answers=json.dumps([openai])),
            xlam({"room": "hall"}, tools=[json.dumps(plain["tools"][0])])]
    assert len(list(written(tmp_path, *rows).problems("train"))) == 1  # all of them are the same problem


def test_words_in_any_script_reach_a_model_as_they_are(tmp_path: Path):
    tool = {"name": "искать", "description": "sucht Bücher, 本を探す", "parameters": {"título": {"type": "str"}}}
    task = written(tmp_path, xlam({}, tools=[tool], answers=[{"name": "искать", "arguments": {"título": "Ω 🙂"}}]))
    (problem,) = task.problems("train")
    (right,) = task.right_turns(problem)
    said = task.verify(problem, [Message("assistant", right)])
    wrong = task.verify(problem, [Message("assistant", right.replace("Ω", "O"))])
    assert said.success
    assert wrong.feedback == "The call of 'искать' has a wrong value for its argument 'título'."
    for text in (plain_chat(problem.prompt, problem.tools), right, said.answer or "", problem.reference):
        assert "искать" in text
        assert "\\u" not in text
