"""The real alfworld engine as a task: its answers, its files, games that are kept, and what our simulator says."""

from __future__ import annotations

import gzip
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from rrr_cli.errors import BAD_INPUT, NO_BACKEND, USAGE, RrrError
from rrr_cli.records import Message, Problem
from rrr_cli.store.artifacts import read
from rrr_cli.tasks import load_task
from rrr_cli.tasks.alfworld import task as alfworld
from rrr_cli.tasks.base import Environment, played
from rrr_cli.tasks.household import Household
from rrr_cli.tasks.household.data import read_scene
from rrr_cli.tasks.household.simulator import NOTHING, House
from rrr_cli.tasks.solves import solves

SCENE = Path(__file__).parents[3] / "shared/data/alfworld_T20190908_231731_054988.initial_state.pddl.gz"

# A room of our own in ALFWorld's form. Receptacle -> things in it; each stands at a location of its own.
ROOM = {
    "CounterTop_bar__plus_01": ["Apple_bar__plus_01", "Mug_bar__plus_01"], "CounterTop_bar__plus_02": [],
    "Fridge_bar__plus_01": ["Apple_bar__plus_02"], "Microwave_bar__plus_01": [], "Safe_bar__plus_01": [],
    "Sink_bar__plus_01_bar_SinkBasin": ["Egg_bar__plus_01"],
    "Desk_bar__plus_01": ["Book_bar__plus_01", "Book_bar__plus_02", "DeskLamp_bar__plus_01"],
}
OPENABLE = ("Fridge", "Microwave", "Safe")
HOLDS = {"CounterTop": ("Apple", "Mug", "Egg", "Book"), "Fridge": ("Apple", "Mug", "Egg"), "Safe": ("Book",),
         "Microwave": ("Apple", "Mug", "Egg"), "SinkBasin": ("Apple", "Mug", "Egg"), "Desk": ("Book", "Mug")}
IN = ("(exists (?r - receptacle) (exists (?o - object) (and (objectType ?o {o}Type) (receptacleType ?r {r}Type) {is} "
      "(inReceptacle ?o ?r))))")
GOALS = {
    "place": IN.format(o="Egg", r="CounterTop", **{"is": ""}),
    "heat": IN.format(o="Apple", r="CounterTop", **{"is": "(heatable ?o) (isHot ?o)"}),
    "cool": IN.format(o="Mug", r="Desk", **{"is": "(coolable ?o) (isCool ?o)"}),
    "clean": IN.format(o="Apple", r="Microwave", **{"is": "(cleanable ?o) (isClean ?o)"}),
    "light": "(exists (?t - object ?r - receptacle ?a - agent ?l - location) (and (objectType ?t DeskLampType) "
             "(toggleable ?t) (isToggled ?t) (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?t ?r))) "
             "(exists (?o - object ?a - agent) (and (objectType ?o BookType) (holds ?a ?o)))",
    "two": "(exists (?r - receptacle) (exists (?o1 - object) (and (objectType ?o1 BookType) "
           "(receptacleType ?r SafeType) (inReceptacle ?o1 ?r) (exists (?o2 - object) (and (not (= ?o1 ?o2)) "
           "(objectType ?o2 BookType) (receptacleType ?r SafeType) (inReceptacle ?o2 ?r))))))",
}


def kind(name: str) -> str:
    return name.rpartition("_bar_")[2] if name.endswith("Basin") else name.partition("_bar_")[0]


def pddl(goal: str = "heat", more: str = "") -> str:
    """The room as an initial_state.pddl, with facts `more`."""
    things = [o for inside in ROOM.values() for o in inside]
    typed = [("agent1", "agent"), ("loc_0", "location"), ("KnifeType", "otype"), ("ButterKnifeType", "otype"),
             *((f"{kind(o)}Type", "otype") for o in things), *((f"{kind(r)}Type", "rtype") for r in ROOM),
             *((o, "object") for o in things), *((r, "receptacle") for r in ROOM),
             *((f"loc_{i}", "location") for i in range(1, len(ROOM) + 1))]
    facts = ["atLocation agent1 loc_0"]
    for i, (r, inside) in enumerate(ROOM.items(), start=1):
        facts += [f"receptacleType {r} {kind(r)}Type", f"receptacleAtLocation {r} loc_{i}"]
        facts += [f"openable {r}"] if kind(r) in OPENABLE else []
        for o in inside:
            facts += [f"objectType {o} {kind(o)}Type", f"objectAtLocation {o} loc_{i}", f"inReceptacle {o} {r}"]
            facts.append(f"toggleable {o}" if kind(o) == "DeskLamp" else f"pickupable {o}")
            if kind(o) in ("Apple", "Mug", "Egg"):
                facts += [f"{able} {o}" for able in ("heatable", "coolable", "cleanable")]
    facts += [f"canContain {r}Type {o}Type" for r, inside in HOLDS.items() for o in inside]
    objects = "\n".join(f"{name} - {type_}" for name, type_ in dict.fromkeys(typed))
    init = "\n".join(f"({fact})" for fact in facts)
    return (f"(define (problem plan)\n(:domain alfred)\n(:objects\n{objects}\n)\n(:init\n{init}\n{more}\n)\n"
            f"(:goal\n(and {GOALS[goal]})\n)\n)\n")


