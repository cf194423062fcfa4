"""A household in text, in ALFWorld's words (arXiv 2010.03768): go, open, take, heat, put down.

Commands and answers are those of ALFWorld 0.4's grammar (`move O to R`; `put O in/on R` is taken too), without `slice`,
`help` and things that stand inside other things. An object is at one place: in a receptacle or in the hand. What is in
a closed receptacle isn't seen; each receptacle stands apart, where ALFWorld may let you reach two from one spot. The
real engine (`--task alfworld`) differs further: it lists things by id, not in the order in which they were put; `look`
before the first move sees nothing; and only what is in the hand can be examined.

A game: `{"goal": {"kind", "object", "target", "text"}, "receptacles": [{"name", "openable", "contents"}], "accepts"}`.
The kind is one of `KINDS`, object and target are types ("apple", "fridge"; the target of `light` is a lamp), names have
numbers ("apple 1"), what is openable starts closed. `accepts`, where given, maps a receptacle's type to the types that
may be put there; without it `rooms.PLACES` decides. Nothing is read or written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rrr_cli.tasks.household.rooms import PLACES

#: Kind of goal -> its wordings in ALFWorld: its task types pick_and_place_simple, look_at_obj_in_light,
#: pick_clean_then_place_in_recep, the same with heat and cool, pick_two_obj_and_place.
KINDS = {
    "place": ("put a {object} in {target}.", "put some {object} on {target}."),
    "light": ("look at {object} under the {target}.", "examine the {object} with the {target}."),
    "clean": ("put a clean {object} in {target}.", "clean some {object} and put it in {target}."),
    "heat": ("put a hot {object} in {target}.", "heat some {object} and put it in {target}."),
    "cool": ("put a cool {object} in {target}.", "cool some {object} and put it in {target}."),
    "two": ("put two {object} in {target}.", "find two {object} and put them in {target}."),
}
APPLIANCES = {"heat": "microwave", "cool": "fridge", "clean": "sinkbasin"}
#: What each appliance takes, as in ALFRED.
TREATABLE = {verb: set(things.split()) for verb, things in {
    "heat": "apple bread cup egg mug plate potato tomato",
    "cool": "apple bowl bread cup egg lettuce mug pan plate pot potato tomato winebottle",
    "clean": "apple bowl butterknife cloth cup dishsponge egg fork kettle knife ladle lettuce mug pan plate pot potato "
             "soapbar spatula spoon tomato",
}.items()}
LAMPS = {"desklamp", "floorlamp"}
VESSELS = {"bowl", "box", "cup", "mug", "pan", "plate", "pot"}
NOTHING = "Nothing happens."
NAME = r"([a-z]+ [0-9]{1,3})"
#: First word -> the whole command.
COMMANDS = {word: re.compile(pattern) for word, pattern in {
    "look": "look", "inventory": "inventory", "go": f"go to {NAME}", "open": f"open {NAME}", "close": f"close {NAME}",
    "examine": f"examine {NAME}", "use": f"use {NAME}", "take": f"take {NAME} from {NAME}",
    "move": f"move {NAME} to {NAME}", "put": f"put {NAME} (?:in/on|in|on) {NAME}", "heat": f"heat {NAME} with {NAME}",
    "cool": f"cool {NAME} with {NAME}", "clean": f"clean {NAME} with {NAME}",
}.items()}


def kind_of(name: str) -> str:
    """The type of a numbered thing: apple for "apple 1"."""
    return name.rpartition(" ")[0]


class House:
    """One game being played. `act` changes it; the same commands always lead to the same state."""

    def __init__(self, game: dict[str, Any]) -> None:
        self.goal = game["goal"]
        self.accepts = game.get("accepts")
        self.contents: dict[str, list[str]] = {r["name"]: list(r["contents"]) for r in game["receptacles"]}
        self.openable = {r["name"] for r in game["receptacles"] if r["openable"]}
        self.opened: set[str] = set()
        self.at: str | None = None
        self.held: str | None = None
        self.treated: dict[str, set[str]] = {"heat": set(), "cool": set(), "clean": set()}
        self.lit: set[str] = set()
        self._verbs: dict[str, Callable[..., str | None]] = {
            "look": self.look, "inventory": self._inventory, "go": self._go, "open": self._open, "close": self._close,
            "examine": self._examine, "use": self._use, "take": self._take, "move": self._move, "put": self._move,
        }

    def act(self, command: str) -> str:
        """Do what `command` says, case and white space aside; `NOTHING`, and no change, where it can't be done."""
        words = command.lower().split()
        pattern = COMMANDS.get(words[0]) if words else None
        match = pattern.fullmatch(" ".join(words)) if pattern else None
        if match is None:
            return NOTHING
        if words[0] in APPLIANCES:
            return self._treat(words[0], *match.groups()) or NOTHING
        return self._verbs[words[0]](*match.groups()) or NOTHING

    def admissible(self) -> list[str]:
        """Every command, in its ALFWorld 0.4 form, that isn't answered with `NOTHING` now."""
        commands = ["look", "inventory", *(f"go to {r}" for r in self.contents if r != self.at)]
        if self.at is None:
            return commands
        commands.append(f"examine {self.at}")
        if self.at in self.openable:
            commands.append(f"{'close' if self.at in self.opened else 'open'} {self.at}")
        for thing in self._seen():
            commands.append(f"examine {thing}")
            if kind_of(thing) in LAMPS:
                commands.append(f"use {thing}")
            elif self.held is None:
                commands.append(f"take {thing} from {self.at}")
        if self.held is not None:
            commands.append(f"examine {self.held}")
            commands += [f"{verb} {self.held} with {self.at}" for verb in APPLIANCES if self._treats(verb)]
            if self.is_open(self.at) and self._may_hold(self.at, self.held):
                commands.append(f"move {self.held} to {self.at}")
        return commands

    def done(self) -> bool:
        """Whether the goal is met now."""
        kind, object_type, target = self.goal["kind"], self.goal["object"], self.goal["target"]
        if kind == "light":
            lit = self.at is not None and any(kind_of(o) == target for o in self.contents[self.at] if o in self.lit)
            return lit and self.held is not None and kind_of(self.held) == object_type
        right, needed = self.treated.get(kind), 2 if kind == "two" else 1
        return any(
            sum(kind_of(o) == object_type and (right is None or o in right) for o in inside) >= needed
            for r, inside in self.contents.items() if kind_of(r) == target
        )

    def look(self) -> str:
        """What is seen from here; before the first step, the room."""
        if self.at is not None:
            return f"You are facing the {self.at}. Next to it, you see nothing."
        names = sorted(self.contents, key=lambda name: (kind_of(name), -int(name.rpartition(" ")[2])))
        return f"You are in the middle of a room. Looking quickly around you, you see {_listed(names)}."

    def is_open(self, receptacle: str) -> bool:
        """Whether it stands open, or can't be closed."""
        return receptacle not in self.openable or receptacle in self.opened

    def _seen(self) -> list[str]:
        return self.contents[self.at] if self.at is not None and self.is_open(self.at) else []

    def _may_hold(self, receptacle: str, thing: str) -> bool:
        if self.accepts is not None:
            return kind_of(thing) in self.accepts.get(kind_of(receptacle), ())
        return kind_of(thing) not in PLACES or kind_of(receptacle) in PLACES[kind_of(thing)]

    def _treats(self, verb: str) -> bool:
        return (self.at is not None and kind_of(self.at) == APPLIANCES[verb]
                and self.held is not None and kind_of(self.held) in TREATABLE[verb])

    def _inventory(self) -> str:
        return "You are not carrying anything." if self.held is None else f"You are carrying: a {self.held}."

    def _go(self, receptacle: str) -> str | None:
        if receptacle not in self.contents or receptacle == self.at:
            return None
        self.at = receptacle
        return f"You arrive at {receptacle}. {self._view(receptacle)}"

    def _view(self, receptacle: str) -> str:
        if not self.is_open(receptacle):
            return f"The {receptacle} is closed."
        where = f"The {receptacle} is open. In it" if receptacle in self.openable else f"On the {receptacle}"
        return f"{where}, you see {_listed(self.contents[receptacle])}."

    def _open(self, receptacle: str) -> str | None:
        if receptacle != self.at or self.is_open(receptacle):
            return None
        self.opened.add(receptacle)
        return f"You open the {receptacle}. {self._view(receptacle)}"

    def _close(self, receptacle: str) -> str | None:
        if receptacle != self.at or receptacle not in self.opened:
            return None
        self.opened.remove(receptacle)
        return f"You close the {receptacle}."

    def _take(self, thing: str, receptacle: str) -> str | None:
        if receptacle != self.at or self.held is not None or thing not in self._seen() or kind_of(thing) in LAMPS:
            return None
        self.contents[receptacle].remove(thing)
        self.held = thing
        return f"You pick up the {thing} from the {receptacle}."

    def _move(self, thing: str, receptacle: str) -> str | None:
        if receptacle != self.at or self.held != thing or not self.is_open(receptacle):
            return None
        if not self._may_hold(receptacle, thing):
            return None
        self.contents[receptacle].append(thing)
        self.held = None
        return f"You move the {thing} to the {receptacle}."

    def _treat(self, verb: str, thing: str, receptacle: str) -> str | None:
        if receptacle != self.at or self.held != thing or not self._treats(verb):
            return None
        self.treated[verb].add(thing)
        if verb != "clean":
            self.treated["cool" if verb == "heat" else "heat"].discard(thing)
        return f"You {verb} the {thing} using the {receptacle}."

    def _use(self, thing: str) -> str | None:
        if thing not in self._seen() or kind_of(thing) not in LAMPS:
            return None
        self.lit.add(thing)  # ALFWorld never says that it is off again
        return f"You turn on the {thing}."

    def _examine(self, name: str) -> str | None:
        if name == self.at:
            return self._view(name)
        if name != self.held and name not in self._seen():
            return None
        if kind_of(name) in VESSELS:
            return f"This is a normal {name}. In it, you see nothing."
        if kind_of(name) in LAMPS:
            return f"This {name} is {'on' if name in self.lit else 'off'}."
        hot, cool, clean = (name in self.treated[verb] for verb in ("heat", "cool", "clean"))
        if clean and (hot or cool):
            return f"This is a {'hot' if hot else 'cool'} and clean {name}."
        if hot or cool or clean:
            return f"This is a {'hot' if hot else 'cold' if cool else 'clean'} {name}."
        return f"There's nothing special about {name}."


def _listed(names: list[str]) -> str:
    """As ALFWorld lists: nothing; a cup 1; a cup 1, and a pan 1; a cup 1, a pan 1, and a pot 1."""
    if len(names) < 2:
        return f"a {names[0]}" if names else "nothing"
    return ", ".join(f"a {name}" for name in names[:-1]) + f", and a {names[-1]}"
