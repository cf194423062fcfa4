"""Generated questions about generated pictures, for `visual_programs`: each with a program and 6 pictures to try it on.

Level `easy`: one or two functions on objects of about 30 words, a few kinds of question. Level `full`: GQA's five kinds
(query, verify, logical, choose, compare), with relations between objects, in the question and in its phrases.

The pictures of a question are drawn about its own words, so that near misses abound. Of those on which the reference
has an answer, 6 are taken: no answer stands for more than 3 of them, and at least nine in ten mutants of the reference
(a filter dropped, a relation turned round, and taken for or) are wrong on one of them; where there are no such six,
another question is drawn. So a program that passes on all six means what the question means, or nearly so.

The key of a problem is its program; it says which split the question belongs to, whatever its wording. Problem n
depends on the level, the split and n alone, except that a program that was drawn before is drawn again. Even and odd
problems ask about different halves of the nouns: no program is right twice in a row. Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

from rrr_cli.records import Problem, content_id
from rrr_cli.tasks.nouns import plural, with_article
from rrr_cli.tasks.splits import split_of
from rrr_cli.tasks.visual_programs.interpreter import prepared
from rrr_cli.tasks.visual_programs.language import ANY, Call, Expression, Quoted, Wrong, parse, write
from rrr_cli.tasks.visual_programs.problem import WORDS, make_problem
from rrr_cli.tasks.visual_programs.scene_graphs import SCENE, Scene, Thing, fold, position

LIMITS = {"easy": {"train": 1500, "test": 500}, "full": {"train": 4000, "test": 1000}}  # problems
TEST_SHARE = 0.25
PICTURES = 6
SURVIVORS = 0.1  # largest share of the mutants that may be right on all pictures
POOL, TRIES = 40, 150  # pictures to choose from, and most draws to get them

ATTRIBUTES = {
    "color": ("black", "blue", "green", "red", "white", "yellow"), "size": ("small", "large"),
    "material": ("metal", "plastic", "wooden"),
}
THINGS = (
    "apple", "ball", "bench", "book", "bottle", "bowl", "box", "car", "chair", "clock", "cup", "lamp", "pillow",
    "plate", "shelf", "table",
)
KINDS = {"animal": ("bird", "cat", "cow", "dog", "horse"), "person": ("boy", "girl", "man", "woman"),
         "garment": ("coat", "dress", "scarf", "shirt")}
EASY_NOUNS = (*THINGS, *KINDS["animal"])
NOUNS = (*EASY_NOUNS, *KINDS["person"], *KINDS["garment"])
SIDES = ("to the left of", "to the right of")
RELATIONS = (*SIDES, "behind", "in front of", "near", "on", "under")
CONTRARY = (SIDES, ("behind", "in front of"), ("on", "under"))
DOING = {"holding": THINGS, "wearing": KINDS["garment"]}  # what a person does, to what
SIDE_NAMES, DRAWN_RELATIONS = tuple(map(fold, SIDES)), RELATIONS[2:]  # as scenes name them
#: Noun -> what a thing of it may be called.
CALLED = {noun: (noun, *(kind for kind, nouns in KINDS.items() if noun in nouns)) for noun in NOUNS}
Question = tuple[str, str, str]  # kind, words, expression


def problems(level: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """The problems of a level."""
    seen: set[str] = set()
    ask, nouns = (easy_question, EASY_NOUNS) if level == "easy" else (full_question, NOUNS)
    for number in range(LIMITS[level][split]):
        random = Random(f"visual_programs/{level}/{split}/{number}")
        while True:
            kind, question, expression = ask(random, nouns[number % 2::2])
            key = content_id("visual program", expression)
            if key not in seen and split_of(key, TEST_SHARE) == split:
                pictures = pictures_for(random, expression, level)
                if pictures:
                    break
        seen.add(key)
        yield make_problem(question, expression, pictures, split, f"{level}-{kind}", words=words)


# Questions -----------------------------------------------------------------------------------------------------------


def easy_question(random: Random, nouns: Sequence[str]) -> Question:
    """A question that takes a function or two on one noun."""
    noun, category, word, other = random.choice(nouns), *_words(random)
    second = random.choice([w for c in ATTRIBUTES if c != category for w in ATTRIBUTES[c]])
    phrase = random.choice((noun, f"{second} {noun}"))
    objects = f'find("{noun}")' if phrase == noun else f'filter(find("{noun}"), "{second}")'
    return random.choice([
        ("verify", f"Is there {with_article(f'{word} {phrase}')} ?", f'exists(filter({objects}, "{word}"))'),
        ("query", f"How many {plural(f'{word} {phrase}')} are there ?", f'count(filter({objects}, "{word}"))'),
        ("query", f"What {category} is the {phrase} ?", f'query({objects}, "{category}")'),
        ("logical", f"Is there {with_article(phrase)} that is not {word} ?", f'exists(reject({objects}, "{word}"))'),
        ("choose", f"Is the {phrase} {word} or {other} ?", f'choose({objects}, "{word}", "{other}")'),
    ])


def full_question(random: Random, nouns: Sequence[str]) -> Question:
    """A question of one of GQA's five kinds."""
    kind = random.choice(("query", "verify", "logical", "choose", "compare"))
    maker = {"query": _query, "verify": _verify, "logical": _logical, "choose": _choose, "compare": _compare}[kind]
    words, expression = random.choice(maker(random, nouns))
    return kind, words, expression


