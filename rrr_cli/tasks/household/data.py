"""Games of `household` from data: a file of games, or ALFWorld's own scenes.

A file of Parquet or JSON (`tasks/reading.py`) holds a game a row, as `simulator.py` describes it: `goal` with `kind`
(place, light, clean, heat, cool, two), `object` and `target`, both types; and if you like its `text`; `receptacles`, a
list of `name` ("cabinet 3"), `openable` (true: it starts closed) and `contents` (["apple 1"]). Optional: `accepts`
({"fridge": ["apple"]}: what may be put where) and `split` (train or test); without it what the player sees at the start
decides, one in 5 is for test. A game that occurs twice is given once.

A scene is ALFWorld's `initial_state.pddl` (or .pddl.gz), or a folder where such files lie, however deep. Scenes under
valid_seen, valid_unseen, test_seen or test_unseen are for test, all others for train. A thing in two receptacles is in
the one named last; things within things are left out. In a folder, goals other than the six kinds are left out.

Nothing is written. Bad is a row or scene that can't be read, and one whose goal is met at the start, can't be met, or
takes more turns than there are; `tasks/rows.py` says what becomes of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rrr_cli.errors import BAD_INPUT, USAGE, RrrError
from rrr_cli.records import Problem
from rrr_cli.tasks.household.expert import plan
from rrr_cli.tasks.household.problem import MAX_TURNS, TEST_SHARE, WORDS, game_key, make_problem, split_key
from rrr_cli.tasks.household.simulator import KINDS, LAMPS, NAME, House
from rrr_cli.tasks.reading import SUFFIXES, Row, shown, text_of
from rrr_cli.tasks.rows import LeftOut, read_rows
from rrr_cli.tasks.splits import Candidate, problems_in, split_in, split_of

COLUMNS = ("goal", "receptacles", "accepts", "split")
PDDL = (".pddl", ".pddl.gz")
TEST_FOLDERS = {"valid_seen", "valid_unseen", "test_seen", "test_unseen"}
KIND_BY_FACT = {"isHot": "heat", "isCool": "cool", "isClean": "clean"}


def check(data: str) -> None:
    """Raises RrrError: nothing there (exit 3), or a kind of file that isn't known (exit 2)."""
    path = Path(data)
    if not path.exists():
        raise RrrError(f"--data {data}: there is no such file; give a file of games or ALFWorld scenes", BAD_INPUT)
    if path.is_file() and not data.endswith((*SUFFIXES, *PDDL)):
        known = ", ".join((*SUFFIXES, *PDDL))
        raise RrrError(f"--data {data}: unknown kind of file; it should end in {known}", USAGE)


def problems(data: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """The problems of `split` in the order of the data. Raises RrrError (exit 3): bad rows, or none of `split`."""
    scenes = scene_files(Path(data), PDDL)

    def read(row: dict[str, Any], place: str) -> Candidate:
        game, of = (row["game"], row["split"]) if scenes else (_game(row, place), split_in(row, place))
        return Candidate(game_key(game), of or split_of(split_key(game), TEST_SHARE),
                         lambda: make_problem(game, plan_of(game, place), split, "data", words))

    rows = _scenes(scenes, Path(data).is_dir()) if scenes else read_rows(data, "", COLUMNS)
    where = f"under {', '.join(sorted(TEST_FOLDERS))}" if scenes else "with test in a column split"
    return problems_in(data, split, rows, read, TEST_SHARE, f"those for test are {where}")


def scene_files(root: Path, endings: tuple[str, ...]) -> list[Path]:
    """The files of one game each: `root` itself, or those below it in the order of their paths."""
    paths = [root] if root.is_file() else sorted(root.rglob("*"))
    return [path for path in paths if path.name.endswith(endings) and path.is_file()]


def split_of_scene(path: Path) -> str:
    """The split of a game by the folder that it is in."""
    return "test" if TEST_FOLDERS & set(path.parts) else "train"


def plan_of(game: dict[str, Any], place: str) -> list[str]:
    """The expert's commands. Raises RrrError (exit 3): the goal is met already, can't be met, or takes too long."""
    if House(game).done():
        raise RrrError(f"{place}: its goal is met before the first turn; leave it out", BAD_INPUT)
    try:
        commands = plan(game)
    except ValueError as error:
        raise RrrError(f"{place}: {error} with what is in the room; leave it out", BAD_INPUT) from None
    if len(commands) > MAX_TURNS["data"]:
        raise RrrError(f"{place}: its goal takes {len(commands)} turns, more than {MAX_TURNS['data']}", BAD_INPUT)
    return commands


def _wrong(place: str, column: str, value: Any, expected: str) -> RrrError:
    return RrrError(f"{place}, column {column}: found {shown(value)}, wanted {expected}", BAD_INPUT)


# A file of games -----------------------------------------------------------------------------------------------------


def _game(row: dict[str, Any], place: str) -> dict[str, Any]:
    game: dict[str, Any] = {"goal": _goal(row.get("goal"), place), "receptacles": _receptacles(row, place)}
    accepts = row.get("accepts")
    if accepts is not None:
        if not isinstance(accepts, dict) or not all(_is_list(types, "[a-z]+") for types in accepts.values()):
            raise _wrong(place, "accepts", accepts, 'an object such as {"fridge": ["apple"]}')
        game["accepts"] = accepts
    return game


def _goal(goal: Any, place: str) -> dict[str, str]:
    if not isinstance(goal, dict) or goal.get("kind") not in KINDS:
        raise _wrong(place, "goal", goal, f"an object with kind ({', '.join(KINDS)}), object and target")
    for part in ("object", "target"):
        if not isinstance(goal.get(part), str) or not re.fullmatch("[a-z]+", goal[part]):
            raise _wrong(place, f"goal.{part}", goal.get(part), "a type such as apple")
    text = goal.get("text")
    if text is not None and (not isinstance(text, str) or not text.strip() or not text.isprintable()):
        raise _wrong(place, "goal.text", text, "a sentence, in one line")
    return _worded(goal["kind"], goal["object"], goal["target"], text)


def _worded(kind: str, thing: str, target: str, text: str | None = None) -> dict[str, str]:
    return {"kind": kind, "object": thing, "target": target,
            "text": text or KINDS[kind][0].format(object=thing, target=target)}


def _receptacles(row: dict[str, Any], place: str) -> list[dict[str, Any]]:
    rows = row.get("receptacles")
    expected = "a list of objects with name, openable and contents"
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) for r in rows):
        raise _wrong(place, "receptacles", rows, expected)
    for r in rows:
        if not _is_list([r.get("name")], NAME) or not isinstance(r.get("openable"), bool):
            raise _wrong(place, "receptacles", r, f'{expected}; a name such as "cabinet 3", openable true or false')
        if not _is_list(r.get("contents"), NAME):
            raise _wrong(place, f"receptacles.{r['name']}.contents", r.get("contents"), 'a list such as ["apple 1"]')
    names = [name for r in rows for name in (r["name"], *r["contents"])]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise RrrError(f"{place}, column receptacles: {twice} is there twice; number things apart", BAD_INPUT)
    return [{"name": r["name"], "openable": r["openable"], "contents": r["contents"]} for r in rows]


