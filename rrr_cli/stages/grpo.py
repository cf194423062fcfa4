"""`rrr grpo`: train a model's reflections with GRPO; a reflection earns 1 when the retry after it passes.

`--objective answer` is the comparison that the paper leaves out: ordinary GRPO on a first answer to the same problems
in the same order, at as many generated tokens as `--token-budget` allows. `--objective reflection+answer` trains the
reflection and the retry, but never the request between them nor the mined first answer.

Reads mined failures (tables `problems`, `attempts`); writes `rollouts`, `steps` and `models/policy`. The same command
typed again goes on from the newest whole checkpoint. Refuses environments of several turns, failures of the test split,
too few of them, and texts that don't fit the model's window.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.stages import Stage
from rrr_cli.stages.identity import identity
from rrr_cli.stages.mined import as_mined
from rrr_cli.stages.mined import failures as failed_attempts
from rrr_cli.training.settings import Options, given_by, recipe_of

if TYPE_CHECKING:
    from rrr_cli.training.session import Session


def run(options: Options) -> dict[str, Any]:
    """Train, and return a summary; an empty one in every process but the first.

    Raises RrrError: bad options (exit 2), no or unfit failures or another configuration (3), missing extra (4),
    nothing was ever rewarded (5), stopped by a signal after its step and checkpoint (130, 143).
    """
    session = prepare(options)
    if options.dry_run:
        return {"failures": len(session.failures), "longest_text_tokens": session.longest, **session.config}
    return session.run()


def prepare(options: Options) -> Session:
    """Every check that needs no training; nothing is written."""
    from rrr_cli.extras import require

    recipe = recipe_of(options)
    require("train", "torch", "transformers", "trl", "peft", "datasets", "accelerate")
    from rrr_cli.tasks import load_task
    from rrr_cli.tasks.base import Environment
    from rrr_cli.training.dataset import check_enough, check_window, training_set
    from rrr_cli.training.policy import Policy
    from rrr_cli.training.session import Session

    source = options.input or options.run
    options = as_mined(options, source)
    task = load_task(options.task, options.level, options.data)
    if isinstance(task, Environment):
        raise RrrError(
            f"task {task.name} has several turns, and GRPO trains a text of one: use rrr train-reflector and rrr "
            "self-train", USAGE)
    policy = Policy(options.model or "tiny")
    failed = islice(failed_attempts(source, task.name), options.limit)
    failures = training_set(failed, task, policy.render, options.objective)
    check_enough(failures, recipe.batch // recipe.group, source)
    longest = check_window(
        failures, task, policy.render, options.retry_context, recipe.reflection_tokens, recipe.max_tokens,
        policy.window, options.objective,
    )
    config = identity(options, task, {"model": policy.fingerprint}, **given_by(recipe))
    return Session(options, recipe, task, policy, failures, longest, config)


STAGE = Stage(Options, run, "rrr grpo --model tiny --steps 4 --batch 32 --group 8")