def _query(random: Random, nouns: Sequence[str]) -> list[tuple[str, str]]:
    (phrase, objects), (category, *_) = _phrase(random, nouns), _words(random)
    relation, doing, kind = random.choice(RELATIONS), random.choice(list(DOING)), random.choice(list(KINDS))
    person = random.choice([noun for noun in nouns if noun in KINDS["person"]])
    asked = {"color": "What color is the {}?", "size": "What size is the {}?", "material": "What is the {} made of?"}
    noun, adjective = random.choice(nouns), _words(random)[1]
    return [
        (asked[category].format(phrase), f'query({objects}, "{category}")'),
        (f"What is {relation} the {phrase}?", f'query(subjects({objects}, "{relation}"), "name")'),
        (f"Which {kind} is {relation} the {phrase}?",
         f'query(filter(subjects({objects}, "{relation}"), "{kind}"), "name")'),
        (f"What is the {person} {doing}?", f'query(objects(find("{person}"), "{doing}"), "name")'),
        (f"How many {plural(f'{adjective} {noun}')} are {relation} the {phrase}?",
         f'count(filter(filter(subjects({objects}, "{relation}"), "{noun}"), "{adjective}"))'),
    ]


def _verify(random: Random, nouns: Sequence[str]) -> list[tuple[str, str]]:
    (phrase, objects), (_, word, _) = _phrase(random, nouns), _words(random)
    noun, relation = random.choice(nouns), random.choice(RELATIONS)
    return [
        (f"Is there {with_article(phrase)} in the picture?", f"exists({objects})"),
        (f"Is the {phrase} {word}?", f'exists(filter({objects}, "{word}"))'),
        (f"Is the {noun} {relation} the {phrase}?", f'exists(filter(subjects({objects}, "{relation}"), "{noun}"))'),
    ]


def _logical(random: Random, nouns: Sequence[str]) -> list[tuple[str, str]]:
    (phrase, objects), (second, also), (_, word, _) = _phrase(random, nouns), _phrase(random, nouns), _words(random)
    return [
        (f"Are there both {with_article(phrase)} and {with_article(second)}?",
         f"and(exists({objects}), exists({also}))"),
        (f"Is there either {with_article(phrase)} or {with_article(second)}?",
         f"or(exists({objects}), exists({also}))"),
        (f"Is there {with_article(phrase)} that is not {word}?", f'exists(reject({objects}, "{word}"))'),
        (f"Is there {with_article(phrase)} but no {second}?", f"and(exists({objects}), not(exists({also})))"),
    ]


