"""What `--model tiny-household` is trained on: made-up chats about household's easy level, and its chat template.

Games are drawn as `rrr_cli/tasks/household/generate.py` draws those of the train split. A player searches, takes,
treats and puts down. It is sloppy: it leaves closed places closed, skips the treatment, and now and then goes anywhere,
takes the wrong thing or only looks. After a failed try comes a reflection and a retry, a retry without a reflection
(the control), or a repair; after a failed retry another one, up to three tries in a chat.

A reflection is one to three sentences of a small language. What a retry does differs from a first try by these
sentences alone, not by the failed try that stands before it: it goes first where a sentence says that the thing was,
right or wrong, and doesn't slip where a sentence gives the advice. At the end of training half of the sentences are
useless or wrong, so that the model can reflect well and often doesn't. Many retries show the reflection without the
failed try. Some play another game than the reflection is about: there advice helps, and what it says of places doesn't
count.

Refuses to learn from the test split: no transcript plays a game that is held out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from rrr_cli.prompts import FAILED, HINT, REFLECTION_ONLY, REPAIR, hint_chat, retry_chat, with_feedback
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.household import Household
from rrr_cli.tasks.household.generate import draw
from rrr_cli.tasks.household.parse import command_of
from rrr_cli.tasks.household.problem import WORDS, make_problem, split_key
from rrr_cli.tasks.household.rooms import PLACES, ROOMS, THINGS
from rrr_cli.tasks.household.simulator import APPLIANCES, COMMANDS, KINDS, House, kind_of
from rrr_cli.tasks.splits import split_of

HELD_OUT_SHARE = 0.30  # the test split, and above it the dev split on which the recipe was tuned
TASK = "household"
MAX_TOKENS = 16  # of a turn
REFLECTION_TOKENS = 32
CHECKED = 150  # problems of each kind on which the finished model is measured
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

    steps: int = 500  # mostly one episode after a reflection: the shortest way to learn what reflections say
    batch_size: int = 32
    learning_rate: float = 2e-3  # after 50 steps of warm-up; cosine down to a tenth
    muon: float = 2.0  # Muon's rate is so many times that
    alone: float = 0.6  # transcripts that show a reflection without the failed try that it is about
    hint: float = 0.1  # the same, about a try at another game
    chat_steps: int = 1200  # then: whole chats as well
    chat_alone: float = 0.3
    again_steps: int = 500  # then: more of them
    again_learning_rate: float = 1.2e-3
    habit_steps: int = 80  # at the end: the habit of reflecting badly, which a reward can unlearn
    habit_learning_rate: float = 1e-3
    reflects: float = 0.7  # failed tries followed by a reflection and a retry
    repairs: float = 0.15  # failed first tries followed by a repair; the rest are retried without a reflection
    third_try: float = 0.4  # chats that go on after a failed retry
    feedback: float = 0.5  # requests to reflect, to retry or to repair that say what the verifier said
    sentences: tuple[float, ...] = (0.4, 0.35, 0.25)  # reflections of 1, 2 and 3
    informs: float = 0.45  # sentences that say where something was, or wasn't
    advises: float = 0.4
    right: float = 0.9  # those that are as the failed try shows it
    habit_informs: float = 0.3
    habit_advises: float = 0.35
    habit_right: float = 0.65
    remembers: float = 0.7  # repairs that use what the failed episode saw
    careful_repairs: float = 0.3
    idle: float = 0.02  # of a player without advice, each turn: look, inventory or examine
    any_place: float = 0.55  # likewise, each search: any place, likely or not, seen already or not
    any_place_advised: float = 0.2  # the same with the advice to search likely places first
    leaves_closed: float = 0.9  # each closed place
    wrong_thing: float = 0.05  # each time that something may be taken
    skips: float = 0.85  # the treatment


def phases(recipe: Recipe) -> list[Recipe]:
    """It learns to follow reflections, then to write them in whole chats, then it gets the habit of worse ones."""
    chats = replace(recipe, steps=recipe.chat_steps, alone=recipe.chat_alone)
    habit = replace(
        chats, steps=recipe.habit_steps, learning_rate=recipe.habit_learning_rate, informs=recipe.habit_informs,
        advises=recipe.habit_advises, right=recipe.habit_right)
    again = replace(chats, steps=recipe.again_steps, learning_rate=recipe.again_learning_rate)
    return [recipe, chats, again, habit]


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


#: The language of reflections. Thing and place are named as the task names them.
WAS = "The {thing} was in {place} ."
ABSENT = "I looked in {place} and the {thing} was not there ."
OPEN = "Open what is closed ."
LIKELY = "Search likely places first ."
ALL = "Do all that the task asks ."
TREAT = {verb: f"{verb.capitalize()} it before you put it down ." for verb in APPLIANCES}
USELESS = ("I should try harder .", "I was unlucky .", "The task is hard .", "Next time will be better .")


def whole_words() -> list[str]:
    """What is one token though it holds spaces: the constant parts of what the model is told, and places."""
    before = WORDS["prompt"].format(turns=HOUSEHOLD.max_turns, room="|", task="").partition("|")[0]
    tail = REPAIR.partition("{feedback}")[2]
    shown = [text.partition("{reflection}")[0] for text in (REFLECTION_ONLY, HINT)]
    places = [f"{place} 1" for room in ROOMS["easy"].values() for place in room]
    told = (before, FAILED, tail, WORDS["reflect"], WORDS["retry"], *shown)
    return [*(text.strip() for text in told), *PHRASES, *places]


def words() -> list[str]:
    """All other words of the easy level."""
    names = {name for room in ("kitchen", "bedroom") for name in (*ROOMS["easy"][room], *THINGS["easy"][room])}
    told = [*COMMANDS, *(text for texts in KINDS.values() for text in texts), "from to with in on The and hot cold off",
            WAS, ABSENT, OPEN, LIKELY, ALL, *TREAT.values(), *USELESS]
    plain = set(re.findall("[a-z]+", re.sub("{[a-z]+}", "", " ".join(told)), re.IGNORECASE))
    return [*sorted(plain | names | {"desklamp"}), *",.:>'/()-", *map(str, range(NAMES + 1))]


def untrained(recipe: Recipe, tokenizer: Any, ids: Sequence[int]) -> Iterator[int]:
    """None: every try in a transcript is as it came, passed or failed, so all of them show how play goes."""
    yield from ()


# Playing -------------------------------------------------------------------------------------------------------------


@dataclass
class Notes:
    """What a player heeds."""

    opens: bool = False  # leaves nothing closed
    searches: bool = False  # likely places first, and no turn is wasted
    treats: bool = False
    places: dict[str, str] = field(default_factory=dict)  # kind of thing -> where to go for it first
    absent: set[tuple[str, str]] = field(default_factory=set)  # (kind of thing, place)

    def read(self, text: str, kind: str, places: bool = True) -> None:
        """Add what a reflection says. `kind` is the goal's: advice about another treatment doesn't count."""
        self.opens |= OPEN in text
        self.searches |= LIKELY in text
        self.treats |= ALL in text or TREAT.get(kind, ALL) in text
        if places:
            self.places |= dict(re.findall(r"The ([a-z]+) was in ([a-z]+ \d+) \.", text))
            self.absent |= {(t, p) for p, t in re.findall(r"in ([a-z]+ \d+) and the ([a-z]+) was not there", text)}


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


# Reflecting ----------------------------------------------------------------------------------------------------------


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
        """One episode after a reflection that is shown alone; or a try, and what follows while tries fail."""
        recipe, game, draw = self.recipe, self._game(), self.random.random()
        asked = prompt(game)
        if draw < recipe.alone:
            text, notes = self._reflected(game), Notes()
            notes.read(text, game["goal"]["kind"])
            chat = retry_chat(asked, (), text, "", WORDS["retry"], "reflection")
            return [*chat, *Player(game, recipe, self.random, notes).play()[0]]
        if draw < recipe.alone + recipe.hint:
            text, notes = self._reflected(self._game()), Notes()
            notes.read(text, game["goal"]["kind"], places=False)
            chat = hint_chat(asked, text)
            return [*chat, *Player(game, recipe, self.random, notes).play()[0]]
        return self._chat(game, asked)

    def _game(self) -> dict[str, Any]:
        game = None
        while game is None or held_out(game) or House(game).done():
            game = draw(self.random, "easy")
        return game

    def _reflected(self, game: dict[str, Any]) -> str:
        """A reflection on a failed episode, which isn't shown."""
        success = True
        while success:
            failed = Player(game, self.recipe, self.random)
            success = failed.play()[1]
        return Reflector(failed).reflection()

    def _chat(self, game: dict[str, Any], chat: list[Message]) -> list[Message]:
        """The game's prompt, and up to three tries."""
        recipe, random, notes = self.recipe, self.random, Notes()
        tries = 3 if random.random() < recipe.third_try else 2
        for number in range(1, tries + 1):
            player = Player(game, recipe, random, notes)
            episode, success = player.play()
            chat = [*chat, *episode]
            if success or number == tries:
                break
            verifier = feedback(game, episode) if random.random() < recipe.feedback else ""
            draw = random.random()
            if number == 1 and draw < recipe.repairs:
                return [*chat, *self._repair(game, player, verifier)]
            if draw < recipe.repairs + recipe.reflects:
                text = Reflector(player).reflection()
                notes.read(text, game["goal"]["kind"])
                request = with_feedback(WORDS["reflect"], verifier, "verifier")
                chat += [Message("user", request), Message("assistant", text), Message("user", WORDS["retry"])]
            else:
                chat.append(Message("user", with_feedback(WORDS["retry"], verifier, "verifier")))
        return chat

    def _repair(self, game: dict[str, Any], failed: Player, verifier: str) -> list[Message]:
        recipe, random = self.recipe, self.random
        seen = (failed.seen, failed.searched) if random.random() < recipe.remembers else ()
        careful = Notes(*[random.random() < recipe.careful_repairs] * 3)
        again = Player(game, recipe, random, careful, *seen)
        return [Message("user", REPAIR.format(feedback=verifier or FAILED)), *again.play()[0]]


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
