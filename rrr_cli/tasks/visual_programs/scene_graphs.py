"""Scene graphs: what stands in a picture, as GQA writes it (names, attributes, boxes, relations), prepared for
questions.

`read_scene` takes one graph of GQA's sceneGraphs.json; the generator draws scenes without that detour. GQA's attributes
are a flat list, so the `Lexicon` says of which category (color, material) a word is, and of which kinds (animal) a name
is. Where a thing stands is worked out from its box: hposition left, middle or right, vposition top, middle or bottom,
by the third of the picture that the box's centre is in. The picture itself is the last thing, named scene; its weather
and location are attributes. Reads and writes nothing else. Refused: a graph of another form, a relation to a thing that
isn't there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.tasks.reading import shown

SCENE = "scene"
PLACES = ("location", "place", "room")  # GQA's questions ask for all three; its graphs have location


@dataclass(frozen=True)
class Thing:
    """One thing of a scene."""

    names: tuple[str, ...]  # its own name first, then what else it may be called
    attributes: dict[str, list[str]]  # category -> words; those of no known category under ""
    relations: tuple[tuple[str, int], ...]  # relation and the index of the thing that it is to

    @cached_property
    def words(self) -> frozenset[str]:
        """All that a filter can ask for."""
        return frozenset({*self.names, *(word for words in self.attributes.values() for word in words)})

    def values(self, category: str) -> list[str]:
        """The words of a category; `name` and `type` are its own name."""
        return [self.names[0]] if category in ("name", "type") else self.attributes.get(category, [])


Scene = tuple[Thing, ...]  # the last is the picture itself


@dataclass(frozen=True)
class Lexicon:
    """Word -> its categories; name -> what else a thing of that name may be called."""

    categories: Mapping[str, frozenset[str]] = field(default_factory=dict)
    kinds: Mapping[str, frozenset[str]] = field(default_factory=dict)


@lru_cache(maxsize=4096)
def fold(word: str) -> str:
    """A word as it is compared: lower case, single spaces, `to the left of` as `left of`."""
    return " ".join(word.lower().split()).removeprefix("to the ")


def read_scene(graph: Any, lexicon: Lexicon, place: str) -> Scene:
    """A scene from a graph in GQA's form. Raises RrrError (exit 3) that begins with `place`."""
    objects = graph.get("objects") if isinstance(graph, dict) else None
    if not isinstance(objects, dict):
        raise RrrError(f"{place}: found {shown(graph)}, wanted an object with objects, as in GQA", BAD_INPUT)
    index = {key: i for i, key in enumerate(objects)}
    things = [_thing(key, entry, index, graph, lexicon, place) for key, entry in objects.items()]
    attributes = {"weather": _listed(graph.get("weather"))}
    attributes |= dict.fromkeys(PLACES, _listed(graph.get("location")))
    return (*things, Thing((SCENE,), {k: v for k, v in attributes.items() if v}, ()))


def to_json(scene: Scene) -> list[list[Any]]:
    """A scene as JSON for a problem's metadata."""
    return [[list(t.names), t.attributes, [list(r) for r in t.relations]] for t in scene]


def from_json(rows: list[list[Any]]) -> Scene:
    """What `to_json` wrote."""
    return tuple(Thing(tuple(names), attributes, tuple((r, i) for r, i in relations))
                 for names, attributes, relations in rows)


def _thing(key: str, entry: Any, index: dict[str, int], graph: dict[str, Any], lexicon: Lexicon, place: str) -> Thing:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise RrrError(f"{place}, object {key}: found {shown(entry)}, wanted an object with a name", BAD_INPUT)
    name = fold(entry["name"])
    relations = []
    for relation in entry.get("relations", ()):
        try:
            relations.append((fold(relation["name"]), index[relation["object"]]))
        except (TypeError, KeyError, AttributeError):
            raise _no_relation(relation, f"{place}, object {key}") from None
    attributes = position(
        entry.get("x"), entry.get("w"), graph.get("width"), entry.get("y"), entry.get("h"), graph.get("height"))
    for word in entry.get("attributes", ()):
        folded = fold(str(word))
        for category in sorted(lexicon.categories.get(folded, _NO_CATEGORY)):
            attributes.setdefault(category, []).append(folded)
    kinds = lexicon.kinds.get(name)
    return Thing((name, *sorted(kinds - {name})) if kinds else (name,), attributes, tuple(relations))


def _no_relation(relation: Any, place: str) -> RrrError:
    if not isinstance(relation, dict) or not isinstance(relation.get("name"), str):
        return RrrError(f"{place}: found the relation {shown(relation)}, wanted name and object", BAD_INPUT)
    message = f"has the relation {shown(relation['name'])} to {shown(relation.get('object'))}"
    return RrrError(f"{place}: {message}, which isn't in the scene; take the relation out", BAD_INPUT)


_NO_CATEGORY = frozenset({""})
_COLUMNS, _ROWS = ("left", "middle", "right"), ("top", "middle", "bottom")


def position(x: Any, width: Any, whole_width: Any, y: Any, height: Any, whole_height: Any) -> dict[str, list[str]]:
    """The thirds of the picture that the centre of a box is in, as attributes; none where there is no box."""
    attributes = {}
    column, row = _third(x, width, whole_width), _third(y, height, whole_height)
    if column is not None:
        attributes["hposition"] = [_COLUMNS[column]]
    if row is not None:
        attributes["vposition"] = [_ROWS[row]]
    return attributes


def _third(near: Any, extent: Any, whole: Any) -> int | None:
    if not (isinstance(near, int) and isinstance(extent, int) and isinstance(whole, int) and whole > 0):
        return None
    third = 3 * (2 * near + extent) // (2 * whole)
    return 0 if third < 0 else 2 if third > 2 else third


def _listed(word: Any) -> list[str]:
    return [fold(word)] if isinstance(word, str) and word else []