def _choose(random: Random, nouns: Sequence[str]) -> list[tuple[str, str]]:
    (phrase, objects), (second, also), (_, word, other) = _phrase(random, nouns), _phrase(random, nouns), _words(random)
    one, contrary = random.sample(random.choice(CONTRARY), 2)
    return [
        (f"Is the {phrase} {word} or {other}?", f'choose({objects}, "{word}", "{other}")'),
        (f"Is the {phrase} {one} or {contrary} the {second}?", f'relation({objects}, {also}, "{one}", "{contrary}")'),
        (f"Is the {phrase} on the left or on the right side of the picture?", f'choose({objects}, "left", "right")'),
    ]


def _compare(random: Random, nouns: Sequence[str]) -> list[tuple[str, str]]:
    (phrase, objects), (second, also), (category, *_) = _phrase(random, nouns), _phrase(random, nouns), _words(random)
    (noun, other), word = random.sample(nouns, 2), _words(random)[1]
    pair = f"the {phrase} and the {second}"
    return [
        (f"Do {pair} have the same {category}?", f'same({objects}, {also}, "{category}")'),
        (f"Do {pair} differ in {category}?", f'not(same({objects}, {also}, "{category}"))'),
        (f"Are there more {plural(f'{word} {noun}')} than {plural(other)}?",
         f'more(count(filter(find("{noun}"), "{word}")), count(find("{other}")))'),
        (f"What do {pair} have in common, color, size or material?", f"common({objects}, {also})"),
    ]


def _words(random: Random) -> tuple[str, str, str]:
    """A category and two of its words."""
    category = random.choice(list(ATTRIBUTES))
    return (category, *random.sample(ATTRIBUTES[category], 2))  # type: ignore[return-value]


def _phrase(random: Random, nouns: Sequence[str], depth: int = 0) -> tuple[str, str]:
    """What stands after the article, and an expression that finds it."""
    noun, adjective = random.choice(nouns), _words(random)[1] if random.random() < 0.5 else None
    words = f"{adjective} {noun}" if adjective else noun
    objects = f'find("{noun}")'
    if depth < 1 and random.random() < 0.35:
        under, inner = _phrase(random, nouns, depth + 1)
        relation = random.choice(RELATIONS)
        words = f"{words} {relation} the {under}"
        objects = f'filter(subjects({inner}, "{relation}"), "{noun}")'
    return words, f'filter({objects}, "{adjective}")' if adjective else objects


# Pictures ------------------------------------------------------------------------------------------------------------


