"""What is written about a failed episode in `tiny-household`'s chats, right or wrong, and the best that could be.

Reads what the failed player saw and did; writes sentences of `household_language.py`, and no file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random

from household_language import ABSENT, ALL, LIKELY, OPEN, TREAT, USELESS, WAS
from household_player import Player
from household_recipe import Recipe

from rrr_cli.records import Message, Problem
from rrr_cli.tasks.household.parse import command_of
from rrr_cli.tasks.household.rooms import PLACES
from rrr_cli.tasks.household.simulator import kind_of


class Reflector:
    """What is written about a failed episode."""

    def __init__(self, failed: Player) -> None:
        self.failed, self.recipe, self.random = failed, failed.recipe, failed.random
        self.goal, self.house = failed.goal, failed.house

    def reflection(self) -> str:
        """Sentences, each once."""
        counts = range(1, len(self.recipe.sentences) + 1)
        count = self.random.choices(counts, self.recipe.sentences)[0]
        sentences: dict[str, None] = {}
        while len(sentences) < count:
            sentences[self._sentence()] = None
        return " ".join(sentences)

    def _sentence(self) -> str:
        draw = self.random.random()
        if draw < self.recipe.informs:
            return self._place()
        if draw < self.recipe.informs + self.recipe.advises:
            return self._advice()
        return self.random.choice(USELESS)

    def _place(self) -> str:
        """Where the goal's object, or the lamp, was or wasn't."""
        failed, random = self.failed, self.random
        things = [self.goal["object"], *(["desklamp"] if self.goal["kind"] == "light" else [])]
        thing = random.choice(things)
        seen = next((place for name, place in failed.seen.items() if kind_of(name) == thing), None)
        right = random.random() < self.recipe.right
        places = list(self.house.contents)
        if right and seen is not None:
            return WAS.format(thing=thing, place=seen)
        empty = [r for r in places if r in failed.searched and r != seen]
        if right and empty and random.random() < 0.5:
            return ABSENT.format(thing=thing, place=random.choice(empty))
        fresh = [r for r in places if r not in failed.searched] if right else []
        weights = [PLACES[thing].get(kind_of(r), 0) + 0.01 for r in fresh]
        place = random.choices(fresh, weights)[0] if fresh else random.choice(places)
        return (WAS if fresh or random.random() < 0.7 else ABSENT).format(thing=thing, place=place)

    def _advice(self) -> str:
        """What the failed episode shows to be needed, or anything."""
        needed = [*([OPEN] if self.failed.left else []),
                  *([TREAT[self.goal["kind"]], ALL] if self.failed.skipped else [])]
        if self.random.random() < self.recipe.right:
            return self.random.choice(needed or [LIKELY])
        return self.random.choice([OPEN, LIKELY, ALL, self.random.choice(list(TREAT.values()))])


def best_reflection(problem: Problem, transcript: Sequence[Message]) -> str:
    """The most useful words about a failed try: where it saw what is wanted, else where that wasn't, and the advice."""
    game = json.loads(problem.metadata)
    failed = Player(game, Recipe(), Random(0))
    for message in transcript:
        if message.role == "assistant":
            failed.house.act(command_of(message.content) or "")
            failed.look()
    kind, wanted = game["goal"]["kind"], game["goal"]["object"]
    seen = {kind_of(thing): place for thing, place in failed.seen.items()}
    places = [WAS.format(thing=t, place=seen[t]) for t in (wanted, *(["desklamp"] * (kind == "light"))) if t in seen]
    if wanted not in seen:
        places = [ABSENT.format(thing=wanted, place=place) for place in sorted(failed.searched)[:1]]
    return " ".join([*places, OPEN, *([TREAT[kind]] if kind in TREAT else [])])
