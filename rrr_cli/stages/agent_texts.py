"""What `rrr self-train --texts` learns: which attempts of a run, and these as token sequences.

Works on the attempts that `learnt.tried` read; reads and writes nothing. Refuses more samples than the run has.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.records import Attempt
from rrr_cli.stages.learnt import Tried, distinct

if TYPE_CHECKING:
    from rrr_cli.training.policy import Policy
    from rrr_cli.training.texts import Preference, Text

OWN, REPAIRS, ALONE, RETRIES, MORE, MATCHED = DATA = (
    "own", "own+repairs", "repairs", "own+retries", "more-samples", "more-samples-matched")
#: phase of a second try -> what they are called
SECOND = {"repair": "repairs", "retry": "retries"}


@dataclass(frozen=True)
class Chosen:
    """What is trained of one problem: good first and second tries, and the failed tries to compare with."""

    tried: Tried
    own: list[Attempt]
    second: list[Attempt]  # repairs, or retries after a reflection
    failed: dict[str, Attempt]  # by id


def choose(
    rows: list[Tried], texts: str, min_score: float | None, per_problem: int | None
) -> tuple[list[Chosen], dict[str, int]]:
    """What is trained of each problem, and the counts of tries and texts for the summary. `texts`, `min_score`,
    `per_problem`: the options of self-train.

    Raises RrrError (exit 2): as `further_tries`.
    """
    def good(attempt: Attempt) -> bool:
        return attempt.success if min_score is None else attempt.score >= min_score

    extra = further_tries(rows, texts)
    learns_second = texts in (REPAIRS, ALONE, RETRIES)
    chosen = []
    for one in rows:
        tries = [*one.first, *extra.get(one.problem.problem_id, [])]
        own = [a for a in tries if good(a)] if texts != ALONE else []
        second = [a for a in one.second if good(a) and only_output(a)] if learns_second else []
        selected = distinct(chain(own, second))[:per_problem]
        if selected:
            chosen.append(Chosen(
                one, [a for a in selected if a.phase == "first"], [a for a in selected if a.phase != "first"],
                {a.attempt_id: a for a in tries if not good(a)},
            ))
    made, taken = sum(len(one.second) for one in rows), sum(map(len, extra.values()))
    name = SECOND["retry" if texts == RETRIES else "repair"]
    return chosen, {
        "own_tries": sum(len(one.first) for one in rows), "further_tries": taken,
        f"{name}_made": made if learns_second else 0,
        "own_texts": sum(len(c.own) for c in chosen), f"texts_from_{name}": sum(len(c.second) for c in chosen),
        "problems": len(chosen),
    } | ({"repairs_without_a_further_try": made - taken} if texts == MATCHED else {})


def further_tries(rows: list[Tried], texts: str) -> dict[str, list[Attempt]]:
    """problem_id -> the first tries beyond the own ones that are learnt in place of repairs: as many as there are
    repairs, the problems in turn (more-samples), or of each problem as many as it has repairs, as far as it has so many
    (more-samples-matched); none for other texts.

    Raises RrrError (exit 2): fewer than repairs for more-samples, none for more-samples-matched.
    """
    if texts not in (MORE, MATCHED):
        return {}
    repairs = sum(len(one.second) for one in rows)
    if texts == MATCHED:
        further = [a for one in rows for a in one.later[: len(one.second)]]
    else:
        waves = zip_longest(*(one.later for one in rows))
        further = [a for wave in waves for a in wave if a is not None][:repairs]
    if not further or (texts == MORE and len(further) < repairs):
        where = "" if texts == MORE else " at the same problems"
        raise RrrError(
            f"--texts {texts}: the run has {repairs} repairs and {len(further)} first tries beyond --own-samples"
            f"{where}, and an equal budget needs as many: repair first, mine more --samples, or lower --own-samples",
            USAGE)
    extra: dict[str, list[Attempt]] = {}
    for attempt in further:
        extra.setdefault(attempt.problem_id, []).append(attempt)
    return extra


def only_output(repair: Attempt) -> bool:
    """Whether a repair has no reasoning left in its text, which an agent that hasn't failed must not learn."""
    return not any("<reflection>" in m.content for m in repair.transcript if m.role == "assistant")


def good_texts(chosen: list[Chosen], policy: Policy) -> list[Text]:
    """D_M and D_R of Re-ReST as token sequences: each text right after its problem."""
    from rrr_cli.training.texts import texts

    return [
        text for c in chosen for a in (*c.own, *c.second)
        for text in texts(policy, c.tried.problem.prompt, a.transcript, c.tried.problem.tools, a.problem_id)
    ]


def preferences(chosen: list[Chosen], policy: Policy) -> list[Preference]:
    """Pairs of a good and a failed try: a second try with the failed one before it, an own try with each in turn."""
    from rrr_cli.training.texts import preference

    pairs: list[tuple[Chosen, Attempt, Attempt]] = []
    for c in chosen:
        failed = distinct(c.failed.values())
        pairs += [(c, a, failed[i % len(failed)]) for i, a in enumerate(c.own) if failed]
        pairs += [(c, a, c.failed[str(a.parent_id)]) for a in c.second if a.parent_id in c.failed]
    return [
        preference(policy, c.tried.problem.prompt, good.transcript, bad.transcript, c.tried.problem.tools,
                   good.problem_id)
        for c, good, bad in pairs
    ]
