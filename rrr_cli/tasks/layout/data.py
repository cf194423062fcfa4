"""Layout problems from data: a local .parquet, .jsonl, .jsonl.gz or .json (a list) file of captions.

A row has `prompt` (the caption), `skill` (object, count, spatial or scale) and `objects`, a list of names: of object
and count each object once (three dogs are dog, dog, dog), of spatial and scale the two that `relation` (left, right,
above, below; bigger, smaller, same) is between, the first to the second. Other columns are ignored. VPEval's prompts of
the skills object and count have this form.

`split` ("train" or "test"), where there is one, says where a row belongs. Else what is asked for (not how) decides, one
row in five is for test. A row that occurs twice is given once. A bad row stops the reading with the file, row and
column; nothing is skipped in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rrr_cli.errors import BAD_INPUT, USAGE, RrrError
from rrr_cli.records import Problem
from rrr_cli.tasks.layout.boxes import OBJECT_NAME
from rrr_cli.tasks.layout.generate import place
from rrr_cli.tasks.layout.problem import SCALE, SPATIAL, WORDS, Requirement, key_of, make_problem
from rrr_cli.tasks.reading import shown
from rrr_cli.tasks.rows import check_source, read_rows
from rrr_cli.tasks.splits import Candidate, problems_in, split_in

TEST_SHARE = 0.2
COLUMNS = ("prompt", "skill", "objects", "relation", "split")
RELATIONS = {"spatial": tuple(SPATIAL), "scale": tuple(SCALE)}
MOST = 4  # of one object


def check(data: str) -> None:
    """Raises RrrError unless `data` is there (exit 3) and of a known kind (exit 2)."""
    check_source(data)


def problems(data: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """The problems of `split` in the order of the rows. Raises RrrError (exit 3): bad rows, or no row of `split`."""
    def read(row: dict[str, Any], where: str) -> Candidate:
        caption = row.get("prompt", row.get("text"))
        if not isinstance(caption, str) or not caption.strip():
            raise RrrError(f"{where}, column prompt: found {shown(caption)}, wanted a caption", BAD_INPUT)
        requirements = _requirements(row, where)
        return Candidate(key_of(requirements), split_in(row, where, SPLITS), lambda: make_problem(
            caption, requirements, place(requirements), split, f"data-{row['skill']}", words))

    return problems_in(data, split, read_rows(data, "", COLUMNS), read, TEST_SHARE)


def _requirements(row: dict[str, Any], where: str) -> list[Requirement]:
    skill, objects, relation = row.get("skill"), row.get("objects"), row.get("relation")
    if skill not in ("object", "count", *RELATIONS):
        expected = "object, count, spatial or scale"
        raise RrrError(f"{where}, column skill: found {shown(skill)}, wanted {expected}", BAD_INPUT)
    nouns = [" ".join(str(name).lower().split()) for name in objects] if isinstance(objects, list) else []
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