def _is_list(values: Any, pattern: str) -> bool:
    return isinstance(values, list) and all(isinstance(v, str) and re.fullmatch(pattern, v) for v in values)


# ALFWorld's scenes ---------------------------------------------------------------------------------------------------


def _scenes(paths: list[Path], several: bool) -> Iterator[Row]:
    for path in paths:
        try:
            yield str(path), {"game": read_scene(text_of(path)), "split": split_of_scene(path)}
        except ValueError as error:
            other = several and isinstance(error, OtherGoal)
            yield str(path), (LeftOut if other else RrrError)(f"{path}: {error}", BAD_INPUT)


class OtherGoal(ValueError):
    """A scene's goal is none of the six kinds."""


def read_scene(text: str) -> dict[str, Any]:
    """The game of an `initial_state.pddl`. Raises ValueError: no scene; OtherGoal: its goal is none of the six."""
    start, _, end = text.partition("(:goal")
    facts: dict[str, list[tuple[str, str]]] = {}
    for name, first, second in re.findall(r"\((\w+)\s+([^\s()?]+)\s*([^\s()?]*)\s*\)", start):
        facts.setdefault(name, []).append((first, second))
    if not end or "receptacleType" not in facts or "inReceptacle" not in facts:
        raise ValueError("found no ALFWorld scene, wanted an initial_state.pddl with :init facts and a :goal")
    names = {**_numbered(facts["receptacleType"]), **_numbered(facts.get("objectType", []))}
    movable = {thing for thing, _ in facts.get("pickupable", [])}
    where = {names[o]: names[r] for o, r in facts["inReceptacle"] if o in names and r in names
             and (o in movable or names[o].split()[0] in LAMPS)}
    accepts: dict[str, list[str]] = {}
    for receptacle, thing in sorted(set(facts.get("canContain", []))):
        accepts.setdefault(_type(receptacle), []).append(_type(thing))
    openable = {r for r, _ in facts.get("openable", [])}
    return {
        "goal": _scene_goal(end), "accepts": accepts,
        "receptacles": [
            {"name": names[r], "openable": r in openable, "contents": [o for o in where if where[o] == names[r]]}
            for r in sorted({r for r, _ in facts["receptacleType"]}, key=lambda r: names[r])
        ],
    }


def _type(name: str) -> str:
    return name.removesuffix("Type").lower()


def _numbered(typed: list[tuple[str, str]]) -> dict[str, str]:
    """Id -> type and number. As in ALFWorld, the last id in their order is number 1."""
    counts: dict[str, int] = {}
    names = {}
    for thing, kind in sorted(set(typed), reverse=True):
        counts[kind] = counts.get(kind, 0) + 1
        names[thing] = f"{_type(kind)} {counts[kind]}"
    return names


def _scene_goal(text: str) -> dict[str, str]:
    types = {var: _type(kind) for var, kind in re.findall(r"\(objectType\s+(\?\w+)\s+(\w+)\s*\)", text)}
    states = re.findall(r"\((is[A-Z]\w*)\s+(\?\w+)\s*\)", text)
    target = re.search(r"\(receptacleType\s+\?\w+\s+(\w+)\s*\)", text)
    if len(types) == 2 and len(states) == 1 and states[0][0] == "isToggled" and states[0][1] in types:
        lamp = types.pop(states[0][1])
        return _worded("light", next(iter(types.values())), lamp)
    kind = None
    if target is not None and len(set(types.values())) == 1 and "eceptacleObject" not in text:
        if len(types) == 1 and len(states) <= 1:
            kind = KIND_BY_FACT.get(states[0][0]) if states else "place"
        elif len(types) == 2 and not states:
            kind = "two"
    if target is None or kind is None:
        raise OtherGoal(f"its goal is none of {', '.join(KINDS)}")
    return _worded(kind, next(iter(types.values())), _type(target[1]))
