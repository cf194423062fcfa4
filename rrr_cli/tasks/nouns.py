"""English nouns as generated prompts and feedback need them: the article and the plural."""

from __future__ import annotations

IRREGULAR = {
    "person": "people", "man": "men", "woman": "women", "child": "children", "mouse": "mice", "knife": "knives",
    "sheep": "sheep", "skis": "skis", "scissors": "scissors",
}


def with_article(noun: str) -> str:
    """`an apple`, `a red apple`; `scissors` as they are."""
    if noun.split(" ")[-1] in ("skis", "scissors"):
        return noun
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """The plural of a noun or of a phrase that ends in one: `wine glasses`, `red apples`."""
    before, _, last = noun.rpartition(" ")
    if last in IRREGULAR:
        last = IRREGULAR[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in tuple("aeiou"):
        last = f"{last[:-1]}ies"
    else:
        last += "s"
    return f"{before} {last}".strip()
