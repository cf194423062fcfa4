"""The action in a model's turn: `Action: Search[…]`, `Lookup[…]` or `Finish[…]`. Reads and writes nothing.

ReAct's numbered form (`Action 1: …`) will do, case doesn't matter. The last closed action of a turn counts; its
argument ends at the last ] of its line.
"""

from __future__ import annotations

import re

from rrr_cli.tasks.hotpotqa.corpus import one_line

MAX_TURN = 20_000  # characters of a turn that are looked at, from its end
MARKER = re.compile(r"\baction[ \t]{0,3}\d{0,3}[ \t]{0,3}:[ \t]{0,3}(search|lookup|finish)[ \t]{0,3}\[", re.IGNORECASE)


def action_of(turn: str) -> tuple[str, str] | None:
    """The last closed action of a turn: search, lookup or finish, and its argument on one line."""
    turn = turn[-MAX_TURN:]
    end = len(turn)
    for marker in reversed(list(MARKER.finditer(turn))):
        line = re.split(r"[\r\n]", turn[marker.end() : end], maxsplit=1)[0]
        argument, closed, _ = line.rpartition("]")
        if closed:
            return marker[1].lower(), one_line(argument)
        end = marker.start()
    return None
