"""`rrr self-train`: train the agent on texts that passed; with `--rounds N` mine, repair and train N times (Re-ReST).

One training is in `agent.py`. Round 1 is the run itself, mined and repaired by commands of the user. Round k
works in `RUN/round-k`, a run with its own tables: the agent of round k-1 tries the same problems with the same options,
the same reflector repairs its failures, and --model is trained from its start on what passed (as ReST-EM does, arXiv
2312.06585). The options of round 1 are read from its provenance. Each round resumes where it stopped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from rrr_cli.engines import engine_class, takes
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.options import option
from rrr_cli.stages import Stage, mine_failures, repair
from rrr_cli.stages.agent import OWN, AgentOptions, train_agent
from rrr_cli.stages.mined import is_remote

T = TypeVar("T")


@dataclass(frozen=True)
class Options(AgentOptions):
    """Flags of `rrr self-train`."""

    rounds: int = option(
        1, "Mine, repair and train this many times, each round in a folder of its own.", least=1, identity=False)


def run(options: Options) -> dict[str, Any]:
    """Train once, or in rounds; returns the last round's summary, with all rounds under `rounds`.

    Raises RrrError: --rounds with options that exclude it (exit 2), a run without mining or repairs (3), and as
    `train_agent`.
    """
    if options.rounds == 1:
        return train_agent(options)
    if options.input is not None or options.dry_run:
        raise RrrError("--rounds works in --run itself: leave out --input and --dry-run", USAGE)
    mined, repaired = stage_options(options.run, "mine-failures"), stage_options(
        options.run, "repair-", options.repairs_by)
    if mined is None:
        raise RrrError(f"{options.run} wasn't mined. Type: rrr mine-failures --run {options.run}")
    if options.texts != OWN and repaired is None:
        raise RrrError(f"{options.run} has no repairs. Type: rrr repair --run {options.run}")
    if is_remote(mined["engine"]) or (repaired is not None and is_remote(repaired["engine"])):
        raise RrrError("--rounds lets the trained agent try the problems again, and this run was mined or repaired by "
                       "a server, which doesn't have it: mine and repair each round by hand", USAGE)
    rounds = [train_agent(options)]
    for number in range(2, options.rounds + 1):
        run = options.run / f"round-{number}"
        mine_again(options, run, mined, rounds[-1]["model"], number)
        if repaired is not None and options.texts != OWN:
            again = common(options, run, repaired, number)
            repair.run(filled(repair.Options, repaired, again))
        rounds.append(train_agent(replace(options, run=run, model=options.model or mined["model"])))
    return {**rounds[-1], "rounds": rounds}


def mine_again(options: Options, run: Path, mined: dict[str, Any], agent: str, number: int) -> None:
    """Let `agent` try the problems of round 1 with the same options, into `run`."""
    from rrr_cli.store.artifacts import count

    again = common(options, run, mined, number) | {"limit": count(options.run, "problems"), "model": agent}
    mine_failures.run(filled(mine_failures.Options, mined, again))


def common(options: Options, run: Path, before: dict[str, Any], number: int) -> dict[str, Any]:
    """The options of a stage in round `number` that differ from round 1."""
    device = {"device": options.device} if "device" in takes(engine_class(before["engine"])) else {}
    seed = options.seed + number - 1
    return {"run": run, "task": options.task, "seed": seed, "overwrite": options.overwrite, **device}


def stage_options(run: Path, stage: str, reflector: str | None = None) -> dict[str, Any] | None:
    """The stored configuration of the last stage whose name begins with `stage` that wrote the run's attempts; with
    `reflector`, of that reflector. None if there is none."""
    from rrr_cli.store.artifacts import provenance

    configs = [p["config"] for p in provenance(run, "attempts") if p["stage"].startswith(stage)]
    configs = [c for c in configs if reflector is None or c.get("reflector") == reflector]
    return dict(json.loads(json.dumps(configs[-1]))) if configs else None


def filled(kind: type[T], config: dict[str, Any], changes: dict[str, Any]) -> T:
    """A stage's options from a stored configuration, with changes."""
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**{k: v for k, v in config.items() if k in names} | changes)


STAGE = Stage(Options, run, "rrr self-train --model tiny --texts own+repairs --epochs 1 --batch 32")
