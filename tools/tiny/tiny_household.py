"""What `--model tiny-household` is trained on: made-up chats about household's easy level, and its chat template.

Games are drawn as `rrr_cli/tasks/household/generate.py` draws those of the train split. A player
(`household_player.py`) searches, takes, treats and puts down. It is sloppy: it leaves closed places closed, skips the
treatment, and now and then goes anywhere, takes the wrong thing or only looks. After a failed try comes a reflection
and a retry, a retry without a reflection (the control), or a repair; after a failed retry another one, up to three
tries in a chat.

A reflection (`household_reflections.py`) is one to three sentences of a small language (`household_language.py`). What
a retry does differs from a first try by these sentences alone, not by the failed try that stands before it: it goes
first where a sentence says that the thing was, right or wrong, and doesn't slip where a sentence gives the advice. At
the end of training half of the sentences are useless or wrong, so that the model can reflect well and often doesn't.
Many retries show the reflection without the failed try. Some play another game than the reflection is about: there
advice helps, and what it says of places doesn't count.

Refuses to learn from the test split: no transcript plays a game that is held out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from household_language import ABSENT, ALL, LIKELY, OPEN, TREAT, USELESS, WAS, Notes
from household_player import HOUSEHOLD, Player
from household_recipe import Recipe, phases
from household_reflections import Reflector, best_reflection

from rrr_cli.prompts import FAILED, HINT, REFLECTION_ONLY, REPAIR, hint_chat, retry_chat, with_feedback
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.household.generate import draw
from rrr_cli.tasks.household.problem import WORDS, make_problem, split_key
from rrr_cli.tasks.household.rooms import ROOMS, THINGS
from rrr_cli.tasks.household.simulator import COMMANDS, KINDS, House
from rrr_cli.tasks.splits import split_of

__all__ = ["HELD_OUT_SHARE", "Recipe", "Transcripts", "best_reflection", "check_problems", "phases"]

HELD_OUT_SHARE = 0.30  # the test split, and above it the dev split on which the recipe was tuned
TASK = "household"
MAX_TOKENS = 16  # of a turn
REFLECTION_TOKENS = 32
CHECKED = 150  # problems of each kind on which the finished model is measured
NAMES = 9  # the highest number that a name may have

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|> {{ message.content }} <|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
WORD = r"\d+|[A-Za-z]+|[^\dA-Za-z]"

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
