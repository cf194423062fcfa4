"""`rrr self-train --rounds N`: mine, repair, train; then again with the agent that came out.

Round 1 is the run itself, as it was mined and repaired by hand. Round k works in `RUN/round-k`, a run of its own with
its own tables: the agent of round k-1 tries the same problems in the same way, the same reflector repairs its failures,
and the model that was named is trained anew on what passed (as ReST-EM does, arXiv 2312.06585). How round 1 was mined
and repaired is read from its provenance. Each round goes on where it stopped.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.stages import mine_failures, reflect

if TYPE_CHECKING:
    from rrr_cli.stages.self_train import Options

T = TypeVar("T")


def run_rounds(options: Options) -> dict[str, Any]:
    """Every round in turn; the last one's summary, with all rounds under `rounds`. Raises RrrError as they do."""
    from rrr_cli.stages import self_train

    if options.input is not None or options.dry_run:
        raise RrrError("--rounds works in --run itself: leave out --input and --dry-run", USAGE)
    mined, repaired = made(options.run, "mine-failures"), made(options.run, "repair-", options.repairs_by)
    if mined is None:
        raise RrrError(f"{options.run} wasn't mined. Type: rrr mine-failures --run {options.run}")
    if options.texts != self_train.OWN and repaired is None:
        raise RrrError(f"{options.run} has no repairs. Type: rrr reflect --mode repair --run {options.run}")
    from rrr_cli.store.artifacts import count

    problems = count(options.run, "problems")
    rounds = [self_train.run(replace(options, rounds=1))]
    for number in range(2, options.rounds + 1):
        run, agent = options.run / f"round-{number}", rounds[-1]["model"]
        base = options.model or mined["model"]
        again: dict[str, Any] = {
            "run": run, "task": options.task, "limit": problems, "seed": options.seed + number - 1, "model": agent,
            "overwrite": options.overwrite, "device": options.device,
        }
        mine_failures.run(filled(mine_failures.Options, mined, again))
        if repaired is not None and options.texts != self_train.OWN:
            again |= {"limit": None, "mode": "repair", "retries": repaired["repairs"]}
            reflect.run(filled(reflect.Options, repaired, again))
        rounds.append(self_train.run(replace(options, run=run, model=base, rounds=1)))
    return {**rounds[-1], "rounds": rounds}


def made(run: Path, stage: str, reflector: str | None = None) -> dict[str, Any] | None:
    """The configuration of the stage of that name (or beginning) that wrote the run's attempts: the last of them, or
    that of `reflector`."""
    from rrr_cli.store.artifacts import provenance

    found = [p["config"] for p in provenance(run, "attempts") if p["stage"].startswith(stage)]
    found = [c for c in found if reflector is None or c.get("reflector") == reflector]
    return dict(json.loads(json.dumps(found[-1]))) if found else None


def filled(kind: type[T], config: dict[str, Any], changes: dict[str, Any]) -> T:
    """Options of a stage as a configuration says them, with changes."""
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**{k: v for k, v in config.items() if k in names} | changes)
