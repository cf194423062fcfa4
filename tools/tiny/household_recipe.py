"""Every number that shapes `tiny-household`, and the phases of its training. Reads and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace


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