def scene_file(folder: Path, goal: str = "heat") -> Path:
    path = folder / "initial_state.pddl"
    path.write_text(pddl(goal))
    return path


def game_file(folder: Path, problem: Any, **fields: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "game.tw-pddl"
    grammar = 'grammar :: """{"task": [{"rhs": "Your task is to: find it."}]}""";'
    path.write_text(json.dumps({"pddl_domain": "", "grammar": grammar, "pddl_problem": problem, "solvable": True,
                                "walkthrough": None} | fields))
    return path


def real(data: Path) -> alfworld.Alfworld:
    pytest.importorskip("alfworld", reason="needs the extra alfworld")
    return alfworld.Alfworld(data=str(data))


def turns(*commands: str) -> list[Message]:
    return [message for c in commands for message in (Message("assistant", c), Message("user", "?"))]


def answers(task: Environment, problem: Problem, *commands: str) -> list[str]:
    return [m.content for m in played(task, problem, commands) if m.role == "user"]


def in_any_order(answer: str) -> list[str]:
    """The answer with what it lists in the order of the alphabet: our simulator keeps another order."""
    return sorted(re.split(r",? and |, |(?<=you see) |\.$", answer))


def test_a_scene_numbers_things_as_alfworld_does():
    room = {r["name"]: r["contents"] for r in read_scene(pddl())["receptacles"]}
    assert room["countertop 2"] == ["apple 2", "mug 1"], "the first id has the highest number"
    assert (room["countertop 1"], room["fridge 1"]) == ([], ["apple 1"])


def test_a_text_gives_the_engine_two_plans_to_play(tmp_path: Path):
    (same, *_) = Household(data=str(scene_file(tmp_path))).problems("train")
    task = object.__new__(alfworld.Alfworld)  # without the engine, which only judges
    task.max_turns = 50
    right = task.right_turns(same)
    text = f"Go to the cabinet 7. {', '.join(right)}"
    assert list(task.answers_in(same, text)) == [right, ["> go to cabinet 7", *right]]
    assert list(task.answers_in(same, ", ".join(right[:-1]))) == []
    long = "take mug 1 from desk 1, go to bed 1, use lamp 1, " * 90
    assert [len(turns) for turns in task.answers_in(same, long)] == [50]


# The engine ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("goal", GOALS)
def test_right_turns_win_in_engine_and_simulator_alike(tmp_path: Path, goal: str):
    path = scene_file(tmp_path, goal)
    task, ours = real(path), Household(data=str(path))
    (problem,), (same) = task.problems("train"), next(ours.problems("train"))
    right = task.right_turns(problem)
    assert (problem.prompt, problem.difficulty, right) == (same.prompt, same.difficulty, ours.right_turns(same))
    transcript = played(task, problem, right)
    assert [m.content for m in transcript if m.role == "assistant"] == right, "it ends with its last command"
    assert task.verify(problem, transcript).success
    assert solves(task, problem, f"I should look, then examine it, and {', '.join(right)}.")
    assert not solves(task, problem, ", ".join(right[1:]))
    assert not task.verify(problem, transcript[:-2]).success
    answered, said = answers(task, problem, *right), answers(ours, same, *right)
    assert [in_any_order(a) for a in answered] == [in_any_order(a) for a in said]


def test_rejected_commands_do_nothing_and_verdicts_are_households(tmp_path: Path):
    task = real(scene_file(tmp_path))
    (problem,) = task.problems("train")
    assert answers(
        task, problem, "> dance", "> GO  to fridge 1", "> take apple 1 from fridge 1", "Thought: it is closed.",
        "> open fridge 1", "> take apple 1 from fridge 1", "> inventory", "> help", "\ud800\x00",
    ) == [
        NOTHING, "You arrive at fridge 1. The fridge 1 is closed.", NOTHING, "OK.",
        "You open the fridge 1. The fridge 1 is open. In it, you see a apple 1.",
        "You pick up the apple 1 from the fridge 1.", "You are carrying: a apple 1.",
        answers(task, problem, "help")[0], NOTHING,
    ]
    never = task.verify(problem, turns("> dance"))
    assert never.feedback == "The task was not completed: 1 turn, 1 of them did nothing, and no apple was picked up."
    assert never.error_type == "no_action"
    assert task.verify(problem, []).error_type == "no_action"
    held = ["go to fridge 1", "open fridge 1", "take apple 1 from fridge 1", *["think: hm"] * 47]
    assert task.verify(problem, turns(*held)).error_type == "goal_not_met"
    assert task.observe(problem, turns(*held)[:-1]) is None
    assert task.verify(problem, turns("look", *["think: hm"] * 49)).error_type == "not_found"


def test_simulator_answers_as_the_engine_with_known_exceptions(tmp_path: Path):
    """Known: the order of lists; the engine looks at nothing before the first move, and examines only what is held."""
    task = real(scene_file(tmp_path))
    (problem,) = task.problems("train")
    for episode in range(3):
        draw, house, commands = random.Random(f"same/{episode}"), House(read_scene(pddl())), list[str]()
        for _ in range(12):
            possible = [c for c in house.admissible() if not (c == "look" and house.at is None) and not (
                c.startswith("examine") and c[8:] not in (house.at, house.held))]
            verb = draw.choice(sorted({c.split()[0] for c in possible}))
            commands.append(draw.choice([c for c in possible if c.split()[0] == verb]))
            answered = task.engine(problem, commands).answers[len(commands) - 1]
            ours = in_any_order(house.act(commands[-1])), house.done()
            assert ours == (in_any_order(answered[0]), answered[1]), commands
            if answered[1]:
                break


def test_a_grammar_before_0_4_is_spoken_in_its_own_words(monkeypatch):
    said = {"move mug 1 to desk 1": "put mug 1 in/on desk 1", "go to desk 1": "go to desk 1"}
    for template, put in (("put {o} in/on {r}", True), ("move {o} to {r}", False)):
        monkeypatch.setattr(alfworld, "logic", lambda template=template: {"grammar": f'template :: "{template}";'})
        assert all(alfworld.in_grammar(command) == (old if put else command) for command, old in said.items())


# The transcript is the state -----------------------------------------------------------------------------------------


def lockstep(task: Environment, problem: Problem, episodes: list[list[str]]) -> list[list[str | None]]:
    """What is observed in each episode when all take their turns together."""
    seen: list[list[str | None]] = [[] for _ in episodes]
    for turn in range(max(map(len, episodes))):
        for commands, answered in zip(episodes, seen, strict=True):
            if turn < len(commands):
                observation = task.observe(problem, turns(*commands[: turn + 1])[:-1])
                answered.append(observation and observation.content)
    return seen


EPISODES = [
    ["go to fridge 1", "open fridge 1", "take apple 1 from fridge 1", "go to microwave 1"],
    ["go to fridge 1", "open fridge 1", "close fridge 1", "open fridge 1"],
    ["go to countertop 2", "take mug 1 from countertop 2", "think: now what?", "inventory"],
    ["go to fridge 1", "open fridge 1", "take apple 1 from fridge 1", "inventory"],
]


def test_answers_do_not_depend_on_games_kept(tmp_path: Path, monkeypatch):
    path = scene_file(tmp_path)
    (problem,) = real(path).problems("train")
    alone = [lockstep(real(path), problem, [episode])[0] for episode in EPISODES]
    assert len({str(answered) for answered in alone}) == len(EPISODES)
    assert lockstep(real(path), problem, EPISODES) == alone
    monkeypatch.setattr(alfworld, "MAX_LIVE", 1)
    task = real(path)
    assert lockstep(task, problem, EPISODES[:3]) == alone[:3]
    assert len(task.live) == 1


def test_an_open_episode_costs_one_step_a_turn(tmp_path: Path, monkeypatch):
    path = scene_file(tmp_path)
    task = real(path)
    (problem,) = task.problems("train")
    steps: list[str] = []
    plain = alfworld.Engine.step
    monkeypatch.setattr(alfworld.Engine, "step", lambda self, c: (steps.append(c), plain(self, c))[1])
    lockstep(task, problem, EPISODES[:3])
    # Each command once, and the thought costs none: the second episode plays its first two where it leaves the first.
    assert len(steps) == sum(len(e) for e in EPISODES[:3]) - 1
    count = len(steps)
    for episode in EPISODES[:3]:
        task.verify(problem, turns(*episode))
    assert len(steps) == count
    assert len(task.live) == 3


# Files ---------------------------------------------------------------------------------------------------------------


def test_a_folder_gives_its_solvable_games_by_split(rrr, tmp_path: Path):
    root = tmp_path / "json_2.1.1"
    game_file(root / "train/a/trial_1", pddl("heat"))
    game_file(root / "train/a/trial_2", pddl("heat"))  # the same game
    game_file(root / "train/b/trial_3", pddl("place"), solvable=False)
    game_file(root / "train/c/trial_4", pddl("place").replace("(inReceptacle ?o ?r)", "(isSliced ?o)"))
    game_file(root / "valid_seen/d/trial_5", pddl("two"), grammar='{"rhs": "Your task is to: UNKNOWN GOAL."}')
    scene_file(root / "train/a/trial_1", "cool")
    task = real(root)
    (train,), (test,) = task.problems("train"), task.problems("test")
    assert train.prompt[0].content.endswith("Your task is to: find it.")
    assert test.prompt[0].content.endswith("Your task is to: put two book in safe.")
    assert (train.difficulty, test.difficulty, task.max_turns) == ("data-heat", "data-two", 50)
    assert str(tmp_path) not in train.metadata
    ran = rrr("tasks", "check", "alfworld", "--data", root)
    assert (ran.code, "wrong: 0" in ran.out) == (0, True), ran.err
    game_file(root / "valid_seen/a/trial_1", pddl("heat"))
    with pytest.raises(RrrError, match="in both splits"):
        list(task.problems("train"))


def test_a_problem_does_not_depend_on_its_path(tmp_path: Path):
    scene, packed = scene_file(tmp_path), tmp_path / "initial_state.pddl.gz"
    packed.write_bytes(gzip.compress(scene.read_bytes()))
    game = game_file(tmp_path / "here", pddl())
    ids = {next(real(path).problems("train")).problem_id for path in (scene, packed, game, tmp_path)}
    assert len(ids) == 1
    assert ids != {next(Household(data=str(scene)).problems("train")).problem_id}


def test_a_missing_or_changed_game_is_refused(tmp_path: Path):
    path = game_file(tmp_path / "train/a", pddl())
    task = real(tmp_path)
    (problem,) = task.problems("train")
    game_file(path.parent, pddl("cool"))
    for said in ("has changed", "is not readable"):
        with pytest.raises(RrrError, match=said) as caught:
            task.observe(problem, turns("look")[:-1])
        assert caught.value.exit_code == BAD_INPUT
        path.unlink(missing_ok=True)
    game_file(path.parent, pddl(), grammar="", walkthrough=["look"])
    assert task.observe(problem, turns("inventory")[:-1]) == Message("user", "You are not carrying anything.")


def test_code_in_a_games_grammar_never_runs(tmp_path: Path):
    proof = tmp_path / "proof"
    grammar = f'{{"intro": [{{"rhs": "{{open({str(proof)!r}, chr(119))}}"}}]}}'
    task = real(game_file(tmp_path, pddl(), grammar=grammar, pddl_domain="no domain"))
    (problem,) = task.problems("train")
    assert task.verify(problem, played(task, problem, task.right_turns(problem))).success
    assert not proof.exists()


def test_the_walkthrough_is_the_reference_without_a_plan(tmp_path: Path):
    able = pddl("heat", "(heatable Book_bar__plus_01)").replace("?o AppleType", "?o BookType")
    way = ["go to desk 1", "take book 2 from desk 1", "go to microwave 1", "heat book 2 with microwave 1",
           "go to countertop 1", "move book 2 to countertop 1"]
    with pytest.raises(RrrError, match="can't be met"):
        list(real(game_file(tmp_path, able)).problems("train"))
    task = real(game_file(tmp_path, able, walkthrough=way))
    (problem,) = task.problems("train")
    assert task.verify(problem, played(task, problem, task.right_turns(problem))).success


@pytest.mark.parametrize(("content", "said"), [
    (b"{", "not readable"), (b"\xff", "not readable"), (b"[" * 100_000, "not readable"), (b"[]", "wanted an object"),
    (b'{"pddl_problem": 5}', "wanted an object"), (b'{"pddl_problem": "(define"}', "found no ALFWorld scene"),
    (json.dumps({"pddl_problem": pddl(), "solvable": False}).encode(), "marked as unsolvable"),
    (json.dumps({"pddl_problem": pddl().replace("objectType ?o", "isSliced ?o", 1)}).encode(), "none of place"),
    (json.dumps({"pddl_problem": pddl().replace("(:domain alfred)", ")")}).encode(), "the engine can't play it"),
    (json.dumps({"pddl_problem": pddl().replace("agent1 - agent", "")}).encode(), "the engine can't play it"),
    (json.dumps({"pddl_problem": pddl().replace("(receptacleAtLocation Safe_bar__plus_01 loc_5)", "")}).encode(),
     "the engine's room isn't the prompt's"),
])
def test_a_bad_game_is_refused_by_its_file(rrr, tmp_path: Path, content: bytes, said: str):
    pytest.importorskip("alfworld")
    path = tmp_path / "valid_seen" / "game.tw-pddl"
    game_file(path.parent, "")
    path.write_bytes(content)
    game_file(tmp_path / "train", pddl("two"))
    task = real(path)
    with pytest.raises(RrrError, match=said) as caught:
        [task.observe(problem, turns("look")[:-1]) for problem in task.problems("test")]
    assert caught.value.exit_code == BAD_INPUT
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_that_is_missing_or_unknown_is_refused(tmp_path: Path):
    with pytest.raises(RrrError, match="give --data") as caught:
        load_task("alfworld")
    assert caught.value.exit_code == USAGE
    with pytest.raises(RrrError, match="has no --level"):
        load_task("alfworld", level="easy", data=str(tmp_path))
    other = tmp_path / "games.jsonl"
    other.touch()
    for path, code, said in ((tmp_path / "none", BAD_INPUT, "no such file"), (other, USAGE, "unknown kind")):
        with pytest.raises(RrrError, match=said) as caught:
            real(path)
        assert caught.value.exit_code == code
    with pytest.raises(RrrError, match="no row is for train"):
        list(real(tmp_path).problems("train"))
    with pytest.raises(RrrError, match="train and test"):
        list(real(tmp_path).problems("validation"))


def test_without_the_engine_it_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RrrError, match=r"pip install 'rrr_cli\[alfworld\]'") as caught:
        load_task("alfworld", data=str(tmp_path))
    assert caught.value.exit_code == NO_BACKEND


