"""One round of `rrr self-train`: train the agent on its passing tries and on repairs of its failed ones (Re-ReST 3.4).

Reads `problems` and `attempts`; writes `losses` and `models/agent`. `--texts own` is self-training alone (D_M of
arXiv 2406.01495), `own+repairs` is Re-ReST (D_M and D_R), `more-samples` uses further first tries in place of the
repairs, as many as there are repairs: a comparison at an equal number of the agent's samples. (It counts neither tokens
nor the data that a reflector was trained on.) A repair's reasoning isn't trained, because the agent answers without a
failure before. With `--method dpo` each passing text is preferred to a failed try at the same problem. `--rounds N`
mines, repairs and trains again (`self_train.py`). Refuses attempts at the test split.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrr_cli import options as shared
from rrr_cli.errors import NOTHING, USAGE, RrrError
from rrr_cli.options import option, refuse_given
from rrr_cli.prompts import TRY
from rrr_cli.records import Attempt
from rrr_cli.stages.identity import identity
from rrr_cli.stages.learnt import Tried, distinct, repairers, require_rows, tried
from rrr_cli.stages.mined import as_mined, check_same_judge
from rrr_cli.stages.rendering import dated, say_what_is_dropped, template_of
from rrr_cli.tasks import load_task
from rrr_cli.training.settings import Supervised, rate

if TYPE_CHECKING:
    from rrr_cli.training.policy import Policy
    from rrr_cli.training.texts import Preference, Text

BETA = 0.1  # TRL's
OWN, REPAIRS, MORE = DATA = ("own", "own+repairs", "more-samples")


@dataclass(frozen=True)
class AgentOptions(Supervised):
    """Flags of `rrr self-train`, but for its rounds."""

    texts: str = option(
        REPAIRS, "own: the agent's own passing tries. own+repairs: also the successful repairs. more-samples: own, and "
        "the passing ones of further tries, as many as there are repairs.", choices=DATA, panel="Method")
    method: str = option("sft", "sft: likelihood of the good texts. dpo: the good against the failed.",
                         choices=("sft", "dpo"), panel="Method")
    beta: float | None = option(None, "Of DPO.  [default: 0.1]", least=0, panel="Method")
    repairs_by: str | None = option(
        None, "Only the repairs by this model, named as in rrr repair.  [default: the only one that repaired]")
    min_score: float | None = option(
        None, "For graded tasks: a try is good from this score on.  [default: if it passed]", least=0, most=1)
    per_problem: int | None = option(None, "Most good texts of a problem.  [default: all]", least=1)
    name: str = shared.name("agent")


@dataclass(frozen=True)
class Chosen:
    """What is trained of one problem: good attempts by source, and the failed tries to compare with."""

    tried: Tried
    own: list[Attempt]
    repairs: list[Attempt]
    failed: dict[str, Attempt]  # by id


def train_agent(options: AgentOptions) -> dict[str, Any]:
    """Train, and return the summary that `--json` prints.

    Raises RrrError: bad options (exit 2), unfit attempts (3), missing extra (4), no good try (5), stopped (130, 143).
    """
    from rrr_cli.extras import require_training

    check_method(options)
    require_training()
    from rrr_cli.training.dataset import check_no_test_prompt
    from rrr_cli.training.policy import Policy
    from rrr_cli.training.supervised import Training
    from rrr_cli.training.texts import fitting

    source = options.input or options.run
    options = as_mined(options, source)
    task = load_task(str(options.task), options.level, options.data)
    rows = tried(source, task.name, options.limit, options.own_samples, options.repairs_by)
    if options.texts != OWN:
        check_repairers(source, options.repairs_by)
    chosen, counts = choose(rows, options)
    check_no_test_prompt((c.tried.problem for c in chosen), task)
    options = dated(options, [str(options.model)], source, options.run)
    policy = Policy(str(options.model), template_of(options))
    say_what_is_dropped(policy.chat)
    candidates = preferences(chosen, policy) if options.method == "dpo" else good_texts(chosen, policy)
    require_rows(
        candidates, "no problem has both a good and a failed try" if chosen else "no try is good",
        "Mine with more --samples, or at an easier --level")
    longest = min(options.max_length or policy.window, policy.window)
    learnt, too_long = fitting(candidates, longest)
    counts |= {"texts_too_long": too_long}
    if options.dry_run:
        return {**counts, "texts": len(learnt)}
    beta = BETA if options.beta is None else options.beta
    config = identity(
        options, task, {"model": policy.fingerprint}, TRY, lr=rate(options, options.method), beta=beta,
        max_length=longest)
    check_same_judge(source, config)
    trained_on = {**counts, "own": [a.attempt_id for c in chosen for a in c.own],
                  "repairs": [a.attempt_id for c in chosen for a in c.repairs]}
    training = Training("self-train", options.name, options, policy, learnt, config, trained_on, beta)
    return {**training.run(), **counts}


def check_method(options: AgentOptions) -> None:
    """Raise RrrError (exit 2) for an option that means nothing with this method or these texts."""
    if options.method != "dpo":
        refuse_given(options, ["beta"], "it is for --method dpo")
    if options.texts == OWN:
        refuse_given(options, ["repairs_by"], f"--texts {OWN} takes no repairs")


def choose(rows: list[Tried], options: AgentOptions) -> tuple[list[Chosen], dict[str, int]]:
    """What is trained of each problem, and the counts of tries and texts for the summary.

    Raises RrrError (exit 2): fewer further tries than repairs for more-samples.
    """
    def good(attempt: Attempt) -> bool:
        return attempt.success if options.min_score is None else attempt.score >= options.min_score

    repairs = sum(len(one.repairs) for one in rows)
    extra: dict[str, list[Attempt]] = {}
    if options.texts == MORE:
        waves = zip_longest(*(one.later for one in rows))
        further = [a for wave in waves for a in wave if a is not None][:repairs]
        if not repairs or len(further) < repairs:
            raise RrrError(
                f"--texts {MORE}: the run has {repairs} repairs and {len(further)} first tries beyond --own-samples, "
                "and an equal budget needs as many: repair first, mine more --samples, or lower --own-samples", USAGE)
        for attempt in further:
            extra.setdefault(attempt.problem_id, []).append(attempt)
    chosen = []
    for one in rows:
        tries = [*one.first, *extra.get(one.problem.problem_id, [])]
        repaired = [a for a in one.repairs if good(a) and only_output(a)] if options.texts == REPAIRS else []
        selected = distinct(chain((a for a in tries if good(a)), repaired))[: options.per_problem]
        if selected:
            chosen.append(Chosen(
                one, [a for a in selected if a.phase == "first"], [a for a in selected if a.phase == "repair"],
                {a.attempt_id: a for a in tries if not good(a)},
            ))
    return chosen, {
        "own_tries": sum(len(one.first) for one in rows), "further_tries": sum(map(len, extra.values())),
        "repairs_made": repairs if options.texts == REPAIRS else 0,
        "own_texts": sum(len(c.own) for c in chosen), "texts_from_repairs": sum(len(c.repairs) for c in chosen),
        "problems": len(chosen),
    }


def only_output(repair: Attempt) -> bool:
    """Whether a repair has no reasoning left in its text, which an agent that hasn't failed must not learn."""
    return not any("<reflection>" in m.content for m in repair.transcript if m.role == "assistant")


