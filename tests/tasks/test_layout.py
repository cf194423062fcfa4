"""The layout task: what counts as a layout, what meets a caption, VPEval's file, and the drawings."""

from __future__ import annotations

import gzip
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import fields
from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrr_cli.errors import BAD_INPUT, NO_BACKEND, USAGE, RrrError
from rrr_cli.records import Attempt, Message
from rrr_cli.store.artifacts import Writer
from rrr_cli.tasks.audit import audit
from rrr_cli.tasks.layout import Layout
from rrr_cli.tasks.layout.boxes import Box, Refused, read, write
from rrr_cli.tasks.layout.draw import svg
from rrr_cli.tasks.layout.generate import LIMITS, NOUNS, STEPS, place
from rrr_cli.tasks.layout.judge import distinct, judge, overlap
from rrr_cli.tasks.layout.problem import Requirement, key_of, requirements_of
from rrr_cli.tasks.rows import bad_rows

NO_FILE = "there is no such file"
DOG_LEFT = [Requirement("object", "dog"), Requirement("object", "cat"), Requirement("left", "dog", 1, "cat")]


def layout(*lines: str) -> str:
    return "Here it is. <layout>\n" + "\n".join(lines) + "\n</layout>"


def verdict(lines: list[str], requirements: list[Requirement], threshold: float = 1.0):
    return judge(layout(*lines), requirements, threshold)


boxes_within = st.tuples(st.integers(0, 99), st.integers(0, 99)).flatmap(
    lambda xy: st.builds(Box, st.sampled_from(["dog", "cat", "hot dog"]), st.just(xy[0]), st.just(xy[1]),
                         st.integers(1, 100 - xy[0]), st.integers(1, 100 - xy[1])))


# Reading


@given(st.lists(boxes_within, min_size=1, max_size=64))
def test_what_is_written_is_read_again(boxes: list[Box]):
    if len({(b.x, b.y, b.w, b.h) for b in boxes}) > 1 or len(boxes) == 1:
        assert read(f"<layout>{write(boxes)}</layout>") == boxes


@pytest.mark.parametrize("text", [
    "<layout>\n```\ndog (1, 2, 30, 40)\nhot dog (50, 2, 30, 40)\n```\n</layout>",
    "<layout>\r\n- **Dog**: (1, 2, 30, 40)\r\n- `hot dog`: (50, 2, 30, 40).\r\n</layout>",
    "<layout>1. the dog \uff081\uff0c2\uff0c30\uff0c40\uff09\n2. hot dog (50, 2, 30, 40)</layout>",
])
def test_a_layout_counts_in_any_marks(text: str):
    assert read(text) == [Box("dog", 1, 2, 30, 40), Box("hot dog", 50, 2, 30, 40)]


def test_feedback_shows_other_scripts_as_themselves():
    with pytest.raises(Refused, match="'개'"):
        read("<layout>개 (1, 2, 3, 4)</layout>")
    with pytest.raises(Refused, match=r"'\\u202e'"):
        read("<layout>\u202e (1, 2, 3, 4)</layout>")


def test_the_last_block_counts_and_names_are_normalised():
    text = "<layout>cat (1, 1, 9, 9)</layout> no: <layout> A Dog (0,0,50,50), the hot  dog ( 50 , 0 , 50 , 50 ) "
    assert read(text + "</layout> <layout>unfinished") == [Box("dog", 0, 0, 50, 50), Box("hot dog", 50, 0, 50, 50)]


