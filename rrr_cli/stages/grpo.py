"""`rrr grpo`: train a model's reflections with GRPO; a reflection earns 1 when the retry after it passes.

`--objective answer` is the comparison that the paper leaves out: ordinary GRPO on a first answer to the same problems
in the same order, at as many generated tokens as `--token-budget` allows. `--objective reflection+answer` trains the
reflection and the retry, but never the request between them nor the mined first answer. `--objective attempts` trains
all tries of a conversation by what came of them, `--objective distil` right retries as first answers.

Reads mined failures (tables `problems`, `attempts`); writes `rollouts`, `steps` and `models/policy`; with --eval-every
also `validations` and `models/policy-best`. The same command
typed again continues from the newest whole checkpoint. In an environment the retry, or the answer, is a whole episode.
Refuses failures of the test split, too few of them, and texts that don't fit the model's window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from rrr_cli.options import DEFAULT_FEEDBACK, refuse_given
from rrr_cli.plugs import blame
from rrr_cli.prompts import RETRY_AFTER_REFLECTION, TRY_WITH_HINT
from rrr_cli.stages import Stage
from rrr_cli.stages.identity import identity
from rrr_cli.stages.mined import as_mined, base_pass_rate, check_same_judge
from rrr_cli.stages.mined import failures as failed_attempts
from rrr_cli.stages.rendering import dated, say_what_is_dropped, template_of
from rrr_cli.training.objectives import find_objective
from rrr_cli.training.settings import DEFAULT_LOSS, VLLM_CORRECTION, Options, given_by, others_of, recipe_of

if TYPE_CHECKING:
    from rrr_cli.failures import Failure
    from rrr_cli.records import Problem
    from rrr_cli.tasks.base import Task
    from rrr_cli.training.policy import Policy
    from rrr_cli.training.session import Session
    from rrr_cli.training.settings import Recipe


def run(options: Options) -> dict[str, Any]:
    """Train, and return a summary; an empty one in every process but the first.

    Raises RrrError: bad options (exit 2), no or unfit failures or another configuration (3), missing extra (4),
    nothing was ever rewarded (5), stopped by a signal after its step and checkpoint (130, 143).
    """
    if options.dry_run:
        plan = planned(options)
        return {
            "failures": len(plan.failures), "kept_aside": len(plan.kept), "longest_text_tokens": plan.longest,
            "memory": memory_plan(plan), **plan.config,
        }
    session = prepare(options)
    summary = session.run()
    if summary:
        summary["base_pass_rate"] = base_pass_rate(options.input or options.run, session.failures)
    return summary


def prepare(options: Options) -> Session:
    """A training that is ready to begin; nothing is written."""
    plan = planned(options)
    from rrr_cli.training.session import Session

    return Session(**vars(plan))


@dataclass(frozen=True)
class Plan:
    """What a training is made of, before torch is imported; the fields are those of `Session`."""

    options: Options
    recipe: Recipe
    task: Task
    policy: Policy
    failures: list[Failure]
    objective: Any
    longest: int
    config: dict[str, Any]
    kept: list[Problem]


def memory_plan(made: Plan) -> dict[str, Any]:
    """How a step would be split to fit into memory."""
    from rrr_cli.training.plan import numbers_in, plan

    policy = made.policy
    return plan(
        made.options, made.recipe, policy.shape, numbers_in(policy.path), made.longest, sdpa=not policy.capped)


def planned(options: Options) -> Plan:
    """Every check that needs neither training nor, with --dry-run, the model's weights."""
    from rrr_cli.extras import require_training

    if options.eval_every is None:
        refuse_given(options, ["eval_limit"], "it is for --eval-every")
    recipe_of(options)  # refuses what doesn't fit before anything is loaded
    plug = find_objective(options.objective)
    with blame("objective", plug.cls, "check()"):
        plug.cls.check(options)
    options = replace(options, loss_per=options.loss_per or getattr(plug.cls, "loss_per", DEFAULT_LOSS))
    require_training()
    from rrr_cli.tasks import load_task
    from rrr_cli.training.dataset import check_enough, kept_aside, training_set
    from rrr_cli.training.objectives.base import Setting
    from rrr_cli.training.policy import Policy

    source = options.input or options.run
    options = as_mined(options, source)
    options = dated(options, [str(options.model)], source, options.run)
    options = replace(
        options, loss_per=options.loss_per or getattr(plug.cls, "loss_per", DEFAULT_LOSS),
        feedback=options.feedback or DEFAULT_FEEDBACK)
    recipe = recipe_of(options)
    task = load_task(str(options.task), options.level, options.data)
    policy = Policy(str(options.model), template_of(options), proved=not options.dry_run)
    say_what_is_dropped(policy.chat)
    kept = kept_aside(source, options.eval_limit) if options.eval_every else []
    aside = {problem.problem_id for problem in kept}
    mined = failed_attempts(source, task.name, sample_failures=options.sample_failures)
    failures = training_set(islice((f for f in mined if f.problem.problem_id not in aside), options.limit))
    check_enough(failures, recipe.batch // recipe.group, source, options.refill)
    setting = Setting(
        task, policy.render, options, recipe.reflection_tokens, recipe.max_tokens, policy.chat.drops_thoughts)
    with blame("objective", plug.cls, "its constructor or fit()"):
        objective = plug.cls(setting)
        longest = objective.fit(failures, policy.window)
    config = identity(
        options, task, {"model": policy.fingerprint},
        TRY_WITH_HINT if others_of(options.reward_on) else RETRY_AFTER_REFLECTION, **given_by(recipe),
        **(VLLM_CORRECTION if options.vllm else {}))
    check_same_judge(source, config)
    return Plan(options, recipe, task, policy, failures, objective, longest, config, kept)


STAGE = Stage(Options, run, "rrr grpo --model tiny --steps 4 --batch 32 --group 8")
