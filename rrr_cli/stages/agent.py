"""One round of `rrr self-train`: train the agent on its passing tries and on repairs of its failed ones (Re-ReST 3.4).

Reads `problems`, `attempts` and `reflections`; writes `losses` and `models/agent`. `--texts own` is self-training alone
(D_M of arXiv 2406.01495), `own+repairs` is Re-ReST (D_M and D_R), `repairs` D_R alone. `own+retries` has the agent's
passing retries after a reflection in place of the repairs. `more-samples` and `more-samples-matched` have further first
tries in their place, as many as there are repairs: a comparison at an equal number of the agent's samples. (They count
neither tokens nor the data that a reflector was trained on.) Of a repair or a retry the agent learns the output right
after the problem, without failure or reflection, because it answers without them. With `--method dpo` each passing text
is preferred to a failed try at the same problem. `--rounds N` mines, repairs and trains again (`self_train.py`).
Refuses attempts at the test split.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrr_cli import options as shared
from rrr_cli.errors import NOTHING, USAGE, RrrError
from rrr_cli.options import option, refuse_given
from rrr_cli.prompts import TRY
from rrr_cli.stages.agent_texts import ALONE, DATA, OWN, REPAIRS, RETRIES, SECOND, choose, good_texts, preferences
from rrr_cli.stages.identity import identity
from rrr_cli.stages.learnt import repairers, require_rows, tried
from rrr_cli.stages.mined import as_mined, check_same_judge
from rrr_cli.stages.rendering import dated, say_what_is_dropped, template_of
from rrr_cli.tasks import load_task
from rrr_cli.training.settings import Supervised, rate

BETA = 0.1  # TRL's


@dataclass(frozen=True)
class AgentOptions(Supervised):
    """Flags of `rrr self-train`, but for its rounds."""

    texts: str = option(
        REPAIRS, "own: the agent's own passing tries. own+repairs: also the successful repairs. repairs: these alone. "
        "own+retries: own, and the passing retries after a reflection. more-samples: own, and the passing ones of "
        "further tries, as many as there are repairs, over all problems alike. more-samples-matched: likewise, but as "
        "many of each problem as it has repairs.", choices=DATA, panel="Method")
    method: str = option("sft", "sft: likelihood of the good texts. dpo: the good against the failed.",
                         choices=("sft", "dpo"), panel="Method")
    beta: float | None = option(None, "Of DPO.  [default: 0.1]", least=0, panel="Method")
    repairs_by: str | None = option(
        None, "Only the repairs by this model, or the retries after its reflections, named as in rrr repair or "
        "reflect.  [default: the only one that repaired or reflected]")
    min_score: float | None = option(
        None, "For graded tasks: a try is good from this score on.  [default: if it passed]", least=0, most=1)
    per_problem: int | None = option(None, "Most good texts of a problem.  [default: all]", least=1)
    name: str = shared.name("agent")


def train_agent(options: AgentOptions) -> dict[str, Any]:
    """Train, and return the summary that `--json` prints.

    Raises RrrError: bad options (exit 2), unfit attempts (3), missing extra (4), no good try (5), stopped (130, 143).
    """
    from rrr_cli.extras import require_training

    check_method(options)
    require_training()
    from rrr_cli.training.dataset import check_no_test_prompt
    from rrr_cli.training.policy import Policy
    from rrr_cli.training.texts import fitting

    source = options.input or options.run
    options = as_mined(options, source)
    task = load_task(str(options.task), options.level, options.data)
    second = "retry" if options.texts == RETRIES else "repair"
    rows = tried(source, task.name, options.limit, options.own_samples, options.repairs_by, second)
    if options.texts != OWN:
        check_repairers(source, options.repairs_by, second)
    chosen, counts = choose(rows, options.texts, options.min_score, options.per_problem)
    check_no_test_prompt((c.tried.problem for c in chosen), task)
    options = dated(options, [str(options.model)], source, options.run)
    policy = Policy(str(options.model), template_of(options), proved=not options.dry_run)
    say_what_is_dropped(policy.chat)
    candidates = preferences(chosen, policy) if options.method == "dpo" else good_texts(chosen, policy)
    none = "no repair is good" if options.texts == ALONE else "no try is good"
    require_rows(
        candidates, "no problem has both a good and a failed try" if chosen else none,
        "Mine with more --samples, or at an easier --level")
    longest = min(options.max_length or policy.window, policy.window)
    learnt, too_long = fitting(candidates, longest)
    counts |= {"texts_too_long": too_long}
    if options.dry_run:
        return {**counts, "texts": len(learnt)}
    from rrr_cli.training.supervised import Training

    beta = BETA if options.beta is None else options.beta
    config = identity(
        options, task, {"model": policy.fingerprint}, TRY, lr=rate(options, options.method), beta=beta,
        max_length=longest)
    check_same_judge(source, config)
    trained_on = {**counts, "own": [a.attempt_id for c in chosen for a in c.own],
                  SECOND[second]: [a.attempt_id for c in chosen for a in c.second]}
    training = Training("self-train", options.name, options, policy, learnt, config, trained_on, beta)
    return {**training.run(), **counts}


def check_method(options: AgentOptions) -> None:
    """Raise RrrError (exit 2) for an option that means nothing with this method or these texts."""
    if options.method != "dpo":
        refuse_given(options, ["beta"], "it is for --method dpo")
    if options.texts == OWN:
        refuse_given(options, ["repairs_by"], f"--texts {OWN} takes no repairs")


def check_repairers(run: Path, name: str | None, second: str) -> None:
    """Raise RrrError unless the run has repairs by `name` or retries after its reflections, as `second` says (exit 5);
    or for None by exactly one model (2)."""
    models = repairers(run, second)
    kind, command = ("repairs", "repair") if second == "repair" else ("retries after reflections", "reflect")
    if not models or (name is not None and name not in models):
        by, only = f" by {name}" if name else "", f", only by {', '.join(models)}" if models else ""
        raise RrrError(f"{run} has no {kind}{by}{only}. Type: rrr {command} --run {run}, or --texts {OWN}", NOTHING)
    if name is None and len(models) > 1:
        raise RrrError(f"{run} has {kind} by {', '.join(models)}: choose with --repairs-by", USAGE)