@pytest.mark.parametrize(("text", "error_type", "said"), [
    ("dog (1, 1, 9, 9)", "no_layout", "No layout"),
    ("<layout></layout>", "no_layout", "No layout"),
    ("</layout> dog (1, 1, 9, 9) <layout>", "no_layout", "No layout"),
    (layout("a dog somewhere"), "malformed", "a dog somewhere"),
    (layout("dog (1, 1, 9)"), "malformed", "not four whole numbers"),
    (layout("dog (1, 1, 9, 9.5)"), "malformed", "not four whole numbers"),
    (layout("dog (1, 1, 9, ٩)"), "malformed", "not four whole numbers"),
    (layout("dog (1, 1, 9, 9999999999)"), "malformed", "not four whole numbers"),
    (layout("dog 1 (1, 1, 9, 9)"), "malformed", "name of an object"),
    (layout("(1, 1, 9, 9)"), "malformed", "name of an object"),
    (layout("dog (1, 1, 9, 9) and so on"), "malformed", "and so on"),
    (layout(*["dog (1, 1, 9, 9)"] * 65), "malformed", "more than 64"),
    (layout("dog (1, 1, 9, 9)" + " " * 4000 + "cat (1, 1, 2, 2)"), "malformed", "longer than"),
    (layout("dog (1, 1, 0, 9)"), "bad_box", "no size"),
    (layout("dog (1, 1, 9, -9)"), "bad_box", "no size"),
    (layout("dog (-1, 1, 9, 9)"), "bad_box", "within the picture"),
    (layout("dog (1, 95, 9, 6)"), "bad_box", "within the picture"),
    (layout("dog (1, 1, 9, 9)", "cat (1, 1, 9, 9)"), "bad_box", "the same"),
])
def test_what_is_no_layout_is_refused_by_name(text: str, error_type: str, said: str):
    with pytest.raises(Refused, match=said) as caught:
        read(text)
    assert caught.value.error_type == error_type in Layout.error_types


# Judging


def test_each_skill_has_its_error_type():
    for lines, requirements, error_type, said in [
        (["cat (0, 0, 9, 9)"], [Requirement("object", "dog")], "missing_object",
         "There should be a dog; none was found."),
        (["apple (0, 0, 9, 9)", "apple (20, 0, 9, 9)"], [Requirement("count", "apple", 3)], "wrong_count",
         "There should be 3 apples; 2 were found."),
        (["dog (50, 0, 9, 9)", "cat (0, 0, 9, 9)"], DOG_LEFT, "wrong_relation",
         "The dog should be to the left of the cat; it isn't."),
        (["dog (0, 0, 10, 10)", "cat (20, 0, 10, 10)"], [Requirement("bigger", "dog", 1, "cat")], "wrong_scale",
         "The dog should be bigger than the cat; it isn't."),
        (["dog (0, 0, 10, 10)", "tree (20, 0, 10, 10)"], [Requirement("object", "dog")], "wrong_object",
         "There should be no trees in the picture."),
    ]:
        found = verdict(lines, requirements)
        assert (found.success, found.error_type, found.feedback) == (False, error_type, said)
        assert error_type in Layout.error_types


def test_a_name_is_not_its_last_word():
    assert verdict(["hot dog (0, 0, 9, 9)"], [Requirement("object", "dog")]).error_type == "missing_object"
    assert verdict(["mice (0, 0, 9, 9)"], [Requirement("object", "mouse")]).success


@pytest.mark.parametrize(("first", "second", "holds"), [
    ("0, 0, 20, 20", "2, 0, 20, 20", {"left"}),  # 2 hundredths; their IoU doesn't matter: the names differ
    ("0, 0, 20, 20", "1, 0, 20, 20", set()),  # VPEval's margin
    ("0, 50, 20, 20", "0, 0, 20, 20", {"below"}),
    ("50, 50, 20, 20", "0, 0, 21, 20", {"right", "below", "same"}),  # 5 % is still the same
    ("50, 0, 20, 22", "0, 0, 20, 20", {"right", "bigger"}),
    ("0, 0, 5, 5", "50, 60, 6, 6", {"left", "above", "smaller"}),
])
def test_relations_hold_by_centres_and_areas(first: str, second: str, holds: set[str]):
    lines = [f"dog ({first})", f"cat ({second})"]
    same_size = {"same"} if not {"bigger", "smaller"} & holds else set()
    for kind in ("left", "right", "above", "below", "bigger", "smaller", "same"):
        success = verdict(lines, [Requirement(kind, "dog", 1, "cat")]).success
        assert success == (kind in holds | same_size), kind


def test_a_relation_holds_between_every_two():
    lines = ["dog (0, 0, 9, 9)", "dog (80, 0, 9, 9)", "cat (40, 0, 9, 9)"]
    assert verdict(lines, DOG_LEFT).error_type == "wrong_relation"
    assert verdict(lines[::2], DOG_LEFT).success


