"""Is a reflection about its own failure, or advice that fits any: part of `rrr eval --cross`.

The control: the same retry after what the same model wrote about another failure of the level. What is left of the gain
then is general advice, or just more text; what is lost is what the reflection says of this try. Works on pairs and
outcomes in memory; reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from rrr_cli.stages.crossed_pairs import SWAPPED, Cells, Pair


def swapped_pairs(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Each failure with its reflector's words about the next failure of the level, in the order of their ids; none
    where a level has a single failure."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in sorted(pairs, key=lambda pair: pair.failure.problem.problem_id):
        groups.setdefault((pair.reflector, pair.failure.problem.difficulty), []).append(pair)
    for group in groups.values():
        for pair, other in zip(group, [*group[1:], *group[:1]], strict=True):
            if other is not pair:
                yield replace(other, failure=pair.failure, arm=SWAPPED, solves=None)


def against_swapped(own: Cells, swapped: Cells) -> list[dict[str, Any]]:
    """A row for each reflector and actor: repaired after the reflection on the failure itself, and after the one on
    another failure, with the exact McNemar test of the first against the second, paired by problem."""
    from rrr_cli.metrics import mcnemar, rate

    found = []
    for (reflector, actor), others in swapped.items():
        both = sorted(own[reflector, actor].keys() & others.keys())
        mine, theirs = [own[reflector, actor][p] for p in both], [others[p] for p in both]
        share, other = rate(mine), rate(theirs)
        if share and other:
            found.append({"reflector": reflector, "actor": actor, "n": len(both), "own": asdict(share),
                          "swapped": asdict(other), **asdict(mcnemar(theirs, mine))})
    return found


def in_words(tests: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence a reflector and actor."""
    return [
        f"{test['reflector']} reflects, {test['actor']} retries: {100 * test['own']['value']:.1f} % of {test['n']} "
        f"failures repaired, and {100 * test['swapped']['value']:.1f} % after the reflection on another failure (won "
        f"{test['won']}, lost {test['lost']}, p = {test['p']:.2g})." for test in tests]
