"""What a household problem is: a game's keys, its row, and the words that a model is shown.

Reads and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.household.simulator import House

NAME = "household"
#: The shortest way takes up to 8 and 10 turns. Who searches likely places first has turns enough in most games, who
#: searches places in the order in which the room names them in about half of them. `data`: ALFWorld's own limit.
MAX_TURNS = {"easy": 8, "full": 20, "data": 50}
TEST_SHARE = 0.2

WORDS: Mapping[str, str] = {
    # Ours; commands, room and task in the words of ALFWorld 0.4.
    "prompt": (
        "Interact with a household to solve a task. In each turn write one command, on a line that begins with > . You "
        "have {turns} turns. The commands are: go to (receptacle), open (receptacle), close (receptacle), take "
        "(object) from (receptacle), move (object) to (receptacle), use (object), heat (object) with (receptacle), "
        "cool (object) with (receptacle), clean (object) with (receptacle), examine (something), inventory, look.\n\n"
        "{room}\n\nYour task is to: {task}"
    ),
    # Ours, in the form of RRR's.
    "reflect": (
        "You tried to solve the task and failed. Reflect on what went wrong and write a short explanation that will "
        "help you do better next time."
    ),
    "retry": "Please try to solve the task again, from the start.",
}


def game_key(game: dict[str, Any]) -> str:
    """What makes two games the same: the id of room and goal, however the goal is worded."""
    goal = game["goal"]
    return content_id("household", goal["kind"], goal["object"], goal["target"], game["receptacles"],
                      game.get("accepts"))


def split_key(game: dict[str, Any]) -> str:
    """What a player sees of a game at the start, however the goal is worded: games that share it share a split."""
    goal = game["goal"]
    return content_id("household", goal["kind"], goal["object"], goal["target"],
                      sorted(r["name"] for r in game["receptacles"]))


def make_problem(
    game: dict[str, Any], commands: Sequence[str], split: str, source: str, words: Mapping[str, str] = WORDS
) -> Problem:
    """The row of one game. `commands` are the expert's; `source` is a level, or "data"."""
    goal = game["goal"]
    text = words["prompt"].format(turns=MAX_TURNS[source], room=House(game).look(), task=goal["text"])
    return Problem(
        problem_id=game_key(game), task=NAME, split=split, difficulty=f"{source}-{goal['kind']}",
        prompt=[Message("user", text)], tools=None, reference=json.dumps(commands), metadata=json.dumps(game),
    )
