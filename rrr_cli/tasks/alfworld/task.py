"""Household tasks played by the real `alfworld` engine (arXiv 2010.03768); it needs the extra `alfworld`.

Prompts, commands and verdicts are those of `household`, the answers are the engine's. `data` is a folder as
`alfworld-download` leaves it, of which each `game.tw-pddl` is read, but for games marked as unsolvable and goals other
than the six kinds; or one such file; or a bare `initial_state.pddl` (or .pddl.gz). Games under valid_seen,
valid_unseen, test_seen and test_unseen are for test, all others for train.

A file gives the PDDL problem and the goal's wording. Domain and grammar are those of the alfworld that is installed:
textworld evaluates a grammar's expressions as Python, and data shouldn't run code. A problem's id is of its PDDL; its
metadata name the file below `data`, and a file that is gone or has changed is refused.

To start a game takes a second or more, so problems are read without the engine; once it starts, its room has to be the
prompt's. The transcript is the state: unfinished games are kept, so a turn costs one step; others are played again.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from rrr_cli.errors import BAD_INPUT, USAGE, RrrError
from rrr_cli.extras import require
from rrr_cli.records import Problem, content_id
from rrr_cli.tasks.household.data import (
    PDDL,
    TEST_FOLDERS,
    OtherGoal,
    plan_of,
    read_scene,
    scene_files,
    split_of_scene,
)
from rrr_cli.tasks.household.parse import canonical
from rrr_cli.tasks.household.plans import commands_in
from rrr_cli.tasks.household.problem import MAX_TURNS, make_problem
from rrr_cli.tasks.household.simulator import NAME
from rrr_cli.tasks.household.task import Household
from rrr_cli.tasks.json_text import parse, shown
from rrr_cli.tasks.reading import Row, text_of
from rrr_cli.tasks.rows import LeftOut
from rrr_cli.tasks.splits import Candidate, check_split, problems_in

GAME = "game.tw-pddl"
MAX_LIVE = 256  # games kept, about 5 MB each: as many as there are texts generated at once
WORDING = re.compile(r'"Your task is to: ([^"\\]+)"')
MOVED = re.compile(f"move {NAME} to {NAME}")
TAKEN = re.compile(r"You pick up the (\w+ \d+) from")


class Alfworld(Household):
    """The task. It generates no games, so it needs `data` and has no levels.

    Raises RrrError: no data, a level, an unknown kind of file (exit 2); no such data (3); alfworld isn't installed (4).
    """

    name = "alfworld"
    levels = ()

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        if level is not None:
            raise RrrError(f"--level {level}: alfworld has no --level; its games are those of --data", USAGE)
        if data is None:
            raise RrrError("alfworld generates no games: give --data, a folder of alfworld-download, "
                           f"a {GAME} or an initial_state.pddl", USAGE)
        require("alfworld", "alfworld", "textworld", "fast_downward")
        self.root = Path(data)
        if not self.root.exists():
            raise RrrError(f"--data {data}: there is no such file or folder", BAD_INPUT)
        if self.root.is_file() and not data.endswith((".tw-pddl", *PDDL)):
            raise RrrError(f"--data {data}: unknown kind of file; it should end in .tw-pddl, {', '.join(PDDL)}", USAGE)
        self.max_turns = MAX_TURNS["data"]
        self.live: list[Engine] = []  # the one used last stands last

    def settings(self) -> dict[str, str]:
        """What decides a verdict beside the problem: the engine's domain and grammar."""
        return {"alfworld": content_id(logic())}

    def problems(self, split: str) -> Iterator[Problem]:
        """The games of `split` by their paths, each once. Raises RrrError (exit 3): a bad file, or no game."""
        check_split(self.name, split)

        def read(row: dict[str, Any], place: str) -> Candidate:
            path, pddl, fields = row["path"], row["pddl"], row["fields"]
            key = content_id("alfworld", pddl)
            return Candidate(key, split_of_scene(path), lambda: self._problem(key, path, row["game"], fields, split))

        meant = f"those for test are under {', '.join(sorted(TEST_FOLDERS))}"
        rows = _games(self.root, scene_files(self.root, (GAME,) if self.root.is_dir() else ("",)))
        return problems_in(str(self.root), split, rows, read, 0, meant)

    def _problem(self, key: str, path: Path, game: dict[str, Any], fields: dict[str, Any], split: str) -> Problem:
        wording = WORDING.search(str(fields.get("grammar")))
        if wording and "UNKNOWN GOAL" not in wording[1]:
            game["goal"]["text"] = wording[1]
        problem = make_problem(game, _reference(game, fields.get("walkthrough"), path), split, "data", self.words)
        metadata = {"game": path.relative_to(self.root).as_posix(), "goal": game["goal"]}
        return replace(problem, problem_id=key, task=self.name, metadata=json.dumps(metadata))

    def _house(self, problem: Problem) -> Play:
        return Play(self, problem)

    def _plans(self, problem: Problem, commands: Sequence[str]) -> Iterator[list[str]]:
        """The expert's commands, where they stand among these in their order; and all of these, as far as the turns go.
        The engine is too slow to try more."""
        later = iter(commands)
        expert = [canonical(command) for command in json.loads(problem.reference)]
        changing = [command for command in expert if commands_in(command)]
        if all(command in later for command in changing):
            yield changing
        yield list(commands[: self.max_turns])

    def engine(self, problem: Problem, commands: list[str]) -> Engine:
        """A game in which `commands` were played, and perhaps more: a kept one, or one that plays what is missing.

        Raises RrrError (exit 3): its file is gone or has changed, or the engine can't play it.
        """
        same = [e for e in reversed(self.live) if e.game == problem.problem_id]
        engine = (next((e for e in same if e.commands[: len(commands)] == commands), None)
                  or next((e for e in same if e.commands == commands[:-1]), None))
        if engine is None:
            engine = self.live.pop(0) if len(self.live) >= MAX_LIVE else Engine()
            engine.start(problem, self.root / json.loads(problem.metadata)["game"])
        else:
            self.live.remove(engine)
        for command in commands[len(engine.commands) :]:
            engine.step(command)
        self.live.append(engine)
        return engine


