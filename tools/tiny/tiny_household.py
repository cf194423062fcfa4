"""What `--model tiny-household` is trained on: made-up episodes of household's easy level, and its chat template.

Games are drawn as `rrr_cli/tasks/household/generate.py` draws those of the train split. A player searches, takes,
treats and puts down. Careful episodes try likely places first, open closed ones and forget nothing. Sloppy ones leave
closed places closed, skip the treatment, and now and then go anywhere or take the wrong thing. All are careful at
first, so that the game is learnt, and nearly all sloppy at the end, so that the model can play well and mostly doesn't.
After a failed episode may come a repair: another episode, which goes straight to where the failed one saw the thing, or
starts over as if it had seen nothing.

Refuses to learn from the test split: no transcript plays a game that is held out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from rrr_cli.prompts import FAILED, REPAIR
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.household import Household
from rrr_cli.tasks.household.generate import draw
from rrr_cli.tasks.household.problem import WORDS, make_problem, split_key
from rrr_cli.tasks.household.rooms import PLACES, ROOMS, THINGS
from rrr_cli.tasks.household.simulator import APPLIANCES, COMMANDS, KINDS, House, kind_of
from rrr_cli.tasks.splits import split_of

HELD_OUT_SHARE = 0.30  # the test split, and above it the dev split on which the recipe was tuned
TASK = "household"
MAX_TOKENS = 16  # of a turn
REPAIRS = True  # its second try is a repair, not a retry after a reflection
HOUSEHOLD = Household("easy")
NAMES = 9  # the highest number that a name may have

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|> {{ message.content }} <|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
WORD = r"\d+|[A-Za-z]+|[^\dA-Za-z]"


@dataclass(frozen=True)
class Recipe:
    """Every number that shapes the model. Shares and chances are probabilities."""

    steps: int = 1800  # careful single episodes
    batch_size: int = 32
    learning_rate: float = 2e-3  # after 50 steps of warm-up; cosine down to a tenth
    one_try: float = 1.0  # transcripts that are a game and one episode; the others go on with a repair
    careful: float = 1.0  # first episodes that are careful from beginning to end
    careful_repairs: float = 0.8
    remembers: float = 0.7  # repairs that use what the failed episode saw
    repair_steps: int = 600  # then: repairs as well
    repair_one_try: float = 0.4
    habit_steps: int = 300  # at the end: the habit of being sloppy, which training can unlearn
    habit_learning_rate: float = 6e-4
    habit_careful: float = 0.05
    habit_careful_repairs: float = 0.3
    idle: float = 0.03  # of a sloppy player, each turn: look, inventory or examine
    any_place: float = 0.3  # likewise, each search: a place that isn't the likeliest
    leaves_closed: float = 0.85  # each closed place
    wrong_thing: float = 0.05  # each time that something may be taken
    skips: float = 0.85  # the treatment, or opening the target


def phases(recipe: Recipe) -> list[Recipe]:
    """It learns to play, then to repair, then it gets the habit of being sloppy."""
    repair = replace(recipe, steps=recipe.repair_steps, one_try=recipe.repair_one_try)
    habit = replace(
        repair, steps=recipe.habit_steps, learning_rate=recipe.habit_learning_rate, careful=recipe.habit_careful,
        careful_repairs=recipe.habit_careful_repairs)
    return [recipe, repair, habit]


# The language --------------------------------------------------------------------------------------------------------


#: What the room says around the names of things.
PHRASES = (
    "You are in the middle of a room. Looking quickly around you, you see a", ", and a", ", a ", "Your task is to:",
    "You arrive at", "On the", "is closed.", "is open. In it, you see a",
    "is open. In it, you see nothing.", ", you see a", ", you see nothing.", "you see nothing.",
    "You open the", "You close the", "You pick up the", "from the", "You move the", "to the", "You heat the",
    "You cool the", "You clean the", "using the", "You turn on the", "You are facing the", "Next to it,",
    "You are carrying: a", "You are not carrying anything.", "There's nothing special about", "This is a normal",
    "In it,", "This is a", "Nothing happens.", "The task was not completed:", "turns, ", "of them did nothing",
    ", and no", "was picked up.",
)


def whole_words() -> list[str]:
    """What is one token though it holds spaces: the constant parts of what the model is told, and places."""
    before = WORDS["prompt"].format(turns=HOUSEHOLD.max_turns, room="|", task="").partition("|")[0]
    tail = REPAIR.partition("{feedback}")[2]
    places = [f"{place} 1" for room in ROOMS["easy"].values() for place in room]
    return [*(text.strip() for text in (before, FAILED, tail)), *PHRASES, *places]


def words() -> list[str]:
    """All other words of the easy level."""
    names = {name for room in ("kitchen", "bedroom") for name in (*ROOMS["easy"][room], *THINGS["easy"][room])}
    told = [*COMMANDS, *(text for texts in KINDS.values() for text in texts), "from to with in on The and hot cold off"]
    plain = set(re.findall("[a-z]+", re.sub("{[a-z]+}", "", " ".join(told)), re.IGNORECASE))
    return [*sorted(plain | names | {"desklamp"}), *",.:>'/()-", *map(str, range(NAMES + 1))]


def untrained(recipe: Recipe, tokenizer: Any, ids: Sequence[int]) -> Iterator[int]:
    """The episode before a repair: it was drawn until it failed, so it doesn't show how often play fails."""
    asked = tokenizer.convert_tokens_to_ids(REPAIR.partition("{feedback}")[2].strip())
    yield from range(ids.index(asked) if asked in ids else 0)


# Playing -------------------------------------------------------------------------------------------------------------