def test_a_box_written_twice_counts_once():
    two = [Requirement("count", "dog", 2)]
    assert verdict(["dog (0, 0, 50, 50)", "dog (1, 0, 50, 50)", "cat (60, 60, 9, 9)"], two).error_type == "wrong_count"
    assert verdict(["dog (0, 0, 50, 50)", "dog (10, 0, 50, 50)"], two).success


def test_the_score_is_the_share_of_requirements_met():
    assert verdict(["dog (50, 0, 9, 9)", "cat (0, 0, 9, 9)"], DOG_LEFT).score == pytest.approx(2 / 3)
    assert verdict(["dog (0, 0, 9, 9)"], DOG_LEFT).score == pytest.approx(1 / 3)
    everything = [f"{noun} ({i}, 0, 9, 9)" for i, noun in enumerate(NOUNS[:60])]
    assert verdict(everything, [Requirement("object", "dog")]).score == pytest.approx(1 / 60)
    assert verdict(["dog (50, 0, 9, 9)", "cat (0, 0, 9, 9)"], DOG_LEFT, threshold=0.6).success


@given(boxes_within, boxes_within)
def test_overlap_is_symmetric_and_one_for_equals(a: Box, b: Box):
    assert overlap(a, b) == overlap(b, a)
    assert 0 <= overlap(a, b) <= 1
    assert (overlap(a, b) == 1) == ((a.x, a.y, a.w, a.h) == (b.x, b.y, b.w, b.h))
    assert distinct([a, a, a]) == [a]


@given(boxes_within, boxes_within)
def test_left_is_right_turned_round(a: Box, b: Box):
    if (a.x, a.y, a.w, a.h) != (b.x, b.y, b.w, b.h):
        lines = [write([Box("dog", a.x, a.y, a.w, a.h), Box("cat", b.x, b.y, b.w, b.h)])]
        for kind, turned in (("left", "right"), ("above", "below"), ("bigger", "smaller"), ("same", "same")):
            assert (verdict(lines, [Requirement(kind, "dog", 1, "cat")]).success
                    == verdict(lines, [Requirement(turned, "cat", 1, "dog")]).success)


@settings(max_examples=300)
@given(st.text() | st.text(alphabet="<>/layout dgc(),-0123456789\n\ud800\x00").map(lambda t: f"<layout>{t}</layout>"))
def test_any_text_gets_a_verdict(text: str):
    found = judge(text, DOG_LEFT)
    assert 0 <= found.score <= 1
    assert found.success or found.error_type in Layout.error_types
    assert found.feedback


@pytest.mark.parametrize("text", ["<layout>" + "(" * 100_000 + "</layout>", "<layout>" * 50_000, "x" * 100_000,
                                  layout("dog " * 900 + "(1, 1, 9, 9)")])
def test_long_text_gets_a_verdict(text: str):
    assert not judge(text, DOG_LEFT).success


# The generator


@pytest.mark.parametrize("level", ["easy", "full"])
def test_references_pass_and_splits_share_no_caption(level: str):
    task = Layout(level)
    keys: dict[str, set[str]] = {}
    for split in ("train", "test"):
        problems = list(task.problems(split))
        assert len(problems) == LIMITS[level][split]
        for p in problems:
            assert task.verify(p, [Message("assistant", task.right_turns(p)[0])]).score == 1.0
        keys[split] = {key_of(requirements_of(p)) for p in problems}
        assert len(keys[split]) == len(problems)
        assert len({p.difficulty for p in problems}) == {"easy": 4, "full": 5}[level]
    assert not keys["train"] & keys["test"]


@pytest.mark.parametrize("level", ["easy", "full"])
def test_no_reference_meets_the_next_caption(level: str):
    task = Layout(level)
    for p, following in pairwise(islice(task.problems("train"), 300)):
        assert not task.verify(following, [Message("assistant", task.right_turns(p)[0])]).success