class Play:
    """A transcript's commands played one after the other, as `simulator.House` plays them."""

    def __init__(self, task: Alfworld, problem: Problem) -> None:
        self.task, self.problem = task, problem
        self.goal = json.loads(problem.metadata)["goal"]
        self.held: str | None = None
        self.commands: list[str] = []
        self.won = False

    def act(self, command: str) -> str:
        """What the engine answers to a command in the form of `household/parse.py`."""
        self.commands.append(in_grammar(command))
        answer, self.won = self.task.engine(self.problem, self.commands).answers[len(self.commands) - 1]
        if taken := TAKEN.match(answer):
            self.held = taken[1]
        elif answer.startswith(("You move the ", "You put the ")):
            self.held = None
        return answer

    def done(self) -> bool:
        """Whether the goal is met now."""
        return self.won


class Engine:
    """A game in textworld, the commands since its start, and of each the answer and whether the goal was met then."""

    def __init__(self) -> None:
        import textworld
        from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
        from textworld.envs import PddlEnv

        self.env = AlfredDemangler(PddlEnv(textworld.EnvInfos(won=True)), shuffle=False)
        self.game = ""
        self.commands: list[str] = []
        self.answers: list[tuple[str, bool]] = []

    def start(self, problem: Problem, path: Path) -> None:
        """Begin the problem's game, which lies at `path`. Raises RrrError (exit 3)."""
        argv = sys.argv
        try:
            if self.game != problem.problem_id:
                self.env.load({**logic(), "pddl_problem": _pddl(problem, path)})
            intro = self.env.reset().feedback
        except RrrError:
            raise
        except (Exception, SystemExit) as error:  # fast-downward exits on PDDL that it can't read
            raise RrrError(f"{path}: the engine can't play it ({shown(str(error))})", BAD_INPUT) from None
        finally:
            sys.argv = argv  # fast-downward sets its own
        if problem.prompt[0].content.split("\n\n")[1] not in intro:
            raise RrrError(f"{path}: the engine's room isn't the prompt's: {shown(intro)}", BAD_INPUT)
        self.game, self.commands, self.answers = problem.problem_id, [], []

    def step(self, command: str) -> None:
        """Play one more command."""
        state, _, _ = self.env.step(command)
        self.commands.append(command)
        self.answers.append((state.feedback.strip(), state["won"]))


@cache
def logic() -> dict[str, str]:
    """The domain and the grammar of the alfworld that is installed."""
    files = {"pddl_domain": "alfred.pddl", "grammar": "alfred.twl2"}
    return {part: (resources.files("alfworld") / "data" / name).read_text("utf-8") for part, name in files.items()}


def _games(root: Path, paths: list[Path]) -> Iterator[Row]:
    for path in paths:
        try:
            pddl, fields = read_game(path)
            yield str(path), {"path": path, "pddl": pddl, "fields": fields, "game": read_scene(pddl)}
        except ValueError as error:
            other = root.is_dir() and isinstance(error, OtherGoal)
            yield str(path), (LeftOut if other else RrrError)(f"{path}: {error}", BAD_INPUT)


def in_grammar(command: str) -> str:
    """`move O to R` as the grammar that is installed has it: before ALFWorld 0.4 that is `put O in/on R`."""
    moved = MOVED.fullmatch(command)
    return f"put {moved[1]} in/on {moved[2]}" if moved and '"put {o} in/on {r}"' in logic()["grammar"] else command


def read_game(path: Path) -> tuple[str, dict[str, Any]]:
    """A file's PDDL problem and its other fields. Raises ValueError: no game; OtherGoal: marked as unsolvable."""
    text = text_of(path)
    fields = {"pddl_problem": text} if path.name.endswith(PDDL) else parse(text)
    if not isinstance(fields, dict) or not isinstance(fields.get("pddl_problem"), str):
        raise ValueError("found no game of ALFWorld, wanted an object with pddl_problem")
    if fields.get("solvable") is False:
        raise OtherGoal("it is marked as unsolvable")
    return fields["pddl_problem"], fields


def _pddl(problem: Problem, path: Path) -> str:
    try:
        pddl, _ = read_game(path)
        wrong = "has changed" if content_id("alfworld", pddl) != problem.problem_id else ""
    except ValueError as error:
        wrong = f"is {error}"
    if wrong:
        raise RrrError(f"{path}: the game of problem {problem.problem_id} {wrong}; give the --data that it was mined "
                       "with, unchanged, or mine again", BAD_INPUT)
    return pddl


def _reference(game: dict[str, Any], walkthrough: Any, path: Path) -> list[str]:
    """The expert's commands; where our simulator can't meet the goal, those that ALFWorld met it with."""
    try:
        return plan_of(game, str(path))
    except RrrError:
        if isinstance(walkthrough, list) and 0 < len(walkthrough) <= MAX_TURNS["data"]:
            return [str(command) for command in walkthrough]
        raise
