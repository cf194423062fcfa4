"""Layout problems from data: files of captions, of Parquet or JSON (`tasks/reading.py`).

A row has `prompt` (the caption), `skill` (object, count, spatial or scale) and `objects`, a list of names: of object
and count each object once (three dogs are dog, dog, dog), of spatial and scale the two that `relation` (left, right,
above, below; bigger, smaller, same) is between, the first to the second. Other columns are ignored.

VPEval's and PaintSkills' own files are read as well: `{"data": [{"id", "text", "objects": [{"coconame", …}]}]}`, where
the skill is a column or the beginning of the id. There the last object says how it stands to the first: its `relation`
begins with left, right, above, below (spatial), its `scale` or `relation` is bigger, smaller or same. Left out and
counted is what boxes can't show: the skill text, front and behind, a relation of two things of one name.

`split` ("train" or "test"), where there is one, says where a row belongs. Else, and where it is "val", what is asked
for (not how) decides, one row in five is for test. A row that occurs twice is given once. `tasks/rows.py` says what
becomes of a bad row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.records import Problem
from rrr_cli.tasks.json_text import shown
from rrr_cli.tasks.layout.boxes import OBJECT_NAME
from rrr_cli.tasks.layout.generate import place
from rrr_cli.tasks.layout.problem import SCALE, SPATIAL, WORDS, Requirement, key_of, make_problem
from rrr_cli.tasks.rows import LeftOut, check_source, read_rows
from rrr_cli.tasks.splits import Candidate, problems_in, split_in

TEST_SHARE = 0.2
COLUMNS = ("prompt", "skill", "objects", "relation", "split", "text", "id")
SPLITS = ("train", "test", "val")
RELATIONS = {"spatial": tuple(SPATIAL), "scale": tuple(SCALE)}
NAMES = ("coconame", "name", "shape")  # what VPEval and PaintSkills call an object's name
MOST = 4  # of one object


def check(data: str) -> None:
    """Raises RrrError unless `data` is there (exit 3) and of a known kind (exit 2)."""
    check_source(data)


def problems(data: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """The problems of `split` in the order of the rows. Raises RrrError (exit 3): bad rows, or no row of `split`."""
    def read(row: dict[str, Any], where: str) -> Candidate:
        row = _own_form(row, where)
        caption, of = row.get("prompt"), split_in(row, where, SPLITS)
        if not isinstance(caption, str) or not caption.strip():
            raise RrrError(f"{where}, column prompt: found {shown(caption)}, wanted a caption", BAD_INPUT)
        requirements = _requirements(row, where)
        return Candidate(key_of(requirements), None if of == "val" else of, lambda: make_problem(
            caption, requirements, place(requirements), split, f"data-{row['skill']}", words))

    return problems_in(data, split, read_rows(data, "", COLUMNS), read, TEST_SHARE)


def _own_form(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A row of VPEval's own form in ours; any other as it is. Raises LeftOut."""
    objects = row.get("objects")
    if "text" not in row or not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
        return row
    skill = str(row.get("skill") or row.get("id")).partition("_")[0]
    names = [next((one[key] for key in NAMES if one.get(key)), None) for one in objects]
    own = {"prompt": row["text"], "skill": skill, "objects": names, "split": row.get("split")}
    if skill == "text":
        raise LeftOut(f"{where}: boxes don't show its text")
    if skill in RELATIONS and len(objects) == 2:
        said = (objects[1].get("scale") if skill == "scale" else None) or objects[1].get("relation")
        own["relation"] = said.partition("_")[0] if isinstance(said, str) else said
        own["objects"] = names[::-1]  # the last to the first
        if own["relation"] in ("front", "behind") or names[0] == names[1]:
            raise LeftOut(f"{where}: boxes don't show its relation")
    return own


def _requirements(row: dict[str, Any], where: str) -> list[Requirement]:
    skill, objects, relation = row.get("skill"), row.get("objects"), row.get("relation")
    if skill not in ("object", "count", *RELATIONS):
        expected = "object, count, spatial or scale"
        raise RrrError(f"{where}, column skill: found {shown(skill)}, wanted {expected}", BAD_INPUT)
    names = objects if isinstance(objects, list) and all(isinstance(name, str) for name in objects) else []
    nouns = [" ".join(name.lower().replace("_", " ").split()) for name in names]
    if not nouns or not all(OBJECT_NAME.fullmatch(noun) for noun in nouns):
        raise RrrError(f"{where}, column objects: found {shown(objects)}, wanted a list of names, in a to z", BAD_INPUT)
    distinct = dict.fromkeys(nouns)
    if skill in RELATIONS:
        if len(nouns) != 2 or len(distinct) != 2:
            raise RrrError(f"{where}, column objects: found {shown(objects)}, wanted two different names", BAD_INPUT)
        if relation not in RELATIONS[skill]:
            expected = ", ".join(RELATIONS[skill])
            raise RrrError(f"{where}, column relation: found {shown(relation)}, wanted {expected}", BAD_INPUT)
        return [*(Requirement("object", noun) for noun in nouns), Requirement(relation, nouns[0], 1, nouns[1])]
    if len(distinct) > 3 or max(nouns.count(noun) for noun in distinct) > MOST:
        message = f"wanted at most 3 different names and {MOST} of each"
        raise RrrError(f"{where}, column objects: found {shown(objects)}, {message}", BAD_INPUT)
    if skill == "object":
        return [Requirement("object", noun) for noun in distinct]
    return [Requirement("count", noun, nouns.count(noun)) for noun in distinct]
