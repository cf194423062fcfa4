"""The stages by command, and what a stage is. A stage reads Parquet tables of a run and writes others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rrr_cli.errors import USAGE, RrrError

if TYPE_CHECKING:
    from rich.console import Console

#: command -> (module with its STAGE, one line of help), in the order of a pipeline
STAGES = {
    "mine-failures": ("mine_failures", "Try each training problem; keep every attempt and verdict."),
    "reflect": ("reflect", "Write reflections on failed attempts, and retry after each."),
    "grpo": ("grpo", "Train the reflections: reward is whether the retry passes (TRL's GRPO)."),
    "repair": ("repair", "Let a reflector write repaired outputs of failed attempts (Re-ReST)."),
    "train-reflector": ("train_reflector", "Teach a model to repair failed attempts (Re-ReST)."),
    "self-train": ("self_train", "Train the agent on its passing tries and on repairs: SFT or DPO."),
    "eval": ("evaluate", "First and second tries on the test split, with controls, paired tests."),
    "forgetting": ("forgetting", "What training lost on MMLU-Pro, GSM8K, HellaSwag and MATH."),
}


@dataclass(frozen=True)
class Stage:
    """One command. `options` is a frozen dataclass of `rrr_cli.options.option` fields, `run` and `seed` among them."""

    options: type[Any]
    run: Callable[[Any], dict[str, Any]]  # options -> the summary that `--json` prints; {} prints nothing
    example: str  # for `--help`
    show: Callable[[dict[str, Any], Console], None] | None = None  # prints the summary; None: a line a key
    gate: Callable[[dict[str, Any], Any], None] | None = None  # raises RrrError (exit 5) if a rate is too low


def load(name: str) -> Stage:
    """The stage of a command."""
    from importlib import import_module

    stage: Stage = import_module(f"rrr_cli.stages.{STAGES[name][0]}").STAGE
    return stage


def renamed(arguments: list[str]) -> list[str]:
    """A command line with `reflect --mode`, whose mode repair is now the command `repair`, in today's words; any other
    as it is. Raises RrrError (exit 2) where a --config would have to be renamed too."""
    if arguments[:1] != ["reflect"]:
        return arguments
    words = [part for word in arguments[1:] for part in (word.split("=", 1) if word.startswith("--mode=") else [word])]
    mode = next((words[i + 1] for i in range(len(words) - 1) if words[i] == "--mode"), None)
    if mode not in ("retry", "repair"):
        return arguments
    place = words.index("--mode")
    rest = words[:place] + words[place + 2 :]
    if mode == "retry":
        return ["reflect", *rest]
    if any(word.split("=")[0] == "--config" for word in rest):
        raise RrrError("reflect --mode repair is now rrr repair: type that, and rename [reflect] to [repair] in the "
                       "--config", USAGE)
    return ["repair", *("--repairs" + w[9:] if w.split("=")[0] == "--retries" else w for w in rest)]
