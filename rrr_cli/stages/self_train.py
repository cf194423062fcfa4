"""`rrr self-train`: train the agent on texts that passed; with `--rounds N` mine, repair and train N times (Re-ReST).

One training is in `agent.py`. Round 1 is the run itself, mined and repaired by commands of the user. Round k
works in `RUN/round-k`, a run with its own tables: the agent of round k-1 tries the same problems with the same options,
the same reflector repairs its failures (or reflects on them, and the agent retries), and --model is trained from its
start on what passed (as ReST-EM does, arXiv 2312.06585). `--retrain-reflector` has a reflector of the round's own
(`round_reflector.py`). The options of round 1 are read from its provenance. Each round resumes where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.options import option, refuse_given
from rrr_cli.stages import Stage, mine_failures, reflect, repair
from rrr_cli.stages.agent import AgentOptions, check_repairers, train_agent
from rrr_cli.stages.agent_texts import OWN, RETRIES
from rrr_cli.stages.mined import is_remote
from rrr_cli.stages.round_reflector import common, filled, how_trained, retrained, stage_options


@dataclass(frozen=True)
class Options(AgentOptions):
    """Flags of `rrr self-train`."""

    rounds: int = option(
        1, "Mine, repair and train this many times, each round in a folder of its own.", least=1, identity=False)
    # What a round learns depends on it by --repairs-by, which is then the round's own reflector.
    retrain_reflector: bool = option(
        False, "Train the reflector anew in each later round, on that round's tries.", identity=False)


def run(options: Options) -> dict[str, Any]:
    """Train once, or in rounds; returns the last round's summary, with all rounds under `rounds`.

    Raises RrrError: --rounds with options that exclude it (exit 2), a run without mining or repairs (3), and as
    `train_agent`.
    """
    if options.rounds == 1:
        refuse_given(options, ["retrain_reflector"], "it is for --rounds 2 or more")
        return train_agent(options)
    if options.texts in (OWN, RETRIES):
        refuse_given(options, ["retrain_reflector"], f"--texts {options.texts} takes no repairs")
    if options.input is not None or options.dry_run:
        raise RrrError("--rounds works in --run itself: leave out --input and --dry-run", USAGE)
    stage = "reflect" if options.texts == RETRIES else "repair"
    mined, second = stage_options(options.run, "mine-failures"), stage_options(options.run, stage, options.repairs_by)
    if mined is None:
        raise RrrError(f"{options.run} wasn't mined. Type: rrr mine-failures --run {options.run}")
    if options.texts != OWN and second is None:
        kind = "retries after reflections" if options.texts == RETRIES else "repairs"
        raise RrrError(f"{options.run} has no {kind}. Type: rrr {stage} --run {options.run}")
    if is_remote(mined["engine"]) or (second is not None and is_remote(second["engine"])):
        raise RrrError("--rounds lets the trained agent try the problems again, and this run was mined or repaired by "
                       "a server, which doesn't have it: mine and repair each round by hand", USAGE)
    return in_rounds(options, mined, None if options.texts == OWN else second)


def in_rounds(options: Options, mined: dict[str, Any], second: dict[str, Any] | None) -> dict[str, Any]:
    """Train as often as --rounds says. `mined`, `second`: how the run was mined, and repaired or reflected on."""
    if second is not None and options.retrain_reflector:
        check_repairers(options.run, options.repairs_by, "repair")
    taught = how_trained(options.run, second["reflector"]) if second is not None and options.retrain_reflector else None
    rounds = [train_agent(options)]
    for number in range(2, options.rounds + 1):
        run, by = options.run / f"round-{number}", options.repairs_by
        mine_again(options, run, mined, rounds[-1]["model"], number)
        if second is not None:
            changes = common(options, run, second["engine"], number)
            if taught is not None:
                by = retrained(options, run, taught, number)
                changes["reflector"] = by
            if options.texts == RETRIES:
                reflect.run(filled(reflect.Options, second, changes | {"model": None}))  # the agent retries
            else:
                repair.run(filled(repair.Options, second, changes))
        rounds.append(train_agent(replace(
            options, run=run, model=options.model or mined["model"], repairs_by=by)))
    return {**rounds[-1], "rounds": rounds}


def mine_again(options: Options, run: Path, mined: dict[str, Any], agent: str, number: int) -> None:
    """Let `agent` try the problems of round 1 with the same options, into `run`."""
    from rrr_cli.store.artifacts import count

    changes = common(options, run, mined["engine"], number) | {"limit": count(options.run, "problems"), "model": agent}
    mine_failures.run(filled(mine_failures.Options, mined, changes))


STAGE = Stage(Options, run, "rrr self-train --model tiny --texts own+repairs --epochs 1 --batch 32")