def test_a_caption_turned_round_is_the_same_problem():
    left, right = [Requirement("left", "dog", 1, "cat")], [Requirement("right", "cat", 1, "dog")]
    assert key_of(left) == key_of(right) != key_of([Requirement("left", "cat", 1, "dog")])
    assert key_of([Requirement("same", "dog", 1, "cat")]) == key_of([Requirement("same", "cat", 1, "dog")])


@pytest.mark.parametrize("first", STEPS)
@pytest.mark.parametrize("second", STEPS)
@pytest.mark.parametrize("count", [1, 4])
def test_places_can_be_chained(first: str, second: str, count: int):
    if {first, second} not in ({"left", "right"}, {"above", "below"}):
        requirements = [Requirement("count", "dog", count), Requirement("object", "cat"), Requirement("object", "cow"),
                  Requirement(first, "dog", 1, "cat"), Requirement(second, "cat", 1, "cow"),
                  Requirement("smaller", "cat", 1, "cow")]
        assert verdict([write(place(requirements))], requirements).success


# Data

ROWS = [
    {"id": "object_val_000000", "skill": "object", "prompt": "a photo of a sheep", "objects": ["sheep"]},
    {"id": "count_val_000001", "skill": "count", "prompt": "2 persons", "objects": ["person", "person"]},
    {"id": "count_val_000002", "skill": "count", "prompt": "two persons", "objects": ["person", "person"]},
    {"prompt": "a dog left of a hot dog", "skill": "spatial", "objects": ["dog", "hot dog"], "relation": "left"},
    {"prompt": "a bus bigger than a cup", "skill": "scale", "objects": ["bus", "cup"], "relation": "bigger"},
    *({"skill": "object", "prompt": noun, "objects": [noun]} for noun in NOUNS[1:20]),
]


def rows_file(tmp_path: Path, rows: list[dict]) -> str:
    path = tmp_path / "captions.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return str(path)


def test_vpevals_rows_become_problems(tmp_path: Path):
    task = Layout(data=rows_file(tmp_path, [*ROWS, ROWS[0]]))
    splits = {split: list(task.problems(split)) for split in ("train", "test")}
    captions = {split: {json.loads(p.metadata)["caption"] for p in rows} for split, rows in splits.items()}
    assert captions["train"] | captions["test"] == {row["prompt"] for row in ROWS}
    assert sum(len(rows) for rows in splits.values()) == len(ROWS)
    assert len({"2 persons", "two persons"} & captions["train"]) in (0, 2)
    assert audit(task)["wrong"] == 0


@pytest.mark.parametrize(("row", "said"), [
    ({"skill": "count", "objects": ["dog"]}, "column prompt: found None"),
    ({"prompt": "x", "skill": "text", "objects": ["dog"]}, "column skill: found 'text'"),
    ({"prompt": "x", "skill": "object", "objects": []}, "column objects"),
    ({"prompt": "x", "skill": "object", "objects": ["d\u00f8g"]}, "in a to z"),
    ({"prompt": "x", "skill": "count", "objects": ["dog"] * 5}, "at most 3 different names and 4 of each"),
    ({"prompt": "x", "skill": "spatial", "objects": ["dog"], "relation": "left"}, "two different names"),
    ({"prompt": "x", "skill": "spatial", "objects": ["dog", "cat"], "relation": "behind"}, "column relation"),
])
def test_a_bad_row_is_named(tmp_path: Path, row: dict, said: str):
    with bad_rows(strict=True), pytest.raises(RrrError, match=f"row 2.*{re.escape(said)}") as caught:
        list(Layout(data=rows_file(tmp_path, [ROWS[0], row])).problems("train"))
    assert caught.value.exit_code == BAD_INPUT


def test_data_and_level_errors_say_what_to_type(tmp_path: Path):
    for arguments, said, code in [
        ({"data": str(tmp_path / "none.jsonl")}, NO_FILE, BAD_INPUT),
        ({"data": __file__}, "should end in", USAGE),
        ({"level": "easy", "data": __file__}, "leave out --data", USAGE),
        ({"level": "hard"}, "easy, full", USAGE),
    ]:
        with pytest.raises(RrrError, match=said) as caught:
            Layout(**arguments)
        assert caught.value.exit_code == code


# Drawings


