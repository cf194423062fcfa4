"""`rrr repair`: the reflector of Re-ReST repairs failed attempts (arXiv 2406.01495, section 3.2).

The reflector writes its reasoning and the repaired output in one completion. Reads `problems` and failed `attempts`;
writes `attempts` (phase repair), whose parent is the failed attempt. The repairs that pass are the paper's D_R. Each
reflector (by its name) is a stage of its own in the store, so that an untrained and a trained one can repair the same
failures in one run. Of a trained one it says how often it repairs on problems held out of its training
(`repair_rates.py`). Refuses a reflector that was trained with other feedback.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrr_cli import options as shared
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.failures import Failure
from rrr_cli.flow import Flow
from rrr_cli.options import option
from rrr_cli.progress import Work
from rrr_cli.prompts import REPAIRING
from rrr_cli.records import Attempt, content_id
from rrr_cli.rollout import Loop, feedback_text
from rrr_cli.stages import Stage
from rrr_cli.stages.identity import identity
from rrr_cli.stages.mined import FailureOptions, check_same_judge, chosen_failures, copy_failures
from rrr_cli.stages.rendering import dated
from rrr_cli.stages.repair_rates import repair_rates, show
from rrr_cli.stages.setup import open_loop, weights_of, window
from rrr_cli.stages.unanswered import answered, count, counts, finish, indices, missing, record
from rrr_cli.stories import Story


@dataclass(frozen=True)
class Options(FailureOptions):
    """Flags of `rrr repair`."""

    model: str | None = shared.model(None, "repairs, unless --reflector names another")
    reflector: str | None = option(None, "The model that repairs.  [default: --model]")
    feedback: str = shared.feedback("the reflector")
    repairs: int = option(1, "Repairs of each failed attempt.", least=1)


def run(options: Options) -> dict[str, Any]:
    """Repair the failures without a repair, and return the summary that `--json` prints.

    Raises RrrError: bad options (exit 2), unfit attempts or table (3), a missing extra (4), no failures (5), stopped.
    """
    chosen = chosen_failures(options)
    options, failed = chosen.options, chosen.failures
    reflector = options.reflector or str(options.model)
    check_feedback(reflector, options.feedback)
    feedback_text(chosen.task, failed[0], options.feedback)  # refuses before a model is loaded
    if options.dry_run:
        return {"failed_attempts": len(failed), "repairs": len(failed) * options.repairs}
    from rrr_cli.store.artifacts import Writer

    options = dated(options, [reflector], chosen.source, options.run)
    depends_on = identity(
        options, chosen.task, {"reflector": weights_of(options, reflector)}, REPAIRING, reflector=reflector,
        model=None)

    check_same_judge(chosen.source, depends_on)

    def writer(table: str) -> Writer:
        stage = f"repair-{content_id(reflector)[:8]}"
        return Writer(options.run, table, stage, depends_on, chosen.inputs, options.overwrite, options.seed)

    copy_failures(chosen.source, options.run, failed)
    with writer("attempts") as attempt_rows:
        begun = indices(attempt_rows, "parent_id")
        remaining = [f for f in failed if len(begun.get(f.attempt_id, ())) < options.repairs]
        without: dict[str, Any] = {}
        if remaining:
            loop = open_loop(options, chosen.task, reflector)
            flow: Flow[list[Attempt]] = Flow(window(options, loop))
            with Work("repairing", len(failed), len(failed) - len(remaining)) as work:
                for part in flow.parts(stories(loop, remaining, options, begun), options.part):
                    repairs = [a for rows in part for a in rows]
                    record(attempt_rows, loop)
                    attempt_rows.append(repairs)
                    count(work, len(part), f"{sum(a.success for a in repairs)}/{len(repairs)} repairs passed", loop)
                finish(work, loop)
            loop.engine.close()
            without = counts(loop, tried=len({f.problem.problem_id for f in failed}))
    return summarise(options, reflector, failed) | without


def stories(
    loop: Loop, failures: Iterable[Failure], options: Options, begun: Mapping[str, set[int]]
) -> Iterator[Story[list[Attempt]]]:
    """A story a failure: the repairs that it doesn't have yet."""
    for failure in failures:
        yield story(loop, failure, options.feedback, missing(options.repairs, begun.get(failure.attempt_id, ())))


def story(loop: Loop, failure: Failure, feedback: str, samples: Sequence[int]) -> Story[list[Attempt]]:
    """Repairs number `samples` of a failure."""
    (rows,) = yield from loop.repairing([failure], feedback, samples)
    return answered(rows)


def check_feedback(reflector: str, feedback: str) -> None:
    """Raise RrrError (exit 2) if train-reflector trained this reflector with other feedback."""
    from rrr_cli.training.checkpoints import provenance

    trained_with = provenance(Path(reflector)).get("feedback", feedback)
    if trained_with != feedback:
        raise RrrError(
            f"{reflector} was trained with --feedback {trained_with}, but would be shown {feedback} here: type "
            f"--feedback {trained_with}", USAGE)


def summarise(options: Options, reflector: str, failures: list[Failure]) -> dict[str, Any]:
    """Counts of this reflector's repairs of these failed attempts, and its rates by what it learnt."""
    from rrr_cli.store.artifacts import read

    failed = {f.attempt_id for f in failures}
    repairs = passed = 0
    repaired: dict[tuple[str, str], bool] = {}
    for row in read(options.run, "attempts", columns=["problem_id", "parent_id", "phase", "model", "success"]):
        if row["phase"] == "repair" and row["model"] == reflector and row["parent_id"] in failed:
            repairs, passed = repairs + 1, passed + row["success"]
            key = row["problem_id"], row["parent_id"]
            repaired[key] = repaired.get(key, False) or row["success"]
    return {
        "failed_attempts": len(failed), "reflector": reflector, "feedback": options.feedback, "repairs": repairs,
        "repairs_passed": passed, "failed_attempts_repaired": sum(repaired.values()),
        "repair_rates": repair_rates(reflector, repaired),
    }


STAGE = Stage(Options, run, "rrr repair --model tiny --limit 100 --max-tokens 64", show=show)
