"""The verdict on one layout: how many of a caption's requirements it meets. Reads and writes nothing; never raises.

The rules are VPEval's (arXiv 2305.15328): see `task.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.layout.boxes import Box, Refused, read, write
from rrr_cli.tasks.layout.problem import SCALE, SPATIAL, Requirement
from rrr_cli.tasks.nouns import plural, with_article

SAME_BOX = 0.9  # IoU above which two boxes of one name are one object
APART, LARGER = 1, 1.05  # VPEval's 5 pixels of 512, and its 5 % of the area


def judge(text: str, requirements: Sequence[Requirement], threshold: float = 1.0) -> Verdict:
    """The verdict on one answer text: how many of the requirements its layout meets, and the first that it doesn't."""
    try:
        boxes = read(text)
    except Refused as refused:
        return Verdict(False, 0.0, refused.error_type, str(refused), None)
    nouns = dict.fromkeys(noun for one in requirements for noun in (one.noun, one.other) if noun)
    boxes_by_noun = {noun: distinct([b for b in boxes if b.name in spellings(noun)]) for noun in nouns}
    known = {name for noun in nouns for name in spellings(noun)}
    unrequested = sorted({b.name for b in boxes} - known)
    unmet = [failure for failure in (failed(one, boxes_by_noun) for one in requirements) if failure]
    unmet += [("wrong_object", f"There should be no {plural(name)} in the picture.") for name in unrequested]
    score = (len(requirements) + len(unrequested) - len(unmet)) / (len(requirements) + len(unrequested))
    answer = write(boxes)
    if not unmet:
        return Verdict(True, 1.0, None, "The layout meets the caption.", answer)
    error_type, feedback = unmet[0]
    success = score >= threshold
    return Verdict(success, score, None if success else error_type, feedback, answer)


def spellings(noun: str) -> tuple[str, ...]:
    """The names that a box of `noun` may have: a plural will do."""
    return noun, plural(noun), f"{noun}s"


def distinct(boxes: Sequence[Box]) -> list[Box]:
    """Boxes without those that cover an earlier one."""
    kept: list[Box] = []
    for box in boxes:
        if all(overlap(box, other) <= SAME_BOX for other in kept):
            kept.append(box)
    return kept


def overlap(a: Box, b: Box) -> float:
    """Intersection over union, in [0, 1]."""
    wide = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    high = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    shared = max(wide, 0) * max(high, 0)
    return shared / (a.w * a.h + b.w * b.h - shared)


def failed(one: Requirement, boxes_by_noun: dict[str, list[Box]]) -> tuple[str, str] | None:
    """The error type and the feedback where a requirement isn't met; None where it is."""
    number = len(boxes_by_noun[one.noun])
    if one.kind == "object":
        feedback = f"There should be {with_article(one.noun)}; none was found."
        return None if number else ("missing_object", feedback)
    if one.kind == "count":
        feedback = f"There should be {counted(one.count, one.noun)}; {number} {'was' if number == 1 else 'were'} found."
        return None if number == one.count else ("wrong_count", feedback)
    pairs = [(a, b) for a in boxes_by_noun[one.noun] for b in boxes_by_noun[one.other]]
    if pairs and all(_holds(one.kind, a, b) for a, b in pairs):
        return None
    feedback = f"The {one.noun} should be {(SPATIAL | SCALE)[one.kind]} the {one.other}; it isn't."
    return ("wrong_relation" if one.kind in SPATIAL else "wrong_scale", feedback)


def counted(count: int, noun: str) -> str:
    """`1 apple`, `3 apples`."""
    return f"{count} {noun if count == 1 else plural(noun)}"


def _holds(kind: str, a: Box, b: Box) -> bool:
    right = a.x + a.w / 2 - b.x - b.w / 2
    down = a.y + a.h / 2 - b.y - b.h / 2
    ratio = a.w * a.h / (b.w * b.h)
    return {
        "left": right < -APART, "right": right > APART, "above": down < -APART, "below": down > APART,
        "bigger": ratio > LARGER, "smaller": ratio < 1 / LARGER, "same": 1 / LARGER <= ratio <= LARGER,
    }[kind]
