"""Who plays household's easy level in `tiny-household`'s chats: sloppy, but for what a reflection advises.

A player searches, takes, treats and puts down. What it does follows from the recipe, its notes and its random numbers.
Reads and writes no file.
"""

from __future__ import annotations

from random import Random
from typing import Any

from household_language import Notes
from household_recipe import Recipe

from rrr_cli.records import Message
from rrr_cli.tasks.household import Household
from rrr_cli.tasks.household.rooms import PLACES
from rrr_cli.tasks.household.simulator import APPLIANCES, House, kind_of

HOUSEHOLD = Household("easy")


class Player:
    """One episode. `seen`: thing -> place, as an earlier episode on the same game found them."""

    def __init__(
        self, game: dict[str, Any], recipe: Recipe, random: Random, notes: Notes | None = None,
        seen: dict[str, str] | None = None, searched: set[str] | None = None,
    ) -> None:
        self.house, self.recipe, self.random, self.notes = House(game), recipe, random, notes or Notes()
        self.goal = game["goal"]
        self.known = dict(seen or {})  # thing -> where it is now
        self.seen = dict(seen or {})  # thing -> where it was at the start
        self.searched = set(searched or ())  # places
        self.been: set[str] = set()
        self.left: set[str] = set()  # closed places that it didn't care to open
        self.skipped = False

    def play(self) -> tuple[list[Message], bool]:
        """The transcript, and whether the goal was met."""
        transcript: list[Message] = []
        for turn in range(1, HOUSEHOLD.max_turns + 1):
            command = self.command()
            answer = self.house.act(command)
            transcript.append(Message("assistant", f"> {command}"))
            self.look()
            if self.house.done():
                return transcript, True
            if turn < HOUSEHOLD.max_turns:
                transcript.append(Message("user", answer))
        return transcript, False

    def look(self) -> None:
        """Remember what is seen from here."""
        at = self.house.at
        if at is None:
            return
        self.been.add(at)
        if self.house.is_open(at):
            self.searched.add(at)
            self.seen = dict.fromkeys(self.house.contents[at], at) | self.seen
            self.known = {o: r for o, r in self.known.items() if r != at} | dict.fromkeys(self.house.contents[at], at)

    def _slips(self, chance: float, heeds: bool) -> bool:
        return not heeds and self.random.random() < chance

    def command(self) -> str:
        """What this player does next."""
        house, at, notes = self.house, self.house.at, self.notes
        if at is not None and self._slips(self.recipe.idle, notes.searches):
            return self.random.choice(["look", "inventory", f"examine {at}"])
        if at is not None and not house.is_open(at) and at not in self.left and (
                house.held is None or kind_of(at) == self.goal["target"]):
            if not self._slips(self.recipe.leaves_closed, notes.opens or at in notes.places.values()):
                return f"open {at}"
            self.left.add(at)
        if house.held is None:
            return self._find(self.goal["object"], self._take)
        kind = self.goal["kind"]
        if kind == "light":
            return self._find("desklamp", lambda thing: f"use {thing}")
        if kind in APPLIANCES and house.held not in house.treated[kind] and not self.skipped:
            place = self._of_kind(APPLIANCES[kind])
            if at == place:
                return f"{kind} {house.held} with {at}"
            self.skipped = self._slips(self.recipe.skips, notes.treats)
            if not self.skipped:
                return f"go to {place}"
        target = self._of_kind(self.goal["target"])
        if at != target:
            return f"go to {target}"
        if not house.is_open(at) and self.random.random() < 0.5:
            return f"open {at}"
        return f"move {house.held} to {at}"

    def _take(self, thing: str) -> str:
        here = self.house.contents[str(self.house.at)]
        if self._slips(self.recipe.wrong_thing, self.notes.searches):
            thing = self.random.choice([o for o in here if kind_of(o) != "desklamp"] or [thing])
        return f"take {thing} from {self.house.at}"

    def _find(self, wanted: str, found: Any) -> str:
        """Go where it is known to be, or search; `found` is what is done with it on the spot."""
        at = self.house.at
        place = next((r for o, r in self.known.items() if kind_of(o) == wanted), None)
        if place is not None and place == at and self.house.is_open(at):
            return str(found(next(o for o in self.house.contents[at] if kind_of(o) == wanted)))
        told = self.notes.places.get(wanted)
        if place is None and told in self.house.contents and told not in self.been:
            place = told
        if place is None or place == at:
            place = self._search(wanted)
        return f"go to {place}"

    def _search(self, wanted: str) -> str:
        at, random = self.house.at, self.random
        others = [r for r in self.house.contents if r != at]
        absent = {place for thing, place in self.notes.absent if thing == wanted}
        others = [r for r in others if r not in absent] or others
        if random.random() < (self.recipe.any_place_advised if self.notes.searches else self.recipe.any_place):
            return random.choice(others)
        fresh = [r for r in others if r not in self.searched | self.left] or others
        weights = [PLACES[wanted].get(kind_of(r), 0) + 0.01 for r in fresh]
        if wanted == self.goal["object"]:  # it never starts where it is wanted
            weights = [0.001 if kind_of(r) == self.goal["target"] else w for r, w in zip(fresh, weights, strict=True)]
        return random.choices(fresh, weights)[0]

    def _of_kind(self, kind: str) -> str:
        return next(r for r in self.house.contents if kind_of(r) == kind)
