"""Function calling: how answers are read and judged, what data files may hold, what the generator promises."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rrr_cli.errors import BAD_INPUT, NO_BACKEND, USAGE, RrrError
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.function_calling import FunctionCalling, make_problem
from rrr_cli.tasks.function_calling.calls import Call, write_calls
from rrr_cli.tasks.function_calling.data import HUB_NAME
from rrr_cli.tasks.function_calling.generate import NUMBER_WORDS
from rrr_cli.tasks.function_calling.match import Expected
from rrr_cli.tasks.function_calling.parse import read_calls
from rrr_cli.tasks.function_calling.schemas import tool_schema, type_schema
from rrr_cli.tasks.function_calling.strict_json import MAX_BYTES, MAX_DEPTH, Refused, parse, same
from rrr_cli.tasks.rows import bad_rows
from rrr_cli.tasks.solves import solves

SHARED = Path(__file__).parent.parent.parent.parent / "shared" / "data"


def tool(name: str, required: list[str] | None = None, **properties: str) -> dict[str, Any]:
    kinds = {key: {"type": kind} for key, kind in properties.items()}
    parameters = {"type": "object", "properties": kinds, "required": list(kinds) if required is None else required}
    return tool_schema({"name": name, "description": "", "parameters": parameters})


TOOLS = [
    tool("weather", city="string", days="integer"), tool("area", required=[], side="number", sides="array"),
    tool("clock"),
]


def problem_of(*expected: Call | Expected) -> Problem:
    return make_problem([Message("user", "do it")], TOOLS, expected, "train", "test")  # type: ignore[arg-type]


def verdict_of(text: str, *expected: Call | Expected):
    return FunctionCalling().verify(problem_of(*expected), [Message("assistant", text)])


PARIS = Call("weather", {"city": "Paris", "days": 2})
ROME = Call("weather", {"city": "Rome", "days": 3})

# Reading

ONE = '{"name": "weather", "arguments": {"city": "Paris", "days": 2}}'
TWO = '{"name": "weather", "arguments": {"days": 3, "city": "Rome"}}'
LLAMA_ONE, LLAMA_TWO = ONE.replace("arguments", "parameters"), TWO.replace("arguments", "parameters")


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>\n{ONE}\n</tool_call>\n<tool_call>\n{TWO}\n</tool_call>",
        f"I'll look it up.\n<tool_call>{ONE}</tool_call> and <tool_call>{TWO}</tool_call> Done.",
        f"<think><tool_call>{TWO}</tool_call>?</think>\n<tool_call>{ONE}</tool_call><tool_call>{TWO}</tool_call>",
        f"[TOOL_CALLS] [{ONE}, {TWO}]",
        f"[TOOL_CALLS][{ONE[:-1]}, \"id\": \"abcdefghi\"}}, {TWO}]",
        f"{LLAMA_ONE}; {LLAMA_TWO}",
        f"<|python_tag|>{LLAMA_ONE}; {LLAMA_TWO}",
        f'{LLAMA_ONE[:-1]}, "type": "function"}};{LLAMA_TWO}',
        f" [{ONE},\n{TWO}] \n",
        f"```json\n[{ONE}, {TWO}]\n```",
        f"<think>\nhm\n</think>\n\n[{ONE}, {TWO}]",
        f"{ONE} {TWO}",
        f"{ONE}\n\n{TWO}",
        f"Here it is:\n```json\n[{ONE}, {TWO}]\n```\nHope that helps!",
        f"```json\n{ONE}\n```\n```json\n{TWO}\n```",
    ],
)
def test_every_familys_form_is_read(text: str):
    assert read_calls(text) == [PARIS, ROME]
    assert verdict_of(text, ROME, PARIS).success


@pytest.mark.parametrize(
    "text",
    [
        f"Here it is: {ONE}",
        f"{ONE}\nHope that helps!",
        f"Here it is:\n```json\n{ONE[:-1]}\n```",
        f"```json\n{ONE}\n```\n```json\n{TWO[:-1]}\n```",
        f"<tool_call>{ONE}",
        f"<tool_call>{ONE}</tool_call><tool_call>{TWO[:-1]}</tool_call>",
        f"<tool_call>Sure: {ONE}</tool_call>",
        "<tool_call></tool_call>",
        f"[TOOL_CALLS] {ONE} Done.",
        f"<|python_tag|>weather(city='Paris') {ONE}",
        f"{ONE}, {TWO}",
        f"{ONE};",
        ONE[:-1],
        ONE[:-2],
        ONE.replace('"', "'"),
        ONE.replace("2", "2,"),
        ONE.replace("2", "NaN"),
        ONE.replace("2", "-Infinity"),
        ONE.replace("2", "1e999"),
        ONE.replace("2", "9" * 5000),
        ONE.replace("2", '2, "days": 2'),
        ONE.replace("Paris", "\\ud800"),
        ONE.replace("Paris", "\ud800"),
        ONE.replace("Paris", "x" * MAX_BYTES),
        ONE.replace("2", "[" * MAX_DEPTH + "]" * MAX_DEPTH),
        ONE.replace("2", "[" * 100_000),
        ONE.replace('{"city": "Paris", "days": 2}', '"{\\"city\\": \\"Paris\\", \\"days\\": 2}"'),
        ONE[:-1] + ', "note": "x"}',
        ONE[:-1] + ', "parameters": {}}',
        '{"name": "weather"}',
        '{"name": 5, "arguments": {}}',
        "{}", "[1]", "[[]]", "{", "```json\n[\n```",
    ],
)
def test_anything_but_strict_json_is_a_format_error(text: str):
    with pytest.raises(Refused):
        read_calls(text)
    verdict = verdict_of(text, PARIS)
    assert (verdict.success, verdict.error_type, verdict.answer) == (False, "format", None)
    assert "Paris" not in verdict.feedback


@pytest.mark.parametrize(
    "text",
    ["", "It rains in Paris.", "[]", "[1] says it rains.", "5", '"weather"', "null", "x" * 2 * MAX_BYTES,
     f"<think>I could write <tool_call>{ONE}</tool_call>", "weather(city) takes a city, like weather().",
     "\ud800\x00"],
)
def test_prose_is_not_a_call(text: str):
    assert read_calls(text) == []
    assert verdict_of(text, PARIS).error_type == "no_call"


@given(st.text() | st.text(alphabet='{}[]",:;0 \\<tool_call>/name"arguments'))
def test_any_text_gets_a_verdict(text: str):
    verdict = verdict_of(text, PARIS)
    assert not verdict.success
    assert verdict.error_type in FunctionCalling.error_types


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abc"), TREES, max_size=3), st.sampled_from(["arguments", "parameters"]))
def test_what_is_written_is_read_back(arguments: dict[str, Any], key: str):
    call = Call("weather", arguments)
    assert read_calls(write_calls([call, call])) == [call, call]
    assert read_calls(json.dumps({"name": "weather", key: arguments}, ensure_ascii=False)) == [call]


# Comparing


@given(TREES, TREES)
def test_comparison_is_reflexive_symmetric_and_strict(left: Any, right: Any):
    assert same(left, left)
    assert same(left, right) == same(right, left)
    assert not same(left, [left])
    if same(left, right):
        assert type(left) is type(right)


@pytest.mark.parametrize(
    ("left", "right", "kind", "equal"),
    [
        ("1", "1.0", "number", True), ("1", "1.0", "integer", False), ("1", "1.0", None, False),
        ("1", "true", "number", False), ("0", "false", None, False), ("1", '"1"', "string", False),
        ("null", "false", None, False), ("9007199254740993", "9007199254740992.0", "number", False),
        ('{"a": 1, "b": [1, 2]}', '{"b": [1, 2], "a": 1}', None, True), ("[1, 2]", "[2, 1]", None, False),
        ('{"a": null}', "{}", None, False), ('"A"', '"a"', "string", False),
    ],
)
def test_values_are_compared_with_their_types(left: str, right: str, kind: str | None, equal: bool):
    assert same(parse(left), parse(right), {"type": kind} if kind else None) is equal


@pytest.mark.parametrize(
    ("calls", "expected", "error_type", "feedback"),
    [
        ([], [PARIS], "no_call", "No tool call was found."),
        ([Call("wether", PARIS.arguments)], [PARIS], "wrong_tool", "A tool 'wether' isn't among"),
        ([Call("\x1b[2J", {})], [PARIS], "wrong_tool", "A tool isn't among"),
        ([Call("clock", {})], [PARIS], "wrong_tool", "The tool 'clock' isn't the right one"),
        ([PARIS, Call("clock", {})], [PARIS, ROME], "wrong_tool", "'clock'"),
        ([PARIS], [PARIS, ROME], "wrong_count", "fewer calls"),
        ([PARIS, PARIS], [PARIS], "extra_call", "more calls"),
        ([PARIS], [], "extra_call", "No tool was to be called"),
        ([PARIS, PARIS], [PARIS, ROME], "wrong_value", "'weather'"),
        ([Call("weather", {"city": "Paris"})], [PARIS], "missing_argument", "lacks an argument."),
        ([Call("weather", {**PARIS.arguments, "unit": "C"})], [PARIS], "unknown_argument", "'unit'"),
        ([Call("weather", {"city": "paris", "days": 2})], [PARIS], "wrong_value", "'city'"),
        ([Call("weather", {"city": "Paris", "days": "2"})], [PARIS], "wrong_value", "'days'"),
        ([Call("weather", {"city": "Paris", "days": 2.0})], [PARIS], "wrong_value", "'days'"),
        ([Call("area", {"side": 2})], [Call("area", {"side": True})], "wrong_value", "'side'"),
        ([Call("area", {"side": 2, "sides": [1]})], [Call("area", {"side": 2})], "unknown_argument", "'sides'"),
    ],
)
def test_each_mistake_has_a_name_without_the_gold(
    calls: list[Call], expected: list[Call], error_type: str, feedback: str
):
    text = json.dumps([{"name": call.name, "arguments": call.arguments} for call in calls])
    verdict = verdict_of(text, *expected)
    assert (verdict.error_type, verdict.success, verdict.score) == (error_type, False, 0.0)
    assert feedback in verdict.feedback
    assert verdict.feedback.isprintable()
    assert verdict.answer == text
    assert "Rome" not in verdict.feedback
    assert "Paris" not in verdict.feedback


def test_a_whole_number_is_a_number():
    assert verdict_of('{"name": "area", "arguments": {"side": 2}}', Call("area", {"side": 2.0})).success


ACCEPTED = Expected("weather", {"city": ["New York, NY", "NYC"], "days": [3, ""]})


@pytest.mark.parametrize(
    ("arguments", "error_type"),
    [
        ({"city": "new york ny", "days": 3}, None), ({"city": "N.Y.C", "days": 3}, None),
        ({"city": "NYC"}, "missing_argument"),  # the schema requires it
        ({"city": "New York", "days": 3}, "wrong_value"), ({"city": "NYC", "days": ""}, "wrong_value"),
        ({"city": "NYC", "days": 3.0}, "wrong_value"), ({"city": "NYC", "days": 3, "unit": ""}, "unknown_argument"),
    ],
)
def test_bfcl_gold_is_judged_by_accepted_values(arguments: dict[str, Any], error_type: str | None):
    verdict = verdict_of(write_calls([Call("weather", arguments)]), ACCEPTED)
    assert verdict.error_type == error_type


@pytest.mark.parametrize(
    ("accepted", "value", "right"),
    [
        ([[1, 2], [2, 1]], [2, 1], True), ([[1, 2]], [2, 1], False), ([["A b"]], ["ab"], True),
        ([{"x": [1, 2], "y": ["", 3]}], {"x": 2}, True), ([{"x": [1], "y": [3]}], {"x": 1}, False),
        ([{"x": [1]}], {"x": 1, "z": 1}, False), ([[{"x": [1, 2]}, {"x": [3]}]], [{"x": 2}, {"x": 3}], True),
        ([[{"x": [1, 2]}]], [{"x": 3}], False), (["", 5], None, True), ([True], 1, False),
    ],
)
def test_bfcls_lists_and_objects_of_accepted_values(accepted: list[Any], value: Any, right: bool):
    arguments = {} if value is None else {"sides": value}
    verdict = verdict_of(write_calls([Call("area", arguments)]), Expected("area", {"sides": accepted}))
    assert verdict.success is right


def test_calls_are_paired_where_a_pairing_exists():
    wide, narrow = Expected("area", {"side": [1, 2]}), Expected("area", {"side": [1]})
    calls = [Call("area", {"side": 1}), Call("area", {"side": 2})]
    for order in ([wide, narrow], [narrow, wide]):
        assert verdict_of(write_calls(calls), *order).success
        assert not verdict_of(write_calls([calls[1], calls[1]]), *order).success


def test_without_a_right_call_only_words_pass():
    problem = problem_of()
    task = FunctionCalling()
    assert problem.difficulty == "test-none-0"
    assert verdict_of("None of these tools can do that.").success
    assert task.verify(problem, [Message("assistant", task.right_turns(problem)[0])]).success
    assert verdict_of(ONE).error_type == "extra_call"
    assert verdict_of("").error_type == verdict_of(f"Perhaps {ONE}").error_type == "format"
    assert not solves(task, problem, task.right_turns(problem)[0])


def test_the_rule_is_named_in_the_row():
    assert problem_of(PARIS).difficulty == "test-exact-1"
    assert problem_of(ACCEPTED, ACCEPTED).difficulty == "test-bfcl-2"
    assert json.loads(problem_of(ACCEPTED).metadata)["match"] == "bfcl"


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        (f"I should have written {ONE}, of course, and then {TWO}.", True), (f"{LLAMA_ONE} and {LLAMA_TWO}", True),
        (json.dumps({"calls": [json.loads(TWO), json.loads(ONE)]}, indent=2), True), (ONE, False),
        ("Use weather with Paris and Rome.", False), ("{" * 20_000, False), ('{"a":' * 20_000, False),
    ],
)
def test_a_leak_is_every_expected_call_as_json(text: str, leaks: bool):
    assert solves(FunctionCalling(), problem_of(PARIS, ROME), text) is leaks


# The generator


@pytest.fixture(scope="module", params=["easy", "hard"])
def generated(request: pytest.FixtureRequest) -> dict[str, list[Problem]]:
    return {split: list(FunctionCalling(request.param).problems(split)) for split in ("train", "test")}


def words(problem: Problem) -> str:
    return " ".join(problem.prompt[-1].content.lower().split())


def test_the_generator_keeps_its_counts_and_repeats_nothing(generated: dict[str, list[Problem]]):
    assert [len(generated["train"]), len(generated["test"])] == [4000, 1000]
    rows = generated["train"] + generated["test"]
    assert len({p.problem_id for p in rows}) == len({words(p) for p in rows}) == 5000


def test_generated_references_pass_among_several_tools(generated: dict[str, list[Problem]]):
    task = FunctionCalling()
    for p in generated["train"] + generated["test"]:
        assert task.verify(p, [Message("assistant", task.right_turns(p)[0])]).success
        names = [t["function"]["name"] for t in json.loads(p.tools or "")]
        assert 2 <= len(names) == len(set(names)) <= 4


def test_a_draw_depends_on_its_index_alone():
    whole = list(islice(FunctionCalling().problems("train"), 300))
    again = list(islice(FunctionCalling("easy").problems("train"), 300))
    assert whole == again
    assert words(whole[0]) == "we need five less than eleven cakes when you can ."


def test_the_easy_language_is_small():
    vocabulary: Counter[str] = Counter()
    task = FunctionCalling("easy")
    for p in [*task.problems("train"), *task.problems("test")]:
        text = f"{p.prompt[-1].content} {p.tools} {task.right_turns(p)[0]}"
        vocabulary.update(re.findall(r"[A-Za-z]+|[0-9]+|[^A-Za-z0-9\s]", text))
    assert len(vocabulary) <= 155


def test_an_easy_requests_numbers_are_its_calls():
    value = {word: i + 1 for i, word in enumerate(NUMBER_WORDS)} | {str(i): i for i in range(100)}
    task = FunctionCalling("easy")
    for p in [*islice(task.problems("train"), 1500), *task.problems("test")]:
        text = " " + words(p).replace("half an hour", "30").replace("an hour", "60").replace("two weeks", "14") + " "
        text = text.replace("a week", "7").replace("half a dozen", "6").replace("a dozen", "12").replace("no more", "")
        (call,) = json.loads(p.reference)
        if call["name"] != "alarm":
            text = re.sub(r" (\w+) and (\w+) more ", lambda m: f" {value[m[1]] + value[m[2]]} ", text)
        text = re.sub(r" (\w+) less than (\w+) ", lambda m: f" {value[m[2]] - value[m[1]]} ", text)
        feedback = sorted(value[word] for word in text.split() if word in value)
        given = [v for v in call["arguments"].values() if type(v) is int] + call["arguments"].get("hours", [])
        assert feedback == sorted(given), (words(p), call)
        assert call["arguments"].get("hours", []) == sorted(call["arguments"].get("hours", []))


HARD = list(islice(FunctionCalling("hard").problems("train"), 400))


def other_value(random: Random, value: Any) -> Any:
    """Another value that is easily taken for the first."""
    if isinstance(value, bool):
        return random.choice([not value, int(value), str(value).lower()])
    if isinstance(value, int):
        return random.choice([value + 1, value - 1, str(value), value + 0.5, float(value), [value]])
    if isinstance(value, str):
        return random.choice([value.upper(), value[:-1], value + " ", [value], None])
    return random.choice([value[:-1], [*value, 1], [float(v) for v in value], str(value), {}])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(HARD), st.integers(0, 2**32))
def test_an_answer_perturbed_in_one_place_fails(problem: Problem, seed: int):
    random = Random(seed)
    calls = json.loads(problem.reference)
    gold = json.dumps(calls)
    call = random.choice(calls)
    change = random.choice(["drop", "repeat", "tool", "lose", "gain", "rename", "value"])
    name = random.choice(list(call["arguments"]))
    if change == "drop":
        calls.remove(call)
    elif change == "repeat":
        calls.append(call)
    elif change == "tool":
        offered = [t["function"]["name"] for t in json.loads(problem.tools or "")]
        call["name"] = random.choice([n for n in [*offered, "none", call["name"].upper()] if n != call["name"]])
    elif change == "lose":
        del call["arguments"][name]
    elif change == "gain":
        call["arguments"][random.choice(["volume", name.upper(), ""])] = random.choice([None, 1, ""])
    elif change == "rename":
        call["arguments"][name + "s"] = call["arguments"].pop(name)
    else:
        call["arguments"][name] = other_value(random, call["arguments"][name])
    assume(json.dumps(calls) != gold)
    task = FunctionCalling()
    random.shuffle(calls)
    verdict = task.verify(problem, [Message("assistant", write_calls([Call(**c) for c in calls]))])
    assert not verdict.success
    assert not solves(task, problem, verdict.feedback)


def test_a_level_and_data_exclude_each_other():
    for arguments in ({"level": "medium"}, {"level": "easy", "data": HUB_NAME}):
        with pytest.raises(RrrError) as caught:
            FunctionCalling(**arguments)
        assert caught.value.exit_code == USAGE


# Schemas


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("str", {"type": "string"}), ("List[int]", {"type": "array", "items": {"type": "integer"}}),
        ("List[List[float]]", {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}),
        ("Tuple[float, float]", {"type": "array", "items": {"type": "number"}}), ("Tuple[int, str]", {"type": "array"}),
        ("Union[int, float]", {"type": "number"}), ("Union[int, str]", {"type": ["integer", "string"]}),
        ("Optional[bool]", {"type": "boolean"}), ("Callable[[float], float]", {}), ("Any", {}), ("", {}),
        ("Dict[str, List[int]]",
         {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "integer"}}}),
        ("set", {"type": "array"}), ("dict", {"type": "object"}), ("[", {}), ("List[" * 40, {}),
    ],
)
def test_pythons_types_become_schemas(text: str, schema: dict[str, Any]):
    assert type_schema(text) == schema


def test_xlams_and_bfcls_tools_become_the_same_form():
    xlam = {"name": "f", "description": "d", "parameters": {
        "a": {"type": "List[float]", "description": "x", "default": ""}, "b": {"type": "int, optional", "default": 3}}}
    bfcl = {"name": "f", "description": "d", "parameters": {"type": "dict", "properties": {
        "a": {"type": "array", "items": {"type": "float"}, "description": "x"},
        "b": {"type": "integer", "default": 3, "optional": True}}, "required": ["a"]}}
    expected = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {
        "type": "object", "properties": {
            "a": {"type": "array", "items": {"type": "number"}, "description": "x"},
            "b": {"type": "integer", "default": 3}}, "required": ["a"]}}}
    assert tool_schema(xlam) == tool_schema(bfcl) == tool_schema(expected) == expected


# Data files

XLAM_TOOLS = [{"name": "f", "description": "", "parameters": {"a": {"type": "int", "description": "", "default": ""}}}]
XLAM = [
    {"query": query, "tools": XLAM_TOOLS, "answers": [{"name": "f", "arguments": {"a": a}}], "split": split}
    for query, a, split in [("call f with 1", 1, "train"), ("call it with 2", 2, "test"), ("call f with 1", 1, "train")]
]
BFCL_FUNCTION = [{"name": "f", "description": "", "parameters": {
    "type": "dict", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}]
BFCL = {"question": [[{"role": "user", "content": "call f"}]], "function": BFCL_FUNCTION,
        "ground_truth": [{"f": {"a": [1, 2]}}], "category": "simple", "split": "train"}


def as_text(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in row.items()}


def write_rows(folder: Path, kind: str, rows: list[Any]) -> str:
    path = folder / f"rows{kind}"
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == ".json":
        path.write_text(json.dumps(rows))
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(text) if kind.endswith(".gz") else text)
    return str(path)


@pytest.mark.parametrize("kind", [".parquet", ".jsonl", ".jsonl.gz", ".json"])
def test_every_kind_of_file_gives_the_same_problems(tmp_path: Path, kind: str):
    rows = [*map(as_text, XLAM)] if kind in (".parquet", ".json") else XLAM
    task = FunctionCalling(data=write_rows(tmp_path, kind, rows))
    (train,), (test,) = task.problems("train"), task.problems("test")
    assert (train.prompt, train.difficulty) == ([Message("user", "call f with 1")], "data-exact-1")
    assert json.loads(train.tools or "")[0]["function"]["parameters"]["required"] == ["a"]
    assert task.verify(test, [Message("assistant", '{"name": "f", "arguments": {"a": 2}}')]).success
    assert not task.verify(train, [Message("assistant", '{"name": "f", "arguments": {"a": 2}}')]).success


def test_bfcls_rows_are_judged_by_their_accepted_values(tmp_path: Path):
    irrelevant = {**BFCL, "question": [[{"role": "user", "content": "sing"}]], "ground_truth": None,
                  "category": "irrelevance"}
    task = FunctionCalling(data=write_rows(tmp_path, ".jsonl", [BFCL, as_text(BFCL) | {"split": "train"}, irrelevant]))
    call, nothing = task.problems("train")
    assert (call.difficulty, nothing.difficulty) == ("data-bfcl-1", "data-none-0")
    assert json.loads(call.reference) == [{"name": "f", "arguments": {"a": 1}}]
    assert task.verify(call, [Message("assistant", '{"name": "f", "parameters": {"a": 2}}')]).success
    assert task.verify(nothing, [Message("assistant", "La la.")]).success


def test_without_a_split_column_the_request_decides(tmp_path: Path):
    rows = [{**XLAM[0], "query": f"call f for the {i}th time"} for i in range(300)]
    for row in rows:
        del row["split"]
    others = [{**row, "query": row["query"].upper(), "tools": [*XLAM_TOOLS, {"name": "g"}]} for row in rows]
    splits = {}
    for folder, written in (("a", rows), ("b", others[::-1])):
        (tmp_path / folder).mkdir()
        task = FunctionCalling(data=write_rows(tmp_path / folder, ".jsonl", written))
        splits[folder] = {split: {words(p) for p in task.problems(split)} for split in ("train", "test")}
    assert splits["a"] == splits["b"]
    assert 30 < len(splits["a"]["test"]) < 90
    assert len(splits["a"]["train"] | splits["a"]["test"]) == 300


@pytest.mark.parametrize(
    ("row", "feedback"),
    [
        ({"answers": None}, "column answers: found None"),
        ({"answers": "[{]"}, "column answers: not strict JSON"),
        ({"answers": '[{"name": "f", "arguments": {"a": 1, "a": 2}}]'}, "answers: not strict JSON: a key occurs"),
        ({"answers": '[{"name": "f", "arguments": {"a": NaN}}]'}, "column answers: not strict JSON: NaN"),
        ({"answers": [{"name": "f", "arguments": "[]"}]}, "column answers: found"),
        ({"answers": [{"name": "f", "arguments": "{'a': 1}"}]}, "column answers: found"),
        ({"answers": [{"name": "f"}]}, "column answers: found"),
        ({"answers": [{"name": "\x1b[2J", "arguments": {}}]}, "isn't among the row's tools"),
        ({"answers": {"name": "f", "arguments": {}}}, "column answers: found"),
        ({"tools": [{"description": "nameless"}]}, "column tools: 'a tool has no name'"),
        ({"tools": [{"name": "f", "parameters": {"a": "int"}}]}, "column tools: .*isn't an object"),
        ({"query": 5}, "column query: found 5"),
        ({"query": " "}, "column query"),
        ({"split": "dev"}, "column split: found 'dev'"),
        ({"query": "call it with 2", "split": "train"}, "stands in both splits"),
        ({**BFCL, "ground_truth": None}, "column ground_truth: found None"),
        ({**BFCL, "ground_truth": [{"f": {"a": 1}}]}, "column ground_truth: found"),
        ({**BFCL, "ground_truth": [{"f": {"a": []}}]}, "no value is accepted for the argument 'a'"),
        ({"query": "half of \ud83d"}, "not (strict )?JSON"),
        ({**BFCL, "ground_truth": [{"g": {"a": [1]}}]}, "'g' isn't among"),
        ({**BFCL, "question": [[]]}, "column question: found"),
        ({**BFCL, "question": [[{"role": "system", "content": "x"}]]}, "column question: found"),
        ([1], "wanted an object"),
    ],
)
def test_a_bad_row_is_refused_by_its_place(tmp_path: Path, row: Any, feedback: str):
    bad = {**XLAM[0], **row} if isinstance(row, dict) else row
    path = write_rows(tmp_path, ".jsonl", [XLAM[1], bad])
    with bad_rows(strict=True), pytest.raises(RrrError, match=feedback) as caught:
        list(FunctionCalling(data=path).problems("test"))
    assert caught.value.exit_code == BAD_INPUT
    assert str(caught.value).startswith(f"{path}, row 2")
    assert str(caught.value).isprintable()


def test_a_missing_column_is_named(tmp_path: Path):
    path = write_rows(tmp_path, ".jsonl", [{"query": "call f", "answers": []}])
    with pytest.raises(RrrError, match=r"row 1, column tools: missing; wanted query, tools and answers \(xLAM\)"):
        list(FunctionCalling(data=path).problems("train"))


def test_nested_columns_of_parquet_are_refused(tmp_path: Path):
    path = write_rows(tmp_path, ".parquet", XLAM)
    with pytest.raises(RrrError, match="column tools: found a nested column, wanted JSON as text"):
        list(FunctionCalling(data=path).problems("train"))


def test_the_hub_without_datasets_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(RrrError, match=r"pip install 'rrr_cli\[train\]'") as caught:
        next(FunctionCalling(data=HUB_NAME).problems("train"))
    assert caught.value.exit_code == NO_BACKEND


@pytest.mark.parametrize(
    ("name", "count"),
    [("bfcl_simple_python", 400), ("bfcl_multiple", 200), ("bfcl_parallel", 200), ("bfcl_parallel_multiple", 200),
     ("bfcl_irrelevance", 240), ("toolcall_rlla_sft", 321)],
)
def test_the_audit_is_clean_on_shared_data(name: str, count: int):
    from rrr_cli.tasks.audit import audit

    path = SHARED / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path.name} isn't here")
    result = audit(FunctionCalling(data=str(path)))
    echoes = ["echo of 1484102b082325c3"] if name == "bfcl_simple_python" else []  # a request that is the call itself
    assert (result["problems"], result["surprises"], result["reference"]["passed"]) == (count, echoes, count)


# The command line


def test_tasks_check_counts_and_fails_a_wrong_verifier(rrr):
    good = rrr("tasks", "check", "function_calling", "--level", "hard", "--limit", 50, "--json")
    assert good.code == 0
    counts = json.loads(good.out)
    assert counts["reference"] == {"tried": 100, "passed": 100}
    assert counts["echo"] == counts["other_reference"] == counts["empty"] == {"tried": 100, "passed": 0}
    bad = rrr("tasks", "check", f"{Path(__file__).parent.parent}/parity_task.py:Parity")
    assert bad.code == 5
    assert "empty: 50 of 50 pass" in bad.out
    assert "wrong 100 times" in bad.err


def test_the_loop_runs_where_the_template_ignores_tools(rrr, tmp_path: Path, random_model: Path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"default": ONE, "rules": [["Reflect", "I chose the wrong tool."]]}))
    run = tmp_path / "run"
    task = ["--task", "function_calling", "--run", run, "--limit", 3, "--json"]
    mined = rrr("mine-failures", *task, "--engine", "scripted", "--model", script, "--samples", 1)
    assert json.loads(mined.out)["errors"] == {"wrong_tool": 3}, mined.err
    reflected = rrr("reflect", *task, "--engine", "scripted", "--model", script)
    assert reflected.code == 0, reflected.err
    sampled = rrr("mine-failures", *task[:3], tmp_path / "sampled", "--limit", 3, "--json", "--model", random_model,
                  "--samples", 1, "--max-tokens", 8)
    assert json.loads(sampled.out)["problems_with_a_failure"] == 3, sampled.err
