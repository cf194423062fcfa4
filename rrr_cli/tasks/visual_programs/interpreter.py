"""Running a visual program on a scene. Total: a checked program ends in an answer or in `Wrong`, within milliseconds.

Reads and writes nothing. No text of a model is evaluated: a program is a tree, and its functions are those here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rrr_cli.tasks.reading import shown
from rrr_cli.tasks.visual_programs.language import ANY, Call, Expression, Name, Program, Quoted, Wrong
from rrr_cli.tasks.visual_programs.scene_graphs import SCENE, Scene

Value = tuple[int, ...] | bool | int | str  # objects by their index, yes or no, a number, a word
Evaluator = Callable[[Scene, dict[str, Value]], Value]  # of one expression, given the names that are set


def run(program: Program, scene: Scene) -> str:
    """What the program answers: yes, no, a number in digits, or a word.

    Raises Wrong: unknown_object (a question about a thing that isn't there), unknown_attribute (a thing without the
    thing asked for), ambiguous (several answers).
    """
    return prepared(program)(scene)


def prepared(program: Program) -> Callable[[Scene], str]:
    """`run` of a program that is to be run on many scenes: the tree is walked once."""
    statements = [(name, _evaluator(expression)) for name, expression in program]

    def answer_on(scene: Scene) -> str:
        names: dict[str, Value] = {}
        for name, value in statements:
            names[name] = value(scene, names)
        answer = names["answer"]
        return ("yes" if answer else "no") if isinstance(answer, bool) else str(answer)

    return answer_on


def _evaluator(expression: Expression) -> Evaluator:
    if isinstance(expression, Call):
        return _call(_OPERATIONS[expression.function], expression.arguments)
    text = expression.text
    if isinstance(expression, Name):
        return lambda scene, names: names[text]
    constant = text if isinstance(expression, Quoted) else text == "yes" if text in ("yes", "no") else int(text)
    return lambda scene, names: constant


def _call(operation: Callable[..., Value], arguments: Sequence[Expression]) -> Evaluator:
    """A call. Nearly all have one argument or two, the second a word, and cost less so."""
    if len(arguments) == 1:
        [one] = map(_evaluator, arguments)
        return lambda scene, names: operation(scene, one(scene, names))
    if len(arguments) == 2 and isinstance(arguments[1], Quoted):
        objects, word = _evaluator(arguments[0]), arguments[1].text
        return lambda scene, names: operation(scene, objects(scene, names), word)
    evaluators = [_evaluator(argument) for argument in arguments]
    return lambda scene, names: operation(scene, *[value(scene, names) for value in evaluators])


def _related(scene: Scene, relation: str) -> Iterator[tuple[int, int]]:
    return ((i, j) for i, thing in enumerate(scene) for name, j in thing.relations if name == relation)


def _find(scene: Scene, name: str) -> Value:
    if name == ANY:
        return tuple([i for i, t in enumerate(scene) if ANY in t.names or t.names[0] != SCENE])
    return tuple([i for i, t in enumerate(scene) if name in t.names])


def _one(answers: set[str], asked: str) -> str:
    """The only one of `answers`."""
    if len(answers) > 1:
        raise Wrong("ambiguous", f"{asked} has several answers")
    if not answers:
        raise Wrong("unknown_attribute", f"{asked} has no answer for what was found")
    return answers.pop()


def _some(objects: tuple[int, ...], function: str) -> tuple[int, ...]:
    if not objects:
        raise Wrong("unknown_object", f"{function} was asked about nothing: no such object was found")
    return objects


def _query(scene: Scene, objects: tuple[int, ...], category: str) -> str:
    answers = {word for i in _some(objects, "query") for word in scene[i].values(category)}
    return _one(answers, f"query for {shown(category)}")


def _choose(scene: Scene, objects: tuple[int, ...], one: str, other: str) -> str:
    words = {word for i in _some(objects, "choose") for word in scene[i].words}
    return _one({one, other} & words, "choose")


def _relation(scene: Scene, left: tuple[int, ...], right: tuple[int, ...], one: str, other: str) -> str:
    _some(left, "relation")
    _some(right, "relation")
    return _one({r for r in (one, other) for i, j in _related(scene, r) if i in left and j in right}, "relation")


def _same(scene: Scene, left: tuple[int, ...], right: tuple[int, ...], category: str) -> bool:
    things = {*_some(left, "same"), *_some(right, "same")}
    values = {frozenset(scene[i].values(category)) for i in things}
    if frozenset() in values:
        raise Wrong("unknown_attribute", f"same has no {shown(category)} for what was found")
    return len(values) == 1


def _common(scene: Scene, left: tuple[int, ...], right: tuple[int, ...]) -> str:
    things = {*_some(left, "common"), *_some(right, "common")}
    categories = {c for i in things for c in scene[i].attributes} - {"", "hposition", "vposition"}
    return _one({c for c in categories if len({frozenset(scene[i].values(c)) for i in things}) == 1}, "common")


def _like(scene: Scene, objects: tuple[int, ...], category: str) -> Value:
    word = _query(scene, objects, category)
    return tuple(i for i, t in enumerate(scene) if i not in objects and word in t.values(category))


_OPERATIONS: dict[str, Callable[..., Value]] = {
    "find": _find,
    "filter": lambda scene, xs, word: tuple([i for i in xs if word in scene[i].words]),
    "reject": lambda scene, xs, word: tuple([i for i in xs if word not in scene[i].words]),
    "subjects": lambda scene, xs, name: tuple(sorted({i for i, j in _related(scene, name) if j in xs})),
    "objects": lambda scene, xs, name: tuple(sorted({j for i, j in _related(scene, name) if i in xs})),
    "like": _like,
    "exists": lambda scene, xs: bool(xs),
    "count": lambda scene, xs: len(xs),
    "more": lambda scene, n, m: n > m,
    "and": lambda scene, a, b: a and b,
    "or": lambda scene, a, b: a or b,
    "not": lambda scene, a: not a,
    "same": _same,
    "query": _query,
    "choose": _choose,
    "relation": _relation,
    "common": _common,
}
