"""`rrr train-reflector`: teach a model to repair failed attempts (Re-ReST, arXiv 2406.01495, section 3.3).

Reads `problems` and `attempts`; writes `losses` and `models/reflector`. It learns from pairs of a failed and a passing
attempt at the same problem, both the agent's own first tries, and from the successful repairs of an untrained reflector
(`rrr repair`). The loss is on the passing text only. The view `reflector_pairs` lists the possible pairs. Refuses
attempts at the test split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rrr_cli import options as shared
from rrr_cli.failures import Failure
from rrr_cli.options import option
from rrr_cli.prompts import REPAIRING, repair_chat
from rrr_cli.records import Attempt, Message
from rrr_cli.rollout import feedback_text
from rrr_cli.stages import Stage
from rrr_cli.stages.identity import identity
from rrr_cli.stages.learnt import Tried, distinct, require_rows, tried
from rrr_cli.stages.mined import as_mined, check_same_judge
from rrr_cli.stages.rendering import dated, say_what_is_dropped, template_of
from rrr_cli.tasks import load_task
from rrr_cli.tasks.base import Task
from rrr_cli.training.settings import Supervised, rate

if TYPE_CHECKING:
    from rrr_cli.training.policy import Policy
    from rrr_cli.training.texts import Text

Pair = tuple[Failure, Attempt]  # a failed attempt, and a passing one at the same problem


@dataclass(frozen=True)
class Options(Supervised):
    """Flags of `rrr train-reflector`."""

    feedback: str = shared.feedback("the reflector")
    pairs: int = option(4, "Most pairs of a problem from the agent's own tries, and as many from repairs.", least=1)
    repairs: bool = option(True, "Learn from the successful repairs in the run as well.")
    repairs_by: str | None = option(
        None, "Only the repairs by this model, named as in rrr repair.  [default: the model that is trained]")
    name: str = shared.name("reflector")


def run(options: Options) -> dict[str, Any]:
    """Train, and return the summary that `--json` prints.

    Raises RrrError: bad options (exit 2), unfit attempts (3), a missing extra (4), no pairs (5), stopped (130, 143).
    """
    from rrr_cli.extras import require_training

    require_training()
    from rrr_cli.training.dataset import check_no_test_prompt
    from rrr_cli.training.policy import Policy
    from rrr_cli.training.texts import fitting

    source = options.input or options.run
    options = as_mined(options, source)
    task = load_task(str(options.task), options.level, options.data)
    model = str(options.model)
    rows = tried(source, task.name, options.limit, options.own_samples, options.repairs_by or model)
    own = [pair for one in rows for pair in own_pairs(one, options.pairs)]
    repaired = [pair for one in rows for pair in repair_pairs(one, options.pairs)] if options.repairs else []
    pairs = own + repaired
    require_rows(
        pairs, "no problem has both a failed and a passing attempt", "Mine with more --samples and --stop-at-failure 0")
    check_no_test_prompt((failed.problem for failed, _ in pairs), task)
    options = dated(options, [model], source, options.run)
    policy = Policy(model, template_of(options), proved=not options.dry_run)
    say_what_is_dropped(policy.chat)
    longest = min(options.max_length or policy.window, policy.window)
    learnt, too_long = fitting(sequences(policy, task, pairs, options.feedback), longest)
    counts = {"own_pairs": len(own), "pairs_from_repairs": len(repaired), "texts_too_long": too_long}
    if options.dry_run:
        return {**counts, "texts": len(learnt)}
    from rrr_cli.training.supervised import Training

    config = identity(
        options, task, {"model": policy.fingerprint}, REPAIRING, repairs_by=options.repairs_by or model,
        lr=rate(options), max_length=longest)
    check_same_judge(source, config)
    trained_on = {"feedback": options.feedback, **counts,
                  "pairs": [[failed.attempt_id, passed.attempt_id] for failed, passed in pairs]}
    training = Training("train-reflector", options.name, options, policy, learnt, config, trained_on)
    return {**training.run(), **counts}


def sequences(policy: Policy, task: Task, pairs: list[Pair], feedback: str) -> list[Text]:
    """Each pair as token sequences: the request to repair, then the passing attempt, on which the loss is."""
    from rrr_cli.training.texts import texts

    rows: list[Text] = []
    for failed, passed in pairs:
        problem = failed.problem
        chat = repair_chat(problem.prompt, failed.transcript, feedback_text(task, failed, feedback))
        first, later = in_full(passed), passed.transcript[1:]
        rows += texts(policy, chat, [first, *later] if passed.reasoning is None else [first], problem.tools,
                      problem.problem_id)
        if passed.reasoning is not None and later:  # in later turns the model doesn't see its reasoning any more
            chat = (*chat, passed.transcript[0])
            rows += texts(policy, chat, later, problem.tools, problem.problem_id)
    return rows


def own_pairs(one: Tried, most: int) -> list[Pair]:
    """Pairs of a failed and a passing first try: each failed try once, the passing ones in turn."""
    failed, passed = (distinct(a for a in one.first if a.success is success) for success in (False, True))
    if not passed:
        return []
    return [(Failure.of(one.problem, bad), passed[i % len(passed)]) for i, bad in enumerate(failed[:most])]


def repair_pairs(one: Tried, most: int) -> list[Pair]:
    """Pairs of a failed first try and its successful repair; the same repair of a try only once."""
    failed = {a.attempt_id: Failure.of(one.problem, a) for a in one.first}
    pairs = {(a.parent_id, a.transcript[0].content): (failed[str(a.parent_id)], a)
             for a in reversed(one.second) if a.success}
    return list(pairs.values())[::-1][:most]


def in_full(attempt: Attempt) -> Message:
    """The first turn as the reflector wrote it: with the reasoning before the repaired output."""
    first = attempt.transcript[0]
    if attempt.reasoning is None:
        return first
    return Message(first.role, f"<reflection> {attempt.reasoning} </reflection> {first.content}")


STAGE = Stage(Options, run, "rrr train-reflector --model tiny --epochs 1 --batch 32 --feedback binary")
