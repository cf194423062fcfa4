"""The small language of reflections in `tiny-household`'s chats, and what a player takes from them.

A sentence says where a thing was or wasn't, gives advice, or is useless. Reads and writes no file; text that is no
sentence of the language is passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rrr_cli.tasks.household.simulator import APPLIANCES

#: Thing and place are named as the task names them.
WAS = "The {thing} was in {place} ."
ABSENT = "I looked in {place} and the {thing} was not there ."
OPEN = "Open what is closed ."
LIKELY = "Search likely places first ."
ALL = "Do all that the task asks ."
TREAT = {verb: f"{verb.capitalize()} it before you put it down ." for verb in APPLIANCES}
USELESS = ("I should try harder .", "I was unlucky .", "The task is hard .", "Next time will be better .")


@dataclass
class Notes:
    """What a player heeds."""

    opens: bool = False  # leaves nothing closed
    searches: bool = False  # likely places first, and no turn is wasted
    treats: bool = False
    places: dict[str, str] = field(default_factory=dict)  # kind of thing -> where to go for it first
    absent: set[tuple[str, str]] = field(default_factory=set)  # (kind of thing, place)

    def read(self, text: str, kind: str, places: bool = True) -> None:
        """Add what a reflection says. `kind` is the goal's: advice about another treatment doesn't count."""
        self.opens |= OPEN in text
        self.searches |= LIKELY in text
        self.treats |= ALL in text or TREAT.get(kind, ALL) in text
        if places:
            self.places |= dict(re.findall(r"The ([a-z]+) was in ([a-z]+ \d+) \.", text))
            self.absent |= {(t, p) for p, t in re.findall(r"in ([a-z]+ \d+) and the ([a-z]+) was not there", text)}
