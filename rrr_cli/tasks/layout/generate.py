"""Generated captions of VPEval's four skills, with one layout each, for `layout`.

Level `easy`: one skill and two nouns a caption, of 30. Level `full`: COCO's 80 nouns and up to three of them a caption,
with counts, one or two places, and a size. What is asked for is the key of a problem, whatever the wording (a cat to
the left of a dog is a dog to the right of a cat); it says which split the problem belongs to. Problem n depends on the
level, the split and n alone, except that what was asked before is drawn again. Even and odd problems take their nouns
from different halves, so no layout meets two captions in a row. Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random

from rrr_cli.records import Problem
from rrr_cli.tasks.layout.boxes import SIDE, Box
from rrr_cli.tasks.layout.problem import SCALE, SPATIAL, WORDS, Requirement, key_of, make_problem
from rrr_cli.tasks.nouns import plural, with_article
from rrr_cli.tasks.splits import split_of

LIMITS = {"easy": {"train": 1200, "test": 500}, "full": {"train": 4000, "test": 1000}}  # problems
TEST_SHARE = 0.3
EASY_NOUNS = (
    "apple", "bear", "bed", "bench", "bird", "boat", "book", "bottle", "bowl", "bus", "cake", "car", "cat", "chair",
    "clock", "cow", "cup", "dog", "fork", "horse", "kite", "orange", "oven", "pizza", "spoon", "train", "truck", "tv",
    "vase", "zebra",
)
NOUNS = (  # of COCO, as VPEval has them
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)
COUNTS = ("", "one", "two", "three", "four")
STEPS = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
CELL, SLOT = 33, 15  # hundredths: a third of the picture for each noun, with 2 by 2 places in it


def problems(level: str, split: str, words: Mapping[str, str] = WORDS) -> Iterator[Problem]:
    """The problems of a level."""
    seen: set[str] = set()
    for number in range(LIMITS[level][split]):
        random = Random(f"layout/{level}/{split}/{number}")
        nouns = (EASY_NOUNS if level == "easy" else NOUNS)[number % 2::2]
        while True:
            skill, caption, requirements = (easy_caption if level == "easy" else full_caption)(random, nouns)
            key = key_of(requirements)
            if key not in seen and split_of(key, TEST_SHARE) == split:
                break
        seen.add(key)
        yield make_problem(caption, requirements, place(requirements), split, f"{level}-{skill}", words)


# Captions ------------------------------------------------------------------------------------------------------------


def easy_caption(random: Random, nouns: Sequence[str]) -> tuple[str, str, list[Requirement]]:
    """A skill, a caption and what it asks for."""
    one, other = random.sample(nouns, 2)
    skill = random.choice(("object", "count", "spatial", "scale"))
    if skill == "object":
        caption, pair = (f"{with_article(one)} and {with_article(other)}", sorted((one, other)))
        return skill, caption, [Requirement("object", noun) for noun in pair]
    if skill == "count":
        counts = {one: random.randint(1, 4), other: random.randint(1, 4)}
        caption = f"{_many(one, counts[one])} and {_many(other, counts[other])}"
        return skill, caption, [Requirement("count", noun, counts[noun]) for noun in sorted(counts)]
    relation = random.choice(list(SPATIAL if skill == "spatial" else SCALE))
    both = [Requirement("object", one), Requirement("object", other)]
    return skill, _related(with_article(one), relation, with_article(other), 1), [
        *both, Requirement(relation, one, 1, other)]


def full_caption(random: Random, nouns: Sequence[str]) -> tuple[str, str, list[Requirement]]:
    """A skill (mixed where there are several), a caption and what it asks for."""
    a, b, c = random.sample(nouns, 3)
    count = random.choice((1, 1, 2, 3, 4))
    skill = random.choice(("object", "count", "spatial", "scale", "mixed", "mixed"))
    if skill == "object":
        caption = f"a picture of {with_article(a)}, {with_article(b)} and {with_article(c)}"
        return skill, caption, [Requirement("object", noun) for noun in (a, b, c)]
    if skill == "count":
        counts = [random.randint(1, 4) for _ in range(3)]
        named = [_many(noun, n) for noun, n in zip((a, b, c), counts, strict=True)]
        caption = f"a picture of {named[0]}, {named[1]} and {named[2]}"
        return skill, caption, [Requirement("count", noun, n) for noun, n in zip((a, b, c), counts, strict=True)]
    relation = random.choice(list(SCALE if skill == "scale" else SPATIAL))
    subject = _many(a, count) if count > 1 else with_article(a)
    requirements = [Requirement("count", a, count) if count > 1 else Requirement("object", a), Requirement("object", b),
              Requirement(relation, a, 1, b)]
    caption = _related(subject, relation, with_article(b), count)
    if skill == "mixed":
        opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}
        second, size = random.choice([r for r in SPATIAL if r != opposite[relation]]), random.choice(list(SCALE))
        caption += f", which is {SPATIAL[second]} {with_article(c)}, and {size_words(size, b, c)}"
        requirements += [Requirement("object", c), Requirement(second, b, 1, c), Requirement(size, b, 1, c)]
    return skill, caption, requirements


def size_words(size: str, one: str, other: str) -> str:
    """`the dog is bigger than the cat`."""
    return f"the {one} is {SCALE[size]} the {other}"


def _many(noun: str, count: int) -> str:
    return f"{COUNTS[count]} {noun if count == 1 else plural(noun)}"


def _related(subject: str, relation: str, other: str, count: int) -> str:
    if relation in SPATIAL:
        return f"{subject} {SPATIAL[relation]} {other}"
    return f"{subject} that {'is' if count == 1 else 'are'} {SCALE[relation]} {other}"


# Layouts -------------------------------------------------------------------------------------------------------------


def place(requirements: Sequence[Requirement]) -> list[Box]:
    """A layout that meets `requirements`: of at most 3 nouns, 4 of each, related in a chain.

    Each noun gets a third of the picture by a third, where its relation says; its boxes are squares in it. The whole
    stands in the middle.
    """
    counts = {one.noun: one.count for one in requirements if one.kind in ("object", "count")}
    names = list(counts)
    large = 12 if max(counts.values()) > 1 else 27
    cells: dict[str, tuple[int, int]] = {}
    sides: dict[str, int] = {}
    for one in requirements:
        if one.kind in STEPS:
            (across, down), (x, y) = STEPS[one.kind], cells.setdefault(one.noun, (0, 0))
            cells[one.other] = (x - across, y - down)
        elif one.kind in SCALE:
            sides[one.noun] = sides[one.other] = large
            sides[one.noun if one.kind == "smaller" else one.other] -= 0 if one.kind == "same" else large // 3
    for name in names:
        if name not in cells:
            cells[name] = next((x, 0) for x in range(len(names)) if (x, 0) not in cells.values())
    left, top = (_start([cell[axis] for cell in cells.values()]) for axis in (0, 1))
    boxes = []
    for name in names:
        x, y, side = left + CELL * cells[name][0], top + CELL * cells[name][1], sides.get(name, large)
        boxes += [Box(name, x + SLOT * (i % 2), y + SLOT * (i // 2), side, side) for i in range(counts[name])]
    return boxes


def _start(cells: Sequence[int]) -> int:
    """Where cell 0 starts when the cells, counted from any number, stand in the middle of the picture."""
    first, count = min(cells), max(cells) - min(cells) + 1
    return (SIDE - CELL * count) // 2 - CELL * first + 2
