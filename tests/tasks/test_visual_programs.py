"""Visual programs: the language, what a program may not get away with, the generated problems, and GQA's own files."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrr_cli.errors import BAD_INPUT, USAGE, RrrError
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.reading import members
from rrr_cli.tasks.rows import bad_rows
from rrr_cli.tasks.solves import solves
from rrr_cli.tasks.visual_programs import VisualPrograms
from rrr_cli.tasks.visual_programs.data import convert
from rrr_cli.tasks.visual_programs.generate import ATTRIBUTES, LIMITS, draw_scene, mutants
from rrr_cli.tasks.visual_programs.interpreter import run
from rrr_cli.tasks.visual_programs.judge import judge, program_in, same_answer
from rrr_cli.tasks.visual_programs.language import FUNCTIONS, Call, Wrong, parse, write
from rrr_cli.tasks.visual_programs.scene_graphs import Lexicon, Scene, fold, from_json, read_scene, to_json


def thing(name: str, x: int = 0, attributes: tuple[str, ...] = (), **relations: str) -> dict:
    related = [{"name": relation.replace("_", " "), "object": other} for relation, other in relations.items()]
    return {"name": name, "x": x, "y": 10, "w": 10, "h": 10, "attributes": list(attributes), "relations": related}


GRAPH = {
    "width": 100, "height": 100, "location": "street", "weather": "sunny",
    "objects": {
        "1": thing("apple", 5, ("red", "small"), on="3", to_the_left_of="2"),
        "2": thing("apple", 80, ("green", "small", "round"), near="3"),
        "3": thing("table", 45, ("wooden", "large")),
        "4": thing("woman", 45, ("tall",), wearing="5", holding="2"),
        "5": thing("dress", 45, ("red", "large")),
    },
}
CATEGORIES = {word: frozenset({category}) for category, words in ATTRIBUTES.items() for word in words}
SCENE = read_scene(GRAPH, Lexicon(CATEGORIES, {"woman": frozenset({"person"})}), "here")


def answer(program: str, scene: Scene = SCENE) -> str:
    return run(parse(program), scene)


def error_of(program: str, scene: Scene = SCENE) -> str:
    with pytest.raises(Wrong) as caught:
        answer(program, scene)
    assert caught.value.error_type in VisualPrograms.error_types
    return caught.value.error_type


# The language


@pytest.mark.parametrize(("expression", "expected"), [
    ('exists(filter(find("apple"), "red"))', "yes"),
    ('exists(filter(find("table"), "red"))', "no"),
    ('count(filter(find("object"), "small"))', "2"),
    ('count(reject(find("object"), "large"))', "3"),
    ('query(filter(find("apple"), "green"), "name")', "apple"),
    ('query(filter(find("apple"), "left"), "color")', "red"),
    ('query(subjects(find("table"), "on"), "color")', "red"),
    ('query(objects(find("person"), "wearing"), "name")', "dress"),
    ('query(find("scene"), "weather")', "sunny"),
    ('choose(find("scene"), "beach", "street")', "street"),
    ('choose(filter(find("apple"), "green"), "left", "right")', "right"),
    ('relation(filter(find("apple"), "red"), find("apple"), "to the left of", "to the right of")', "left of"),
    ('same(find("apple"), find("apple"), "size")', "yes"),
    ('same(find("apple"), find("apple"), "color")', "no"),
    ('same(find("apple"), find("dress"), "name")', "no"),
    ('common(filter(find("apple"), "red"), find("dress"))', "color"),
    ('query(like(find("dress"), "color"), "name")', "apple"),
    ('more(count(find("apple")), count(find("table")))', "yes"),
    ('and(exists(find("apple")), not(exists(find("table"))))', "no"),
    ('or(exists(find("cat")), exists(find("table")))', "yes"),
])
def test_each_function_does_what_it_says(expression: str, expected: str):
    assert answer(f"answer = {expression}") == expected


def test_every_function_is_tested_and_in_the_prompt():

    tried = test_each_function_does_what_it_says.pytestmark[0].args[1]
    for function in FUNCTIONS:
        assert any(f"{function}(" in expression for expression, _ in tried), function
        assert f"{function}(" in VisualPrograms.words["prompt"], function


def test_names_semicolons_and_white_space():
    assert answer("x=find('apple');y = filter ( x ,\n\" Red \" )\n answer = count(y)") == "1"
    assert answer('a = find("apple") answer = exists(a)') == "yes"


@pytest.mark.parametrize(("program", "error_type"), [
    ("", "malformed"),
    ('x = find("apple")', "malformed"),
    ('answer = exists(find("apple")) x = find("apple")', "malformed"),
    ('answer = exists(find("apple")', "malformed"),
    ('answer = exists(find("apple"))) ', "malformed"),
    ('answer = exists(find("apple" "red"))', "malformed"),
    ('find = find("apple")', "malformed"),
    ('yes = exists(find("apple"))', "malformed"),
    ("import os", "malformed"),
    ('answer = exists(find("apple\n"))', "malformed"),
    ('answer = __import__("os").system("true")', "malformed"),
    ('answer = exists(find("ap"ple"))', "malformed"),
    ("answer = " + "not(" * 13 + 'exists(find("apple"))' + ")" * 13, "malformed"),
    ('x = find("apple")\n' * 41 + "answer = count(x)", "malformed"),
    ('answer = exists(' + " " * 4000 + 'find("apple"))', "malformed"),
    ('answer = find("apple")', "type_error"),
    ('answer = exists("apple")', "type_error"),
    ("answer = exists(x)", "type_error"),
    ('answer = exists(answer)', "type_error"),
    ('answer = eval("1")', "type_error"),
    ('answer = exists(find("apple"), find("table"))', "type_error"),
    ('answer = find(query(find("apple"), "name"))', "type_error"),
    ('answer = more(count(find("apple")), exists(find("apple")))', "type_error"),
    ('answer = "red"', "constant"),
    ("answer = yes", "constant"),
    ("answer = 3", "constant"),
    ('x = find("apple") answer = yes', "constant"),
    ("answer = not(no)", "constant"),
    ('answer = exists(find("object"))', "constant"),
    ('answer = exists(find("scene"))', "constant"),
    ('answer = not(exists(find("object")))', "constant"),
    ('answer = query(find("zebra"), "color")', "unknown_object"),
    ('answer = choose(find("zebra"), "red", "blue")', "unknown_object"),
    ('answer = same(find("apple"), find("zebra"), "color")', "unknown_object"),
    ('answer = query(find("table"), "color")', "unknown_attribute"),
    ('answer = choose(find("table"), "red", "blue")', "unknown_attribute"),
    ('answer = same(find("table"), find("dress"), "color")', "unknown_attribute"),
    ('answer = query(find("apple"), "color")', "ambiguous"),
    ('answer = choose(find("apple"), "red", "green")', "ambiguous"),
])
def test_what_is_wrong_is_named(program: str, error_type: str):
    assert error_of(program) == error_type
    found = judge(f"<program>{program}</program>", [(SCENE, "yes")])
    assert not found.success
    assert found.error_type == (error_type if program else "no_program")


@given(st.sampled_from(["easy", "full"]), st.integers(0, 2**32))
def test_what_is_written_is_read_again(level: str, seed: int):
    from rrr_cli.tasks.visual_programs.generate import NOUNS, easy_question, full_question

    expression = (easy_question if level == "easy" else full_question)(Random(seed), NOUNS)[2]
    program = parse(f"answer = {expression}")
    assert parse(f"answer = {write(program[0][1])}") == program
    scene = draw_scene(Random(seed), [], level)
    assert from_json(json.loads(json.dumps(to_json(scene)))) == scene
    for mutant in mutants(program[0][1]):
        assert isinstance(mutant, Call)
        parse(f"answer = {write(program[0][1])}")


@given(st.text(max_size=40))
def test_folding_twice_is_folding_once(word: str):
    if "to the" not in word.lower():
        assert fold(fold(word)) == fold(word)


SIGNS = ["=", "(", ")", ",", ";", '"apple"', "'red'", '"', "\n", "\x00", "\ud800"]
WORDS = [*FUNCTIONS, *SIGNS, "x", "answer", "yes", "7"]


@settings(max_examples=400)
@given(st.text() | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_any_text_gets_a_verdict(text: str):
    for wrapped in (text, f"<program>{text}</program>", f"```\n{text}\n```"):
        found = judge(wrapped, [(SCENE, "zebra")])
        assert not found.success
        assert found.error_type in VisualPrograms.error_types
        assert found.feedback


@pytest.mark.parametrize("text", [
    "<program>answer = " + "not(" * 100_000 + "</program>", "<program>" * 50_000, "`" * 100_000, "x" * 100_000,
    "<program>" + "9" * 3000 + "</program>", "<program>" + '"' * 3999 + "</program>", "```" + "a" * 100_000 + "```",
])
def test_long_text_gets_a_verdict(text: str):
    assert not judge(text, [(SCENE, "zebra")]).success


# Where the program stands


@pytest.mark.parametrize(("text", "program"), [
    ("<program>a</program> then <program> b </program> <program>c", "b"),
    ("```\na\n``` and ```python\nb\n```", "b"),
    ("```\na\n``` <program>b</program>", "b"),
    ("``` answer = 1 ```", "answer = 1"),
    ("</program>a<program>", None),
    ("<program> </program>", None),
    ("answer = 1", None),
    ("```a", None),
])
def test_the_last_closed_block_counts(text: str, program: str | None):
    assert program_in(text) == program


@pytest.mark.parametrize("text", [
    '<program>\n```python\nanswer = count(find("dog"))\n```\n</program>',
    "<program>`answer = count(find('dog'))`</program>",
    '```\r\nanswer = count(find("dog"));\r\n```',
    "<program>answer \uff1d count\uff08find(\u201cdog\u201d)\uff09</program>",
])
def test_a_program_counts_in_any_marks(text: str):
    assert parse(program_in(text) or "") == parse('answer = count(find("dog"))')


# The verdict


def test_feedback_has_the_programs_answer_alone():
    good = '<program> answer = query(subjects(find("table"), "on"), "color") </program>'
    assert judge(good, [(SCENE, "Red")]).success
    wrong = judge(good, [(SCENE, "red"), (SCENE, "blue")])
    assert wrong.feedback == "On picture 2 of 2 the program answers red, which is wrong."
    assert wrong.answer == "red, red"
    assert "blue" not in wrong.feedback
    single = judge(good, [(SCENE, "blue")])
    assert single.error_type == "wrong_answer"
    assert single.feedback == "On the picture the program answers red, which is wrong."
    stopped = judge('<program> answer = query(find("cat"), "color") </program>', [(SCENE, "red")]).feedback
    assert stopped == "On the picture the program stops: query was asked about nothing: no such object was found."


def test_sides_may_be_said_as_gqa_says_them():
    assert same_answer("left of", "left")
    assert same_answer("to the right of", "right")
    assert not same_answer("left", "right")


# Made-up problems


@pytest.fixture(scope="module", params=["easy", "full"])
def problems(request: pytest.FixtureRequest) -> list[Problem]:
    task = VisualPrograms(request.param)
    return [p for split in ("train", "test") for p in islice(task.problems(split), 60)]


TASK = VisualPrograms()


def turn(expression: str) -> list[Message]:
    return [Message("assistant", f"<program> answer = {expression} </program>")]


def test_references_pass_and_the_next_ones_fail(problems: list[Problem]):
    for p, following in pairwise(problems):
        assert TASK.verify(p, [Message("assistant", TASK.right_turns(p)[0])]).success
        assert not TASK.verify(following, [Message("assistant", TASK.right_turns(p)[0])]).success


def test_no_answer_is_right_on_most_pictures(problems: list[Problem]):
    for p in problems:
        answers = [found for _, found in json.loads(p.metadata)["pictures"]]
        assert len(answers) == 6
        assert max(map(answers.count, answers)) <= 3


def test_guessing_programs_pass_nowhere(problems: list[Problem]):
    guesses = [
        'exists(find("object"))', 'exists(filter(find("object"), "x"))', 'not(exists(filter(find("object"), "x")))',
        'query(find("object"), "name")', 'count(filter(find("object"), "red"))', 'count(find("object"))',
    ]
    for p in problems:
        assert not any(TASK.verify(p, turn(guess)).success for guess in guesses)


def test_nearly_every_program_with_one_thing_wrong_fails(problems: list[Problem]):
    tried = passed = 0
    for p in problems:
        right = parse(f"answer = {json.loads(p.reference)}")[0][1]
        for mutant in {write(m) for m in mutants(right)}:
            tried += 1
            passed += TASK.verify(p, turn(mutant)).success
    assert tried > 200
    assert passed / tried < 0.05


def test_splits_differ_and_end_where_they_say(monkeypatch: pytest.MonkeyPatch):
    assert all(limits["train"] >= 1000 and limits["test"] >= 500 for limits in LIMITS.values())
    monkeypatch.setitem(LIMITS, "easy", {"train": 120, "test": 80})
    references = {split: [p.reference for p in VisualPrograms("easy").problems(split)] for split in ("train", "test")}
    assert [len(set(found)) for found in references.values()] == [120, 80]
    assert not set(references["train"]) & set(references["test"])


def test_the_picture_is_not_shown(problems: list[Problem]):
    for p in problems[:20]:
        question = json.loads(p.metadata)["question"]
        assert p.prompt[0].content.endswith(question)
        assert "relations" not in p.prompt[0].content


def test_a_leak_ignores_spacing_and_quotes(problems: list[Problem]):
    p = problems[0]
    expression = json.loads(p.reference)
    assert solves(TASK, p, f"I should write answer={expression.replace(', ', ' ,').replace(chr(34), chr(39))}.")
    assert not solves(TASK, p, expression[: len(expression) // 2])


# GQA


def step(operation: str, argument: str, *dependencies: int) -> dict:
    return {"operation": operation, "argument": argument, "dependencies": list(dependencies)}


def question(text: str, found: str, *semantic: dict, image: str = "2407890") -> dict:
    return {
        "imageId": image, "question": text, "answer": found, "fullAnswer": found, "isBalanced": True,
        "groups": {"global": None, "local": "x"}, "entailed": [], "equivalent": [], "annotations": {},
        "types": {"structural": "query", "semantic": "attr", "detailed": "x"}, "semantic": list(semantic),
    }


QUESTIONS = {
    "01": question("What color is the apple on the table?", "red", step("select", "table (3)"),
                   step("relate", "apple,on,s (1)", 0), step("query", "color", 1)),
    "02": question("Is there a green apple?", "yes", step("select", "apple (1,2)"), step("filter color", "green", 0),
                   step("exist", "?", 1)),
    "03": question("Who is wearing a dress?", "woman", step("select", "dress (5)"),
                   step("relate", "person,wearing,s (4)", 0), step("query", "name", 1)),
    "04": question("What is the person holding?", "apple", step("select", "person (4)"),
                   step("relate", "_,holding,o (2)", 0), step("query", "name", 1)),
    "05": question("Is the red apple to the left or to the right of the table?", "left", step("select", "table (3)"),
                   step("choose rel", "dress,to the left of|to the right of,s (5)", 0)),
    "06": question("Does the woman ride a horse?", "no", step("select", "woman (4)"),
                   step("verify rel", "horse,riding,o (-)", 0)),
    "07": question("Is the table red or wooden?", "wooden", step("select", "table (3)"),
                   step("choose", "red|wooden", 0)),
    "08": question("Is the dress the same color as the apple on the table?", "yes", step("select", "dress (5)"),
                   step("select", "table (3)"), step("relate", "apple,on,s (1)", 1), step("same color", "", 0, 2)),
    "09": question("Do all the apples have the same size?", "yes", step("select", "apple (1,2)"),
                   step("same", "size", 0)),
    "10": question("Are there cats or tables?", "yes", step("select", "cat (-)"), step("exist", "?", 0),
                   step("select", "table (3)"), step("exist", "?", 2), step("or", "", 1, 3)),
    "11": question("What is not large and round?", "apple", step("select", "object (2)"),
                   step("filter", "not(large)", 0), step("filter shape", "round", 1), step("query", "name", 2)),
    "12": question("How is the weather?", "sunny", step("select", "scene"), step("query", "weather", 0)),
    "13": question("Who is older, the woman or the apple?", "woman", step("select", "woman (4)"),
                   step("select", "table (3)"), step("choose older", "", 0, 1)),
    "14": question("Is the small thing round?", "no", step("select", "dress (5)"), step("verify size", "large", 0)),
    "15": question("On which side is the green apple?", "right", step("select", "apple (2)"),
                   step("filter color", "green", 0), step("choose hposition", "left|right", 1)),
    "16": question("Which thing has the same color as the dress?", "apple", step("select", "dress (5)"),
                   step("relate", "_,same color,_ (1)", 0), step("query", "name", 1)),
    "17": question("Is the table different in color from the dress and not small?", "yes", step("select", "dress (5)"),
                   step("verify size", "not(small)", 0), step("select", "apple (2)"),
                   step("filter color", "green", 2), step("different color", "", 0, 3), step("and", "", 1, 4)),
    "18": question("What do the dress and the apple on the table have in common?", "color", step("select", "dress (5)"),
                   step("select", "table (3)"), step("relate", "apple,on,s (1)", 1), step("common", "", 0, 2)),
    "19": question("Is the dress to the left or right of what it is by?", "left", step("select", "apple (1,2)"),
                   step("choose rel", "apple,to the left of|to the right of,s (1)", 0)),
}
LEFT_OUT = {"05", "13", "14"}  # the dress isn't beside the table; no such operation; another answer


def gqa_folder(tmp_path: Path, questions: dict = QUESTIONS, graph: dict = GRAPH) -> Path:
    for split, image in (("train", "2407890"), ("val", "1")):
        named = {key: row | {"imageId": image} for key, row in questions.items()}
        (tmp_path / f"{split}_sceneGraphs.json").write_text(json.dumps({image: graph}))
        (tmp_path / f"{split}_balanced_questions.json").write_text(json.dumps(named))
        (tmp_path / f"{split}_all_questions.json").write_text("not read: there is a balanced file")
    return tmp_path


def test_gqas_own_files_become_problems_whose_references_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    task = VisualPrograms(data=str(gqa_folder(tmp_path)))
    for split in ("train", "test"):
        found = list(task.problems(split))
        assert [json.loads(p.metadata)["question"] for p in found] == [
            row["question"] for key, row in QUESTIONS.items() if key not in LEFT_OUT]
        for p in found:
            assert p.split == split
            assert p.difficulty == "data-query"
            assert task.verify(p, [Message("assistant", task.right_turns(p)[0])]).success
            assert not solves(task, p, p.prompt[0].content)
        said = capsys.readouterr().err
        assert f"{split}: 3 rows are left out" in said
        assert "1 × an operation isn't covered" in said
        assert "2 × the program doesn't come to the answer" in said


def test_categories_and_kinds_are_learned_from_the_questions(tmp_path: Path):
    first = next(VisualPrograms(data=str(gqa_folder(tmp_path))).problems("train"))
    scene = from_json(json.loads(first.metadata)["pictures"][0][0])
    assert scene[3].names == ("woman", "person")
    assert scene[1].attributes["color"] == ["green"]
    assert scene[1].attributes["shape"] == ["round"]
    assert scene[0].attributes["hposition"] == ["left"]


def test_a_relation_to_nothing_is_one_clear_line(rrr, tmp_path: Path):
    broken = json.loads(json.dumps(GRAPH))
    broken["objects"]["1"]["relations"][0]["object"] = "99"
    ran = rrr("tasks", "check", "visual_programs", "--data", gqa_folder(tmp_path, graph=broken))
    assert ran.code == BAD_INPUT
    assert "scene '2407890', object 1: has the relation 'on' to '99', which isn't in the scene" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(("change", "said"), [
    ({"question": None}, "question '01': question is None, wanted str"),
    ({"semantic": "select"}, "question '01': semantic is 'select', wanted list"),
    ({"semantic": [{"operation": "select"}]}, "wanted operation, argument and dependencies"),
    ({"semantic": [step("exist", "?", 3)]}, "dependencies on earlier steps"),
    ({"semantic": ["select"]}, "wanted operation, argument and dependencies"),
])
def test_a_bad_question_is_named(tmp_path: Path, change: dict, said: str):
    data = gqa_folder(tmp_path, {"01": QUESTIONS["01"] | change})
    with bad_rows(strict=True), pytest.raises(RrrError, match=re.escape(said)) as caught:
        list(VisualPrograms(data=str(data)).problems("train"))
    assert caught.value.exit_code == BAD_INPUT


def test_missing_broken_and_useless_files_are_refused(tmp_path: Path):
    data = gqa_folder(tmp_path)
    for name, text, said in [
        ("val_balanced_questions.json", '{"01": {', "row 1: not JSON"),
        ("val_balanced_questions.json", json.dumps({"1": QUESTIONS["03"] | {"imageId": "1"}})[:-1], "not JSON"),
        ("val_balanced_questions.json", "[]", "not a JSON object"),
        ("val_balanced_questions.json", json.dumps({"1": QUESTIONS["01"] | {"imageId": "5"}}), "no scene graph '5'"),
        ("val_balanced_questions.json", "{}", "not one question of test can be used"),
        ("val_sceneGraphs.json", '{"1": []}', "wanted an object with objects"),
        ("val_sceneGraphs.json", None, "val_sceneGraphs.json isn't there"),
    ]:
        if text is None:
            (data / name).unlink()
        else:
            gqa_folder(tmp_path)
            (data / name).write_text(text)
        with pytest.raises(RrrError, match=re.escape(said)) as caught:
            list(VisualPrograms(data=str(data)).problems("test"))
        assert caught.value.exit_code == BAD_INPUT
    with pytest.raises(RrrError, match="no such folder") as caught:
        VisualPrograms(data=str(tmp_path / "none"))
    assert caught.value.exit_code == BAD_INPUT
    with pytest.raises(RrrError, match="leave out --data") as caught:
        VisualPrograms("easy", data=str(tmp_path))
    assert caught.value.exit_code == USAGE


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)))
def test_entries_are_those_of_the_whole_object(tmp_path_factory: pytest.TempPathFactory, rows: dict):
    path = tmp_path_factory.mktemp("entries") / "rows.json"
    path.write_text(json.dumps(rows, indent=1))
    assert {key: json.loads(text) for key, text in members(str(path))} == rows


@given(st.lists(st.fixed_dictionaries({
    "operation": st.sampled_from([
        "select", "relate", "filter color", "verify rel", "choose rel", "same", "and", "query",
    ])
    | st.text(max_size=8),
    "argument": st.sampled_from(["a,b,s (1)", "a|b", "not(x", "(-)", ""]) | st.text(max_size=8),
    "dependencies": st.lists(st.integers(0, 3), max_size=3),
}), max_size=4))
def test_any_semantic_is_converted_or_refused(semantic: list[dict]):
    with suppress(Wrong, RrrError):
        parse(f"answer = {convert(semantic, 'here')}")