class Player:
    """One episode. `seen`: thing -> place, as an earlier episode on the same game found them."""

    def __init__(
        self, game: dict[str, Any], recipe: Recipe, random: Random, careful: bool, seen: dict[str, str] | None = None,
        searched: set[str] | None = None,
    ) -> None:
        self.house, self.recipe, self.random, self.careful = House(game), recipe, random, careful
        self.goal = game["goal"]
        self.known = dict(seen or {})  # thing -> where it is now
        self.seen = dict(seen or {})  # thing -> where it was at the start
        self.searched = set(searched or ())  # places
        self.left: set[str] = set()  # closed places that it didn't care to open
        self.skipped = False

    def play(self) -> tuple[list[Message], bool]:
        """The transcript, and whether the goal was met."""
        transcript: list[Message] = []
        for turn in range(1, HOUSEHOLD.max_turns + 1):
            command = self.command()
            answer = self.house.act(command)
            transcript.append(Message("assistant", f"> {command}"))
            self._look()
            if self.house.done():
                return transcript, True
            if turn < HOUSEHOLD.max_turns:
                transcript.append(Message("user", answer))
        return transcript, False

    def _look(self) -> None:
        at = self.house.at
        if at is not None and self.house.is_open(at):
            self.searched.add(at)
            self.seen = dict.fromkeys(self.house.contents[at], at) | self.seen
            self.known = {o: r for o, r in self.known.items() if r != at} | dict.fromkeys(self.house.contents[at], at)

    def _slips(self, chance: float) -> bool:
        return not self.careful and self.random.random() < chance

    def command(self) -> str:
        """What this player does next."""
        house, at = self.house, self.house.at
        if at is not None and self._slips(self.recipe.idle):
            return self.random.choice(["look", "inventory", f"examine {at}"])
        if at is not None and not house.is_open(at) and at not in self.left and (
                house.held is None or kind_of(at) == self.goal["target"]):
            if not self._slips(self.recipe.leaves_closed):
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
            self.skipped = self._slips(self.recipe.skips)
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
        if self._slips(self.recipe.wrong_thing):
            thing = self.random.choice([o for o in here if kind_of(o) != "desklamp"] or [thing])
        return f"take {thing} from {self.house.at}"

    def _find(self, wanted: str, found: Any) -> str:
        """Go where it is known to be, or search; `found` is what is done with it on the spot."""
        at = self.house.at
        place = next((r for o, r in self.known.items() if kind_of(o) == wanted), None)
        if place is not None and place == at and self.house.is_open(at):
            return str(found(next(o for o in self.house.contents[at] if kind_of(o) == wanted)))
        if place is None or place == at:
            place = self._search(wanted)
        return f"go to {place}"

    def _search(self, wanted: str) -> str:
        at, random = self.house.at, self.random
        others = [r for r in self.house.contents if r != at]
        if self._slips(self.recipe.any_place):
            return random.choice(others)
        fresh = [r for r in others if r not in self.searched | self.left] or others
        weights = [PLACES[wanted].get(kind_of(r), 0) + 0.01 for r in fresh]
        if wanted == self.goal["object"]:  # it never starts where it is wanted
            weights = [0.001 if kind_of(r) == self.goal["target"] else w for r, w in zip(fresh, weights, strict=True)]
        return random.choices(fresh, weights)[0]

    def _of_kind(self, kind: str) -> str:
        return next(r for r in self.house.contents if kind_of(r) == kind)


# Transcripts ---------------------------------------------------------------------------------------------------------


def held_out(game: dict[str, Any]) -> bool:
    """Whether a game belongs to the test split or to the dev split."""
    return split_of(split_key(game), HELD_OUT_SHARE) == "test"


class Transcripts:
    """An endless stream of chats."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.recipe = recipe
        self.random = Random(seed)

    def __iter__(self) -> Iterator[list[Message]]:
        while True:
            yield self.transcript()

    def transcript(self) -> list[Message]:
        """A game and one episode, or a failed one and a repair."""
        recipe, random = self.recipe, self.random
        game = None
        while game is None or held_out(game) or House(game).done():
            game = draw(random, "easy")
        asked = prompt(game)
        if random.random() < recipe.one_try:
            return [*asked, *Player(game, recipe, random, random.random() < recipe.careful).play()[0]]
        success = True
        while success:
            failed = Player(game, recipe, random, random.random() < recipe.careful / 2)
            transcript, success = failed.play()
        told = FAILED if random.random() < 0.5 else feedback(game, transcript)
        seen = (failed.seen, failed.searched) if random.random() < recipe.remembers else ()
        again = Player(game, recipe, random, random.random() < recipe.careful_repairs, *seen)
        return [*asked, *transcript, Message("user", REPAIR.format(feedback=told)), *again.play()[0]]


def prompt(game: dict[str, Any]) -> list[Message]:
    """The game as the task poses it."""
    return problem(game).prompt


def problem(game: dict[str, Any]) -> Problem:
    return make_problem(game, [], "train", "easy")


def feedback(game: dict[str, Any], transcript: Sequence[Message]) -> str:
    """What the verifier says of an episode."""
    return HOUSEHOLD.verify(problem(game), transcript).feedback


def check_problems(count: int) -> dict[str, list[Problem]]:
    """`count` problems of the train split which training may have played ("seen"), and of the dev split ("dev")."""
    found: dict[str, list[Problem]] = {"seen": [], "dev": []}
    for p in HOUSEHOLD.problems("train"):
        rows = found["dev" if held_out(json.loads(p.metadata)) else "seen"]
        if len(rows) < count:
            rows.append(p)
    return found