def pictures_for(random: Random, expression: str, level: str) -> list[tuple[Scene, str]]:
    """Scenes with the reference's answers, as the module says; none where there are no such scenes."""
    program = parse(f"answer = {expression}")
    right = program[-1][1]
    answer_on = _answering(right)
    focus = list(_quoted(right))
    pool: list[tuple[Scene, str]] = []
    for tried in range(TRIES):
        scene = draw_scene(random, focus, level)
        answer = answer_on(scene)
        if answer is not None:
            pool.append((scene, answer))
        if len(pool) == POOL or tried == 9 + 6 * len(pool):  # enough, or hardly any have an answer
            break
    if len({answer for _, answer in pool}) < 2:
        return []
    wrong = list({write(m): m for m in mutants(right)}.values())
    answering = [_answering(mutant) for mutant in wrong]
    wrong_on = [{k for k, mutant in enumerate(answering) if mutant(scene) != answer} for scene, answer in pool]
    taken: list[int] = []
    left = set(range(len(wrong)))
    while len(taken) < PICTURES:
        count = [sum(pool[i][1] == answer for i in taken) for _, answer in pool]
        free = [i for i in range(len(pool)) if i not in taken and count[i] < PICTURES // 2]
        if not free:
            return []
        best = max(free, key=lambda i: (len(wrong_on[i] & left), -count[i], -i))
        taken.append(best)
        left -= wrong_on[best]
    return [pool[i] for i in taken] if len(left) <= len(wrong) * SURVIVORS else []


def mutants(expression: Expression) -> Iterator[Expression]:
    """Expressions of the same type with one thing wrong."""
    if not isinstance(expression, Call):
        return
    function, arguments = expression.function, expression.arguments
    if function in ("filter", "reject", "subjects", "objects", "not"):
        yield arguments[0]
    turned = {"filter": "reject", "reject": "filter", "subjects": "objects", "objects": "subjects", "and": "or",
              "or": "and"}
    if function in turned:
        yield Call(turned[function], arguments)
    if function in ("more", "relation"):
        yield Call(function, (arguments[1], arguments[0], *arguments[2:]))
    if function == "find" and arguments != (Quoted(ANY),):
        yield Call(function, (Quoted(ANY),))
    for i, argument in enumerate(arguments):
        for mutant in mutants(argument):
            yield Call(function, (*arguments[:i], mutant, *arguments[i + 1:]))


def draw_scene(random: Random, focus: Sequence[str], level: str) -> Scene:
    """A scene of 3 to 6 things in a picture of 100 by 100, more often than not of the words in `focus`."""
    nouns = EASY_NOUNS if level == "easy" else NOUNS
    focus_nouns = [noun for word in focus for noun in (KINDS.get(word, ()) or (word,)) if noun in NOUNS]
    choices = [(words, [word for word in words if word in focus]) for words in ATTRIBUTES.values()]
    names, attributes, centres = [], [], []
    for _ in range(random.randint(3, 6)):
        words = [random.choice(asked if asked and random.random() < 0.5 else words) for words, asked in choices]
        names.append(random.choice(focus_nouns if focus_nouns and random.random() < 0.7 else nouns))
        x, y = int(70 * random.random()), int(70 * random.random())
        width, height = 10 + int(20 * random.random()), 10 + int(20 * random.random())
        centres.append(x + width / 2)
        attributes.append(
            position(x, width, 100, y, height, 100)
            | {category: [word] for category, word in zip(ATTRIBUTES, words, strict=True)})
    relations = [[] for _ in names] if level == "easy" else _relations(random, names, centres, focus)
    things = (
        Thing(CALLED[name], its_attributes, tuple(its_relations))
        for name, its_attributes, its_relations in zip(names, attributes, relations, strict=True)
    )
    return (*things, Thing((SCENE,), {}, ()))


def _relations(
    random: Random, names: Sequence[str], centres: Sequence[float], focus: Sequence[str]
) -> list[list[tuple[str, int]]]:
    """Of each thing its relations to others: sides from the boxes, and at most one other between two things, drawn."""
    asked = [relation for relation in DRAWN_RELATIONS if relation in focus]
    relations: list[list[tuple[str, int]]] = [[] for _ in names]
    for i, name in enumerate(names):
        for j, centre in enumerate(centres):
            apart = centres[i] - centre
            if abs(apart) > 5 and i != j:
                relations[i].append((SIDE_NAMES[apart > 0], j))
            if i < j and random.random() < 0.6:
                relation = random.choice(asked if asked and random.random() < 0.7 else DRAWN_RELATIONS)
                one, other = (i, j) if random.random() < 0.5 else (j, i)
                relations[one].append((relation, other))
        for doing, things in DOING.items() if name in KINDS["person"] else ():
            reach = [j for j, thing in enumerate(names) if thing in things and j != i]
            if reach and random.random() < 0.8:
                relations[i].append((doing, random.choice(reach)))
    return relations


def _quoted(expression: Expression) -> Iterator[str]:
    if isinstance(expression, Quoted):
        yield expression.text
    if isinstance(expression, Call):
        for argument in expression.arguments:
            yield from _quoted(argument)


def _answering(expression: Expression) -> Callable[[Scene], str | None]:
    """The expression's answer on a scene; None where it stops."""
    program = prepared((("answer", expression),))

    def answer_on(scene: Scene) -> str | None:
        try:
            return program(scene)
        except Wrong:
            return None

    return answer_on