def test_it_is_mined_like_any_other_task(rrr, tmp_path: Path):
    path = scene_file(tmp_path)
    task = real(path)
    (problem,) = task.problems("train")
    first, *right = task.right_turns(problem)
    rules = [list(pair) for pair in zip(answers(task, problem, first, *right), right, strict=True)]
    script = tmp_path / "player.json"
    script.write_text(json.dumps({"default": [first, "> think: no"], "rules": [*rules, ["OK.", "> think: no"]]}))
    ran = rrr("mine-failures", "--task", "alfworld", "--data", path, "--engine", "scripted", "--model", script,
              "--run", tmp_path / "run", "--samples", 6, "--stop-at-failure", 0)
    assert ran.code == 0, ran.err
    ends = {(a.success, a.error_type, len(a.transcript)) for a in read(tmp_path / "run", "attempts")}
    assert ends == {(True, None, 2 * len(right) + 1), (False, "no_action", 99)}


def test_a_real_alfworld_scene_is_won(tmp_path: Path):
    if not SCENE.is_file():
        pytest.skip(f"{SCENE.name} isn't here")
    scene = gzip.decompress(SCENE.read_bytes()).decode()
    # It has three players, which one command can't tell apart: one stays.
    alone = re.sub(r"\n(?:bob|charlie) - agent|\n\s+\(atLocation (?:bob|charlie) \S+\)", "", scene)
    task = real(game_file(tmp_path, alone))
    (problem,) = task.problems("train")
    assert task.verify(problem, played(task, problem, task.right_turns(problem))).success
