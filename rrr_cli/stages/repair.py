"""`rrr reflect --mode repair`: the reflector of Re-ReST repairs failed attempts (arXiv 2406.01495, section 3.2).

Reads `problems` and failed `attempts`; writes `attempts` (phase repair), whose parent is the failed attempt. A verdict
makes a repair of one: what passes is the paper's D_R. The repairs of each reflector, by its name, are a stage of
their own, so that an untrained and a trained one can repair the same failures in one run. Refuses a reflector that was
trained with other feedback.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrr_cli.engines import model_fingerprint
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.progress import Work
from rrr_cli.records import content_id
from rrr_cli.rollout import Failure, feedback_text
from rrr_cli.stages.mined import Copies, mining
from rrr_cli.stages.setup import configuration, open_loop
from rrr_cli.tasks.base import Task

if TYPE_CHECKING:
    from rrr_cli.stages.reflect import Options


def repair(
    options: Options, task: Task, reflector: str, failed: list[Failure], source: Path
) -> dict[str, Any]:
    """Repair what is owed, and return the summary that `--json` prints."""
    check_feedback(reflector, options.feedback)
    if failed:
        feedback_text(task, failed[0], options.feedback)  # refuses before a model is loaded
    if options.dry_run:
        return {"failed_attempts": len(failed), "repairs": len(failed) * options.retries}
    from rrr_cli.store.artifacts import Writer

    weights = model_fingerprint(options.engine, reflector, options.base_url)
    config = configuration(options, task) | {
        "reflector": reflector, "model_fingerprint": weights, "feedback": options.feedback,
        "repairs": options.retries, "per_problem": options.per_problem, "own_samples": options.own_samples,
    }
    inputs = {"attempts": content_id(mining(source))}

    def writer(table: str) -> Writer:
        stage = f"repair-{content_id(reflector)[:8]}"
        return Writer(options.run, table, stage, config, inputs, options.overwrite, options.seed)

    copies = Copies(source, options.run, failed)
    with writer("attempts") as attempt_rows, writer("problems") if copies.needed else nullcontext() as problem_rows:
        repaired = attempt_rows.done("parent_id")
        owed = [f for f in failed if f.attempt_id not in repaired]
        if owed:
            loop = open_loop(options, task, reflector)
            with Work("repairing", len(failed), len(failed) - len(owed)) as work:
                for start in range(0, len(owed), options.part):
                    part = owed[start : start + options.part]
                    written = loop.repair(part, options.feedback, range(options.retries))
                    repairs = [a for rows in written for a in rows]
                    if problem_rows:
                        problem_rows.append(copies.problems(part))
                    attempt_rows.append([*copies.attempts(part), *repairs])
                    work.advance(len(part), f"{sum(a.success for a in repairs)}/{len(repairs)} repairs passed")
            loop.engine.close()
    return summarise(options, reflector, {f.attempt_id for f in failed})


def check_feedback(reflector: str, feedback: str) -> None:
    """Raise RrrError (exit 2) for a reflector that train-reflector has trained with other feedback than this."""
    from rrr_cli.training.checkpoints import provenance

    learnt = provenance(Path(reflector)).get("feedback", feedback)
    if learnt != feedback:
        raise RrrError(f"{reflector} was trained with --feedback {learnt}, and this would tell it {feedback}", USAGE)


def summarise(options: Options, reflector: str, wanted: set[str]) -> dict[str, Any]:
    """Counts over the failed attempts asked for, of this reflector's repairs."""
    from rrr_cli.store.artifacts import read

    repairs = passed = 0
    repaired: set[str] = set()
    for row in read(options.run, "attempts", columns=["parent_id", "phase", "model", "success"]):
        if row["phase"] == "repair" and row["model"] == reflector and row["parent_id"] in wanted:
            repairs, passed = repairs + 1, passed + row["success"]
            if row["success"]:
                repaired.add(row["parent_id"])
    return {
        "failed_attempts": len(wanted), "reflector": reflector, "feedback": options.feedback, "repairs": repairs,
        "repairs_passed": passed, "failed_attempts_repaired": len(repaired),
    }
