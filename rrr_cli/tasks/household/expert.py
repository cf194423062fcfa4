"""The expert of `household`: the shortest way to a game's goal, knowing every place. Nothing is read or written."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

from rrr_cli.tasks.household.simulator import APPLIANCES, NOTHING, House, kind_of

MANY = 10  # things of a type among which two are chosen: no scene has more, and pairs grow fast


def plan(game: dict[str, Any]) -> list[str]:
    """The fewest commands that meet the goal, with all places known. Raises ValueError: the goal can't be met."""
    plans = [commands for steps in _ways(game) if (commands := _walk(game, steps)) is not None]
    if not plans:
        raise ValueError("its goal can't be met")
    return min(plans, key=len)


def _ways(game: dict[str, Any]) -> Iterator[list[tuple[str, str]]]:
    """Every order of steps worth trying: ("take", object), ("use", lamp), (verb, appliance), ("put", receptacle)."""
    kind, object_type, target = game["goal"]["kind"], game["goal"]["object"], game["goal"]["target"]
    where = {thing: r["name"] for r in game["receptacles"] for thing in r["contents"]}
    things = [thing for thing in where if kind_of(thing) == object_type]
    if kind == "light":
        yield from ([("take", o), ("use", lamp)] for o in things for lamp in where if kind_of(lamp) == target)
        return
    tools = [r["name"] for r in game["receptacles"] if kind_of(r["name"]) == APPLIANCES.get(kind)]
    for place in (r["name"] for r in game["receptacles"] if kind_of(r["name"]) == target):
        if kind == "two":
            there = sum(where[o] == place for o in things)
            elsewhere = [o for o in things if where[o] != place][:MANY]
            for chosen in permutations(elsewhere, 2 - min(there, 2)):
                yield [step for o in chosen for step in (("take", o), ("put", place))]
        elif kind == "place":
            yield from ([("take", o), ("put", place)] for o in things)
        else:
            yield from ([("take", o), (kind, tool), ("put", place)] for o in things for tool in tools)


def _walk(game: dict[str, Any], steps: list[tuple[str, str]]) -> list[str] | None:
    """The commands of `steps`, going and opening where needed; None where one of them can't be done."""
    house, commands = House(game), []
    where = {thing: r["name"] for r in game["receptacles"] for thing in r["contents"]}
    for verb, name in steps:
        place = where[name] if verb in ("take", "use") else name
        todo = [f"go to {place}"] if house.at != place else []
        if verb in ("take", "put", "use") and not house.is_open(place):
            todo.append(f"open {place}")
        todo.append({
            "take": f"take {name} from {place}", "use": f"use {name}", "put": f"move {house.held} to {place}",
        }.get(verb, f"{verb} {house.held} with {place}"))
        for command in todo:
            commands.append(command)
            if house.act(command) == NOTHING:
                return None
    return commands if house.done() else None
