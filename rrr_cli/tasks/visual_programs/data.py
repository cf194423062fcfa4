"""Visual-program problems from GQA: a folder with its own files, as they are downloaded.

Reads `train_sceneGraphs.json` and `train_*questions*.json` for the train split and `val_…` for the test split (GQA's
test has no scene graphs); where there is a balanced file of questions, that one alone. A question has `question`,
`answer`, `imageId` and `semantic`, its list of operations, which becomes the reference program.

GQA says of no attribute which category it is of, and of no name which kind. Both are read off all questions of the
split: `filter color: red` says that red is a color, `animal (271881)` that thing 271881 may be called an animal.

Left out and counted in a line on stderr: a question with an operation that the language doesn't have (`choose older`
and the like), and one whose program doesn't come to its answer on the scene graph. `tasks/rows.py` says what becomes of
a bad question; bad as well is one whose scene graph is (a relation to an object that isn't there).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.records import Problem
from rrr_cli.tasks.reading import Row, members, shown
from rrr_cli.tasks.rows import LeftOut, accepted
from rrr_cli.tasks.visual_programs.interpreter import run
from rrr_cli.tasks.visual_programs.judge import same_answer
from rrr_cli.tasks.visual_programs.language import Wrong, parse
from rrr_cli.tasks.visual_programs.problem import WORDS, make_problem
from rrr_cli.tasks.visual_programs.scene_graphs import SCENE, Lexicon, fold, read_scene

FILES = {"train": "train", "test": "val"}
NOT_ATTRIBUTES = ("name", "type", "rel", "hposition", "vposition", "place", "location", "room", "weather")
NO_OPERATION, OTHER_ANSWER = "an operation isn't covered", "the program doesn't come to the answer"


def check(data: str) -> None:
    """Raises RrrError (exit 3) unless `data` is a folder."""
    if not Path(data).is_dir():
        expected = "train_sceneGraphs.json and train_balanced_questions.json, and the same of val"
        raise RrrError(f"--data {data}: there is no such folder; give one with GQA's {expected}", BAD_INPUT)


def problems(data: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """The problems of `split` in GQA's order. Raises RrrError (exit 3): a file that is missing or can't be read."""
    graphs_file = Path(data) / f"{FILES[split]}_sceneGraphs.json"
    if not graphs_file.is_file():
        raise RrrError(f"--data {data}: {graphs_file.name} isn't there, for the split {split}", BAD_INPUT)
    files = sorted(Path(data).glob(f"{FILES[split]}_*questions*.json"))
    files = [file for file in files if "balanced" in file.name] or files
    if not files:
        raise RrrError(f"--data {data}: no {FILES[split]}_*questions*.json, for the split {split}", BAD_INPUT)
    graphs = dict(members(str(graphs_file)))
    lexicon = _learned(files, graphs)

    def read(question: dict[str, Any], place: str) -> Problem:
        image = question["imageId"]
        scene = read_scene(json.loads(graphs[image]), lexicon, f"{place}, in {graphs_file}, scene {shown(image)}")
        try:
            expression = convert(question["semantic"], place)
            if not same_answer(run(parse(f"answer = {expression}"), scene), question["answer"]):
                raise LeftOut(f"{place}: {OTHER_ANSWER}")
        except Wrong:
            raise LeftOut(f"{place}: {OTHER_ANSWER}") from None
        kind = question.get("types", {}).get("structural", "gqa")
        return make_problem(question["question"], expression, [(scene, question["answer"])], split, f"data-{kind}",
                            image, words)

    seen: set[str] = set()
    for problem in accepted(f"{data}, {split}", _questions(files, graphs), read):
        if problem.problem_id not in seen:
            seen.add(problem.problem_id)
            yield problem
    if not seen:
        raise RrrError(f"--data {data}: not one question of {split} can be used", BAD_INPUT)


def convert(semantic: list[dict[str, Any]], place: str) -> str:
    """An expression of the language from GQA's operations.

    Raises LeftOut: an operation that the language doesn't have; RrrError (exit 3): none, or one that depends on a later
    one.
    """
    expressions: list[str] = []
    for step in semantic:
        if any(i >= len(expressions) for i in step["dependencies"]):
            raise RrrError(f"{place}, semantic: found {shown(step)}, wanted dependencies on earlier steps", BAD_INPUT)
        try:
            if re.search(r"[\"\n]", step["argument"]):
                raise ValueError("a mark that no program can hold")
            on = (expressions[i] for i in step["dependencies"])
            expressions.append(_step(step["operation"], step["argument"], *on))
        except (TypeError, ValueError):  # another operation, number of dependencies, or of parts of the argument
            raise LeftOut(f"{place}: {NO_OPERATION}") from None
    if not expressions:
        raise RrrError(f"{place}, semantic: found no operation", BAD_INPUT)
    return expressions[-1]


def _questions(files: list[Path], graphs: dict[str, str]) -> Iterator[Row]:
    """Each question and where it stands, or what is wrong with its form."""
    for file in files:
        for key, text in members(str(file)):
            place = f"{file}, question {shown(key)}"
            try:
                yield place, _question(json.loads(text), place, graphs)
            except RrrError as error:
                yield place, error


def _question(row: Any, place: str, graphs: dict[str, str]) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise RrrError(f"{place}: found {shown(row)}, wanted an object", BAD_INPUT)
    for column, kind in (("question", str), ("answer", str), ("imageId", str), ("semantic", list)):
        if not isinstance(row.get(column), kind):
            raise RrrError(f"{place}: {column} is {shown(row.get(column))}, wanted {kind.__name__}", BAD_INPUT)
    for step in row["semantic"]:
        if not isinstance(step, dict) or not _is_step(step):
            expected = "operation, argument and dependencies"
            raise RrrError(f"{place}, semantic: found {shown(step)}, wanted {expected}", BAD_INPUT)
    if row["imageId"] not in graphs:
        raise RrrError(f"{place}: there is no scene graph {shown(row['imageId'])}", BAD_INPUT)
    return row


def _is_step(step: dict[str, Any]) -> bool:
    on = step.get("dependencies")
    return (isinstance(step.get("operation"), str) and isinstance(step.get("argument"), str)
            and isinstance(on, list) and all(type(i) is int and i >= 0 for i in on))


def _learned(files: list[Path], graphs: dict[str, str]) -> Lexicon:
    """The categories of words and the kinds of names, from every question."""
    categories: dict[str, set[str]] = defaultdict(set)
    kinds: dict[str, set[str]] = defaultdict(set)
    for _, question in _questions(files, graphs):
        if isinstance(question, RrrError):
            continue
        names = _names(json.loads(graphs[question["imageId"]]))
        for step in question["semantic"]:
            operation, argument = step["operation"], step["argument"]
            called, ids = _split_ids(argument)
            for key in ids:
                if key in names and (name := called.split(",")[0]) not in ("_", SCENE):
                    kinds[names[key]].add(fold(name))
            verb, _, category = operation.partition(" ")
            words = argument.removeprefix("not(").removesuffix(")").split("|")
            if operation == "query":
                category, words = argument, [question["answer"]]
            if category and category not in NOT_ATTRIBUTES and verb in ("filter", "verify", "choose", "query"):
                for word in words:
                    categories[fold(word)].add(category)
    return Lexicon({k: frozenset(v) for k, v in categories.items()}, {k: frozenset(v) for k, v in kinds.items()})


def _names(graph: Any) -> dict[str, str]:
    """The names of a scene's objects; what isn't of GQA's form is refused where the scene is read."""
    objects = graph.get("objects") if isinstance(graph, dict) else None
    entries = objects.items() if isinstance(objects, dict) else ()
    return {key: fold(str(entry["name"])) for key, entry in entries if isinstance(entry, dict) and "name" in entry}