def check_repairers(run: Path, name: str | None) -> None:
    """Raise RrrError unless the run has repairs by `name` (exit 5), or for None by exactly one model (2)."""
    models = repairers(run)
    if not models or (name is not None and name not in models):
        by, only = f" by {name}" if name else "", f", only by {', '.join(models)}" if models else ""
        raise RrrError(f"{run} has no repairs{by}{only}. Type: rrr repair --run {run}, or --texts {OWN}", NOTHING)
    if name is None and len(models) > 1:
        raise RrrError(f"{run} has repairs by {', '.join(models)}: choose with --repairs-by", USAGE)


def good_texts(chosen: list[Chosen], policy: Policy) -> list[Text]:
    """D_M and D_R of Re-ReST as token sequences."""
    from rrr_cli.training.texts import texts

    return [
        text for c in chosen for a in (*c.own, *c.repairs)
        for text in texts(policy, c.tried.problem.prompt, a.transcript, c.tried.problem.tools, a.problem_id)
    ]


def preferences(chosen: list[Chosen], policy: Policy) -> list[Preference]:
    """Pairs of a good and a failed try: a repair with the try that it repairs, an own try with each in turn."""
    from rrr_cli.training.texts import preference

    pairs: list[tuple[Chosen, Attempt, Attempt]] = []
    for c in chosen:
        failed = distinct(c.failed.values())
        pairs += [(c, a, failed[i % len(failed)]) for i, a in enumerate(c.own) if failed]
        pairs += [(c, a, c.failed[str(a.parent_id)]) for a in c.repairs if a.parent_id in c.failed]
    return [
        preference(policy, c.tried.problem.prompt, good.transcript, bad.transcript, c.tried.problem.tools,
                   good.problem_id)
        for c, good, bad in pairs
    ]
