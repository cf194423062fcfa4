"""What GRPO trains, by name: a file and a line here, an entry point of group `rrr.objectives`, or a class of a file."""

from __future__ import annotations

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.plugs import Plug, find

OBJECTIVES = {
    "reflection": "rrr_cli.training.objectives.reflection:Reflection",
    "answer": "rrr_cli.training.objectives.answer:Answer",
    "reflection+answer": "rrr_cli.training.objectives.conversation:Conversation",
    "attempts": "rrr_cli.training.objectives.attempts:Attempts",
    "distil": "rrr_cli.training.objectives.distil:Distil",
}
PARTS = ("tries", "check", "fit", "complete", "reward")  # and those that `base.Objective` says may be left out


def find_objective(name: str) -> Plug:
    """The class that `--objective NAME` means. Raises RrrError (exit 2): no such objective, or a part is missing."""
    plug = find("objective", name, OBJECTIVES)
    missing = [part for part in PARTS if not hasattr(plug.cls, part)]
    if missing:
        raise RrrError(
            f"--objective {name}: it has no {' and no '.join(missing)}; an objective needs {', '.join(PARTS)} (see "
            f"rrr_cli/training/objectives/base.py)", USAGE,
        )
    return plug