def _split_ids(argument: str) -> tuple[str, list[str]]:
    """`apple (271881,271882)` as the name and the ids; `-` isn't one."""
    match = re.fullmatch(r"(.*?) ?\(([0-9, ]+|-)\)", argument)
    return (match[1], re.findall("[0-9]+", match[2])) if match else (argument, [])


def _step(operation: str, argument: str, *on: str) -> str:
    """One operation. Raises TypeError or ValueError where it, or its parts, are other than expected."""
    verb, _, detail = operation.partition(" ")
    called, _ = _split_ids(argument)
    if operation == "select":
        () = on
        return f'find("{called}")'
    if verb == "relate":
        return _relate(called, *on)
    if operation in ("verify rel", "exist"):
        (x,) = on
        return f"exists({_relate(called, x) if detail == 'rel' else x})"
    if operation == "choose rel":
        (x,) = on
        name, relations, direction = called.rsplit(",", 2)
        one, other = relations.split("|")
        pair = f'find("{name}"), {x}' if direction == "s" else f'{x}, find("{name}")'
        return f'relation({pair}, "{one}", "{other}")'
    if verb in ("filter", "verify"):
        (x,) = on
        word = argument.removeprefix("not(").removesuffix(")") if argument.startswith("not(") else argument
        expression = f'{"reject" if argument.startswith("not(") else "filter"}({x}, "{word}")'
        return f"exists({expression})" if verb == "verify" else expression
    if operation == "query":
        (x,) = on
        return f'query({x}, "{argument}")'
    if verb == "choose" and "|" in argument:
        (x,) = on
        one, other = argument.split("|")
        return f'choose({x}, "{one}", "{other}")'
    if verb in ("same", "different"):
        x, y = on if len(on) == 2 else (*on, *on)
        same = f'same({x}, {y}, "{detail or argument}")'
        return same if verb == "same" else f"not({same})"
    if operation in ("and", "or", "common"):
        x, y = on
        return f"{operation}({x}, {y})"
    raise ValueError("another operation")


def _relate(called: str, x: str) -> str:
    """`person,wearing,s`: the people that wear x; `shirt,wearing,o`: the shirts that x wears; `_` is any name."""
    name, relation, direction = called.rsplit(",", 2)
    if relation.startswith("same "):
        expression = f'like({x}, "{relation.removeprefix("same ")}")'
    elif direction in ("s", "o"):
        expression = f'{"subjects" if direction == "s" else "objects"}({x}, "{relation}")'
    else:
        raise ValueError("another direction")
    return expression if name == "_" else f'filter({expression}, "{name}")'
