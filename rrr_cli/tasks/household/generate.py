"""Generated games of `household`: a room, its things in likely places, and a goal whose object has to be looked for.

Level `easy`: 5 to 7 receptacles, 4 to 6 things, five kinds of goal (without the long `two`). Level `full`: rooms of
ALFWorld's size, all six kinds. Draw i depends on the level, the split and i alone; a game that was drawn before is left
out, and one whose plan solves the game before it, so that no game's answer is by chance its neighbour's. What a player
sees at the start says which split a game belongs to, so no test game begins as one of training does. Nothing is read or
written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from rrr_cli.records import Problem
from rrr_cli.tasks.household.expert import plan
from rrr_cli.tasks.household.problem import TEST_SHARE, WORDS, game_key, make_problem, split_key
from rrr_cli.tasks.household.rooms import OPENABLE, PLACES, ROOMS, SET_IN, THINGS
from rrr_cli.tasks.household.simulator import APPLIANCES, KINDS, TREATABLE, House, kind_of
from rrr_cli.tasks.splits import split_of

LIMITS = {"train": 4000, "test": 1000}  # games a level
#: Level -> fewest and most things beside the goal's own.
OTHERS = {"easy": (3, 4), "full": (14, 26)}


def problems(level: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """The `LIMITS[split]` problems of a level."""
    seen: set[str] = set()
    before: dict[str, Any] | None = None
    index = 0
    while len(seen) < LIMITS[split]:
        game, commands = _draw(Random(f"household/{level}/{split}/{index}"), level, split)
        index += 1
        key = game_key(game)
        if key not in seen and (before is None or not solves(commands, before)):
            seen.add(key)
            before = game
            yield make_problem(game, commands, split, level, words)


def solves(commands: list[str], game: dict[str, Any]) -> bool:
    """Whether `commands` meet the goal of `game` at some point."""
    house = House(game)
    return any(house.act(command) and house.done() for command in commands)


def _draw(random: Random, level: str, split: str) -> tuple[dict[str, Any], list[str]]:
    while True:
        game = draw(random, level)
        if game is not None and split_of(split_key(game), TEST_SHARE) == split and not House(game).done():
            return game, plan(game)


def draw(random: Random, level: str) -> dict[str, Any] | None:
    """A game; None where the room that was drawn has no place for the goal that was drawn."""
    kind = random.choice(list(SET_IN[level]))
    room = random.choice(SET_IN[level][kind])
    counts = {r: random.randint(*span) for r, span in ROOMS[level][room].items()}
    contents: dict[str, list[str]] = {f"{r} {i}": [] for r, n in counts.items() for i in range(1, n + 1)}
    present = {r for r, n in counts.items() if n}
    things = [t for t in THINGS[level][room] if t in TREATABLE.get(kind, {t})]
    object_type = random.choice(things)
    target = "desklamp" if kind == "light" else _target(random, object_type, present - {APPLIANCES.get(kind)})
    most = {"easy": 1, "full": 2}[level] + (kind == "two")
    things_to_place = [object_type] * random.randint(2 if kind == "two" else 1, most)
    if target is None or not all(_starts(t, present, target) for t in things_to_place):
        return None
    others = [t for t in THINGS[level][room] if t != object_type and _starts(t, present, None)]
    things_to_place += random.choices(others, k=random.randint(*OTHERS[level]))
    things_to_place += ["desklamp"] * (kind == "light")
    numbers: dict[str, int] = {}
    for thing in things_to_place:
        weights = _starts(thing, present, target if thing == object_type else None)
        place = random.choices(list(weights), list(weights.values()))[0]
        numbers[thing] = numbers.get(thing, 0) + 1
        contents[f"{place} {random.randint(1, counts[place])}"].append(f"{thing} {numbers[thing]}")
    for inside in contents.values():
        random.shuffle(inside)
    text = random.choice(KINDS[kind]).format(object=object_type, target=target)
    return {
        "goal": {"kind": kind, "object": object_type, "target": target, "text": text},
        "receptacles": [{"name": name, "openable": kind_of(name) in OPENABLE, "contents": inside}
                        for name, inside in contents.items()],
    }


def _target(random: Random, thing: str, present: set[Any]) -> str | None:
    """A receptacle's type that may hold `thing`."""
    fitting = [r for r in PLACES[thing] if r in present]
    return random.choice(fitting) if fitting else None


def _starts(thing: str, present: set[str], target: str | None) -> dict[str, int]:
    """Where `thing` may start in the room, with weights: not at the target already."""
    return {r: weight for r, weight in PLACES[thing].items() if weight and r in present and r != target}