def attempt_at(problem, text: str, attempt_id: str, task: str = "layout") -> Attempt:
    known = {
        "attempt_id": attempt_id, "problem_id": problem.problem_id, "task": task, "split": "train",
        "difficulty": "easy-count", "model": "m", "phase": "first", "sample_index": 0,
        "transcript": [Message("assistant", text)], "success": False, "score": 0.0, "error_type": "wrong_count",
        "feedback": "No.", "prompt_tokens": 1, "completion_tokens": 1, "finish_reason": "stop", "seed": 0,
        "temperature": 1.0,
    }
    return Attempt(**dict.fromkeys([field.name for field in fields(Attempt)]) | known)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    problem = next(Layout().problems("train"))
    with Writer(tmp_path / "run", "problems", "mine-failures", {}) as table:
        table.append([problem])
    with Writer(tmp_path / "run", "attempts", "mine-failures", {}) as table:
        table.append([
            attempt_at(problem, Layout().right_turns(problem)[0], "aaaa1111"),
            attempt_at(problem, "no idea", "bbbb2222"),
            attempt_at(problem, "1 + 2", "cccc3333", "countdown"),
        ])
    return tmp_path / "run"


def test_an_attempt_is_drawn_as_svg_and_png(rrr, run: Path, tmp_path: Path):
    pytest.importorskip("matplotlib")
    for name in ("out.svg", "deeper/out.png"):
        ran = rrr("draw", "aaaa", "--run", run, "-o", tmp_path / name)
        assert (ran.code, ran.out) == (0, f"{tmp_path / name}\n")
    problem = next(Layout().problems("train"))
    drawn = ET.fromstring((tmp_path / "out.svg").read_text())
    assert len(drawn) == 3 + 2 * len(json.loads(problem.reference).splitlines())
    assert json.loads(problem.metadata)["caption"] in "".join(drawn.itertext())
    assert (tmp_path / "deeper/out.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_a_custom_renderer_gets_caption_boxes_and_path(rrr, run: Path, tmp_path: Path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "def paint(caption, boxes, path):\n    path.write_text(f'{caption}: {len(boxes)} {boxes[0].name}')\n")
    assert rrr("draw", "aaaa", "--run", run, "-o", tmp_path / "out.jpg", "--renderer", f"{mine}:paint").code == 0
    problem = next(Layout().problems("train"))
    boxes = read(Layout().right_turns(problem)[0])
    caption = json.loads(problem.metadata)["caption"]
    assert (tmp_path / "out.jpg").read_text() == f"{caption}: {len(boxes)} {boxes[0].name}"
    assert rrr("draw", "aaaa", "--run", run, "--renderer", f"{mine}:draw").code == USAGE
    assert rrr("draw", "aaaa", "--run", run, "--renderer", "none.py:draw").code == USAGE


def test_the_undrawable_is_refused_in_one_line(rrr, run: Path, tmp_path: Path):
    for id, output, code, said in [
        ("bbbb", "out.svg", BAD_INPUT, "can't be drawn. No layout was found"),
        ("cccc", "out.svg", BAD_INPUT, "only layout has boxes"),
        ("dddd", "out.svg", BAD_INPUT, "begins no attempt"),
        ("", "out.svg", BAD_INPUT, "begins 3 attempts"),
        ("aaaa", "out.gif", USAGE, "should end in .svg or .png"),
    ]:
        ran = rrr("draw", id, "--run", run, "-o", tmp_path / output)
        assert ran.code == code
        assert said in ran.err
        assert ran.err.count("\n") == 1
        assert ran.out == ""


def test_without_matplotlib_a_png_names_the_extra(rrr, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ran = rrr("draw", "aaaa", "--run", run, "-o", tmp_path / "out.png")
    assert ran.code == NO_BACKEND
    assert "rrr_cli[report]" in ran.err


@given(st.text())
def test_a_drawing_is_xml_whatever_the_caption(caption: str):
    hostile = caption.replace("\ufffe", "").replace("\uffff", "") + "</text><script>alert(1)</script>"
    drawn = ET.fromstring(svg([Box("dog", 1, 2, 3, 4)], hostile))
    assert {element.tag.rpartition("}")[2] for element in drawn} == {"rect", "text"}
