"""The stages of round 1 again, with the options that its provenance has: what `rrr self-train --rounds` is made of.

`retrained` trains the reflector of a later round, in the order of Re-ReST (arXiv 2406.01495, section 3.3). The
untrained reflector repairs the round's failures, where it did so in round 1; its repairs that pass, and the round's
pairs of a failed and a passing try, train the reflector from its start; then that one repairs the round's failures.
Reads a run's provenance and the reflector's rrr.json. Refuses a reflector that train-reflector didn't train in the run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from math import gcd
from pathlib import Path
from typing import Any, TypeVar

from rrr_cli.engines import engine_class, takes
from rrr_cli.engines.fingerprints import provenance
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.stages import repair, train_reflector
from rrr_cli.stages.agent import AgentOptions

T = TypeVar("T")


@dataclass(frozen=True)
class Taught:
    """How the run's reflector came about: the options of train-reflector, and those of `rrr repair` by the reflector
    whose repairs it learnt from; None where it learnt from no repairs."""

    training: dict[str, Any]
    untrained: dict[str, Any] | None


def how_trained(run: Path, reflector: str) -> Taught:
    """What its rrr.json and the run's provenance say. Raises RrrError (exit 2): it wasn't trained in this run."""
    trained = provenance(Path(reflector))
    inside = Path(reflector).resolve().parent == (run / "models").resolve()
    if not inside or trained.get("command") != "train-reflector":
        raise RrrError(f"--retrain-reflector: {reflector}, which repaired, isn't a reflector that rrr train-reflector "
                       f"trained in {run}; leave it out, or name one with --repairs-by", USAGE)
    config = trained["config"]
    by = stage_options(run, "repair", config["repairs_by"]) if config["repairs"] else None
    return Taught(config, by)


def retrained(options: AgentOptions, run: Path, taught: Taught, number: int) -> str:
    """Train the reflector of round `number`, whose tries are in `run`; the model's folder. Raises RrrError as
    train-reflector does, for instance where the round has no pair to learn from (exit 5)."""
    if taught.untrained is not None:
        repair.run(filled(repair.Options, taught.untrained, common(options, run, taught.untrained["engine"], number)))
    changes = common(options, run, None, number) | {
        # The reflector's --batch may be another than the agent's, and is made of whole forward passes.
        "micro_batch": gcd(options.micro_batch, taught.training["batch"]),
        "gradient_checkpointing": options.gradient_checkpointing,
    }
    summary = train_reflector.run(filled(train_reflector.Options, taught.training, changes))
    return str(summary["model"])


def common(options: AgentOptions, run: Path, engine: str | None, number: int) -> dict[str, Any]:
    """The options of a stage in round `number` that differ from round 1. `engine` None: it is a training."""
    device = {"device": options.device} if engine is None or "device" in takes(engine_class(engine)) else {}
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
