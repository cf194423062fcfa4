"""The invented pages that HotpotQA's generated questions are about: people, films, towns and companies.

Level `easy`: 240 pages of two sentences, in a language of about 190 words (questions and turns included) that a
word-level model of under a million parameters can learn. Level `synthetic`: 1,730 pages of two to nine sentences, most
of them irrelevant, so that some facts stand past what a search shows and need Lookup. The pages of a level come from a
fixed seed. Nothing is read or written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random

from rrr_cli.tasks.hotpotqa.corpus import SHOWN, Corpus, Page

FIRST = ("Anna", "Bram", "Clara", "Dirk", "Elsa", "Finn", "Greta", "Hugo", "Iris", "Jonas", "Karin", "Leo")
LAST = ("Adler", "Berg", "Castle", "Drake", "Ember", "Frost", "Gale", "Hill", "Lake", "Marsh", "North", "Stone")
COLOURS = ("Red", "Blue", "Green", "Grey", "White", "Black", "Golden", "Silver")
THINGS = ("Door", "River", "Bird", "Garden", "Letter", "Mountain", "Clock", "Horse", "Road", "Winter")
JOBS = ("painter", "doctor", "sailor", "baker", "teacher", "lawyer", "farmer", "singer")
PRODUCTS = ("glass", "paper", "clocks", "boats", "lamps", "shoes", "pianos", "bread")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
STARTS = (
    "Al", "Bor", "Cas", "Dor", "El", "Fen", "Gar", "Hol", "Il", "Jar", "Kel", "Lor", "Mar", "Nor", "Ost", "Per",
    "Quin", "Ros", "Sel", "Tar",
)
MIDDLES = ("", "an", "el", "in", "or", "um", "ar")
ENDS = ("by", "den", "ford", "ham", "ley", "mere", "ton", "vik", "wick", "stad", "holm", "dale")


@dataclass(frozen=True)
class Relation:
    """What one page says of its subject: a fact that can be asked for."""

    name: str
    of: str  # the kind of its subject
    group: str  # of ROUND: what kind of answer it is
    asks: tuple[str, ...]  # the first is the easy level's; {x} is the subject
    word: str  # stands in the sentence that says it, and in no other of the page
    noun: str = ""  # the value as a phrase, where it has a page itself


RELATIONS = {relation.name: relation for relation in (
    Relation("birthplace", "person", "place", ("Where was {x} born?", "In which town was {x} born?"), "born",
             "the town where {x} was born"),
    Relation("birthyear", "person", "year", ("When was {x} born?", "In which year was {x} born?"), "born"),
    Relation("job", "person", "other", ("What was the job of {x}?", "What did {x} work as?"), "was a"),
    Relation("director", "film", "name", ("Who directed {x}?", "Which person directed {x}?"), "directed",
             "the director of {x}"),
    Relation("made", "film", "year", ("When was {x} made?", "From which year is {x}?"), "is a film"),
    Relation("country", "town", "other", ("In which country is {x}?", "To which country does {x} belong?"),
             "is a town"),
    Relation("river", "town", "other", ("On which river is {x}?", "Which river runs through {x}?"),
             "on the river"),
    Relation("mayor", "town", "name", ("Who is the mayor of {x}?", "Which mayor does {x} have?"), "mayor",
             "the mayor of {x}"),
    Relation("composer", "film", "name", ("Who wrote the music of {x}?",), "music", "the composer of {x}"),
    Relation("founder", "company", "name", ("Who founded {x}?",), "founded", "the founder of {x}"),
    Relation("seat", "company", "place", ("Where does {x} have its seat?", "In which town is the seat of {x}?"), "seat",
             "the town where {x} has its seat"),
    Relation("product", "company", "other", ("What does {x} make?",), "is a company"),
)}
#: Kind -> its sentences in the order of a short page, each with the relations that it says.
SENTENCES: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "person": (("{x} was a {job}.", ("job",)),
               ("{x} was born in {birthplace} in {birthyear}.", ("birthplace", "birthyear"))),
    "film": (("{x} is a film from {made}.", ("made",)), ("It was directed by {director}.", ("director",)),
             ("The music of {x} is by {composer}.", ("composer",))),
    "town": (("{x} is a town in {country}.", ("country",)), ("It is on the river {river}.", ("river",)),
             ("{x} has {population} people.", ("population",)), ("The mayor is {mayor}.", ("mayor",))),
    "company": (("{x} is a company that makes {product}.", ("product",)),
                ("It was founded by {founder}.", ("founder",)),
                ("The seat of {x} is in {seat}.", ("seat",))),
}
#: Kind -> sentences that answer nothing, for the synthetic level.
ASIDES = {
    "person": ("{x} wrote letters to {person}.", "{x} spent two years in {town}.", "A street in {town} is named after "
               "{x}.", "{x} won a prize in {year}.", "{x} lived next to {person} for a while."),
    "film": ("{x} runs for {number} minutes.", "{x} was shown in {town} for the first time.", "{x} won a prize in "
             "{year}.", "{person} plays a small part in {x}.", "Many think of {film} when they see {x}."),
    "town": ("There is a market every {day}.", "{person} stayed in {x} in {year}.", "The bridge of {x} is from {year}.",
             "Trains go to {town} every {number} minutes.", "{film} plays in {x}."),
    "company": ("{x} has {number} workers.", "{x} opened a shop in {town} in {year}.", "{person} worked for {x}.",
                "{x} was sold in {year}.", "Its workers are free on {day}."),
}


@dataclass
class World:
    """The pages of a level, and what they say."""

    titles: dict[str, list[str]]  # kind -> titles
    facts: dict[str, dict[str, str]] = field(default_factory=dict)  # title -> relation -> value
    relations: frozenset[str] = frozenset()  # a set: to ask whether a relation is in it, never to iterate
    corpus: Corpus = field(default_factory=lambda: Corpus(()))
    steps: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)  # (title, relation) -> reading it


@cache
def world(level: str) -> World:
    """The world of a level, generated once a process."""
    random = Random(f"hotpotqa/{level}")
    easy = level == "easy"
    names = _names(random, 28 if easy else 360)
    rivers, countries, names = (names[:6], names[6:12], names[12:]) if easy else (names[:40], names[40:60], names[60:])
    setting = World(_easy_titles(names) if easy else _synthetic_titles(random, names))
    years = range(1901, 1931) if easy else range(1800, 2000)
    people, towns = setting.titles["person"], setting.titles["town"]
    values: dict[str, Callable[[], str]] = {
        "job": lambda: random.choice(JOBS), "birthplace": lambda: random.choice(towns),
        "birthyear": lambda: str(random.choice(years)), "made": lambda: str(random.choice(years)),
        "director": lambda: random.choice(people), "country": lambda: random.choice(countries),
        "river": lambda: random.choice(rivers),
    }
    if not easy:
        values |= {
            "composer": lambda: random.choice(people), "mayor": lambda: random.choice(people),
            "population": lambda: str(random.randrange(1_000, 900_000)), "founder": lambda: random.choice(people),
            "seat": lambda: random.choice(towns), "product": lambda: random.choice(PRODUCTS),
        }
    setting.relations = frozenset(values)
    pages = []
    for kind, titles in setting.titles.items():
        for title in titles:
            said = [s for s in SENTENCES[kind] if all(relation in values for relation in s[1])]
            facts = {relation: values[relation]() for _, relations in said for relation in relations}
            setting.facts[title] = facts
            lines = [(text.format(x=title, **facts), relations) for text, relations in said]
            if not easy:
                lines += [(line, ()) for line in _asides(random, kind, title, setting.titles)]
                lines[1:] = random.sample(lines[1:], len(lines) - 1)
            pages.append(Page(title, tuple(line for line, _ in lines)))
            for place, (_, relations) in enumerate(lines):
                for relation in relations:
                    setting.steps[title, relation] = _reading(title, relation, place)
    setting.corpus = Corpus(pages)
    return setting


# Names ---------------------------------------------------------------------------------------------------------------


def _names(random: Random, count: int) -> list[str]:
    """`count` names of syllables, none twice."""
    names: dict[str, None] = {}
    while len(names) < count:
        names[random.choice(STARTS) + random.choice(MIDDLES) + random.choice(ENDS)] = None
    return list(names)


def _easy_titles(names: list[str]) -> dict[str, list[str]]:
    return {
        "person": [f"{first} {last}" for first in FIRST for last in LAST],
        "film": [f"{colour} {thing}" for colour in COLOURS for thing in THINGS],
        "town": names,
    }


def _synthetic_titles(random: Random, names: list[str]) -> dict[str, list[str]]:
    """People, films and companies are called after towns, so that a search has to be exact."""
    people = random.sample([f"{first} {name}" for first in FIRST for name in names], 1000)
    films = [f"The {colour} {thing} of {name}" for colour in COLOURS for thing in THINGS for name in names[:20]]
    companies = [f"{name} {random.choice(('Works', 'Brothers', 'Company'))}" for name in names[-200:]]
    return {"person": people, "film": random.sample(films, 400), "town": names[:130], "company": companies}


# Pages ---------------------------------------------------------------------------------------------------------------


def _asides(random: Random, kind: str, title: str, titles: dict[str, list[str]]) -> list[str]:
    """Up to five sentences that answer nothing."""
    return [
        text.format(
            x=title, day=random.choice(DAYS), number=random.randrange(20, 200), year=random.randrange(1800, 2000),
            **{other: random.choice(titles[other]) for other in ("person", "town", "film")},
        )
        for text in random.sample(ASIDES[kind], random.randint(0, 5))
    ]


def _reading(title: str, relation: str, place: int) -> list[tuple[str, str]]:
    """The actions that bring up sentence `place` of a page."""
    search = (title, f"Search[{title}]")
    if place < SHOWN:
        return [search]
    word = RELATIONS[relation].word if relation in RELATIONS else "people"  # population is compared alone
    return [search, (title, f"Lookup[{word}]")]
