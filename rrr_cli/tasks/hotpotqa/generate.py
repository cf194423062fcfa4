"""Generated questions of HotpotQA's kinds on the pages of `world.py`, for demonstrations.

A bridge question names a page that leads to the one with the answer, a comparison names both; at level `easy` about 30
% need one page alone, and each is put in one way. What is asked for changes with each draw, in a fixed round (a place,
a year, a name, something else, yes or no), so that one answer hardly ever fits the next question.

Draw i depends on the level, the split and i alone; one that was drawn before is left out. What is asked of which pages
makes the key that says the split, whatever the phrasing. Nothing is read or written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from rrr_cli.records import Problem, content_id
from rrr_cli.tasks.hotpotqa.problem import WORDS, make_problem
from rrr_cli.tasks.hotpotqa.world import RELATIONS, Relation, World, world
from rrr_cli.tasks.splits import split_of

LIMITS = {"easy": {"train": 1200, "test": 500}, "synthetic": {"train": 4000, "test": 1000}}
TEST_SHARE = {"easy": 0.3, "synthetic": 0.2}
#: What draw i asks for, round and round. Yes or no comes seldom, for a guess is right half of the time.
ROUND = (*("place", "year", "name", "other") * 3, "yes or no")
COMPARED = {"easy": 0.8, "synthetic": 0.5}  # share of the names that are asked for by comparing two

#: Relation -> how two subjects are compared by it, and whether the smaller or the larger is asked for.
FIRST_OF = {
    "birthyear": ("Who was born first, {x} or {y}?", min), "made": ("Which film was made first, {x} or {y}?", min),
    "population": ("Which town has more people, {x} or {y}?", max),
}
SAME = {
    "birthplace": "Were {x} and {y} born in the same town?", "job": "Did {x} and {y} have the same job?",
    "country": "Are {x} and {y} in the same country?", "product": "Do {x} and {y} make the same goods?",
}
EASY_SAME = ("birthplace", "job")  # of the others there are too few pairs for as many yes as no


@dataclass(frozen=True)
class Question:
    """A question, its answer, how to find it, and what makes two questions the same."""

    form: str  # single, bridge or comparison
    text: str
    answer: str
    steps: list[tuple[str, str]]
    key: str


def problems(level: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """The `LIMITS` problems of a level and split."""
    corpus = world(level).corpus.fingerprint
    seen: set[str] = set()
    index = 0
    while len(seen) < LIMITS[level][split]:
        random = Random(f"hotpotqa/{level}/{split}/{index}")
        group = ROUND[index % len(ROUND)]
        index += 1
        question = _draw(random, level, split, group)
        if question.key not in seen:
            seen.add(question.key)
            yield make_problem(
                question.text, question.answer, question.steps, split, f"{level}-{question.form}", corpus, words)


def _draw(random: Random, level: str, split: str, group: str) -> Question:
    setting = world(level)
    compared = group == "name" and random.random() < COMPARED[level]
    single = level == "easy" and (group == "name" or random.random() < 0.5)
    while True:
        if group == "yes or no":
            question = _same(random, level, setting)
        elif compared:
            question = _first(random, setting)
        else:
            question = _asked(random, level, setting, group, single)
        if split_of(question.key, TEST_SHARE[level]) == split:
            return question


def _asked(random: Random, level: str, setting: World, group: str, single: bool) -> Question:
    """A question for one value: of a page that is named, or (bridge) of the page that the named one leads to."""
    known = [relation for relation in RELATIONS.values() if relation.name in setting.relations]
    if single:
        last = random.choice([r for r in known if r.group == group])
        title = random.choice(setting.titles[last.of])
        text = _ask(random, level, last).format(x=title)
        key = content_id("hotpotqa", last.name, title)
        return Question("single", text, setting.facts[title][last.name], setting.steps[title, last.name], key)
    hops = [(first, last) for first in known for last in known if first.noun and _leads_to(first) == last.of]
    first, last = random.choice([hop for hop in hops if hop[1].group == group])
    title = random.choice(setting.titles[first.of])
    middle = setting.facts[title][first.name]
    text = _ask(random, level, last).format(x=first.noun.format(x=title))
    steps = setting.steps[title, first.name] + setting.steps[middle, last.name]
    key = content_id("hotpotqa", last.name, first.name, title)
    return Question("bridge", text, setting.facts[middle][last.name], steps, key)


def _ask(random: Random, level: str, relation: Relation) -> str:
    return relation.asks[0] if level == "easy" else random.choice(relation.asks)


def _leads_to(relation: Relation) -> str:
    return "town" if relation.group == "place" else "person"


def _first(random: Random, setting: World) -> Question:
    """Which of two subjects comes first, or has more."""
    relation = random.choice([r for r in FIRST_OF if r in setting.relations])
    text, pick = FIRST_OF[relation]
    titles = random.choice([t for t in setting.titles.values() if relation in setting.facts[t[0]]])
    while True:
        x, y = random.sample(titles, 2)
        values = {title: int(setting.facts[title][relation]) for title in (x, y)}
        if values[x] != values[y]:
            return _compared(setting, relation, x, y, text, pick(values, key=values.__getitem__))


def _same(random: Random, level: str, setting: World) -> Question:
    """Whether two subjects share a value; half of the time they do."""
    relation = random.choice(EASY_SAME if level == "easy" else tuple(SAME))
    titles = random.choice([t for t in setting.titles.values() if relation in setting.facts[t[0]]])
    answer = random.choice(("yes", "no"))
    while True:
        x = random.choice(titles)
        others = [y for y in titles if y != x and
                  (setting.facts[y][relation] == setting.facts[x][relation]) == (answer == "yes")]
        if others:
            return _compared(setting, relation, x, random.choice(others), SAME[relation], answer)


def _compared(setting: World, relation: str, x: str, y: str, text: str, answer: str) -> Question:
    steps = setting.steps[x, relation] + setting.steps[y, relation]
    key = content_id("hotpotqa", relation, *sorted((x, y)))
    return Question("comparison", text.format(x=x, y=y), answer, steps, key)
